# SPDX-License-Identifier: Apache-2.0
"""Debian root directories by debootstrap, made once and kept below build/test-data."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from . import need, paths

LIMIT_SECONDS = 300
# What a root has for programs in Python; one for all tests, since it takes most of a minute.
WITH_PYTHON = ("python3", "python3-venv", "openssh-client")


def mirror():
    """The Debian mirror that apt uses here, None if it has none."""
    for path in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]:
        if not path.is_file():
            continue
        for line in path.read_text(errors="replace").splitlines():
            found = re.match(r"(?:deb\s+(?:\[.*\]\s+)?|URIs:\s*)(https?://\S+/debian/?)(?:\s|$)", line)
            if found:
                return found[1]
    return None


def _make(suite, packages, complete, target):
    """Runs debootstrap; returns its last words if it fails. An incomplete root has its packages
    unpacked and not configured: enough for programs to run."""
    argv = ["debootstrap", "--variant=minbase"]
    argv += [f"--include={','.join(packages)}"] if packages else []
    argv += [] if complete else ["--foreign"]
    done = subprocess.run(
        argv + [suite, str(target), mirror()],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode == 0:
        shutil.rmtree(target / "var/cache/apt/archives", ignore_errors=True)
        # debootstrap --foreign leaves a link to itself here.
        if (target / "proc").is_symlink():
            (target / "proc").unlink()
            (target / "proc").mkdir()
        return None
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def cached(suite, packages=(), complete=False):
    """The path of a root that nobody may change; the test is skipped if no mirror can be reached."""
    need.root()
    need.command("debootstrap")
    key = hashlib.sha256(repr((suite, sorted(packages), complete)).encode()).hexdigest()[:8]
    target = paths.data() / "debian" / f"{suite}-{key}"
    if target.exists():
        return target
    if mirror() is None:
        pytest.skip("needs a Debian mirror in /etc/apt")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as name:
        new = Path(name) / "root"
        trouble = _make(suite, packages, complete, new)
        if trouble:
            pytest.skip(f"needs Debian {suite} from a mirror ({trouble})")
        new.chmod(0o755)
        os.rename(new, target)
    return target


def copy(root, target):
    """A root that may be changed: its files are hard links, so replace them and do not write into
    them."""
    subprocess.run(["cp", "-al", str(root), str(target)], check=True, timeout=120)
    return Path(target)


def enter(root, argv, user=None, binds=()):
    """The command line that runs argv in a root, with /proc and a few devices, in a mount namespace
    of its own. binds: pairs of a directory here and where in the root it shall be seen."""
    script = 'set -e; r=$1; shift; mount -t proc proc "$r/proc"; '
    script += 'for d in null zero urandom; do touch "$r/dev/$d"; '
    script += 'mount --bind "/dev/$d" "$r/dev/$d"; done; '
    for source, place in binds:
        (root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
        script += f'mount --bind "{source}" "$r{place}"; '
    script += 'exec chroot ' + (f"--userspec={user} " if user else "") + '"$r" "$@"'
    return ["unshare", "-m", "sh", "-c", script, "sh", root, *argv]
