# SPDX-License-Identifier: Apache-2.0
"""Puts tests/ on the module path and keeps any test from hanging on a FUSE mount."""

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pytest  # noqa: E402

from support import fuse  # noqa: E402

LIMIT_SECONDS = 180


def pytest_configure(config):
    """Declares the markers."""
    config.addinivalue_line("markers", "limit(seconds): time limit, 180 s if not given")


@pytest.fixture(autouse=True)
def time_limit(request):
    """Ends the FUSE connections of a test that takes too long, which fails whatever hangs on
    them, and stops the servers that a test has left."""
    marker = request.node.get_closest_marker("limit")
    seconds = marker.args[0] if marker else LIMIT_SECONDS
    fired = threading.Event()

    def fire():
        fired.set()
        fuse.abort_all()

    timer = threading.Timer(seconds, fire)
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()
    left = fuse.stop_all()
    if fired.is_set():
        pytest.fail(f"took longer than {seconds} s")
    if left:
        pytest.fail(f"left FUSE servers running: {left}")
