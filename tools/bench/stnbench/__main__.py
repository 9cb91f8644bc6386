# SPDX-License-Identifier: Apache-2.0
"""The command line of tools/bench/run."""

import argparse
import json
import signal
import sys
from pathlib import Path

from support import fuse, paths

from stnbench import machine, report
from stnbench.contestants import CONTESTANTS, versions
from stnbench.measure import Settings, prepare, run_all, say
from stnbench.scenarios import SCENARIOS, SERVER


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/bench/run", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="every bar, at reduced size")
    size.add_argument("--full", action="store_true", help="every scenario and peer")
    parser.add_argument("--only", action="append", default=[], metavar="NAME,...",
                        help="scenarios and contestants by name; may be repeated")
    parser.add_argument("--size", type=float, metavar="MIB", help="models of this size")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count (7)")
    parser.add_argument("--resume", action="store_true",
                        help="go on with the result file: measure what is not in it")
    parser.add_argument("--prepare", action="store_true", help="only make the files to load")
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


def earlier(arguments):
    """The scenarios of an interrupted run that is to go on, if it was of the same kind."""
    if not arguments.resume or not arguments.json.exists():
        return {}
    result = json.loads(arguments.json.read_text())
    if (result["rounds"], result["kind"]) != (arguments.rounds,
                                              "full" if arguments.full else "quick"):
        raise SystemExit(f"bench: {arguments.json} is of a --{result['kind']} with "
                         f"{result['rounds']} rounds; remove it, or go on with the same")
    return result["scenarios"]


def measure(arguments):
    """Runs what was asked for; the result. None if only the files were to be made."""
    names, contestants = chosen(arguments)
    settings = Settings(not arguments.full, arguments.rounds, contestants, arguments.size,
                        len(names) < len(SCENARIOS))
    if arguments.prepare:
        prepare(names, SCENARIOS, settings)
        return None
    result = {"machine": machine.describe(), "server": SERVER, "versions": versions(),
              "kind": "full" if arguments.full else "quick", "rounds": arguments.rounds,
              "scenarios": earlier(arguments)}
    found = result["scenarios"]
    arguments.json.parent.mkdir(parents=True, exist_ok=True)

    def keep():
        ordered = {name: found[name] for name in SCENARIOS if name in found}
        part = arguments.json.with_suffix(".part")
        part.write_text(json.dumps({**result, "scenarios": ordered}, indent=1) + "\n")
        part.rename(arguments.json)

    try:
        run_all(names, SCENARIOS, settings, found, keep)
    finally:
        fuse.stop_all()
    return json.loads(arguments.json.read_text())


def main():
    """Measures, writes the result and the report."""
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended by SIGTERM"))
    if arguments.list:
        print("scenarios:", *SCENARIOS, "\ncontestants:", *CONTESTANTS)
        return
    if arguments.from_json:
        result = json.loads(arguments.from_json.read_text())
    else:
        result = measure(arguments)
        if result is None:
            return
        say(f"wrote {arguments.json}")
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    for one in report.write(result, arguments.report):
        print(f"{one.met:17} {one.where}: {one.bar}: {one.measured}"
              f" | no userfaultfd: {one.other}, {one.other_met}")


main()
