# SPDX-License-Identifier: Apache-2.0
"""The benchmark harness: a tiny run of the real thing, its result, its report."""

import json
import os
import re
import sys

import pytest
from support import need, paths
from support.run import run

TOOL = paths.REPOSITORY / "tools" / "bench"
MODULES = [TOOL, paths.REPOSITORY / "tests", paths.REPOSITORY / "tests" / "bench" / "programs"]
SIZE = 8 << 20


@pytest.fixture(autouse=True)
def everything():
    """Every test here needs the library and the FUSE server."""
    need.library()
    need.fuse()
    need.module("torch")


def bench(*arguments, **keywords):
    """Runs the harness with our own Python, so without the peers' environment."""
    env = {"PYTHONPATH": ":".join(map(str, MODULES)), "STN_BUILD": paths.build(), "HOME": os.sep}
    return run([sys.executable, "-m", "stnbench", *arguments], preload=False, env=env,
               **keywords)


def measure(directory, contestants):
    """One round on our server; the result's scenario, the report, and what was printed."""
    done = bench("--quick", "--rounds", "1", "--size", str(SIZE >> 20), "--only",
                 "2ms," + contestants, "--json", directory / "result.json", "--report",
                 directory / "report.md", timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads((directory / "result.json").read_text())
    return result["scenarios"]["2ms"], (directory / "report.md").read_text(), done.stdout


def test_a_run_has_figures_that_agree_with_each_other(tmp_path):
    """Stock and the library, one round: seconds, memory, cache, counters, checksum, report. Then
    one without the right checksum: it is left out, and the report says why."""
    found, report, printed = measure(tmp_path, "stock,auto")
    assert found["skipped"] == {}
    stock, ours = found["contestants"]["stock"], found["contestants"]["auto"]
    for one in (stock, ours):
        assert one["seconds"]["min"] <= one["seconds"]["median"] <= one["seconds"]["max"]
        assert one["bytes"]["median"] == SIZE
        assert SIZE <= one["delivered"]["median"] < 1.2 * SIZE
        assert one["cpu"]["median"] > 0 and one["server_cpu"]["median"] > 0
    assert stock["cached"]["median"] >= SIZE and ours["cached"]["median"] == 0
    assert stock["decisions"] == [] and "engaged" in ours["decisions"]
    assert ours["requests"]["median"] < stock["requests"]["median"]
    assert re.search(r"\| \*\*library\*\* \| \d+\.\d+ \|", report)
    assert (tmp_path / "report" / "2ms.png").read_bytes()[1:4] == b"PNG"
    assert re.search(r"not measured +FUSE 20 ms", printed)

    sums = paths.data() / "bench-sums.json"
    kept = sums.read_text()
    try:
        sums.write_text(json.dumps(dict.fromkeys(json.loads(kept), "00000000")))
        found, report, _ = measure(tmp_path, "auto")
    finally:
        sums.write_text(kept)
    assert found["contestants"] == {} and "checksum" in found["skipped"]["auto"]
    assert "not measured: checksum" in report
