# SPDX-License-Identifier: Apache-2.0
"""read, pread, readv, preadv and fread of a model: the results of the kernel's, whatever is asked.
Each program shows the same bare and preloaded, and the server sees no buffered read."""

import os
import secrets
import shutil
from pathlib import Path

import pytest
from compare import MIB, cases, ended, same
from reading import (
    MODEL,
    OTHER,
    SIZE,
    TWIN,
    WORDS,
    both,
    buffered,
    files,
    forget,
    mounted,
    place,
    served,
)
from support import need
from support.cache import available, evict
from support.run import run

PLACES = pytest.mark.parametrize("kind", ["fuse", "disk"])
STEPS = 3000
# On disk: what is cached decides; it may be written. A descriptor for writing: not on a mount.
ONLY_FUSE = {"nowait"}
ONLY_DISK = {"written"}


def fuzz(directory, seed, steps, *more):
    """The command line of a differential run."""
    names = (directory / name for name in (MODEL, TWIN, OTHER))
    return [need.program("readfuzz"), *names, seed, steps, *more]


@pytest.mark.parametrize("seed", [1, None])
@pytest.mark.parametrize("more", [[], ["all"]], ids=["ours", "all"])
def test_differential(seed, more):
    """Random calls on a model and on its twin under another name, on one mount, always do the same;
    bare as well. The seed that is none is made up, and printed."""
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    print(f"seed {seed}")
    with mounted() as server:
        argv = fuzz(server.mountpoint, seed, STEPS, *more)
        bare = ended(run(argv, preload=False))
        assert bare.returncode == 0, bare.stderr
        server.reset()
        preloaded = ended(run(argv))
        same(bare, preloaded)
        counters = server.stats()["files"]
    assert counters[TWIN]["buffered_requests"] > 100
    assert counters[MODEL]["requests"] > 100
    if not more:
        assert counters[MODEL]["buffered_requests"] == 0, counters


@pytest.mark.parametrize("seed", [3, None])
@pytest.mark.parametrize("env", [{"STSHIM_READ_MIN": "64K"}, {"STSHIM_IO": "buffered"}],
                         ids=["direct", "buffered"])  # fmt: skip
def test_differential_on_disk(seed, env, tmp_path):
    """The same on a disk, where direct reads need alignment."""
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    print(f"seed {seed}")
    with place("disk", tmp_path) as (directory, settings, _):
        argv = fuzz(directory, seed, STEPS)
        bare = ended(run(argv, preload=False))
        evict(directory / MODEL)
        preloaded = ended(run(argv, env={**settings, **env}))
    same(bare, preloaded)
    assert bare.returncode == 0, bare.stderr
    assert served(preloaded, MODEL) > 0, preloaded.stats


@PLACES
@cases("reads")
def test_edges(kind, program, case, tmp_path):
    """Ends of file, bad places, bad arguments, flags of descriptors, memory of all kinds."""
    if case in (ONLY_FUSE if kind == "disk" else ONLY_DISK):
        pytest.skip("not on this kind of file system")
    with place(kind, tmp_path) as (directory, env, server):
        argv = [need.program(program), directory / MODEL, case]
        if case == "written":
            bare = run(argv, preload=False, cwd=tmp_path)
            shutil.copy(files() / MODEL, directory)
            preloaded = run(argv, env=env, cwd=tmp_path)
            same(bare, preloaded)
            assert served(preloaded, MODEL) == 0
        elif case in ("nowait", "arguments"):
            same(run(argv, preload=False), run(argv, env=env))
        elif case == "flags":
            # A read with the program's own O_DIRECT may be the kernel's: no page cache either way.
            both(argv, server, directory / MODEL, env, cwd=tmp_path)
        else:
            _, preloaded = both(argv, server, directory / MODEL, env, cwd=tmp_path)
            assert case == "checked" or served(preloaded, MODEL) > 0


@PLACES
@cases("readers")
def test_threads_and_children(kind, program, case, tmp_path):
    """Threads and processes that share a descriptor get every byte once; forks change nothing."""
    with place(kind, tmp_path) as (directory, env, server):
        argv = [need.program(program), directory / WORDS, case]
        bare = ended(run(argv, preload=False))
        forget(server, directory / WORDS)
        preloaded = ended(run(argv, env=env))
        same(bare, preloaded)
        assert served(preloaded, WORDS) > 0, preloaded.stats
        # A child that shares its parent's memory is left to the kernel.
        if server and case != "children":
            assert buffered(server, WORDS) == 0, server.stats()


@cases("readbreaks")
def test_breaks(program, case):
    """Signals, closed descriptors, credentials, ends, in the middle of reads."""
    if case == "credentials":
        need.root()
    with mounted(bandwidth=200 * MIB) as server:
        argv = [need.program(program), server.mountpoint / WORDS, case]
        bare = ended(run(argv, preload=False))
        server.reset()
        preloaded = ended(run(argv, timeout=30))
        same(bare, preloaded)
        assert server.stats()["direct_bytes"] > 0
        assert {Path(line["path"]).name for line in preloaded.stats} <= {WORDS, ""}
        if case != "credentials":
            assert buffered(server, WORDS) == 0, server.stats()


@pytest.mark.parametrize("kind", ["read", "pread", "readv", "fread", "random"])
@pytest.mark.parametrize("block", [0, MIB, 100001, 4096, 512])
def test_whole_file(kind, block):
    """All of a file in blocks of all sizes: its bytes, each delivered once, no descriptor, one
    thread."""
    if kind == "random":
        block = max(block, 8192) if block else 65536
    with mounted() as server:
        argv = [need.program("reading"), "-k", kind, "-b", block, "-t", server.mountpoint / MODEL]
        _, preloaded = both(argv, server, server.mountpoint / MODEL)
        counters = server.stats()
    assert preloaded.stdout.splitlines()[-2:] == ["descriptors more than before: 0", "threads: 1"]
    if kind != "random":
        assert counters["bytes"] <= 1.03 * SIZE, counters
        # The end of a file that is read in pieces is not told of before it is read again.
        assert SIZE * 15 // 16 <= served(preloaded, MODEL) <= SIZE, preloaded.stats


def test_ifstream():
    """A loader in C++: the header through an ifstream, then tensors all over the file."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        both([need.program("ifstream"), path], server, path)


def test_limit_of_one_call(tmp_path):
    """One call gives at most 0x7ffff000 bytes. The file is a hole, the memory the same few pages
    again and again."""
    if available() < 5 << 30:
        pytest.skip("needs 5 GiB of free memory")
    source = tmp_path / "source"
    source.mkdir()
    with open(source / MODEL, "wb") as file:
        file.truncate((2 << 30) + 5 * MIB)
        file.seek(0x7FFFF000 - 8)
        file.write(b"the end.and then")
    with mounted(source=source) as server:
        argv = [need.program("readmost"), server.mountpoint / MODEL]
        preloaded = ended(run(argv, timeout=60))
        assert buffered(server, MODEL) == 0
    os.truncate(source / MODEL, 0)
    assert preloaded.stdout.splitlines() == [
        "read: 2147479552, at 2147479552, ends in: the end.",
        "again: 5246976, at 2152726528, begins with: and then",
    ], preloaded.log
