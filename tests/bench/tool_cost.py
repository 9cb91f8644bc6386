#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tool_cost.py [--starts N] [--probes] [--json]: milliseconds that stshim takes.

Starts `true` alone, under `stshim run` with the answer of the probe remembered, and without, in
turn, N times each. --probes: `stshim probe` with vendor libraries that misbehave, too.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import need, paths  # noqa: E402
from support.tool import private  # noqa: E402

LIBRARIES = ["libcudart.so.13", "libcuda.so.1", "libnvidia-ml.so.1", "libamdhip64.so.6",
             "libze_loader.so.1"]  # fmt: skip
# Which libraries there are, and what they do.
MISBEHAVIOUR = {
    "no library": ([], {}),
    "one crashes": (LIBRARIES[:1], {"STANDIN_CUDART": "crash"}),
    "one hangs": (LIBRARIES[:1], {"STANDIN_CUDART": "hang"}),
    "one catches every signal": (LIBRARIES[:1], {"STANDIN_CUDART": "handlers"}),
    "one leaves a process": (LIBRARIES[:1], {"STANDIN_CUDART": "stray"}),
    "all hang while they are loaded": (LIBRARIES, {"STANDIN_LOAD": "hang"}),
}


def took(argv, env):
    """Milliseconds from the start of a program to its end."""
    null = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    begun = time.perf_counter()
    os.waitpid(os.posix_spawn(argv[0], argv, env, file_actions=null), 0)
    return (time.perf_counter() - begun) * 1e3


def starts(count):
    """The times of each kind of start."""
    true = shutil.which("true")
    run = [str(need.tool()), "run", true]
    env = {**os.environ}
    remembered = [Path(place) / "stnommap" for place in ("/run", os.environ["XDG_RUNTIME_DIR"])]
    times = {"true": [], "stshim run true": [], "the same, nothing remembered": []}
    took([true], env)
    for _ in range(count):
        times["true"].append(took([true], env))
        for place in remembered:
            shutil.rmtree(place, ignore_errors=True)
        times["the same, nothing remembered"].append(took(run, env))
        times["stshim run true"].append(took(run, env))
    return times


def probes(directory):
    """The time of the probe with each misbehaviour."""
    times = {}
    for name, (libraries, variables) in MISBEHAVIOUR.items():
        place = Path(directory) / name.replace(" ", "-")
        place.mkdir()
        for library in libraries:
            (place / library).symlink_to(need.tool(library))
        pid = place / "pid"
        env = {**os.environ, **variables, "LD_LIBRARY_PATH": str(place), "STANDIN_PID": str(pid)}
        times[f"stshim probe: {name}"] = [took([str(need.tool()), "probe", "--refresh"], env)]
    return times


def main():
    """Measures in a place of its own for what stshim remembers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=100)
    parser.add_argument("--probes", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "run").mkdir()
            argv = [sys.executable, __file__, *sys.argv[1:], "--inside", directory]
            place = Path(directory) / "run"
            env = {**os.environ, "XDG_RUNTIME_DIR": str(place), "STN_BUILD": str(paths.build())}
            sys.exit(subprocess.run(private(argv, place), env=env).returncode)
    times = starts(arguments.starts)
    if arguments.probes:
        times |= probes(arguments.inside)
    figures = {
        name: {"least": min(values), "median": statistics.median(values), "times": len(values)}
        for name, values in times.items()
    }
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, row in figures.items():
        print(f"{name:45} {row['least']:9.2f} ms least {row['median']:9.2f} ms median "
              f"of {row['times']}")  # fmt: skip


main()
