# SPDX-License-Identifier: Apache-2.0
"""STSHIM_FILL=lazy: what is read, what the program sees, and the programs of the other tests."""

import os
import random
import re
import sys
import zlib

import pytest
from compare import MIB, MODEL, both, cases, place
from support import models, need, paths
from support.fuse import FuseServer, wait_for
from support.run import run

TOUCH = """
import glob, mmap, os, resource, sys, threading, time, zlib
path, order = sys.argv[1:3]
if "few" in sys.argv:
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
fd = os.open(path, os.O_RDONLY)
size = os.fstat(fd).st_size
prot = mmap.PROT_READ | (mmap.PROT_WRITE if "write" in sys.argv else 0)
view = memoryview(mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=prot))
os.close(fd)
step = 1 << 20
blocks = [(at, min(at + step, size)) for at in range(0, size, step)]
if order == "backwards":
    blocks.reverse()
elif order == "second":
    blocks = [b for b in blocks if b[0] // (4 * step) % 2 == 0]
elif order == "shuffled":
    blocks = [blocks[i * 29 % len(blocks)] for i in range(len(blocks))]
    assert len(set(blocks)) == len(blocks)
elif order == "one":
    blocks = [b for b in blocks if b[0] // (4 * step) == 7]
elif order == "start":
    blocks = [(0, 1000)]
sums = {}
def add(mine):
    for a, b in mine:
        sums[a] = zlib.adler32(view[a:b])
if order == "threads":
    threads = [threading.Thread(target=add, args=(blocks[i::4],)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
else:
    add(blocks)
if "fork" in sys.argv:
    pid = os.fork()
    if pid == 0:
        os._exit(0 if zlib.adler32(view) == int(sys.argv[-1]) else 1)
    print("child", os.waitpid(pid, 0)[1])
print(*(sums[a] for a in sorted(sums)))
if "closed" in sys.argv:
    with open(os.path.dirname(path) + "/other.safetensors", "rb") as file:
        other = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    print(other[0])
def is_theirs(descriptor):
    try:
        return f"/{os.getpid()}/fd/" not in descriptor and os.readlink(descriptor) == path
    except OSError:
        return False
end = time.monotonic() + 10
while "closed" in sys.argv and any(map(is_theirs, glob.glob("/proc/self/task/*/fd/*"))):
    if time.monotonic() > end:
        sys.exit("still open")
    time.sleep(0.02)
"""


def touch(server, order, *more, fill="lazy", preload=True, env=None):
    """Runs the touching program. Returns its output and the bytes that the server delivered."""
    server.reset()
    command = [sys.executable, "-c", TOUCH, server.mountpoint / "big.safetensors", order, *more]
    variables = {"STSHIM_FILL": fill, **(env or {})} if preload else {}
    result = run(command, preload=preload, env=variables, timeout=60)
    assert result.returncode == 0, result.stderr
    stats = server.stats()
    return result, stats


@pytest.fixture
def server(tmp_path):
    """A mount with a file of 128 MiB."""
    need.fuse()
    need.library()
    source = tmp_path / "source"
    source.mkdir()
    models.random_file(source / "big.safetensors", 128 * MIB + 12345, seed=5)
    with FuseServer(source, delay_ms=0.5) as mounted:
        mounted.whole = source / "big.safetensors"
        yield mounted


LIMITS = {
    "start": 1 * MIB,
    "one": 12 * MIB,
    "second": 128 * MIB * 0.8,
    "whole": 128 * MIB * 1.02,
    "backwards": 128 * MIB * 1.02,
    "shuffled": 128 * MIB * 1.02,
    "threads": 128 * MIB * 1.02,
}


@pytest.mark.parametrize("access", ["read", "write"])
@pytest.mark.parametrize("order", LIMITS)
def test_bytes_read(server, order, access):
    """The right bytes, no more of them delivered than the order of the touches asks for, and none
    through the page cache."""
    bare, _ = touch(server, order, access, preload=False)
    lazy, stats = touch(server, order, access)
    assert lazy.stdout == bare.stdout
    assert stats["direct_bytes"] <= LIMITS[order]
    assert stats["buffered_reads"] == 0
    assert [line["event"] for line in lazy.stats][:1] == ["begin"]
    assert lazy.stats[0]["decision"] == "engaged"


LOOK = """
import json, mmap, os, struct, sys, zlib
path, step = sys.argv[1], int(sys.argv[2])
fd = os.open(path, os.O_RDONLY)
view = memoryview(mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))
os.close(fd)
start = 8 + struct.unpack("<Q", view[:8])[0]
spans = sorted(v["data_offsets"] for k, v in json.loads(bytes(view[8:start])).items()
               if k != "__metadata__")
firsts = [view[start + a] for a, b in spans]
print(firsts, [zlib.adler32(view[start + a:start + b]) for a, b in spans[::step]])
"""


def look(program, *arguments, delay_ms=0.5, env=None):
    """Runs a program on a file of 48 tensors of 2 MiB, bare and lazily filled, with the same output
    and nothing through the page cache. Returns the bytes delivered to the second, and the size."""
    need.fuse()
    need.library()
    whole = models.make_safetensors("look.safetensors", [2 * MIB] * 48)
    with FuseServer(whole.parent, delay_ms=delay_ms) as server:
        command = [sys.executable, "-c", program, server.mountpoint / whole.name, *arguments]
        bare = run(command, preload=False, timeout=60)
        server.reset()
        result = run(command, env=env, timeout=60)
        assert result.returncode == 0, result.stderr
        assert result.stdout == bare.stdout
        stats = server.stats()
    assert stats["buffered_reads"] == 0
    return stats["direct_bytes"], whole.stat().st_size


@pytest.mark.parametrize("ahead,step,least,most", [
    ("auto", 1, 1.0, 1.02), ("auto", 2, 0.9, 1.02), ("tensor", 1, 1.0, 1.02),
    ("tensor", 2, 0.5, 0.56), ("tensor", 8, 0.12, 0.2)])
def test_looks_at_every_tensor(ahead, step, least, most):
    """A program that looks at every tensor and uses every so many of them: all is read, unless
    nothing is to be read beyond the tensor that is gone into."""
    delivered, size = look(LOOK, str(step), env={"STSHIM_AHEAD": ahead})
    assert least <= delivered / size <= most


FIRST = """
import json, mmap, os, struct, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY)
header = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
start = 8 + struct.unpack("<Q", header[:8])[0]
json.loads(header[8:start])
data = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
print(data[start + int(sys.argv[2])])
time.sleep(0.5)
"""


@pytest.mark.parametrize("offset,units", [(0, 8), (2 * MIB, 8), (2 * MIB + (1 << 19), 1)])
def test_first_tensor(offset, units):
    """Whoever touches the first byte of a tensor first has the heads of the next seven read along
    with it: also that of the tensor behind the header, in the same unit."""
    delivered, _ = look(FIRST, str(offset), delay_ms=20)
    # The header's two units are those of the first map.
    assert delivered == (2 + units) << 16


def test_in_order(tmp_path):
    """A server that takes long for each read out of order is recognised, and what is left is read
    in order."""
    need.fuse()
    need.library()
    models.random_file(tmp_path / "big.safetensors", 192 * MIB, seed=6)
    with FuseServer(tmp_path, seek_ms=100, threads=1) as server:
        bare, _ = touch(server, "whole", preload=False)
        lazy, stats = touch(server, "whole", env={"STSHIM_BLOCK": "2M"})
    assert lazy.stdout == bare.stdout
    assert stats["buffered_reads"] == 0
    # There are 96 blocks, nearly each of which is a seek if all threads read.
    assert stats["seeks"] < 20


@pytest.mark.parametrize("size,opens", [(192 * MIB, 8), (48 * MIB, 2)])
def test_descriptors_of_their_own(tmp_path, size, opens):
    """Where reads by one descriptor wait for each other large ones have their own, which are closed
    in the end; a file that is not large is not opened again and again."""
    need.fuse()
    need.library()
    models.random_file(tmp_path / "big.safetensors", size, seed=6)
    # Its thread stays, and the table of descriptors with it.
    models.random_file(tmp_path / "other.safetensors", 16 * MIB, seed=7)
    with FuseServer(tmp_path, seek_ms=20, seek_apart=True, bandwidth=400 * MIB) as server:
        bare, _ = touch(server, "whole", "closed", preload=False)
        lazy, stats = touch(server, "whole", "closed")
        assert lazy.stdout == bare.stdout
        # Eight threads read, and the program and the mapping have one each, of the other file too.
        assert stats["opens"] == 4 if opens == 2 else opens <= stats["opens"] - 2 <= 2 + 16
        assert stats["direct_bytes"] <= size * 1.02 + (128 << 10)
        assert wait_for(lambda: server.stats()["releases"] == stats["opens"])


def test_few_descriptors(tmp_path):
    """A large file is opened no more often than half of the process's limit allows."""
    need.fuse()
    need.library()
    models.random_file(tmp_path / "big.safetensors", 192 * MIB, seed=6)
    with FuseServer(tmp_path, seek_ms=20, seek_apart=True, bandwidth=400 * MIB) as server:
        bare, _ = touch(server, "whole", preload=False)
        lazy, stats = touch(server, "whole", "few", env={"STSHIM_THREADS": "32"})
        assert lazy.stdout == bare.stdout
        assert 2 + 4 <= stats["opens"] <= 2 + 8
        assert stats["direct_bytes"] <= 192 * MIB * 1.02


@pytest.mark.parametrize("options,large,small", [
    ({"large_ms": 20}, (16, 96), (192, 384)),
    ({"bandwidth": 400 * MIB}, (96, 184), (32, 192)),
    ({"delay_ms": 3, "large_ms": 20}, (184, 192), (1, 30))],
    ids=["costly", "costs-the-same", "slow"])
def test_size_of_requests(tmp_path, options, large, small):
    """A mount that takes much longer for requests of 1 MiB is asked for 512 KiB before half of a
    file is read; others are only tried, and slow ones not even that."""
    need.fuse()
    need.library()
    models.random_file(tmp_path / "big.safetensors", 192 * MIB, seed=6)
    with FuseServer(tmp_path, **options) as server:
        bare, _ = touch(server, "whole", preload=False)
        lazy, stats = touch(server, "whole")
        assert lazy.stdout == bare.stdout
        assert large[0] <= stats["large_reads"] <= large[1]
        # The first touches take a few.
        assert small[0] <= stats["direct_reads"] - stats["large_reads"] <= small[1]
        assert stats["direct_bytes"] <= 192 * MIB * 1.02 + (128 << 10)


SHARDS = """
import json, mmap, os, struct, sys, time, zlib
views = []
for path in sys.argv[2:]:
    fd = os.open(path, os.O_RDONLY)
    views.append(memoryview(mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)))
    os.close(fd)
start = 8 + struct.unpack("<Q", views[0][:8])[0]
header = json.loads(bytes(views[0][8:start]))
firsts = [views[0][start + v["data_offsets"][0]] for v in header.values()]
time.sleep(1)
print(firsts)
sys.stdout.flush()
if sys.argv[1] == "use":
    print([zlib.adler32(view) for view in views])
"""


@pytest.mark.parametrize("name,ahead,least,most", [
    ("model-0000{}-of-00003.safetensors", "auto", 0.97, 1.02),
    ("model-0000{}-of-00003.safetensors", "tensor", 0, 0.1),
    ("model-{}.safetensors", "auto", 0.3, 0.36)])
def test_shards_follow(tmp_path, name, ahead, least, most):
    """When all of one file of a model is being read those that are mapped behind it are read too,
    and have the right bytes; files that are no shards of it are left alone."""
    need.fuse()
    need.library()
    for shard in (1, 2, 3):
        made = models.make_safetensors("shard.safetensors", [2 * MIB] * 16, seed=shard)
        (tmp_path / name.format(shard)).write_bytes(made.read_bytes())
    files = sorted(tmp_path.iterdir())
    with FuseServer(tmp_path, delay_ms=0.5) as server:
        there = [server.mountpoint / file.name for file in files]
        looked, whole = ([sys.executable, "-c", SHARDS, what, *there]
                         for what in ("look", "use"))
        result = run(looked, env={"STSHIM_AHEAD": ahead}, timeout=60)
        assert result.returncode == 0, result.stderr
        delivered = server.stats()["direct_bytes"] / sum(f.stat().st_size for f in files)
        used = run(whole, env={"STSHIM_AHEAD": ahead}, timeout=60)
    assert least <= delivered <= most
    sums = [zlib.adler32(f.read_bytes()) for f in files]
    assert used.stdout.splitlines()[1] == str(sums)


SHARD_BEING_MAPPED = """
import json, mmap, os, struct, sys, threading, time, zlib
def mapped(path):
    fd = os.open(path, os.O_RDONLY)
    view = memoryview(mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))
    os.close(fd)
    return view
first = mapped(sys.argv[1])
start = 8 + struct.unpack("<Q", first[:8])[0]
header = json.loads(bytes(first[8:start]))
def sweep():
    return [first[start + v["data_offsets"][0]] for v in header.values()]
thread = threading.Thread(target=sweep)
thread.start()
time.sleep(float(sys.argv[3]))
begun = time.monotonic()
second = mapped(sys.argv[2])
took = time.monotonic() - begun
thread.join()
time.sleep(1)
print([zlib.adler32(view) for view in (first, second)])
print(took > 1.9)
"""


@pytest.mark.parametrize("wait", [0.2, 0.5])
def test_shard_that_is_being_mapped(tmp_path, wait):
    """While mmap of one file of a model has not returned yet, all of the one before it comes to be
    read: nothing of the other is read before it has a place, and it has the right bytes."""
    need.fuse()
    need.library()
    files = [tmp_path / f"model-0000{shard}-of-00002.safetensors" for shard in (1, 2)]
    for seed, file in enumerate(files):
        made = models.make_safetensors("shard.safetensors", [2 * MIB] * 16, seed=seed)
        file.write_bytes(made.read_bytes())
    # The second map of the program gets its name late, which is just before it is published.
    late = ["-e", "trace=prctl", "-e", "inject=prctl:delay_enter=2000000:when=2"]
    strace = [need.command("strace"), "-f", "-o", os.devnull, *late]
    strace += ["-E", f"LD_PRELOAD={paths.library()}", "-E", "STSHIM_FILL=lazy"]
    with FuseServer(tmp_path, bandwidth=16 * MIB) as server:
        there = [server.mountpoint / file.name for file in files]
        command = [*strace, sys.executable, "-c", SHARD_BEING_MAPPED, *there, str(wait)]
        result = run(command, preload=False, timeout=60)
    assert result.returncode == 0, result.stderr
    sums = [zlib.adler32(file.read_bytes()) for file in files]
    assert result.stdout.splitlines() == [str(sums), "True"]


@pytest.mark.parametrize("order", ["start", "one", "second", "whole", "threads"])
def test_fork(server, order):
    """A forked child reads the whole file right, whatever had been filled."""
    whole = zlib.adler32(server.whole.read_bytes())
    result, _ = touch(server, order, "fork", str(whole))
    assert "child 0" in result.stdout


FORKS = int(os.environ.get("STN_TEST_FORKS", "200"))  # all in all


def test_fork_at_random_moments(tmp_path):
    """Children made at any moment of a load have every byte of the file, and every store that
    their parent had made; without the handlers of fork they have that or get SIGSEGV."""
    need.fuse()
    need.library()
    source = tmp_path / "source"
    source.mkdir()
    files = max(8, FORKS // 25)
    for i in range(files):
        models.random_file(source / f"{i}.safetensors", 6 * MIB + 4321 * i, seed=i)
    seed = random.randrange(1 << 31)
    with FuseServer(source, delay_ms=0.5) as server:
        names = [server.mountpoint / f"{i}.safetensors" for i in range(files)]
        command = [paths.program("moments"), str(seed), str(FORKS // files), *names]
        result = run(command, env={"STSHIM_FILL": "lazy"}, timeout=60 + FORKS)
    print("seed", seed)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("parent: right") == files
    children = re.findall(r"^(\w+): right (\d+), killed (\d+), wrong (\d+)$", result.stdout, re.M)
    assert [kind for kind, *_ in children] == ["fork", "_Fork", "clone"]
    assert [int(count) for *_, count in children] == [0, 0, 0], result.stdout
    assert sum(int(count) for _, *counts in children for count in counts) == FORKS
    assert [line["decision"] for line in result.stats if line["event"] == "begin"] == (
        ["engaged"] * files
    )


# A child that is forked without handlers may get SIGSEGV from a map that is not complete.
UNHANDLED = {("forks", "plain-fork"), ("forks", "clone")}


@pytest.mark.parametrize("kind", ["fuse", "disk"])
@cases(
    "protect",
    "advise",
    "remap",
    "unmap",
    "replace",
    "forks",
    "locks",
    "extent",
    without=UNHANDLED | {("extent", "huge")},
)
def test_same(kind, program, case, tmp_path):
    """Programs see no difference when their maps are filled lazily."""
    with place(kind, tmp_path) as (directory, env):
        env = {**env, "STSHIM_FILL": "lazy"}
        both(program, directory / MODEL, case, env, cwd=tmp_path)
