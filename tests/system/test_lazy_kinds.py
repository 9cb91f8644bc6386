# SPDX-License-Identifier: Apache-2.0
"""Which way of filling a process gets by what userfaultfd it is allowed, and that the bytes are
right in each."""

import itertools
import os
import re
import shutil

import pytest
from compare import MIB
from support import models, need, paths
from support.fuse import FuseServer
from support.run import run

USERFAULTFD = 323 if os.uname().machine == "x86_64" else 282
FILLS = ["auto", "lazy", "eager"]

# Who runs it, whether the system call is denied, and the accesses that are filled lazily.
KINDS = {
    "root": ("root", False, {"read", "write"}),
    "user": ("nobody", False, {"read"}),  # the user-mode-only kind
    "user-denied": ("nobody", True, set()),
    "root-denied": ("root", True, {"read", "write"}),  # by /dev/userfaultfd
}


@pytest.fixture
def server(tmp_path):
    """A mount with one file of which every page is looked at."""
    need.fuse()
    need.library()
    source = tmp_path / "source"
    source.mkdir()
    models.random_file(source / "model.safetensors", 3 * MIB + 1234, seed=9)
    with FuseServer(source, delay_ms=0.2) as mounted:
        yield mounted


def lazily(kind):
    """The accesses that this kind of process fills lazily on this machine."""
    user, denied, accesses = KINDS[kind]
    if user == "nobody" and open("/proc/sys/vm/unprivileged_userfaultfd").read().strip() == "1":
        return set() if denied else {"read", "write"}
    if user == "root" and denied and not os.path.exists("/dev/userfaultfd"):
        return set()
    return accesses


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("kind", KINDS)
def test_kind(server, kind, fill, public):
    """Read-only and writable maps, with everything that happens to them meanwhile."""
    user, denied, _ = KINDS[kind]
    before = []
    if denied:
        shutil.copy(need.tool("deny"), public)
        before = [public / "deny", USERFAULTFD, "--"]
    model, copy = server.mountpoint / "model.safetensors", public / "copy"
    shutil.copy(model, copy)
    copy.chmod(0o644)
    for path in (need.program("pages"), paths.library()):
        shutil.copy(path, public)
    env = {"STSHIM_FILL": fill, "LD_PRELOAD": public / paths.library().name}
    for access, order in itertools.product(["read", "write"], range(4)):
        command = [*before, public / "pages", model, copy, access, order, 10]
        result = run(command, env=env, user=need.user() if user == "nobody" else None, timeout=30)
        assert result.returncode == 0, result.stderr
        assert re.findall(r"wrong (\d+) dead (\d+)", result.stdout) == [("0", "0")] * 4
        lazy = fill != "eager" and access in lazily(kind)
        events = [line["event"] for line in result.stats if line["decision"] == "engaged"]
        assert events[:1] == ["begin" if lazy else "fill"], (access, result.stats)


def test_filter_that_kills(server, public):
    """auto does not ask where a seccomp filter might kill for the question: an ordinary user, whom
    the device is not for, is filled eagerly."""
    need.root()
    for program in (need.program("load"), need.tool("deny"), paths.library()):
        shutil.copy(program, public)
    command = [public / "deny", f"{USERFAULTFD}:kill", "--", public / "load"]
    env = {"LD_PRELOAD": public / paths.library().name}
    model = server.mountpoint / "model.safetensors"
    result = run([*command, model], env=env, user=need.user(), timeout=30)
    assert result.returncode == 0, result.stderr
    assert result.decisions("fill") == ["engaged"]


def test_filter_that_kills_who_is_not_to_ask(server, public):
    """A map that is left alone asks for no userfaultfd, not even under STSHIM_FILL=lazy and where
    the journal wants to hear of it."""
    need.root()
    copy = public / "model.safetensors"
    shutil.copy(server.mountpoint / copy.name, copy)
    for program in (need.program("load"), need.tool("deny"), paths.library()):
        shutil.copy(program, public)
    command = [public / "deny", f"{USERFAULTFD}:kill", "--", public / "load"]
    env = {"LD_PRELOAD": public / paths.library().name, "STSHIM_FILL": "lazy",
           "STSHIM_FS": "nfs", "STSHIM_UMA": "no", "STSHIM_LOG": "debug"}
    result = run([*command, copy], env=env, user=need.user(), timeout=30)
    assert result.returncode == 0, result.stderr
    assert [line["reason"] for line in result.stats] == ["file-system"]
