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


def test_a_run_has_figures_that_agree_with_each_other(tmp_path):
    """Stock and the library, one round: seconds, memory, cache, counters, checksum, report."""
    result, report = tmp_path / "result.json", tmp_path / "report.md"
    done = bench("--quick", "--rounds", "1", "--size", str(SIZE >> 20), "--only",
                 "2ms,stock,eager", "--json", result, "--report", report, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())["scenarios"]["2ms"]
    assert found["skipped"] == {}
    stock, eager = found["contestants"]["stock"], found["contestants"]["eager"]
    for one in (stock, eager):
        assert one["seconds"]["min"] <= one["seconds"]["median"] <= one["seconds"]["max"]
        assert one["bytes"]["median"] == SIZE
        assert SIZE <= one["delivered"]["median"] < 1.2 * SIZE
        assert one["cpu"]["median"] > 0 and one["server_cpu"]["median"] > 0
    assert stock["cached"]["median"] >= SIZE and eager["cached"]["median"] == 0
    assert stock["decisions"] == [] and "engaged" in eager["decisions"]
    assert eager["requests"]["median"] < stock["requests"]["median"]
    assert re.search(r"\| library, eager \| 0\.\d{3} \|", report.read_text())
    assert "not measured" in done.stdout


def test_a_wrong_byte_is_no_figure(tmp_path):
    """A contestant whose checksum is another is left out, and the report says why."""
    sums = paths.data() / "bench-sums.json"
    arguments = ("--quick", "--rounds", "1", "--size", "4", "--only", "2ms,eager", "--json",
                 tmp_path / "result.json", "--report", tmp_path / "report.md")
    assert bench(*arguments, timeout=60).returncode == 0
    kept = sums.read_text()
    try:
        sums.write_text(json.dumps(dict.fromkeys(json.loads(kept), "00000000")))
        assert bench(*arguments, timeout=60).returncode == 0
    finally:
        sums.write_text(kept)
    found = json.loads((tmp_path / "result.json").read_text())["scenarios"]["2ms"]
    assert found["contestants"] == {} and "checksum" in found["skipped"]["eager"]
    assert "not measured: checksum" in (tmp_path / "report.md").read_text()

