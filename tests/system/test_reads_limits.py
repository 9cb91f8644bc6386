# SPDX-License-Identifier: Apache-2.0
"""What reads of a model cost, leave behind and say; and which reads are the kernel's."""

import collections
import errno
import platform
import re
import sys
import time

import pytest
from compare import MIB, ended, same
from reading import MODEL, OTHER, SIZE, buffered, files, lines, mounted, place, served
from support import models, need, paths
from support.cache import Watch, evict, resident
from support.cgroup import Cgroup
from support.fuse import FuseServer
from support.run import run

LARGE = 256 * MIB
THREADS = ("clone", "clone3", "close_range")


def reading(path, *options):
    """The command line that reads a file."""
    return [need.program("reading"), *options, path]


def system_calls(argv, tmp_path, *only):
    """How often a command and its threads made each system call, or only some, by strace, which the
    library is not in. Only those that are counted are slowed down."""
    out = tmp_path / "trace"
    strace = [need.command("strace"), "-f", "-qq", "-c", "-o", out]
    strace += ["--seccomp-bpf", "-e", ",".join(only)] if only else []
    strace += ["-E", f"LD_PRELOAD={paths.library()}"]
    result = ended(run([*strace, *argv], preload=False, timeout=60))
    counts = collections.Counter()
    for line in out.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 5 and re.fullmatch(r"[\d.]+", fields[0]) and fields[3].isdigit():
            counts[fields[-1]] = int(fields[3])
    return result, counts


@pytest.mark.parametrize("block", [MIB, 4 * MIB])
def test_many_reads_in_a_row(block, tmp_path):
    """The pool lingers: no thread, table of descriptors or open for each read."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        argv = reading(path, "-k", "pread", "-b", block, "-n", 6)
        bare = run(argv, preload=False)
        server.reset()
        result, counts = system_calls(argv, tmp_path, *THREADS)
        stats = server.stats()
    assert result.stdout == bare.stdout
    assert stats["direct_bytes"] >= 6 * (SIZE // block) * block
    # Eight that read and one for short calls; of fresh ones a few more, if all have lingered out.
    assert counts["clone"] + counts["clone3"] <= 20, counts
    assert counts["close_range"] <= 6, counts
    assert stats["opens"] <= 6 + 2 + 12, stats
    assert stats["buffered_reads"] == 0, stats


def test_small_reads_in_a_row(tmp_path):
    """Neither for small ones, which come from a block that was read ahead."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        _, counts = system_calls(reading(path, "-b", 4096), tmp_path, *THREADS)
        stats = server.stats()
    assert counts["clone"] + counts["clone3"] <= 20, counts
    assert stats["opens"] <= 12, stats
    assert stats["requests"] <= 100 and stats["buffered_reads"] == 0, stats
    assert stats["bytes"] <= 1.03 * SIZE, stats


def test_small_reads_all_over_the_file():
    """Random small reads do not read a megabyte each."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        python = [sys.executable, "-S", "-c", f"""
import os
fd = os.open({str(path)!r}, os.O_RDONLY)
print([len(os.pread(fd, 46, at * 7919 * 40 % {SIZE - 46})) for at in range(75)])
"""]  # fmt: skip
        preloaded = ended(run(python))
        stats = server.stats()
    assert preloaded.stdout.count("46") == 75, preloaded.stderr
    assert stats["buffered_reads"] == 0, stats
    assert stats["bytes"] <= 75 * 70000, stats
    assert stats["opens"] <= 12, stats


def test_other_files_while_a_model_is_open(tmp_path):
    """Reads of another file: no thread, no open, one look at the descriptor each at most."""
    python = [sys.executable, "-S", "-c", """
import os, sys
model = os.open(sys.argv[1], os.O_RDONLY)
fd = os.open(sys.argv[2], os.O_RDONLY)
for at in range(1000):
    os.pread(fd, 200, at)
    os.lseek(fd, at, 0)
    os.read(fd, 200)
"""]  # fmt: skip
    with mounted() as server:
        names = [server.mountpoint / MODEL, server.mountpoint / OTHER]
        _, counts = system_calls([*python, *names], tmp_path)
        assert server.stats()["direct_reads"] == 0
        _, without = system_calls([*python, names[1], names[1]], tmp_path)
    assert counts["clone"] + counts["clone3"] == 0, counts
    assert counts["total"] - without["total"] <= 2010, (counts, without)
    assert counts["openat"] <= without["openat"], (counts, without)


def settled(watch):
    """What is in the page cache once the kernel's own read-ahead has come to its end."""
    before, now = -1, watch.resident()
    while before != now:
        time.sleep(0.1)
        before, now = now, watch.resident()
    return now


@pytest.mark.parametrize("kind", ["read", "fread", "random"])
@pytest.mark.parametrize("part", [0, 6 * MIB])
@pytest.mark.parametrize("io", ["auto", "buffered"])
def test_page_cache_as_found(kind, part, io):
    """What was in the page cache is in it afterwards, and nothing more."""
    with mounted(keep_cache=True) as server, Watch(server.mountpoint / MODEL) as watch:
        with open(server.mountpoint / MODEL, "rb", buffering=0) as file:
            file.read(part)
        before = settled(watch)
        assert (before > 0) == (part > 0)
        argv = reading(server.mountpoint / MODEL, "-k", kind, "-b", 65536)
        result = ended(run(argv, env={"STSHIM_IO": io}))
        assert served(result, MODEL) > 0, result.stats
        # What the kernel has read ahead of buffered reads may come after they are over.
        slack = MIB if io == "buffered" else 0
        assert abs(watch.resident() - before) <= slack, (before, watch.resident())


@pytest.mark.parametrize("io", ["auto", "buffered"])
def test_page_cache_of_zeros(io, tmp_path):
    """A model of zeros, whose end the file system may be asked about, leaves nothing either."""
    need.fuse()
    need.library()
    with open(tmp_path / MODEL, "wb") as file:
        file.truncate(24 * MIB + 777)
    with FuseServer(tmp_path, keep_cache=True) as server:
        with Watch(server.mountpoint / MODEL) as watch:
            result = ended(run(reading(server.mountpoint / MODEL), env={"STSHIM_IO": io}))
            assert served(result, MODEL) > 0, result.stats
            assert settled(watch) == 0


def test_page_cache_on_disk(tmp_path):
    """The same on a disk."""
    with place("disk", tmp_path) as (directory, env, _):
        path = directory / MODEL
        for part in (0, 6 * MIB):
            evict(path)
            with open(path, "rb", buffering=0) as file:
                file.read(part)
            before = resident(path)
            result = ended(run(reading(path, "-b", 2 * MIB), env=env))
            assert served(result, MODEL) > 0, result.stats
            # What is cached the kernel copies, and may read ahead of it.
            assert abs(resident(path) - before) <= 3 * MIB, (part, before)


def test_observe():
    """Decides and says so, and leaves the reading to the kernel."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        bare = run(reading(path, "-b", 65536), preload=False)
        server.reset()
        result = ended(run(reading(path, "-b", 65536), env={"STSHIM_MODE": "observe"}))
        stats = server.stats()
    same(bare, result)
    assert stats["direct_reads"] == 0 and stats["opens"] == 1, stats
    assert [line["decision"] for line in lines(result, MODEL)] == ["would-engage"], result.stats
    assert "would be" in result.log


@pytest.mark.parametrize("block, least, expected", [
    (MIB, None, True),
    (MIB - 4096, None, False),
    (65536, "64K", True),
    (65535, "64K", False),
    (16 * MIB, "16M", True),
    (15 * MIB, "16M", False),
    (16 * MIB, "off", False),
])  # fmt: skip
def test_least_request(block, least, expected, tmp_path):
    """Off FUSE requests under STSHIM_READ_MIN are the kernel's."""
    with place("disk", tmp_path) as (directory, _, _):
        argv = reading(directory / MODEL, "-k", "pread", "-b", block)
        bare = run(argv, preload=False)
        env = {"STSHIM_MODE": "always", "STSHIM_READ_MIN": least}
        evict(directory / MODEL)
        result = ended(run(argv, env=env))
        left = resident(directory / MODEL)
    same(bare, result)
    assert (served(result, MODEL) > 0) == expected, result.stats
    # What is left: the end, which is less than a block.
    assert (left < SIZE - 8 * MIB) == expected, left


@pytest.mark.parametrize("block", [4096, MIB, 16 * MIB])
def test_off_on_a_mount(block):
    """With STSHIM_READ_MIN=off all reads are the kernel's, on FUSE too; maps are not."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        result = ended(run(reading(path, "-b", block), env={"STSHIM_READ_MIN": "off"}))
        assert server.stats()["direct_reads"] == 0
        assert served(result, MODEL) == 0
        mapped = ended(run([need.program("load"), path], env={"STSHIM_READ_MIN": "off"}))
        assert server.stats()["direct_bytes"] >= SIZE
    assert mapped.stdout == result.stdout


def test_another_name():
    """A file whose name is no model's is read as always."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        result = ended(run(reading(path), env={"STSHIM_FILES": "*.gguf"}))
        assert server.stats()["direct_reads"] == 0 and result.stats == []


def test_few_lines():
    """Ten thousand reads are a few lines in statistics and log, whose sum is what was read."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        result = ended(run([*reading(path, "-k", "pread", "-b", 5033), path], timeout=60))
        found = lines(result, MODEL)
    assert 1 <= len(found) <= 12, len(found)
    assert 1 <= len(result.log.splitlines()) <= 12, result.log
    assert 2 * SIZE * 15 // 16 <= served(result, MODEL) <= 2 * SIZE
    assert sum(line["direct_bytes"] for line in found) >= SIZE
    assert all(line["file_system"] == "fuse" and line["size"] == SIZE for line in found)


@pytest.mark.parametrize("kind, block", [("read", 0), ("fread", 0), ("pread", 4 * MIB)])
def test_peak_memory(kind, block):
    """The program's own memory and at most 64 MiB, page cache included."""
    need.cgroup()

    def make(directory):
        directory.mkdir()
        models.random_file(directory.absolute() / MODEL, LARGE, 1)

    source = models.cached("reads-large", LARGE, make)
    with mounted(source=source) as server, Cgroup() as group:
        argv = reading(server.mountpoint / MODEL, "-k", kind, "-b", block)
        result = ended(run(argv, cgroup=group, timeout=60))
        assert buffered(server, MODEL) == 0
        assert group.peak() <= LARGE + 64 * MIB, group.peak() >> 20
    assert served(result, MODEL) >= LARGE - 64 * MIB


def test_no_procfs(tmp_path):
    """Without /proc the reads are the kernel's, and the log says why, once."""
    need.root()
    need.command("unshare")
    with mounted() as server:
        path = server.mountpoint / MODEL
        bare = run(reading(path, "-b", 65536), preload=False)
        argv = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"]
        result = ended(run([*argv, *reading(path, "-b", 65536)]))
    same(bare, result)
    # The file's name cannot be asked either.
    said = {(line["decision"], line["reason"]) for line in result.stats if line["event"] == "read"}
    assert said == {("declined", "no-procfs")} and len(result.stats) <= 2, result.stats


def test_open_for_writing(tmp_path):
    """Reads through a descriptor that may write are the kernel's, and the statistics say so."""
    with place("disk", tmp_path) as (directory, env, _):
        argv = [need.program("reads"), directory / MODEL, "written"]
        result = ended(run(argv, env=env, cwd=tmp_path))
    found = [(line["decision"], line["reason"]) for line in lines(result, MODEL)]
    # The file that was written to is another version.
    assert found == [("declined", "open-for-writing")] * 2, result.stats


def test_rights_dropped(tmp_path):
    """A file that the process may not open any more: the kernel's reads, once that is known."""
    need.root()
    with mounted() as server:
        argv = [need.program("readbreaks"), server.mountpoint / "words.safetensors", "credentials"]
        bare = run(argv, preload=False)
        same(bare, ended(run(argv)))


def test_silent_by_default():
    """Nothing on stdout or stderr but what the program writes."""
    env = {"STSHIM_STATS": None, "STSHIM_LOG": None, "STSHIM_LOG_FILE": None}
    with mounted() as server:
        argv = reading(server.mountpoint / MODEL, "-b", 100000)
        bare = run(argv, preload=False)
        server.reset()
        same(bare, run(argv, env=env))
        assert server.stats()["direct_bytes"] >= SIZE


def test_mixed_with_maps():
    """A file that is mapped and read: each way gives its bytes, and neither the page cache's."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        result = ended(run([sys.executable, "-S", "-c", """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
head = os.read(fd, 4096)
with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as whole:
    assert whole[:4096] == head
    assert os.pread(fd, 10 << 20, 12345) == whole[12345:12345 + (10 << 20)]
    assert open(sys.argv[1], "rb").read() == whole[:]
print("same")
""", path]))  # fmt: skip
        assert server.stats()["buffered_reads"] == 0
    assert result.stdout == "same\n", result.stderr


def test_into_a_lazily_filled_map():
    """Reads whose place is memory with holes: the map's bytes around what was read, also in a child
    that was forked meanwhile; and a map filled while the same file is read."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        result = ended(run([sys.executable, "-S", "-c", """
import mmap, os, sys, threading
path, truth = sys.argv[1], open(sys.argv[2], "rb").read()
MIB = 1 << 20
fd = os.open(path, os.O_RDONLY)
size = os.fstat(fd).st_size
view = memoryview(mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE,
                            prot=mmap.PROT_READ | mmap.PROT_WRITE))
expected = bytearray(truth)
def into(at, length, offset):
    assert os.preadv(fd, [view[at:at + length]], offset) == length
    expected[at:at + length] = truth[offset:offset + length]
into(12 * MIB + 333, 6 * MIB + 1, 7)
into(3 * MIB + 5, 4000, 9 * MIB)
into(20 * MIB, 100, 11)
threads = [threading.Thread(target=into, args=(at * MIB, 700000, at * 5000)) for at in range(4, 8)]
[thread.start() for thread in threads]
child = os.fork()
if child == 0:
    os._exit(0 if view[19 * MIB:] == expected[19 * MIB:] else 1)
[thread.join() for thread in threads]
print(os.waitpid(child, 0)[1], view == expected, open(path, "rb").read() == truth)
""", path, files() / MODEL], env={"STSHIM_FILL": "lazy"}, timeout=30))  # fmt: skip
    assert result.stdout == "0 True True\n", result.stderr


# Numbers on x86-64 and on aarch64.
REFUSED = {"process_vm_readv": (310, 270), "close_range": (436, 436), "clone": (56, 220),
           "statx": (332, 291), "preadv": (295, 69), "madvise": (28, 233)}  # fmt: skip


@pytest.mark.parametrize("call", REFUSED)
@pytest.mark.parametrize("block", [0, 100001, 512])
def test_refused_calls(call, block):
    """Where a filter refuses a system call that only the library makes the kernel serves what the
    library cannot."""
    number = REFUSED[call][platform.machine() == "aarch64"]
    with mounted() as server:
        argv = reading(server.mountpoint / MODEL, "-b", block)
        bare = run(argv, preload=False)
        same(bare, ended(run([need.program("refuse"), number, errno.EPERM, *argv], timeout=30)))
