# SPDX-License-Identifier: Apache-2.0
"""Places for files; and no test may leave a process behind that cannot be killed."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from support import need, paths


def stuck():
    """Our descendants that wait in the kernel without answering signals: pid and name."""
    parents, states = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
        except OSError:
            continue
        pid = int(status.parent.name)
        state, parent = text[text.rindex(")") + 2 :].split()[:2]
        parents[pid] = int(parent)
        states[pid] = (state, text[text.index("(") + 1 : text.rindex(")")])
    return {
        (pid, name)
        for pid, (state, name) in states.items()
        if state == "D" and _descends(pid, parents)
    }


def _descends(pid, parents):
    """Whether a process was started by us, directly or not."""
    while pid > 1:
        pid = parents.get(pid, 0)
        if pid == os.getpid():
            return True
    return False


@pytest.fixture(autouse=True)
def nothing_stuck():
    """Fails a test after which a process is stuck for three seconds."""
    yield
    end = time.monotonic() + 3
    while stuck() and time.monotonic() < end:
        time.sleep(0.2)
    assert not stuck()


@pytest.fixture
def public():
    """A directory that every user may enter, outside of those that belong to one test."""
    with tempfile.TemporaryDirectory(prefix="stn-public-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "out").mkdir()
        (directory / "out").chmod(0o777)
        yield directory


@pytest.fixture
def user(public, monkeypatch):
    """An unprivileged user who may run what was built: copies of it, where the build directory is
    in a home directory that he may not enter."""
    name = need.user()
    look = subprocess.run(["setpriv", "--reuid", name, "--clear-groups", "test", "-x", need.tool()])
    if look.returncode != 0:
        for file in ("libstnommap.so", "tools/stshim", "tests/fuse/stn-testfs", "tests/tools/hello",
                     "tests/programs/load"):  # fmt: skip
            target = public / "build" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(paths.build() / file, target)
        monkeypatch.setenv("STN_BUILD", str(public / "build"))
    return name


@pytest.fixture
def user_with_fuse(user):
    """An unprivileged user who may open /dev/fuse, as udev's rules let everyone, for the time of
    the test also where there is no udev."""
    need.command("fusermount3")
    mode = os.stat("/dev/fuse").st_mode
    os.chmod("/dev/fuse", 0o666)
    yield user
    os.chmod("/dev/fuse", mode)
