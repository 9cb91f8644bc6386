# SPDX-License-Identifier: Apache-2.0
"""A memory cgroup as a context manager, version 1 or 2."""

import contextlib
import itertools
import os
import signal
import time
from pathlib import Path

_numbers = itertools.count()

NAMES = {
    1: {"limit": "memory.limit_in_bytes", "peak": "memory.max_usage_in_bytes",
        "usage": "memory.usage_in_bytes", "events": "memory.oom_control",
        "swap": "memory.memsw.limit_in_bytes"},
    2: {"limit": "memory.max", "peak": "memory.peak",
        "usage": "memory.current", "events": "memory.events", "swap": "memory.swap.max"},
}  # fmt: skip


def _mounts():
    """Where hierarchies that may hold the memory controller are mounted: (version, path)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        kind, _, options = after.split(" ", 2)
        mountpoint = Path(before.split(" ")[4])
        if kind == "cgroup" and "memory" in options.split(","):
            found.append((1, mountpoint))
        if kind == "cgroup2" and "memory" in (mountpoint / "cgroup.controllers").read_text():
            found.append((2, mountpoint))
    return found


def _own(version):
    """Our own cgroup in the hierarchy of that version, as the kernel names it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" if version == 2 else "memory" in controllers.split(","):
            return path.lstrip("/")
    return ""


def _parents():
    """Where a cgroup could be made, best first: below our own, else further up."""
    for version, mountpoint in _mounts():
        path = mountpoint / _own(version)
        while path != mountpoint.parent:
            yield version, path
            path = path.parent


def _prepare(version, parent):
    """Makes the memory controller available to the children of parent; OSError if it cannot."""
    if version == 1:
        return
    control = parent / "cgroup.subtree_control"
    if "memory" not in control.read_text().split():
        control.write_text("+memory")


def _make(name):
    """Makes a cgroup; returns its version and path. OSError if none can be made anywhere."""
    last = OSError("no memory cgroup hierarchy")
    for version, parent in _parents():
        try:
            _prepare(version, parent)
            (parent / name).mkdir()
            return version, parent / name
        except OSError as error:
            last = error
    raise last


class Cgroup:
    """A new memory cgroup, without swap. limit_bytes None means no limit: to measure only."""

    def __init__(self, limit_bytes=None):
        self.version, self.path = _make(f"stn-{os.getpid()}-{next(_numbers)}")
        if limit_bytes is None:
            return
        try:
            self.set_limit(limit_bytes)
        except OSError:
            self.remove()
            raise

    def _file(self, what):
        """The control file that goes by different names in the two versions."""
        return self.path / NAMES[self.version][what]

    def set_limit(self, limit_bytes):
        """Limits its memory, and takes swap away; once."""
        self._file("limit").write_text(str(limit_bytes))
        if self._file("swap").exists():
            # Version 1 limits memory and swap together, version 2 swap alone.
            self._file("swap").write_text(str(limit_bytes) if self.version == 1 else "0")

    def enter(self):
        """Puts the calling process inside."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self):
        """The most memory ever charged, in bytes, page cache included."""
        return int(self._file("peak").read_text())

    def usage(self):
        """The memory charged now, in bytes, page cache included."""
        return int(self._file("usage").read_text())

    def limit(self):
        """The limit in bytes as the kernel has it, None for none in version 2."""
        text = self._file("limit").read_text().strip()
        return None if text == "max" else int(text)

    def oom_kills(self):
        """How many processes inside were killed for want of memory."""
        lines = self._file("events").read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])

    def remove(self):
        """Kills what still runs inside and removes the cgroup."""
        end = time.monotonic() + 5
        while True:
            for pid in (self.path / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            try:
                self.path.rmdir()
                return
            except OSError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()
