# SPDX-License-Identifier: Apache-2.0
"""Small shards that are read before the program opens them."""

import os
import shutil
import sys
import threading
import time
import zlib

import pytest
from compare import MIB, ended
from support import models, need
from support.fuse import FuseServer
from support.run import run

COUNT = 12
SIZE = 3 * MIB + 5000

OLD = 1600000000

# Maps shards in turn and prints a checksum of each.
TAKE = """
import mmap, os, sys, time, zlib
def path(number):
    return f"{sys.argv[1]}/model-{int(number):05}-of-00012.safetensors"
def take(number):
    fd = os.open(path(number), os.O_RDONLY)
    view = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    os.close(fd)
    print(number, zlib.crc32(view), flush=True)
    view.close()
"""
# To one of the shards, behind the server, when it has been read already.
CHANGE = """
def change(how):
    time.sleep(0.7)
    target = sys.argv[3] + "/model-00004-of-00012.safetensors"
    content = open(target, "rb").read()
    if how == "replaced":
        with open(target + ".new", "wb") as file:
            file.write(content[::-1])
        os.rename(target + ".new", target)
    elif how == "removed":
        os.unlink(target)
    else:
        content = {"shorter": content[:1 << 20], "longer": content + content,
                   "rewritten": content[::-1]}[how]
        with open(target, "r+b") as file:
            file.write(content)
            file.truncate()
"""
TURNS = TAKE + CHANGE + """
for turn in sys.argv[2].split(","):
    if turn == "wait":
        time.sleep(0.7)
    elif not turn.isdecimal():
        change(turn)
    elif os.path.exists(path(turn)):
        take(turn)
time.sleep(0.7)
"""
TIMED = TAKE + """
start = time.monotonic()
for number in (1, 2, 3, 4, 7, 8):
    take(number)
print(time.monotonic() - start)
"""
FORKS = TAKE + """
for number in range(1, 5):
    take(number)
pid = os.fork()
for number in (5, 6):
    take(number)
if pid:
    os.waitpid(pid, 0)
"""

WAYS = pytest.mark.parametrize("fill", ["auto", "eager"])


def name(number):
    """A shard's name."""
    return f"model-{number:05}-of-{COUNT:05}.safetensors"


@pytest.fixture(name="shards")
def _shards(tmp_path):
    """A directory of shards, to be changed at will."""
    need.fuse()
    directory = tmp_path / "shards"
    directory.mkdir()
    for number in range(1, COUNT + 1):
        source = models.random_file(f"next-{number}.bin", SIZE, number)
        shutil.copyfile(source, directory / name(number))
        os.utime(directory / name(number), (OLD, OLD))
    return directory


def sums(shards, numbers):
    """What the program is to print."""
    return "".join(f"{n} {zlib.crc32((shards / name(n)).read_bytes())}\n" for n in numbers)


def take(server, numbers, fill="auto", env=None, **options):
    """Runs the program; the shards' worth of bytes that the server delivered, and the result."""
    server.reset()
    command = [sys.executable, "-c", TURNS, server.mountpoint, ",".join(map(str, numbers)),
               server.source]
    result = ended(run(command, env={"STSHIM_FILL": fill, **(env or {})}, timeout=60, **options))
    return server.stats()["bytes"] / SIZE, result


@WAYS
def test_in_order(shards, fill):
    """After three shards in order the next two are read; each is read once, whoever reads it."""
    with FuseServer(shards, delay_ms=1) as server:
        for last, read in ((2, 2), (3, 5), (5, 7), (11, 12), (12, 12)):
            numbers = range(1, last + 1)
            delivered, result = take(server, numbers, fill)
            assert result.stdout == sums(shards, numbers)
            assert read <= delivered <= read * 1.01, last


@pytest.mark.parametrize("numbers", [(5, 4, 3, 2, 1), (1, 3, 5, 7, 9), (1, 2, 5, 6, 9, 10),
                                     (7, 2, 9, 4, 12)])
def test_out_of_order(shards, numbers):
    """Nothing is read that the program does not open."""
    with FuseServer(shards) as server:
        delivered, result = take(server, numbers)
        assert result.stdout == sums(shards, numbers)
        assert delivered <= len(numbers) * 1.01


@WAYS
def test_passed_by(shards, fill):
    """A program that leaves out what was read for it has nothing more read."""
    numbers = (1, 2, 3, "wait", 7, 8, 9, 10)
    with FuseServer(shards) as server:
        delivered, result = take(server, numbers, fill)
        assert result.stdout == sums(shards, (1, 2, 3, 7, 8, 9, 10))
        assert delivered <= 9 * 1.01


@pytest.mark.parametrize("env", [{"STSHIM_AHEAD": "tensor"}, {"STSHIM_IO": "buffered"},
                                 {"STSHIM_MODE": "observe"}, {"STSHIM_MODE": "off"}])
def test_not_wanted(shards, env):
    """Without read-ahead, without direct reads and without the library nothing is read early."""
    with FuseServer(shards) as server:
        delivered, result = take(server, (1, 2, 3), env=env)
        assert result.stdout == sums(shards, (1, 2, 3))
        assert delivered <= 3 * 1.01


def test_cached(shards):
    """What the page cache has is not asked for."""
    with FuseServer(shards, keep_cache=True) as server:
        for number in range(1, COUNT + 1):
            (server.mountpoint / name(number)).read_bytes()
        delivered, result = take(server, range(1, 9))
        assert result.stdout == sums(shards, range(1, 9))
        assert delivered < 0.1


@WAYS
@pytest.mark.parametrize("how", ["replaced", "shorter", "longer", "rewritten", "removed"])
def test_changed(shards, fill, how):
    """A shard that changes after it was read is read again, on a mount whose server does not have
    the kernel believe names and sizes for a while."""
    with FuseServer(shards, attr_timeout=0, entry_timeout=0) as server:
        _, result = take(server, (1, 2, 3, how, 4, 5), fill)
        left = [n for n in range(1, 6) if (shards / name(n)).exists()]
        assert result.stdout == sums(shards, left)


def test_changed_lately(shards):
    """A file that has just been written is not read early: of the next time it is written its times
    might not tell."""
    with FuseServer(shards) as server:
        for number in (4, 5):
            os.utime(shards / name(number))
        delivered, result = take(server, (1, 2, 3))
        assert result.stdout == sums(shards, (1, 2, 3))
        assert delivered <= 3 * 1.01


def test_no_next(shards):
    """Shards that are missing, too large, or no files, are let alone."""
    (shards / name(4)).unlink()
    (shards / name(5)).unlink()
    (shards / name(5)).mkdir()
    with open(shards / name(6), "ab") as file:
        file.truncate(9 * MIB)
    os.utime(shards / name(6), (OLD, OLD))
    with FuseServer(shards) as server:
        delivered, result = take(server, (1, 2, 3))
        assert result.stdout == sums(shards, (1, 2, 3))
        assert delivered <= 3 * 1.01


@WAYS
def test_server_hangs(shards, fill):
    """A read in advance that hangs does not keep the program from what it can have. The process is
    gone when the server has answered, as with any direct read."""
    with FuseServer(shards, fault=f"hang:{name(5)}:0:4096") as server:
        answer = threading.Timer(5, server.release)
        answer.start()
        command = [sys.executable, "-c", TIMED, server.mountpoint]
        result = ended(run(command, env={"STSHIM_FILL": fill}, timeout=20))
        answer.join()
    *lines, took = result.stdout.splitlines(keepends=True)
    assert "".join(lines) == sums(shards, (1, 2, 3, 4, 7, 8))
    assert float(took) < 4


def test_read_error(shards):
    """What could not be read in advance is read when it is mapped, with the outcome that has."""
    with FuseServer(shards, fault=f"eio:{name(4)}:0:{SIZE}") as server:
        mended = threading.Timer(1, server.no_faults)
        mended.start()
        _, result = take(server, (1, 2, 3, "wait", "wait", "wait", 4, 5))
        mended.join()
        assert result.stdout == sums(shards, range(1, 6))


def test_forked(shards):
    """Parent and child go on by themselves."""
    with FuseServer(shards, delay_ms=1) as server:
        result = ended(run([sys.executable, "-c", FORKS, server.mountpoint], timeout=60))
    first, both = sums(shards, range(1, 5)), sums(shards, (5, 6))
    assert sorted(result.stdout.splitlines()) == sorted((first + both + both).splitlines())
