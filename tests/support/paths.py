# SPDX-License-Identifier: Apache-2.0
"""Where things are. STN_BUILD names another build directory than <repository>/build."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def build():
    """The build directory."""
    return Path(os.environ.get("STN_BUILD") or REPOSITORY / "build").absolute()


def library():
    """The library under test."""
    return build() / "libstnommap.so"


def testfs():
    """The FUSE server."""
    return build() / "tests" / "fuse" / "stn-testfs"


def program(name):
    """A C test program."""
    return build() / "tests" / "programs" / name


def tools():
    """Where the programs and libraries are that test stshim."""
    return build() / "tests" / "tools"


def data():
    """Test data that is made once and kept."""
    return build() / "test-data"
