# SPDX-License-Identifier: Apache-2.0
"""Interleaved rounds of variants on one cold mount, and what every row of the bars needs."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from support import cache, models, paths
from support.cgroup import Cgroup
from support.fuse import FuseServer
from support.run import run

MIB, GIB = 1 << 20, 1 << 30
TENSOR = 4 * MIB
SHARDS = 5
TESTS = Path(__file__).resolve().parents[1]
PROGRAMS = Path(__file__).resolve().parent / "programs"
QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
         "HF_HUB_DISABLE_PROGRESS_BARS": "1", "STSHIM_LOG": None, "STSHIM_LOG_FILE": None}


class Failed(Exception):
    """A program did not do what it was measured for."""


def say(text):
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def tool(name):
    """A C program of this directory."""
    return paths.build() / "tests" / "bench" / name


def python(name, *arguments):
    """The command line of a Python program of this directory."""
    return [sys.executable, PROGRAMS / name, *arguments]


def model_file(size):
    """A safetensors file of float32 tensors of 4 MiB, alone in its directory."""
    return models.make_safetensors(f"bench-{size >> 20}.safetensors", [TENSOR] * (size // TENSOR))


def model_shards(size):
    """A directory with a Llama in five shards; made by a process of its own."""
    code = (f"import sys; sys.path.insert(0, {str(TESTS)!r}); from support import models; "
            f"print(models.make_sharded_llama('bench-llama', {size}, {SHARDS}))")
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, timeout=600)
    return Path(done.stdout.splitlines()[-1])


def files_of(path):
    """The model files of a mounted file or directory."""
    return [path] if path.is_file() else sorted(path.glob("*.safetensors"))


def last_json(result, what):
    """What a program printed; Failed where it did not end well."""
    if result.timed_out or result.returncode != 0:
        raise Failed(f"{what}: status {result.returncode}, timed out: {result.timed_out}: "
                     f"{result.stderr[-2000:]} {result.log[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


class Settings:
    """Options of the run: rounds counted, memory warmed before each, size of models."""

    def __init__(self, rounds=3, warm=3 * GIB, scale=1.0):
        self.rounds = rounds
        self.warm = warm
        self.scale = scale

    def size(self, size):
        """The size of a model, scaled to whole tensors and shards."""
        return max(int(size * self.scale) // (16 * TENSOR), 1) * 16 * TENSOR

    def prepare(self, files):
        """Before each run: files cold."""
        for path in files:
            cache.evict(path)

    def warm_memory(self):
        """Just before each timed part: memory at hand."""
        if self.warm:
            cache.warm_memory(self.warm)

    def timed(self, kind, path, preload, env=None):
        """A variant: one load by a loader, which warms the memory itself, after its imports."""
        env = {**(env or {}), "BENCH_WARM": self.warm or None}
        return timed(kind, path, preload, env)

    def ceiling(self, path):
        """A variant: plain direct parallel reads of the same files."""
        self.warm_memory()
        return last_json(run([tool("ceiling"), *files_of(path)], preload=False, timeout=300),
                         "ceiling")


def timed(kind, path, preload, env=None, extra=(), **options):
    """One load by a loader; returns its JSON with the stats lines."""
    argv = python("timed_load.py", kind, *extra, path)
    result = run(argv, preload=preload, env={**QUIET, **(env or {})}, timeout=300, **options)
    return {**last_json(result, f"{kind} {'under the library' if preload else 'bare'}"),
            "stats": result.stats}


def interleave(settings, variants, path, server=None, rounds=None):
    """Runs the variants in turn, one round more than counted; the first is discarded. Each round
    begins with another one, so that each comes after each. Returns {name: list of results}; server
    counters of each run are in its result."""
    rounds = rounds or settings.rounds
    results = {name: [] for name in variants}
    for turn in range(rounds + 1):
        names = list(variants)
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            settings.prepare(files_of(path))
            if server:
                server.reset()
            result = variants[name]()
            result["server"] = server.stats() if server else None
            say(f"  round {turn} {name}: {result['seconds']:.3f} s")
            if turn > 0:
                results[name].append(result)
    sums = {result["checksum"] for runs in results.values() for result in runs
            if "checksum" in result}
    if len(sums) > 1:
        raise Failed(f"checksums differ: {sums}")
    return results


def median(results, field="seconds"):
    """The median of one figure over the rounds."""
    return statistics.median(result[field] for result in results)


def decisions(result):
    """The names of the decisions of a run, such as "declined:memory", in order."""
    return [line["decision"] + (":" + line["reason"] if line["reason"] else "")
            for line in result.stats]


@contextlib.contextmanager
def mounted(source, **options):
    """A mount of the directory of a file, or of a directory: (path on the mount, server)."""
    directory = source if source.is_dir() else source.parent
    with FuseServer(directory, **options) as server:
        path = server.mountpoint if source.is_dir() else server.mountpoint / source.name
        yield path, server


@contextlib.contextmanager
def cgroup(limit=None):
    """A memory cgroup; None where only root may make one."""
    if os.geteuid() != 0:
        yield None
        return
    with Cgroup(limit) as group:
        yield group
