# SPDX-License-Identifier: Apache-2.0
"""Signals, forks, changes of identity, and the end of a process in the middle of a load."""

import pytest
from compare import BIG, MIB, argv, both, decisions, ended, mounted, same
from support import need
from support.run import run

SLOW = {"bandwidth": 64 * MIB}
ENDS = [
    "end-exit",
    "end-exit-at-once",
    "end-quick-exit",
    "end-exec",
    "end-signal",
    "end-abort",
]
GOING_ON = [
    "end-main-thread",
    "cancelled",
    "identity",
    "profile",
    "mask",
    "small-stack",
    "spawns",
]


def _parts_engaged(preloaded):
    """Some of the many small files were engaged."""
    assert decisions(preloaded).count("engaged") > 8, preloaded.log


def test_signal_handler_that_maps():
    """A handler maps a model a thousand times a second while threads load others."""
    need.library()
    with mounted() as server:
        command = argv("busy", server.mountpoint / BIG, "signals")
        bare = run(command, preload=False, timeout=20)
        preloaded = run(command, timeout=20)
        same(bare, preloaded)
        _parts_engaged(preloaded)


def test_forks_while_threads_load():
    """Children forked at any moment load models themselves; no lock is left to them locked."""
    need.library()
    with mounted() as server:
        command = argv("busy", server.mountpoint / BIG, "forks")
        bare = run(command, preload=False, timeout=30)
        preloaded = run(command, timeout=30)
        same(bare, preloaded)
        _parts_engaged(preloaded)


@pytest.mark.parametrize("case", ["together", "churn"])
def test_threads_that_load(case):
    """Threads that load the same files at once, or beside others that map memory of their own."""
    need.library()
    with mounted() as server:
        command = argv("busy", server.mountpoint / BIG, case)
        bare = run(command, preload=False, timeout=30)
        preloaded = run(command, timeout=30)
        same(bare, preloaded)
        _parts_engaged(preloaded)


def test_children_see_no_half_filled_memory():
    """A child of fork, _Fork or a raw clone during a fill has no page of zeros of it."""
    with mounted(**SLOW) as server:
        both("during", server.mountpoint / BIG, "children-during")


@pytest.mark.parametrize("case", ENDS)
def test_end_during_a_load(case, tmp_path):
    """exit, _exit, quick_exit, exec, a signal, abort by another thread: at once, same status."""
    need.library()
    with mounted(**SLOW) as server:
        command = argv("during", server.mountpoint / BIG, case)
        bare = run(command, preload=False, timeout=20, cwd=tmp_path)
        preloaded = run(command, timeout=20, cwd=tmp_path)
        same(bare, preloaded)
        assert preloaded.seconds < bare.seconds + 1
        assert server.stats()["direct_reads"] > 0, "the load had not begun"


@pytest.mark.parametrize("case", GOING_ON)
def test_goes_on_during_a_load(case):
    """The main thread ends, the loading thread is cancelled, setuid is called, signals arrive, and
    so on."""
    with mounted(**SLOW) as server:
        both("during", server.mountpoint / BIG, case)


def test_namespaces_after_a_load():
    """A fifth of a second after a load the process has one thread, and may leave its namespace."""
    with mounted() as server:
        both("during", server.mountpoint / BIG, "namespaces")


def test_helper_threads_block_signals():
    """There are helpers during a load, and no signal of the program is delivered to them."""
    need.library()
    with mounted(**SLOW) as server:
        command = argv("during", server.mountpoint / BIG, "thread-signals")
        preloaded = ended(run(command))
        bare = ended(run(command, preload=False))
    assert "helpers: some, answering signals: 0" in preloaded.stdout
    assert preloaded.stdout.splitlines()[0] == bare.stdout.splitlines()[0]


def test_threads_are_gone_after_a_load():
    """Threads exist only while there is work."""
    with mounted() as server:
        bare, preloaded = both("load", server.mountpoint / BIG)
        threads = ended(run([need.program("load"), "-t", server.mountpoint / BIG]))
    assert threads.stdout.splitlines()[0] == bare.stdout.splitlines()[0]
    assert threads.stdout.splitlines()[-1] == "threads: 1"
