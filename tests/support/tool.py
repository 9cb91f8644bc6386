# SPDX-License-Identifier: Apache-2.0
"""The program stshim. What it remembers of the GPU in /run must not reach other tests, nor theirs
reach it: as root it runs with a directory of the test's own in the place of /run."""

import json
import os

from . import need
from .run import run

PRIVATE = 'mount --bind "$0" /run && exec "$@"'


def private(argv, run_directory):
    """The command line that runs argv with run_directory as /run, where that can be had."""
    if os.geteuid() != 0:
        return argv
    return ["unshare", "-m", "sh", "-c", PRIVATE, run_directory, *argv]


def stshim(*arguments, run_directory, before=(), env=None, **keywords):
    """Runs before + stshim + arguments, without the library in it, and returns the Result."""
    variables = {"XDG_RUNTIME_DIR": run_directory, **(env or {})}
    argv = private([*before, need.tool(), *arguments], run_directory)
    return run(argv, preload=False, env=variables, **keywords)


def as_json(result):
    """What it wrote to stdout as JSON."""
    assert not result.timed_out, result
    return json.loads(result.stdout)
