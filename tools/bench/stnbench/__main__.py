# SPDX-License-Identifier: Apache-2.0
"""The command line of tools/bench/run."""

import argparse
import json
from pathlib import Path

from support import fuse, paths

from stnbench import machine, report
from stnbench.contestants import CONTESTANTS, versions
from stnbench.measure import Settings, run_all, say
from stnbench.scenarios import SCENARIOS, SERVER


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/bench/run", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="the bars, at reduced size, 3 rounds")
    size.add_argument("--full", action="store_true", help="everything, 7 rounds")
    parser.add_argument("--only", action="append", default=[], metavar="NAME,...",
                        help="scenarios and contestants by name; may be repeated")
    parser.add_argument("--size", type=float, metavar="MIB", help="models of this size")
    parser.add_argument("--rounds", type=int, help="rounds that count")
    parser.add_argument("--list", action="store_true", help="names of scenarios and contestants")
    parser.add_argument("--json", type=Path, default=paths.build() / "bench" / "bench.json")
    parser.add_argument("--report", type=Path, default=paths.REPOSITORY / "docs" /
                        "benchmarks.md")
    parser.add_argument("--from-json", type=Path, help="only write the report of this result")
    return parser.parse_args()


def chosen(arguments):
    """(names of scenarios, names of contestants) of the command line."""
    names = [name for one in arguments.only for name in one.split(",")]
    unknown = [name for name in names if name not in SCENARIOS and name not in CONTESTANTS]
    if unknown:
        raise SystemExit(f"bench: no such scenario or contestant: {' '.join(unknown)}")
    scenarios = [name for name in names if name in SCENARIOS]
    return scenarios or list(SCENARIOS), [name for name in names if name in CONTESTANTS]


def measure(arguments):
    """Runs what was asked for; the result."""
    names, contestants = chosen(arguments)
    rounds = arguments.rounds or (7 if arguments.full else 3)
    settings = Settings(not arguments.full, rounds, contestants, arguments.size,
                        len(names) < len(SCENARIOS))
    try:
        found = run_all(names, SCENARIOS, settings)
    finally:
        fuse.stop_all()
    return {"machine": machine.describe(), "server": SERVER, "versions": versions(),
            "kind": "full" if arguments.full else "quick", "rounds": rounds, "scenarios": found}


def main():
    """Measures, writes the result and the report."""
    arguments = parse()
    if arguments.list:
        print("scenarios:", *SCENARIOS, "\ncontestants:", *CONTESTANTS)
        return
    if arguments.from_json:
        result = json.loads(arguments.from_json.read_text())
    else:
        result = measure(arguments)
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
        say(f"wrote {arguments.json}")
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    for one in report.write(result, arguments.report):
        print(f"{one.met:16} {one.where}: {one.bar}: {one.measured}")


main()
