# SPDX-License-Identifier: Apache-2.0
"""read() of a model on a server that fails: what the kernel's read would give, and no hang of
ours."""

import os
import random
import re
import shutil
import threading
import time

import pytest
from compare import MIB, decisions, ended, same
from reading import MODEL, SIZE, both, buffered, files, lines, mounted
from support import need
from support.run import run

AT = 20 * MIB + 8192
CALL = re.compile(r"(\d+) at (\d+): (-?\d+) (\w*), then at (\d+)")


def reading(server, *options):
    """The command line that reads the model from front to back."""
    return [need.program("reading"), *options, server.mountpoint / MODEL]


def calls(result):
    """The calls that did not give all: asked, offset, given, errno, offset afterwards."""
    found = CALL.findall(result.stdout)
    return [(int(asked), int(at), int(got), error, int(then))
            for asked, at, got, error, then in found]


@pytest.mark.parametrize("kind", ["read", "pread", "readv", "fread"])
@pytest.mark.parametrize("block", [0, 8 * MIB, 1000000, 4096])
def test_error_in_the_middle(kind, block):
    """The bytes before the error, then the error; behind it reading goes on."""
    with mounted(fault=f"eio:{MODEL}:{AT}:4096") as server:
        argv = reading(server, "-k", kind, "-b", block, "-s", 4096)
        _, preloaded = both(argv, server, server.mountpoint / MODEL)
    assert calls(preloaded)[-1][1:4] == (AT, -1, "EIO")


@pytest.mark.parametrize("kind", ["read", "fread"])
def test_error_everywhere(kind):
    """Nothing can be read: the error at once, and the offset stays."""
    with mounted(fault=f"eio:{MODEL}:0:{SIZE}") as server:
        argv = reading(server, "-k", kind)
        preloaded = ended(run(argv, timeout=30))
        same(run(argv, preload=False, timeout=30), preloaded)
    assert calls(preloaded)[0] == (SIZE, 0, -1, "EIO", 0)
    said = [(line["decision"], line["reason"]) for line in lines(preloaded, MODEL)]
    assert said == [("abandoned", "io-error")], preloaded.stats


def dumped(server, tmp_path, *options, **more):
    """Reads the model under the library; asserts that what was read are bytes of it from the start
    on. Returns the result and how many."""
    dump = tmp_path / "dump"
    result = ended(run(reading(server, "-o", dump, *options), timeout=30, **more))
    assert result.returncode == 0, result.stderr
    got = dump.read_bytes()
    truth = (files() / MODEL).read_bytes()
    assert got == truth[: len(got)]
    return result, len(got)


@pytest.mark.parametrize("block", [0, 1000000, 65536])
@pytest.mark.parametrize("attr_timeout", [0, 1])
@pytest.mark.parametrize("end", [AT, AT + 77, SIZE - SIZE % 4096 - 4096])
def test_short_file(end, attr_timeout, block, tmp_path):
    """The server delivers less than the size that it reported: its end is the end. The kernel can
    miss that where several reads are in flight or attributes are asked for, and show zeros, a bare
    one too, now and then: so several times."""
    for _ in range(4):
        with mounted(fault=f"short:{MODEL}:{end}", attr_timeout=attr_timeout) as server:
            result, total = dumped(server, tmp_path, "-b", block)
        assert total == end, result.stdout
        assert calls(result)[-1][1:4] == (end, 0, "")


@pytest.mark.parametrize("block", [0, 1000000])
def test_file_shrinks(block, tmp_path):
    """Shorter from the middle of the reading on: bytes of the file, then its end; never zeros."""
    with mounted(fault=f"shrink:{MODEL}:{10 * MIB}:{8 * MIB}", bandwidth=200 * MIB) as server:
        result, total = dumped(server, tmp_path, "-b", block)
    assert 8 * MIB <= total < SIZE, result.stdout
    assert calls(result)[-1][2] <= 0


@pytest.mark.parametrize("block", [0, 1000000])
def test_server_dies(block, tmp_path):
    """The server is gone: right bytes, then the error that everybody gets, at once."""
    with mounted(fault=f"die:{MODEL}:{AT}") as server:
        bare = ended(run(reading(server, "-b", block), preload=False, timeout=30))
    with mounted(fault=f"die:{MODEL}:{AT}") as server:
        result, total = dumped(server, tmp_path, "-b", block)
    assert total <= AT and result.seconds < 5
    assert calls(result)[-1][2:4] == calls(bare)[-1][2:4], (bare.stdout, result.stdout)


@pytest.mark.parametrize("kind", ["read", "fread"])
def test_server_hangs(kind, tmp_path):
    """A read is not answered for longer than the time limit: the program waits as it would without
    us, and has its bytes as soon as the server answers; nothing of ours is left."""
    env = {"STSHIM_TIMEOUT": "1s"}
    with mounted(fault=f"hang:{MODEL}:{AT}:4096") as server:
        timer = threading.Timer(3, server.release)
        timer.start()
        result, total = dumped(server, tmp_path, "-k", kind, "-t", env=env)
        timer.join()
    assert total == SIZE
    assert 2.5 < result.seconds < 6
    assert result.stdout.splitlines()[-2:] == ["descriptors more than before: 0", "threads: 1"]


def test_server_hangs_for_good(tmp_path):
    """A read is never answered: other files can be read meanwhile, and when the connection is
    aborted the program gets its error and ends."""
    env = {"STSHIM_TIMEOUT": "1s"}
    with mounted(fault=f"hang:{MODEL}:{AT}:4096") as server:
        timer = threading.Timer(3, server.abort)
        timer.start()
        result = ended(run(reading(server), env=env, timeout=15))
        timer.join()
    assert result.seconds < 8
    assert calls(result)[-1][2] == -1, result.stdout


def test_small_reads_of_a_server_that_hangs():
    """A header of a few bytes is read although a read elsewhere in the file hangs."""
    with mounted(fault=f"hang:{MODEL}:{AT}:4096") as server:
        path = server.mountpoint / MODEL
        argv = ["dd", f"if={path}", "bs=4096", "count=4", "status=none"]
        argv = ["sh", "-c", f"dd if={path} bs=4096 count=4 status=none | md5sum"]
        preloaded = ended(run(argv, timeout=10))
        assert buffered(server, MODEL) == 0
    bare = run(["sh", "-c", f"head -c 16384 {files() / MODEL} | md5sum"], preload=False)
    assert preloaded.stdout == bare.stdout


def test_slow_server_is_waited_for():
    """Slower than the time limit as a whole, but never without progress for so long."""
    with mounted(bandwidth=8 * MIB, delay_ms=20) as server:
        path = server.mountpoint / MODEL
        _, preloaded = both(reading(server), server, path, {"STSHIM_TIMEOUT": "1s"})
    assert preloaded.seconds > 2
    assert decisions(preloaded, MODEL) == [], preloaded.stats


@pytest.mark.parametrize("change", ["rewritten", "grown", "replaced"])
def test_file_changes(change, tmp_path):
    """Written to between two reads of a descriptor: the second one sees what is there now."""
    source = tmp_path / "source"
    source.mkdir()
    path = source / MODEL
    shutil.copy(files() / MODEL, path)
    new = random.Random(9).randbytes(SIZE + (MIB if change == "grown" else 0))

    with mounted(source=source, attr_timeout=0, entry_timeout=0) as server:
        argv = [need.program("readtwice"), server.mountpoint / MODEL]
        outputs = []
        for preload in (False, True):
            shutil.copy(files() / MODEL, path)
            os.utime(path, (1, 1))
            go = tmp_path / f"go-{preload}"
            os.mkfifo(go)
            timer = threading.Thread(target=_change, args=(path, new, change, go))
            timer.start()
            outputs.append(ended(run([*argv, go], preload=preload, timeout=20)))
            timer.join()
    same(*outputs)


def _change(path, new, change, go):
    """Waits until the program opens the pipe; changes the file; lets it go on."""
    with open(go, "wb"):
        time.sleep(0.05)
        if change == "replaced":
            path.with_suffix(".new").write_bytes(new)
            path.with_suffix(".new").rename(path)
        else:
            with open(path, "r+b") as file:
                file.write(new)


@pytest.mark.limit(60)
@pytest.mark.parametrize("kind", ["read", "pread", "readv", "fread", "random"])
@pytest.mark.parametrize("block", [0, 4096])
def test_invalidating_server(kind, block):
    """A server that invalidates pages while it answers hangs whoever reads through the page cache;
    under the library the same program ends with the right bytes."""
    if kind == "random" and block == 0:
        block = 65536
    argv = [need.program("reading"), "-k", kind, "-b", block]
    truth = ended(run([*argv, files() / MODEL], preload=False))
    with mounted(invalidate=True) as server:
        preloaded = ended(run([*argv, server.mountpoint / MODEL], timeout=10))
        assert buffered(server, MODEL) == 0
    assert preloaded.stdout == truth.stdout, preloaded.log


@pytest.mark.limit(60)
def test_invalidating_server_stops_others():
    """The same program without the library does not end."""
    with mounted(invalidate=True) as server:
        bare = run(reading(server), preload=False, timeout=2)
    assert bare.timed_out
