# SPDX-License-Identifier: Apache-2.0
"""Runs the C tests of a build one by one, and adds up every result: the helper of tests/run.

    tally.py units BUILD OUT      run the tests that meson lists, one Check XML log each in OUT
    tally.py sum OUT              name what failed and was skipped; "N passed, N failed, N skipped"
"""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

CHECK_TAG = "{http://check.sourceforge.net/ns}"


def record(out, name, outcome, reason=""):
    """Adds one result that is in no log file: outcome is passed, failed or skipped."""
    with open(Path(out) / "results.jsonl", "a") as f:
        f.write(json.dumps([name, outcome, reason]) + "\n")


def run_unit(test, out):
    """Runs one test program with an XML log of its checks; without a log its exit status counts."""
    log = out / (test["name"].replace("/", "-") + ".check.xml")
    env = dict(os.environ, **test.get("env", {}), CK_XML_LOG_FILE_NAME=str(log))
    try:
        done = subprocess.run(test["cmd"], env=env, cwd=test.get("workdir"), timeout=600)
        status = done.returncode
    except subprocess.TimeoutExpired:
        status = "no end in 600 s"
    if not log.exists():
        outcome = "skipped" if status == 77 else "passed" if status == 0 else "failed"
        record(out, test["name"], outcome, f"exit status {status}")
    elif status != 0 and not any(o == "failed" for _, o, _ in check_results(log)):
        record(out, test["name"], "failed", f"exit status {status}")


def units(build, out):
    """Runs every test that the build lists; benchmarks are not among them."""
    listed = subprocess.run(["meson", "introspect", build, "--tests"], check=True,
                            capture_output=True, text=True)
    for test in json.loads(listed.stdout):
        run_unit(test, Path(out))


def check_results(log):
    """Results of one Check log as (name, outcome, reason)."""
    try:
        tree = ET.parse(log)
    except ET.ParseError as error:
        return [(log.stem, "failed", f"broken log: {error}")]
    found = []
    for test in tree.iter(CHECK_TAG + "test"):
        name = f"{log.name.split('.')[0]}:{test.findtext(CHECK_TAG + 'id')}"
        name += f"[{test.findtext(CHECK_TAG + 'iteration')}]"
        good = test.get("result") == "success"
        found.append((name, "passed" if good else "failed", test.findtext(CHECK_TAG + "message")))
    return found


def pytest_results(log):
    """Results of one JUnit log as (name, outcome, reason)."""
    try:
        tree = ET.parse(log)
    except ET.ParseError as error:
        return [(log.stem, "failed", f"broken log: {error}")]
    found = []
    for case in tree.iter("testcase"):
        outcome, reason = "passed", ""
        for child in case:
            if child.tag in ("failure", "error"):
                outcome, reason = "failed", child.get("message") or ""
            elif child.tag == "skipped" and outcome == "passed":
                outcome, reason = "skipped", child.get("message") or ""
        found.append((f"{case.get('classname')}::{case.get('name')}", outcome, reason))
    return found


def collect(out):
    """All results under the directory, each name once: a test whose teardown fails is a failure,
    and with CI=true so is one that was skipped because the machine lacks what it needs."""
    merged = {}
    strict = os.environ.get("CI") == "true"
    for log in sorted(Path(out).iterdir()):
        if log.name.endswith(".check.xml"):
            rows = check_results(log)
        elif log.name.endswith(".pytest.xml"):
            rows = pytest_results(log)
        elif log.name == "results.jsonl":
            rows = [json.loads(line) for line in log.read_text().splitlines()]
        else:
            continue
        for name, outcome, reason in rows:
            if outcome == "skipped" and (reason or "").startswith("needs ") and strict:
                outcome = "failed"
            if merged.get(name, ("", ""))[0] != "failed":
                merged[name] = (outcome, reason)
    return merged


def summarise(out):
    """Prints what failed, what was skipped and why, and the closing line; returns the status."""
    results = collect(out)
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for outcome, _ in results.values():
        count[outcome] += 1
    for kind in ("skipped", "failed"):
        for name, (outcome, reason) in sorted(results.items()):
            if outcome == kind:
                print(f"{kind}: {name}: {(reason or 'no reason given').strip().splitlines()[0]}")
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**count))
    return 1 if count["failed"] or not count["passed"] else 0


def main(argv):
    """Dispatches the two commands."""
    if argv[1:2] == ["units"] and len(argv) == 4:
        units(argv[2], argv[3])
        return 0
    if argv[1:2] == ["sum"] and len(argv) == 3:
        return summarise(argv[2])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
