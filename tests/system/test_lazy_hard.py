# SPDX-License-Identifier: Apache-2.0
"""Lazy fill in programs that go about their maps in unusual ways, of servers that stop, and of
files that are far larger than memory."""

import contextlib
import os
import random
import struct
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from compare import MIB, MODEL, both, cases, ended, mounted, place
from support import models, need
from support.fuse import FuseServer
from support.run import run

GIB = 1 << 30


def begun(result, name):
    """The stats lines of maps of a file that were to be filled lazily."""
    lines = [line for line in result.stats if line["event"] == "begin"]
    return [line for line in lines if line["path"].endswith("/" + name)]


@pytest.mark.parametrize("kind", ["fuse", "disk"])
@cases("holes")
def test_holes(kind, program, case, tmp_path):
    """Programs see no difference when their pages come as they are touched."""
    with place(kind, tmp_path, delay_ms=0.3) as (directory, env):
        env = {**env, "STSHIM_FILL": "lazy"}
        _, result = both(program, directory / MODEL, case, env, cwd=tmp_path, engages=None)
    assert begun(result, MODEL), result.stats


@pytest.mark.parametrize("wait", [0, 3])
def test_server_stops(wait, tmp_path):
    """A thread waits for a page that its server never delivers: all other threads go on, while it
    is waited for and after it has been given up, with the right bytes and as the kernel would."""
    need.library()
    hangs_at = 2_500_000
    with mounted(delay_ms=0.3, fault=f"hang:{MODEL}:{hangs_at}:1000") as server:
        file, other = server.mountpoint / MODEL, server.mountpoint / "size-08.safetensors"
        command = [need.program("stalled"), file, hangs_at + 100, wait, other]
        release = threading.Timer(6, server.release)
        release.start()
        result = run(command, env={"STSHIM_FILL": "lazy", "STSHIM_TIMEOUT": "2s"}, timeout=30)
        release.cancel()
        release.join()
    assert begun(result, MODEL)
    lines = result.stdout.splitlines()
    assert lines[-1:] == ["end"], result.stdout
    values = [line.split(" in ")[0] for line in lines[1:-1]]
    assert values == [
        "stored: 119",
        "forked: 119",
        "dropped: 0",
        "advised: 0",
        "moved: 119",
        "forked: 119",
        "another: 1",
        "unmapped: 0",
        "unmapped: 0",
    ]
    seconds = [int(line.split(" in ")[1].split()[0]) for line in lines[1:-1]]
    assert max(seconds) <= 4, result.stdout


SEEDS = int(os.environ.get("STN_TEST_SEEDS", "6"))


def test_chaos(tmp_path):
    """Four threads do all that may be done to a private map, at random; every byte is right."""
    need.library()
    source = tmp_path / "source"
    source.mkdir()
    names = [f"{i}.safetensors" for i in range(12)]
    for i, name in enumerate(names):
        models.random_file(source / name, 2 * MIB + 300_017 * i, seed=i)
    first = random.randrange(1 << 20)
    with FuseServer(source, delay_ms=0.2, keep_cache=True) as server:
        for seed in range(first, first + SEEDS):
            maps = [server.mountpoint / name for name in names]
            command = [need.program("chaos"), seed, 100, source, *maps]
            result = ended(run(command, env={"STSHIM_FILL": "lazy"}, timeout=90))
            assert (result.returncode, result.stdout) == (0, "wrong: 0\n"), seed
            assert any(line["event"] == "begin" for line in result.stats)


SPARSE = """
import mmap, os, struct, sys
path, places, access = sys.argv[1:4]
def maps():
    return open("/proc/self/maps").read().count("\\n")
before = maps()
fd = os.open(path, os.O_RDONLY)
prot = mmap.PROT_READ | (mmap.PROT_WRITE if access == "write" else 0)
whole = mmap.mmap(fd, os.fstat(fd).st_size, flags=mmap.MAP_PRIVATE, prot=prot)
os.close(fd)
pairs = list(struct.iter_unpack("QQ", open(places, "rb").read()))
def wrong():
    return sum(struct.unpack_from("Q", whole, at)[0] != value for at, value in pairs)
print("wrong", wrong())
print("maps", maps() - before)
if access == "write":
    for at, value in pairs[::2]:
        struct.pack_into("Q", whole, at, value ^ 1)
    pairs = [(at, value ^ (i % 2 == 0)) for i, (at, value) in enumerate(pairs)]
pid = os.fork()
if pid == 0:
    os._exit(min(wrong(), 255))
print("child", os.waitpid(pid, 0)[1])
print("wrong", wrong())
print("maps", maps() - before)
"""


@contextlib.contextmanager
def sparse_file(pairs):
    """A directory in memory with a file of 64 GiB that has these values at these offsets."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        with open(Path(name) / "sparse.safetensors", "wb") as file:
            file.truncate(64 * GIB)
            for at, value in pairs:
                file.seek(at)
                file.write(struct.pack("Q", value))
        yield Path(name)


@pytest.mark.parametrize("access", ["read", "write"])
def test_sparse(access, tmp_path):
    """Of a file of 64 GiB what is touched is read, and the number of areas stays small: under 1 %
    of what the kernel allows."""
    need.fuse()
    need.library()
    places = tmp_path / "places"
    chance = random.Random(3)
    numbers = chance.sample(range(64 * GIB // 4096), 1000)
    pairs = [(page * 4096 + 8 * chance.randrange(512), chance.getrandbits(63)) for page in numbers]
    places.write_bytes(b"".join(struct.pack("QQ", *pair) for pair in pairs))
    with sparse_file(pairs) as source, FuseServer(source) as server:
        model = server.mountpoint / "sparse.safetensors"
        command = [sys.executable, "-c", SPARSE, model, places, access]
        result = ended(run(command, env={"STSHIM_FILL": "lazy"}, timeout=60))
        delivered = server.stats()["direct_bytes"]
    assert begun(result, "sparse.safetensors")
    with open("/proc/sys/vm/max_map_count") as file:
        most = int(file.read()) // 100
    words = [line.split() for line in result.stdout.splitlines()]
    assert [number for word, number in words if word in ("wrong", "child")] == ["0"] * 3
    assert all(int(number) < most for word, number in words if word == "maps"), result.stdout
    assert delivered <= 96 * MIB
