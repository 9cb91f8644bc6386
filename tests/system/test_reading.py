# SPDX-License-Identifier: Apache-2.0
"""How an eager fill reads: all of a small file at once; what is cached from the page cache, where it
stays."""

import os

import pytest
from compare import BIG, MIB, big_file, engaged, mounted
from support import cache, need
from support.run import run

SIZE = 64 * MIB
# Some hosts drop cached pages that nobody uses for a moment.
LOST = SIZE // 3
EAGER = {"STSHIM_FILL": "eager"}


@pytest.fixture(autouse=True)
def owner():
    """Only who owns a file is told what of it is cached; the library must be there."""
    need.root()
    need.library()


def load(path, env=None, **options):
    """Maps the file whole and sums it, under the library and without: the same; the result."""
    argv = [need.program("load"), path]
    under = run(argv, env={**EAGER, **(env or {})}, **options)
    assert under.returncode == 0 and engaged(under, path), (under, under.log)
    return under


def bring_in(path, size):
    """Reads the first bytes of a file into the page cache, and no others: what the kernel reads
    ahead of that may come later than the next look."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert len(file.read(size)) == size


def load_cached(part):
    """One load from a mount that keeps its cache, a part of which is in it: the path, the result,
    bytes cached before and after, and the server's counters."""
    with mounted(source=big_file(SIZE), keep_cache=True) as server:
        path = server.mountpoint / BIG
        with cache.Watch(path) as watch:
            bring_in(path, part)
            before = watch.resident()
            server.reset()
            result = load(path)
            return path, result, before, watch.resident(), server.stats()


@pytest.mark.parametrize("part", [SIZE, SIZE // 2, 0])
def test_fuse_mount_that_keeps_its_cache(part):
    """What is cached is not asked for again, stays cached, and the rest does not become so."""
    expected = run([need.program("load"), big_file(SIZE) / BIG], preload=False).stdout
    for _ in range(8):
        path, result, before, after, counters = load_cached(part)
        assert result.stdout.split()[1:] == expected.split()[1:]
        # The kernel may take pages by itself meanwhile (DAMON): what we do, we do each time.
        if before >= part and after >= before and counters["bytes"] <= SIZE - part + LOST:
            break
    assert SIZE - before - MIB <= counters["bytes"] <= SIZE - part + LOST, counters
    assert before - LOST <= after <= before + LOST
    line = engaged(result, path)[-1]
    assert line["direct_bytes"] + line["buffered_bytes"] == SIZE
    assert part - LOST <= line["buffered_bytes"] <= before + MIB


def test_disk():
    """The same on a local file system."""
    path = big_file(SIZE) / BIG
    cache.evict(path)
    cold = load(path, {"STSHIM_MODE": "always"})
    bring_in(path, SIZE)
    before = cache.resident(path)
    hot = load(path, {"STSHIM_MODE": "always"})
    assert hot.stdout == cold.stdout
    assert abs(before - cache.resident(path)) <= LOST
    assert engaged(cold, path)[-1]["direct_bytes"] == SIZE
    assert engaged(hot, path)[-1]["buffered_bytes"] >= SIZE - LOST


def test_only_direct_reads_where_nothing_else_is_allowed():
    """STSHIM_IO=direct leaves the page cache alone, whatever it has."""
    with mounted(source=big_file(SIZE), keep_cache=True) as server:
        path = server.mountpoint / BIG
        with cache.Watch(path):
            bring_in(path, SIZE)
            server.reset()
            load(path, {"STSHIM_IO": "direct"})
            assert server.stats()["direct_bytes"] == SIZE


def test_who_does_not_own_the_file(user_with_fuse):
    """The kernel tells them that all of it is cached, which is not so: everything is read."""
    with mounted(source=big_file(SIZE), keep_cache=True, user=user_with_fuse) as server:
        path = server.mountpoint / BIG
        server.reset()
        load(path, user=user_with_fuse)
        assert server.stats()["bytes"] == SIZE


def test_small_file_is_asked_for_at_once():
    """A shard of 4 MiB and a little more waits for the server once."""
    with mounted(source=big_file(4 * MIB + 100), delay_ms=200) as server:
        load(server.mountpoint / BIG)
        counters = server.stats()
    assert counters["direct_reads"] == counters["max_inflight"] == 5, counters
