# SPDX-License-Identifier: Apache-2.0
"""Runs a program bare or under the library, with a time limit that holds."""

import contextlib
import dataclasses
import json
import os
import pwd
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from . import fuse, paths

KILL_SECONDS = 5


@dataclasses.dataclass
class Result:
    """What became of a program. signal is None or the number of the signal that ended it."""

    returncode: int
    signal: int
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool
    stats: list
    log: str

    def decisions(self, event="map"):
        """The decisions of the stats lines of one event, in order."""
        return [line["decision"] for line in self.stats if line["event"] == event]


def mapped(lines):
    """Of stats lines those that say what became of a call of mmap: one a mapping, however it is
    filled."""
    return [line for line in lines if line["event"] in ("map", "fill", "begin")]


def environment(preload, env):
    """Our own environment without what would configure the library, with env over it; a value of
    None removes a variable."""
    result = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("STSHIM_") and name != "LD_PRELOAD"
    }
    result.update(preload)
    for name, value in env.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = str(value)
    return result


def file_of(directory, name, ids):
    """An empty file that belongs to the user who is to write it."""
    path = directory / name
    path.touch(mode=0o600)
    if ids is not None:
        os.chown(path, *ids)
    return path


def preloaded(directory, ids):
    """The environment variables that put the library into a program."""
    if not paths.library().exists():
        raise FileNotFoundError(paths.library())
    return {
        "LD_PRELOAD": str(paths.library()),
        "STSHIM_STATS": str(file_of(directory, "stats", ids)),
        "STSHIM_LOG": "info",
        "STSHIM_LOG_FILE": str(file_of(directory, "log", ids)),
    }


def before_exec(cgroup=None, ids=None, also=None):
    """What the child does before exec: enters the cgroup, calls also, then becomes the user."""

    def prepare():
        if cgroup is not None:
            cgroup.enter()
        if also is not None:
            also()
        if ids is not None:
            os.setgroups([])
            os.setgid(ids[1])
            os.setuid(ids[0])

    return None if cgroup is None and ids is None and also is None else prepare


def _wait(process, timeout):
    """Waits for the end of a process; returns whether it came within timeout seconds."""
    fd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(timeout * 1000):
            return False
    finally:
        os.close(fd)
    process.wait()
    return True


def _kill(process):
    """Ends the process group. What waits for a FUSE server is freed by ending its connection."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if _wait(process, KILL_SECONDS):
        return
    fuse.abort_all()
    _wait(process, KILL_SECONDS)


def _text(path):
    """The contents of a file, empty if there is none."""
    return path.read_text(errors="replace") if path.exists() else ""


def ids_of(user):
    """The uid and gid of a user by name, None for None."""
    entry = None if user is None else pwd.getpwnam(user)
    return None if entry is None else (entry.pw_uid, entry.pw_gid)


def run(argv, preload=True, env=None, timeout=60, cwd=None, cgroup=None, user=None, before=None):
    """Runs argv and returns a Result. With preload the library is in it, and its statistics and
    log are collected, unless env says otherwise. user is the name of the user to run as; before is
    called in the child, with our rights, before it runs argv."""
    ids = ids_of(user)
    with tempfile.TemporaryDirectory(prefix="stn-run-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        variables = environment(preloaded(directory, ids) if preload else {}, env or {})
        with open(directory / "stdout", "wb") as out, open(directory / "stderr", "wb") as err:
            start = time.monotonic()
            process = subprocess.Popen(
                [str(argument) for argument in argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=variables,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=before_exec(cgroup, ids, before),
            )
            timed_out = not _wait(process, timeout)
            seconds = time.monotonic() - start
            if timed_out:
                _kill(process)
        code = process.returncode
        stats = Path(variables.get("STSHIM_STATS") or directory / "stats")
        log = Path(variables.get("STSHIM_LOG_FILE") or directory / "log")
        return Result(
            returncode=code,
            signal=-code if code is not None and code < 0 else None,
            stdout=_text(directory / "stdout"),
            stderr=_text(directory / "stderr"),
            seconds=seconds,
            timed_out=timed_out,
            stats=[json.loads(line) for line in _text(stats).splitlines()],
            log=_text(log),
        )
