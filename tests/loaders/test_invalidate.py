# SPDX-License-Identifier: Apache-2.0
"""A server that tells the kernel to drop pages from within its READ handler: what hangs readers of
the page cache for ever."""

import sys

import data
import pytest
from loading import PROGRAMS, QUIET, engaged, load
from support.run import run


@pytest.fixture
def expected():
    """Checksums of the file as it is on disk."""
    under, _ = load("load_file.py", data.path("mixed") / "mixed.safetensors", preload=False)
    return under


def test_stock_hangs(mounted):
    """Without the library load_file does not end; ending the connection frees it."""
    server = mounted("mixed", invalidate=True, delay_ms=2)
    path = server.mountpoint / "mixed.safetensors"
    argv = [sys.executable, PROGRAMS / "load_file.py", path]
    assert run(argv, preload=False, env=QUIET, timeout=8).timed_out


def test_loads_under_the_library(mounted, expected):
    """Under the library the load ends, header included, with the same bytes."""
    server = mounted("mixed", invalidate=True, delay_ms=2)
    path = server.mountpoint / "mixed.safetensors"
    under, result = load("load_file.py", path, timeout=60)
    assert under == expected
    assert engaged(result, path), result.stats
    assert server.stats()["buffered_reads"] == 0
