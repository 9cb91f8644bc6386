# SPDX-License-Identifier: Apache-2.0
"""stshim tune: the limits of a FUSE mount, of other mounts, and who may set them."""

import os
import signal
from pathlib import Path

import pytest
from support import fuse, need
from support.fuse import FuseServer
from support.tool import as_json, stshim

CONNECTIONS = fuse.CONNECTIONS


@pytest.fixture
def mount(tmp_path):
    """A FUSE mount."""
    need.fuse()
    with FuseServer(tmp_path, max_background=20) as server:
        yield server


@pytest.fixture
def tune(tmp_path):
    """Runs stshim tune."""

    def call(*arguments, **keywords):
        return stshim("tune", *arguments, run_directory=tmp_path, timeout=20, **keywords)

    return call


def kernel(server, name):
    """What the kernel's own file says."""
    return int((CONNECTIONS / str(server.connection_id) / name).read_text())


def test_shows(mount, tune):
    """What the kernel says, as a table and as JSON."""
    need.root()
    seen = as_json(tune("--json", mount.mountpoint))
    assert seen["mount"] == str(mount.mountpoint) and seen["type"] == "fuse.stn-testfs"
    assert seen["source"] == "stn-testfs"
    assert set(seen["limits"]) == {"max_background", "congestion_threshold", "read_ahead_kb"}
    assert seen["limits"]["max_background"] == {"before": 20, "now": 20}
    text = tune(mount.mountpoint)
    assert text.returncode == 0 and text.stderr == ""
    assert [line.split()[:2] for line in text.stdout.splitlines()[1:]][0] == [
        "max_background",
        "20",
    ]


def test_sets(mount, tune):
    """All three, and says what they were."""
    need.root()
    result = tune("-b", "64", "-c", "48", "-r", "512", "--json", mount.mountpoint)
    assert result.returncode == 0 and result.stderr == ""
    limits = as_json(result)["limits"]
    assert limits["max_background"] == {"before": 20, "now": 64}
    assert limits["congestion_threshold"]["now"] == 48
    assert limits["read_ahead_kb"]["now"] == 512
    assert kernel(mount, "max_background") == 64
    assert kernel(mount, "congestion_threshold") == 48
    device = f"0:{mount.connection_id}"
    assert int(Path(f"/sys/class/bdi/{device}/read_ahead_kb").read_text()) == 512


def test_a_path_below_the_mount(mount, tune, tmp_path):
    """Any path of the file system will do."""
    need.root()
    (tmp_path / "file").write_text("x")
    assert as_json(tune("--json", mount.mountpoint / "file"))["mount"] == str(mount.mountpoint)


def test_a_mount_point_with_blanks(tune, tmp_path):
    """Is read as it is in the mount table, escaped."""
    need.fuse()
    need.root()
    with FuseServer(tmp_path, mountpoint=tmp_path.parent / "a b\tc") as server:
        assert as_json(tune("--json", server.mountpoint))["mount"] == str(server.mountpoint)


def test_a_server_that_does_not_answer(mount, tune):
    """Is not asked: this is when the command is needed."""
    need.root()
    os.kill(mount.pid, signal.SIGSTOP)
    try:
        result = tune("-b", "30", mount.mountpoint)
    finally:
        os.kill(mount.pid, signal.SIGCONT)
    assert not result.timed_out and result.returncode == 0
    assert kernel(mount, "max_background") == 30


def test_a_user(mount, tune):
    """May neither see nor set them: one line for each limit, with what to do."""
    user = need.user()
    result = tune("-b", "30", mount.mountpoint, before=["setpriv", "--reuid", user])
    assert result.returncode == 1 and kernel(mount, "max_background") == 20
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert all("run it as root or as the owner of the mount" in line for line in lines)


def test_the_owner_of_the_mount(tune, public, user_with_fuse):
    """Sets what the kernel lets him: that is limited by the fuse module."""
    user = user_with_fuse
    with FuseServer(public, user=user) as server:
        before = ["setpriv", "--reuid", user, "--clear-groups"]
        good = tune("-b", "11", server.mountpoint, before=before)
        assert good.returncode == 0 and kernel(server, "max_background") == 11
        read_ahead = tune("-r", "256", server.mountpoint, before=before)
        assert read_ahead.returncode == 1
        assert read_ahead.stderr.endswith("Permission denied; run it as root\n")


def test_another_file_system(tune, tmp_path):
    """Has read-ahead only."""
    result = tune("--json", "/proc")
    assert result.returncode == 0
    assert as_json(result)["limits"]["max_background"] == {"before": None, "now": None}
    refused = tune("-b", "12", "/proc")
    assert refused.returncode == 1
    assert refused.stderr.endswith("/proc has no max_background (proc); it can be set on FUSE only\n")


def test_without_fusectl(mount, tune):
    """Says how to get it."""
    need.root()
    script = 'umount /sys/fs/fuse/connections && exec "$@"'
    result = tune("-b", "12", mount.mountpoint, before=["sh", "-c", script, "sh"])
    assert result.returncode == 1
    assert "as root: mount -t fusectl none /sys/fs/fuse/connections" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["/proc", "/sys"], ["-b", "0", "/proc"], ["-b", "70000", "/proc"], ["-r", "1k", "/proc"]],
)
def test_usage(tune, arguments):
    """Exit status 2 and a line that says what is wrong."""
    result = tune(*arguments)
    assert result.returncode == 2 and result.stderr.startswith("stshim tune: ")


def test_no_such_path(tune):
    """One line."""
    result = tune("/nonexistent")
    assert result.returncode == 1 and result.stderr.count("\n") == 1


def test_help(tune):
    """Names the exit statuses."""
    assert "Exit status" in tune("--help").stdout
