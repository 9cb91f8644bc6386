# SPDX-License-Identifier: Apache-2.0
"""A process that opens no model is as with an empty library in our place."""

import collections
import os
import re
import shutil
import sys

import pytest
from compare import MODEL, argv, ended, files, mounted
from support import need, paths
from support.run import run

PYTHON = os.path.realpath(sys.executable)
MARK = "sync_file_range"
# What the dynamic loader does to map a library depends on its segments.
LOADING = {"mmap", "mprotect"}


def empty():
    """The library with nothing in it."""
    return need.program("empty.so")


def run_with(library, command, **options):
    """Runs a command with a library preloaded and nothing configured."""
    env = {"LD_PRELOAD": library, "STSHIM_STATS": None, "STSHIM_LOG": None, "STSHIM_LOG_FILE": None}
    return run(command, env=env, **options)


def trace(library, command, tmp_path):
    """The system calls of a command and its children: (name, raw result) by process, in order of
    their start."""
    need.command("strace")
    need.library()
    out = tmp_path / "trace"
    strace = ["strace", "-f", "-qq", "-e", "raw=all", "-e", "signal=none", "-o", out]
    strace += ["-E", f"LD_PRELOAD={library}"]
    done = run(strace + command, preload=False, timeout=60)
    ended(done)
    calls = collections.OrderedDict()
    for line in out.read_text().splitlines():
        call = re.match(r"(\d+)\s+(?:<\.\.\. )?(\w+)(?:\(| resumed)", line)
        if call and not line.endswith("<unfinished ...>"):
            calls.setdefault(call[1], []).append(call[2])
    return done, list(calls.values())


def without_loading(calls):
    """A process's calls from its start, without those that map libraries."""
    return [name for name in calls if name not in LOADING]


def after_start(calls):
    """The calls after the mark that the program sets at the start of main."""
    return calls[calls.index(MARK) :]


def test_same_system_calls(tmp_path):
    """The same calls in the same order, before main and after."""
    command = [need.program("quiet"), files() / "plain.bin"]
    bare, expected = trace(empty(), command, tmp_path)
    preloaded, found = trace(paths.library(), command, tmp_path)
    assert len(found) == len(expected) >= 4
    assert after_start(found[0]) == after_start(expected[0])
    assert [without_loading(calls) for calls in found] == [
        without_loading(calls) for calls in expected
    ]
    assert preloaded.returncode == bare.returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        ["ls", "-l", "/usr"],
        ["bash", "-c", "for i in 1 2 3; do echo $i | cat; done"],
        [PYTHON, "-S", "-E", "-c", "import os, json; print(os.listdir('/proc/self/fd'))"],
    ],
    ids=["ls", "bash", "python"],
)
def test_same_system_calls_of_others(command, tmp_path):
    """The same number of every call in programs that we did not write."""
    environment = dict(PYTHONHASHSEED="0")
    command = ["env"] + [f"{name}={value}" for name, value in environment.items()] + command
    bare, expected = trace(empty(), command, tmp_path)
    preloaded, found = trace(paths.library(), command, tmp_path)
    assert preloaded.stdout == bare.stdout and preloaded.stderr == bare.stderr
    assert _counts(found) == _counts(expected)


def _counts(processes):
    """How often each call was made. The order in which processes wait for one another is chance."""
    chance = {"wait4", "rt_sigreturn", "restart_syscall", "futex"}
    count = collections.Counter(name for calls in processes for name in without_loading(calls))
    return {name: number for name, number in count.items() if name not in chance}


def test_same_process():
    """The same descriptors, threads, signal masks, errno, allocations and output."""
    need.library()
    command = [need.program("quiet"), files() / "plain.bin"]
    bare = ended(run_with(empty(), command))
    preloaded = ended(run_with(paths.library(), command))
    assert bare.returncode == 0 and "Threads:\t1" in bare.stdout
    assert (preloaded.returncode, preloaded.stdout, preloaded.stderr) == (
        bare.returncode,
        bare.stdout,
        bare.stderr,
    )


def test_same_process_with_everything_on():
    """The same when logging and statistics are on, since there is nothing to say."""
    need.library()
    command = [need.program("quiet"), files() / "plain.bin"]
    bare = ended(run_with(empty(), command))
    preloaded = ended(run(command, env={"STSHIM_LOG": "debug", "STSHIM_MODE": "always"}))
    assert preloaded.stdout == bare.stdout and preloaded.stderr == bare.stderr
    assert preloaded.log == "" and preloaded.stats == []


def test_silent_by_default():
    """Even where it engages: nothing on stdout or stderr, no file written."""
    need.library()
    with mounted() as server:
        command = argv("load", server.mountpoint / MODEL, None)
        bare = ended(run(command, preload=False))
        server.reset()
        preloaded = ended(run_with(paths.library(), command))
        assert server.stats()["direct_bytes"] > 0
    assert (preloaded.stdout, preloaded.stderr) == (bare.stdout, "")


def test_start_up_cost():
    """The cost of a start is measured by tests/bench; here only that it is not out of all
    proportion."""
    need.library()
    result = ended(run([need.program("spawn_cost"), 300, "/bin/true", empty(), paths.library()],
                       preload=False))  # fmt: skip
    base, ours = (float(line.split()[0]) for line in result.stdout.splitlines())
    assert ours - base < 300, result.stdout


def private_etc(directory, library):
    """A shell line that puts a copy of /etc with an ld.so.preload over /etc."""
    ignored = shutil.ignore_patterns("ssl", "shadow*", "gshadow*")
    shutil.copytree("/etc", directory / "etc", symlinks=True, ignore=ignored)
    (directory / "etc" / "ld.so.preload").write_text(f"{library}\n")
    return f"mount --bind {directory}/etc /etc"


@pytest.mark.parametrize("secure", [False, True], ids=["ordinary", "setuid"])
def test_setuid_program(secure, public):
    """In a program with more rights than its user the library does nothing: no configuration from
    the environment, no file, no engagement. The same program without the bit engages."""
    need.user("nobody")
    need.command("unshare")
    need.library()
    for source in (need.program("load"), paths.library(), files() / MODEL):
        shutil.copy(source, public)
    (public / "load").chmod(0o4755 if secure else 0o755)
    stats = public / "out" / "stats"
    settings = f"STSHIM_MODE=always STSHIM_STATS={stats} STSHIM_LOG=debug"
    settings += f" STSHIM_LOG_FILE={public}/out/log"
    script = (
        f"{private_etc(public, public / paths.library().name)} && "
        f"exec setpriv --reuid=nobody --regid=nogroup --clear-groups "
        f"env {settings} {public}/load {public / MODEL}"
    )
    result = ended(run(["unshare", "-m", "sh", "-c", script], preload=False))
    truth = ended(run([public / "load", public / MODEL], preload=False))
    assert result.stdout == truth.stdout and result.stderr == ""
    assert stats.exists() != secure
    assert (public / "out" / "log").exists() != secure


def test_program_of_another_kind():
    """A static program runs and shows the same."""
    need.library()
    bare = run(["/sbin/ldconfig", "--help"], preload=False)
    preloaded = run(["/sbin/ldconfig", "--help"])
    assert (preloaded.returncode, preloaded.stdout, preloaded.stderr) == (
        bare.returncode,
        bare.stdout,
        bare.stderr,
    )
