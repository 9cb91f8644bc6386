# SPDX-License-Identifier: Apache-2.0
"""Memory: one copy, and where that does not fit, none. Who lives bare lives with the library."""

import re

import pytest
from compare import BIG, MIB, argv, big_file, decisions, ended, engaged, mounted, same
from support import cache, models, need
from support.cgroup import Cgroup
from support.run import run

LARGE = 192 * MIB


@pytest.fixture
def large():
    """A mount with a file of 192 MiB."""
    need.library()
    need.cgroup()
    with mounted(source=big_file(LARGE)) as server:
        yield server.mountpoint / BIG


@pytest.mark.parametrize("options", ["-k", "-kw", "-kp"])
def test_peak_is_one_copy(large, options):
    """Peak memory of a load, page cache included, is the model and at most 64 MiB."""
    with Cgroup() as group:
        result = ended(run([need.program("load"), options, large], cgroup=group))
        assert engaged(result, BIG), result.log
        assert group.peak() <= LARGE + 64 * MIB


def test_peak_of_two_maps_in_turn(large):
    """Memory is given back when a map is unmapped."""
    with Cgroup() as group:
        result = ended(run([need.program("load"), "-n", "2", large], cgroup=group))
        assert decisions(result) == ["engaged"] * 2
        assert group.peak() <= LARGE + 64 * MIB


def test_limit_of_half_the_file(large):
    """A copy would be killed; the kernel's mapping lives, and the log has the figures."""
    bare = ended(run([need.program("load"), large], preload=False))
    with Cgroup(LARGE // 2) as group:
        preloaded = run([need.program("load"), large], cgroup=group)
        same(bare, preloaded)
        assert group.oom_kills() == 0
    assert decisions(preloaded) == ["declined:memory"]
    line = [line for line in preloaded.log.splitlines() if "declined:memory" in line][0]
    assert re.search(r"\d", line.split(BIG)[1]), line


@pytest.mark.parametrize("copies", [1.5, 2.5])
def test_ranks_started_together(large, copies):
    """Four processes with memory for some copies: none is killed, all are right."""
    command = [need.program("ranks"), 4, need.program("load"), "-k", "-z", 300, large]
    bare = ended(run(command, preload=False))
    with Cgroup(int(LARGE * copies)) as group:
        preloaded = ended(run(command, cgroup=group, timeout=60))
        assert group.oom_kills() == 0
    # Who is first is chance.
    assert sorted(preloaded.stdout.splitlines()) == sorted(bare.stdout.splitlines())
    found = decisions(preloaded, BIG)
    refused = [decision for decision in found if decision != "engaged"]
    # How many engage depends on who is how fast; not all can.
    assert len(found) == 4 and refused, found
    assert set(refused) <= {"declined:memory", "abandoned:memory"}, found


def test_ranks_that_fit(large):
    """Two processes with memory for both: both engage."""
    command = [need.program("ranks"), 2, need.program("load"), "-k", "-z", 300, large]
    with Cgroup(int(LARGE * 3.5)) as group:
        preloaded = ended(run(command, cgroup=group, timeout=60))
    assert decisions(preloaded, BIG) == ["engaged"] * 2, preloaded.log


@pytest.mark.parametrize("uma", ["yes", "no"])
def test_shards_mapped_then_copied(uma):
    """Shards of 0.6 times the limit, all mapped before any is read, each copied out and the copy
    kept: what a GPU driver does on unified memory. Survives if the library knows (and, as it would
    bare, if it does not engage)."""
    need.library()
    need.cgroup()
    shards, shard, limit = 6, 24 * MIB, 240 * MIB

    def make(directory):
        directory.mkdir()
        for number in range(shards):
            models.random_file(directory.absolute() / f"{number}.safetensors", shard, number)

    source = models.cached("system-shards", (shards, shard), make)
    with mounted(source=source) as server:
        paths = [server.mountpoint / f"{number}.safetensors" for number in range(shards)]
        command = [need.program("load"), "-c"] + paths
        bare = ended(run(command, preload=False))
        with Cgroup(limit) as group:
            env = {"STSHIM_UMA": uma} if uma == "yes" else {"STSHIM_MODE": "off"}
            preloaded = run(command, env=env, cgroup=group, timeout=60)
            same(bare, preloaded)
            assert group.oom_kills() == 0
    if uma == "yes":
        found = decisions(preloaded)
        assert "engaged" in found and "declined:memory" in found, found


def test_shards_that_fit_are_all_engaged():
    """Where the memory suffices for both copies, all are engaged."""
    need.library()
    need.cgroup()
    with mounted() as server:
        paths = [server.mountpoint / f"part-{number:02}.safetensors" for number in range(16)]
        command = [need.program("load"), "-c"] + paths
        with Cgroup(400 * MIB) as group:
            preloaded = ended(run(command, env={"STSHIM_UMA": "yes"}, cgroup=group))
    assert decisions(preloaded) == ["engaged"] * 16


@pytest.mark.parametrize(
    "limits",
    [["--as=280M"], ["--data=100M"], ["--as=280M", "--data=100M"], ["--as=1G", "--data=1G"]],
    ids=" ".join,
)
def test_limits_of_the_process(large, limits):
    """RLIMIT_AS and RLIMIT_DATA that the file's map fits in, and a copy may not."""
    command = ["prlimit", *map(_bytes, limits), need.program("load"), large]
    bare = run(command, preload=False)
    preloaded = run(command)
    same(bare, preloaded)
    assert bare.returncode == 0
    roomy = "--as=1G" in limits
    assert decisions(preloaded) == (["engaged"] if roomy else ["declined:memory"])


def _bytes(option):
    """An option of prlimit with its size in bytes."""
    name, size = option.split("=")
    return f"{name}={int(size[:-1]) << {'M': 20, 'G': 30}[size[-1]]}"


@pytest.mark.parametrize(
    "value, expected",
    [
        ("100M", "declined:memory"),
        ("191M", "declined:memory"),
        ("193M", "engaged"),
        ("1G", "engaged"),
        ("0", "declined:memory"),
        ("0%", "declined:memory"),
        ("50%", "engaged"),
    ],
)
def test_memory_setting(large, value, expected):
    """STSHIM_MEMORY as a size and as a percentage."""
    need.free_memory(1 << 30)
    result = ended(run([need.program("load"), large], env={"STSHIM_MEMORY": value}))
    assert decisions(result) == [expected], result.log


def test_memory_setting_counts_what_is_engaged(large):
    """Maps that are alive count; what was unmapped does not."""
    env = {"STSHIM_MEMORY": "300M"}
    kept = ended(run([need.program("load"), "-k", "-n", "2", large], env=env))
    assert sorted(decisions(kept)) == ["declined:memory", "engaged"]
    freed = ended(run([need.program("load"), "-n", "2", large], env=env))
    assert decisions(freed) == ["engaged", "engaged"]


def test_nothing_stays_in_the_page_cache(large):
    """A load leaves the page cache of the file as it was: empty."""
    need.root()
    with cache.Watch(large) as watch:
        watch.evict()
        result = ended(run([need.program("load"), large]))
        assert engaged(result, BIG)
        assert watch.resident() == 0


def test_limit_in_a_parent_cgroup(large):
    """The limit of an outer cgroup counts, too."""
    bare = ended(run([need.program("load"), large], preload=False))
    with Cgroup(LARGE // 2) as outer:
        inner = outer.path / "inner"
        inner.mkdir()
        try:
            script = f"echo $$ > {inner}/cgroup.procs && exec \"$@\""
            command = ["sh", "-c", script, "sh", *argv("load", large, None)]
            preloaded = run(command)
            same(bare, preloaded)
            assert decisions(preloaded) == ["declined:memory"]
            assert outer.oom_kills() == 0
        finally:
            inner.rmdir()
