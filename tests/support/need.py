# SPDX-License-Identifier: Apache-2.0
"""Says what a test needs of the machine: skips the test by name where it is missing, fails it
where CI=true, since a test that is skipped everywhere is none."""

import importlib.util
import os
import pwd
import shutil
import subprocess

import pytest

from . import paths


def _missing(what):
    """Skips or fails the test for want of something."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")


def root():
    """The test needs to be root."""
    if os.geteuid() != 0:
        _missing("root")


def fuse():
    """The test needs to be able to mount a FUSE file system."""
    if not paths.testfs().exists():
        _missing(f"the FUSE server {paths.testfs()}")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        _missing("access to /dev/fuse")
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        _missing("fusermount3")


def library():
    """The test needs the library."""
    if not paths.library().exists():
        _missing(f"the library {paths.library()}")


def program(name):
    """The test needs a C test program; returns its path."""
    if not paths.program(name).exists():
        _missing(f"the program {paths.program(name)}")
    return paths.program(name)


def tool(name=None):
    """The test needs stshim, or a program or library of tests/tools; returns its path."""
    path = paths.build() / "tools" / "stshim" if name is None else paths.tools() / name
    if not path.exists():
        _missing(f"{path} (built where libffi and cJSON are)")
    return path


def module(name):
    """The test needs a Python module."""
    if importlib.util.find_spec(name) is None:
        _missing(f"the Python module {name}")


def command(name):
    """The test needs a command; returns its path."""
    path = shutil.which(name)
    if path is None:
        _missing(f"the command {name}")
    return path


def user(name="nobody"):
    """The test needs to run programs as an unprivileged user; returns the name."""
    root()
    try:
        entry = pwd.getpwnam(name)
        subprocess.run(
            ["true"], user=entry.pw_uid, group=entry.pw_gid, extra_groups=[], check=True
        )
    except (KeyError, OSError, subprocess.SubprocessError):
        _missing(f"to become the user {name}")
    return name


def cgroup():
    """The test needs to make memory cgroups."""
    from .cgroup import Cgroup

    try:
        with Cgroup(64 << 20):
            pass
    except OSError as error:
        _missing(f"memory cgroups ({error})")


def free_memory(size):
    """The test needs size bytes of free memory."""
    from .cache import available

    if available() < size:
        _missing(f"{size >> 20} MiB of free memory")
