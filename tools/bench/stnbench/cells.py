# SPDX-License-Identifier: Apache-2.0
"""Runs the processes of a cell and watches them: time, memory, CPU, page cache, server."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support import paths
from support.run import environment

SAMPLE_SECONDS = 0.02
QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1",
         "HF_HUB_DISABLE_PROGRESS_BARS": "1", "RUNAI_STREAMER_LOG_LEVEL": "ERROR",
         "DIFFUSERS_VERBOSITY": "error"}
OURS = "ours"


class Failed(Exception):
    """A cell did not end, or not well."""


class Child:
    """One process of a cell, from its start to the line that says "ready" and on."""

    def __init__(self, contestant, spec, group, with_stats):
        self._directory = tempfile.TemporaryDirectory(prefix="stn-bench-")
        own = Path(self._directory.name)
        self._stats = own / "stats"
        self._stderr = open(own / "stderr", "w+b")
        preload = {}
        if contestant.group == OURS:
            preload = {"LD_PRELOAD": str(paths.library())}
            if with_stats:
                self._stats.touch(mode=0o600)
                preload["STSHIM_STATS"] = str(self._stats)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stnbench.child", json.dumps(spec)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._stderr, start_new_session=True,
            env=environment(preload, {**QUIET, **contestant.env}),
            preexec_fn=group.enter if group else None)
        self._pending = b""
        self.ready = False

    def fileno(self):
        """For select."""
        return self.process.stdout.fileno()

    def go(self):
        """Starts the timed part, and later the checksum."""
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def lines(self):
        """The lines that have come in, once fileno is readable; Failed if the process has ended."""
        data = os.read(self.fileno(), 65536)
        if not data:
            raise Failed(f"ended early: {self.errors()}")
        *lines, self._pending = (self._pending + data).split(b"\n")
        return [line.decode() for line in lines]

    def errors(self):
        """The end of what it wrote to stderr."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")[-1500:]

    def decisions(self):
        """What the library has decided, in order, without what repeats."""
        if not self._stats.exists():
            return []
        lines = [json.loads(line) for line in self._stats.read_text().splitlines()]
        made = [f"{one['decision']}:{one['reason']}" if one.get("reason") else one["decision"]
                for one in lines]
        return list(dict.fromkeys(made))

    def end(self, abort):
        """Ends the process, once; a mount that it waits for is aborted."""
        if self._stderr.closed:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            abort()
            self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._directory.cleanup()


class Memory:
    """Samples of the memory of a cell's cgroup, above what it was before."""

    FIELDS = {1: ("rss", "cache"), 2: ("anon", "file")}

    def __init__(self, group):
        self._group = group
        self._base = self._read()
        self._start = time.monotonic()
        self.samples = []
        self.sample()

    def _read(self):
        """Anonymous and file memory now; None without a cgroup."""
        if self._group is None:
            return None
        text = (self._group.path / "memory.stat").read_text()
        values = dict(line.split() for line in text.splitlines())
        return [int(values[name]) for name in self.FIELDS[self._group.version]]

    def sample(self):
        """Takes one sample: seconds since the start, anonymous bytes, file bytes."""
        now = self._read()
        if now:
            self.samples.append((time.monotonic() - self._start,
                                 *(max(new - old, 0) for new, old in zip(now, self._base))))

    def peaks(self):
        """The most anonymous and the most file memory."""
        if not self.samples:
            return {"anonymous": None, "file": None}
        return {"anonymous": max(one[1] for one in self.samples),
                "file": max(one[2] for one in self.samples)}


def wait_for(children, word, timeout, tick=None):
    """Reads lines until each child has said word; returns what followed it, in their order."""
    said = {}
    end = time.monotonic() + timeout
    while len(said) < len(children):
        left = [child for child in children if child not in said]
        ready, _, _ = select.select(left, [], [], SAMPLE_SECONDS if tick else 1)
        for child in ready:
            for line in child.lines():
                first, _, rest = line.partition(" ")
                if first == word:
                    said[child] = rest
        if tick:
            tick()
        if time.monotonic() > end:
            raise Failed(f"not {word} after {timeout} s: {left[0].errors()}")
    return [said[child] for child in children]


def timed(children, memory, timeout):
    """Lets all go at once; returns what each has measured and the seconds until the last."""
    start = time.monotonic()
    for child in children:
        child.go()
    said = wait_for(children, "done", timeout, memory.sample)
    wall = time.monotonic() - start
    memory.sample()
    return [json.loads(one) for one in said], wall


@contextlib.contextmanager
def started(contestant, spec, mount, group=None, processes=1, with_stats=False):
    """The processes of a cell, which import what they need. The library's statistics cost time:
    they are for a round that does not count."""
    children = []
    try:
        for _ in range(processes):
            children.append(Child(contestant, spec, group, with_stats))
        yield children
    finally:
        for child in children:
            child.end(mount.abort)


def run(children, mount, group=None, warm=None, timeout=300):
    """The timed part of a cell whose processes are ready, the clock from a common start. Returns
    its figures."""
    if warm:
        warm()
    mount.reset()
    memory, cpu = Memory(group), mount.cpu()
    measured, wall = timed(children, memory, timeout)
    seconds = measured[0]["seconds"] if len(children) == 1 else wall
    result = {"seconds": seconds, "each": [one["seconds"] for one in measured],
              "bytes": sum(one["bytes"] for one in measured), **memory.peaks(),
              "cpu": sum(one["cpu"] for one in measured), "server_cpu": mount.cpu() - cpu,
              "server": mount.stats(), "cached": mount.cached(),
              "samples": memory.samples}
    result["checksums"] = checksums(children)
    result["decisions"] = children[0].decisions()
    return result


def wait_ready(children):
    """Waits until all have imported what they need."""
    left = [child for child in children if not child.ready]
    if left:
        wait_for(left, "ready", 120)
    for child in left:
        child.ready = True


def checksums(children):
    """The different checksums of the children."""
    for child in children:
        child.go()
    said = wait_for(children, "sum", 120)
    return sorted({one for one in map(json.loads, said) if one})
