# SPDX-License-Identifier: Apache-2.0
"""Runs the loader programs on a mount, bare and under the library, and compares what they say."""

import json
import sys
from pathlib import Path

from support.run import run

PROGRAMS = Path(__file__).resolve().parent / "programs"
MIB = 1 << 20
QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
         "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error",
         "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def load(name, *arguments, preload=True, env=None, timeout=120, **options):
    """Runs one program; returns (what it printed as JSON, the Result)."""
    argv = [sys.executable, PROGRAMS / name, *arguments]
    result = run(argv, preload=preload, env={**QUIET, **(env or {})}, timeout=timeout, **options)
    assert not result.timed_out, f"{name} was still running after {timeout} s\n{result.log}"
    assert result.returncode == 0, f"{name}: {result.returncode}\n{result.stderr}\n{result.log}"
    return json.loads(result.stdout.splitlines()[-1]), result


def both(server, name, *arguments, env=None, timeout=120):
    """Runs a program bare, then under the library, with the server's counters set to zero in
    between; they must print the same. Returns (the JSON, the second Result, the counters)."""
    bare, _ = load(name, *arguments, preload=False, timeout=timeout)
    server.reset()
    under, result = load(name, *arguments, env=env, timeout=timeout)
    counters = server.stats()
    assert under == bare
    return under, result, counters


def decision(line):
    """The name of the decision of a stats line, such as "declined:reread"."""
    return line["decision"] + (":" + line["reason"] if line["reason"] else "")


def engaged(result, path):
    """The stats lines of a file's mappings that were replaced as a whole. The path in them is the
    file's own, without links."""
    return [line for line in result.stats
            if line["event"] in ("fill", "begin") and line["path"] == str(path)
            and decision(line) == "engaged"]


def filled(result, path):
    """How many bytes of a file the finished fills hold, header peeks included."""
    return sum(line["bytes"] for line in result.stats
               if line["event"] == "fill" and line["path"] == str(path))


def read_once(counters, path, size, slack=0.02):
    """Asserts that the server delivered the file once, and all of it, without the page cache."""
    file = counters["files"][path]
    assert file["distinct_bytes"] >= size * (1 - slack), file
    assert file["bytes"] <= size * (1 + slack), file
    assert counters["buffered_bytes"] <= slack * size, counters
