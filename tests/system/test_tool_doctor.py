# SPDX-License-Identifier: Apache-2.0
"""stshim doctor: what it says of the host and the configuration, and that its decisions are the
library's."""

import os
import platform
import signal
import time

import pytest
from support import models, need
from support.cgroup import Cgroup
from support.fuse import FuseServer
from support.run import mapped, run
from support.tool import as_json, stshim

MIB = 1 << 20
USERFAULTFD, CLOSE_RANGE = {"x86_64": (323, 436), "aarch64": (282, 436)}[platform.machine()]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A directory with two models and one other file."""
    directory = tmp_path_factory.mktemp("files")
    directory.chmod(0o755)
    models.make_safetensors(directory / "one.safetensors", sizes=(3 * MIB,))
    models.make_safetensors(directory / "sub" / "two.safetensors", sizes=(2 * MIB,))
    models.random_file(directory / "three.gguf", MIB)
    return directory


@pytest.fixture
def mount(files):
    """The directory through FUSE."""
    need.fuse()
    with FuseServer(files, delay_ms=20) as server:
        yield server


@pytest.fixture
def doctor(tmp_path):
    """Runs stshim doctor."""

    def call(*arguments, **keywords):
        return stshim("doctor", *arguments, run_directory=tmp_path, timeout=30, **keywords)

    return call


def advice(result):
    """The advice as one text."""
    return "\n".join(as_json(result)["advice"])


def decisions(result):
    """Of all files: decision and reason."""
    return [
        (file["decision"], file["reason"])
        for path in as_json(result)["paths"]
        for file in path["files"]
    ]


def test_schema(mount, doctor):
    """What programs may count on."""
    seen = as_json(doctor("--json", "--measure", mount.mountpoint / "one.safetensors"))
    assert set(seen) == {
        "host", "memory", "configuration", "unknown_variables", "unknown_file_systems", "paths",
        "advice",
    }  # fmt: skip
    assert set(seen["host"]) == {
        "kernel", "page_size", "huge_page_size", "huge_pages", "userfaultfd", "close_range", "proc",
        "memory_names", "seccomp", "seccomp_filters", "seccomp_kills", "unified", "unified_why", "nvidia_gpu",
        "library", "preloaded",
    }  # fmt: skip
    assert set(seen["host"]["userfaultfd"]) == {"kind", "through", "move"}
    assert set(seen["memory"]) == {
        "total", "available", "group_limit", "group_available", "room", "room_limit",
        "room_margin", "memlock",
    }  # fmt: skip
    assert set(seen["configuration"][0]) == {"name", "value", "default", "given", "bad", "values"}
    (path,) = seen["paths"]
    assert set(path) == {
        "path", "engages", "hangs", "error", "directory", "mount", "files", "measured",
    }  # fmt: skip
    assert set(path["mount"]) == {
        "point", "type", "source", "options", "max_background", "congestion_threshold",
        "read_ahead_kb", "waiting",
    }  # fmt: skip
    assert set(path["files"][0]) == {
        "path", "size", "file_system", "readable", "decision", "reason", "why",
        "fill",
    }  # fmt: skip
    assert set(path["measured"]) == {
        "request", "request_seconds", "bytes", "seconds", "gb_per_s", "error", "in_time",
    }  # fmt: skip


def test_a_model_on_fuse(mount, doctor):
    """Would be engaged: exit status 0; the mount and its limits are shown."""
    path = mount.mountpoint / "one.safetensors"
    result = doctor("--json", path)
    (seen,) = as_json(result)["paths"]
    assert result.returncode == 0 and seen["engages"] is True
    assert seen["mount"]["point"] == str(mount.mountpoint)
    assert seen["mount"]["type"] == "fuse.stn-testfs"
    if os.geteuid() == 0:
        assert seen["mount"]["max_background"] == 12 and seen["mount"]["waiting"] == 0
    assert seen["files"][0]["file_system"] == "fuse"
    assert seen["files"][0]["size"] == path.stat().st_size
    assert f"connections/{mount.connection_id}/abort" in advice(result)


@pytest.mark.parametrize(
    "name, variables, decision",
    [
        ("fuse:one.safetensors", {}, ("engaged", "")),
        ("fuse:one.safetensors", {"STSHIM_FSTYPES": "nfs"}, ("declined", "file-system")),
        ("fuse:one.safetensors", {"STSHIM_MEMORY": "1M"}, ("declined", "memory")),
        ("fuse:one.safetensors", {"STSHIM_MODE": "always"}, ("engaged", "")),
        ("fuse:three.gguf", {"STSHIM_FILES": "*.gguf"}, ("engaged", "")),
        ("local:one.safetensors", {}, ("declined", "file-system")),
        ("local:one.safetensors", {"STSHIM_UMA": "yes"}, ("engaged", "")),
        ("local:one.safetensors", {"STSHIM_MODE": "always"}, ("declined", "cached")),
        ("local:one.safetensors", {"STSHIM_MODE": "always", "STSHIM_FILL": "lazy"},
         ("engaged", "")),
        ("local:empty.safetensors", {"STSHIM_MODE": "always"}, ("declined", "empty")),
        ("memory:one.safetensors", {"STSHIM_MODE": "always"}, ("declined", "memory-backed")),
    ],
)
def test_it_decides_as_the_library_does(files, mount, doctor, tmp_path, name, variables, decision):
    """The same file, the same environment: the doctor's word and what a program gets."""
    (files / "empty.safetensors").touch()
    place, name = name.split(":")
    if place == "memory":
        path = need_tmpfs() / name
        path.write_bytes((files / name).read_bytes())
    else:
        path = (mount.mountpoint if place == "fuse" else files) / name
    try:
        result = doctor("--json", path, env=variables)
        assert decisions(result) == [decision]
        assert result.returncode == (0 if decision[0] == "engaged" else 1)
        stats = mapped(run([need.program("load"), path], env=variables).stats)
    finally:
        if place == "memory":
            path.unlink()
        (files / "empty.safetensors").unlink()
    if decision[1] != "empty":  # mmap refuses to map nothing
        assert [(line["decision"], line["reason"]) for line in stats] == [decision]


@pytest.mark.parametrize("ordinary", [False, True])
@pytest.mark.parametrize("variables", [
    {}, {"STSHIM_FILL": "lazy"}, {"STSHIM_FILL": "eager"},
    {"STSHIM_FILL": "lazy", "STSHIM_IO": "buffered"},
    {"STSHIM_FILL": "lazy", "STSHIM_MLOCK": "try"},
])  # fmt: skip
def test_it_fills_as_the_library_does(mount, doctor, request, variables, ordinary):
    """Lazily or not, of read-only and of writable maps, for root and an ordinary user."""
    user = request.getfixturevalue("user") if ordinary else None
    before = ["setpriv", "--reuid", user, "--clear-groups"] if ordinary else []
    path = mount.mountpoint / "one.safetensors"
    shown = as_json(doctor("--json", path, env=variables, before=before))
    said = shown["paths"][0]["files"][0]["fill"]
    for access, options in (("read_only", []), ("writable", ["-w"])):
        loaded = run([need.program("load"), *options, path], env=variables, user=user)
        lazy = [line["note"].startswith("lazy") for line in loaded.stats]
        assert lazy[0] == (said[access] == "lazy") and loaded.stats[0]["decision"] == "engaged"
    if variables == {"STSHIM_FILL": "lazy"}:
        assert said["read_only"] == "lazy"
        assert ("userfaultfd is for faults in user mode only" in "".join(shown["advice"])) == (
            said["writable"] == "eager")  # fmt: skip


def need_tmpfs():
    """A directory in memory."""
    from pathlib import Path

    directory = Path("/dev/shm")
    if not os.access(directory, os.W_OK):
        pytest.skip("needs /dev/shm")
    return directory


@pytest.mark.parametrize(
    "name, variables, text",
    [
        ("three.gguf", {}, "set STSHIM_FILES='*.safetensors:*.sft:*.gguf'"),
        ("one.safetensors", {"STSHIM_FSTYPES": "nfs"}, "set STSHIM_FSTYPES=nfs,fuse"),
        ("one.safetensors", {"STSHIM_FSTYPES": "nfs:fsue, smb"}, "set STSHIM_FSTYPES=nfs,smb,fuse "),
        ("one.safetensors", {"STSHIM_FSTYPES": "fuse,nsf"}, "no file system is called nsf"),
        ("one.safetensors", {"STSHIM_THREADS": "0"}, "STSHIM_THREADS=0 is not understood and"),
        ("one.safetensors", {"STSHIM_THREAD": "8"}, "no such variable"),
        ("one.safetensors", {"STSHIM_MODE": "off"}, "STSHIM_MODE=off: the library does nothing"),
        ("one.safetensors", {"STSHIM_MODE": "observe"}, "only says what it would do"),
        ("one.safetensors", {"STSHIM_MEMORY": "1M"}, "does not fit (STSHIM_MEMORY)"),
        ("one.safetensors", {}, "stshim run PROGRAM"),
        ("one.safetensors", {"STSHIM_FILL": "lazy", "STSHIM_IO": "buffered"}, "without effect"),
    ],
)
def test_advice(mount, doctor, name, variables, text):
    """What to do, in plain words, in text and in JSON."""
    path = mount.mountpoint / name
    assert text in advice(doctor("--json", path, env=variables))
    shown = doctor(path, env=variables).stdout
    assert text in shown[shown.index("\nadvice\n") :]


def test_bad_values(doctor):
    """Each is shown, with the value that counts instead."""
    variables = {"STSHIM_BLOCK": "1", "STSHIM_CACHE": "maybe", "STSHIM_TIMEOUT": "5s"}
    seen = as_json(doctor("--json", env=variables))
    rows = {row["name"]: row for row in seen["configuration"]}
    assert rows["STSHIM_BLOCK"]["bad"] and rows["STSHIM_BLOCK"]["value"] == "8M"
    assert rows["STSHIM_BLOCK"]["given"] == "1"
    assert rows["STSHIM_CACHE"]["bad"] and rows["STSHIM_CACHE"]["value"] == "auto"
    assert not rows["STSHIM_TIMEOUT"]["bad"] and rows["STSHIM_TIMEOUT"]["value"] == "5s"
    assert rows["STSHIM_MODE"]["given"] is None


def test_unknown_names(doctor):
    """Variables that do not exist, and file systems that nothing is called."""
    variables = {"STSHIM_X": "1", "STSHIM_Y": "1", "STSHIM_FSTYPES": "fuse:zfs2, all,nfs4"}
    seen = as_json(doctor("--json", env=variables))
    assert sorted(seen["unknown_variables"]) == ["STSHIM_X", "STSHIM_Y"]
    assert seen["unknown_file_systems"] == ["zfs2", "nfs4"]


def test_without_a_path(doctor):
    """0 if the library could engage here, else 1."""
    assert doctor().returncode == 0
    assert doctor(env={"STSHIM_MODE": "off"}).returncode == 1
    assert doctor(env={"STSHIM_MODE": "observe"}).returncode == 1


def test_a_directory(mount, doctor, files):
    """Its models, also below it, each with its decision; other files are not mentioned."""
    result = doctor("--json", mount.mountpoint)
    (seen,) = as_json(result)["paths"]
    assert result.returncode == 0 and seen["directory"] is True
    names = [file["path"].removeprefix(str(mount.mountpoint)) for file in seen["files"]]
    assert names == ["/one.safetensors", "/sub/two.safetensors"]


def test_models_that_fit_one_by_one_but_not_together(mount, doctor):
    """The decisions are those of a program that maps all of them, and uses them before the next."""
    env = {"STSHIM_MEMORY": "4M", "STSHIM_FILL": "eager"}
    result = doctor("--json", mount.mountpoint, env=env)
    assert decisions(result) == [("engaged", ""), ("declined", "memory")]
    assert result.returncode == 1


def test_a_directory_without_models(doctor, mount, files):
    """The answer is for one that might be there."""
    (files / "empty").mkdir()
    result = doctor("--json", mount.mountpoint / "empty")
    (files / "empty").rmdir()
    assert result.returncode == 0 and decisions(result) == [("engaged", "")]
    assert as_json(result)["paths"][0]["files"][0]["path"] is None


def test_no_such_file(doctor):
    """Is said; the others are looked at."""
    result = doctor("--json", "/nonexistent", "/")
    first, second = as_json(result)["paths"]
    assert result.returncode == 1
    assert first["error"] == "No such file or directory" and first["files"] == []
    assert second["error"] == "" and second["mount"]["point"] == "/"


def test_an_unreadable_file(public, doctor):
    """Is said of the user who asks."""
    user = need.user()
    path = public / "secret.safetensors"
    models.make_safetensors(path)
    path.chmod(0o600)
    result = doctor("--json", path, before=["setpriv", "--reuid", user, "--clear-groups"])
    assert result.returncode == 1
    assert "not readable for this user" in advice(result)


def test_measure(mount, doctor):
    """The time of a request, and what the limit on them means."""
    need.root()
    result = doctor("--json", "--measure", mount.mountpoint / "one.safetensors")
    measured = as_json(result)["paths"][0]["measured"]
    assert measured["request"] == MIB and 0.02 <= measured["request_seconds"] < 0.2
    assert 3 * MIB <= measured["bytes"] < 3 * MIB + 4096 and measured["in_time"]
    assert "lets 12 requests of 1 MiB be in flight: at the" in advice(result)
    assert f"stshim tune {mount.mountpoint} --max-background 64" in advice(result)
    assert "measured: one read of 1.00 MiB" in doctor("-m", mount.mountpoint).stdout


def test_measuring_is_bounded(tmp_path, doctor):
    """256 MiB of a file that is larger; two seconds of a server that is slow."""
    need.fuse()
    with open(tmp_path / "large.safetensors", "wb") as file:
        file.truncate(400 * MIB)
    with FuseServer(tmp_path) as server:
        path = server.mountpoint / "large.safetensors"
        measured = as_json(doctor("--json", "-m", path))["paths"][0]["measured"]
        assert measured["bytes"] <= 256 * MIB
        server.set_delay(300)
        start = time.monotonic()
        measured = as_json(doctor("--json", "-m", path))["paths"][0]["measured"]
        assert time.monotonic() - start < 6 and measured["bytes"] < 256 * MIB


def test_a_server_that_hangs_while_it_is_measured(tmp_path, doctor):
    """The doctor ends, says so, and keeps what it has read."""
    need.fuse()
    models.random_file(tmp_path / "m.safetensors", 8 * MIB)
    with FuseServer(tmp_path, fault=f"hang:*:{6 * MIB}:4096") as server:
        path = server.mountpoint / "m.safetensors"
        result = doctor("--json", "-m", path, env={"STSHIM_BLOCK": "1M"})
        server.release()
    assert not result.timed_out and result.seconds < 8
    assert as_json(result)["paths"][0]["measured"]["in_time"] is False
    assert "did not answer all reads" in advice(result)


def test_a_server_that_does_not_answer(tmp_path, doctor):
    """The doctor ends, and names the switch that frees whoever hangs there."""
    need.fuse()
    with FuseServer(tmp_path) as server:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            result = doctor("--json", server.mountpoint / "m.safetensors")
        finally:
            os.kill(server.pid, signal.SIGCONT)
        (seen,) = as_json(result)["paths"]
        assert result.returncode == 1 and seen["hangs"] is True and result.seconds < 10
        assert f"/sys/fs/fuse/connections/{server.connection_id}/abort" in advice(result)


@pytest.mark.parametrize("suffix", ["", ":kill"])
def test_a_seccomp_filter(doctor, suffix):
    """As Docker's: without userfaultfd; one that kills for it is not asked unless for lazy fill,
    and does not kill the doctor."""
    before = [*hide_device(), need.tool("deny"), f"{USERFAULTFD}{suffix}", "--"]
    auto = doctor("--json", before=before)
    assert as_json(auto)["host"]["seccomp_kills"] == []
    assert "eager only, the caller waits in mmap" in advice(auto)
    lazy = {"STSHIM_FILL": "lazy"}
    result = doctor("--json", before=before, env=lazy)
    host = as_json(result)["host"]
    assert host["seccomp"] == 2 and host["close_range"] is True
    assert host["userfaultfd"] == {"kind": "none", "through": "nothing", "move": False}
    assert host["seccomp_kills"] == (["userfaultfd"] if suffix else [])
    assert ("eager only, the caller waits in mmap" in advice(result)) != bool(suffix)
    assert ("kills whoever calls userfaultfd" in advice(result)) == bool(suffix)
    shown = "whoever asks for it is killed" if suffix else "Operation not permitted"
    assert f"userfaultfd      none: {shown}" in doctor(before=before, env=lazy).stdout
    assert result.returncode == 0


def device_works():
    """Whether this user has a userfaultfd by the device."""
    return os.access("/dev/userfaultfd", os.R_OK | os.W_OK)


def hide_device():
    """The command line that hides the device from a program, if this user could open it."""
    if not device_works():
        return []
    need.root()
    script = 'mount --bind /dev/null /dev/userfaultfd && exec "$@"'
    return ["unshare", "-m", "sh", "-c", script, "sh"]


def test_a_seccomp_filter_without_close_range(mount, doctor):
    """The library would decline everything, and so says the doctor."""
    path = mount.mountpoint / "one.safetensors"
    before = [need.tool("deny"), str(CLOSE_RANGE), "--"]
    result = doctor("--json", path, before=before)
    assert result.returncode == 1 and decisions(result) == [("declined", "no-thread")]
    assert "close_range does not work here" in advice(result)
    loaded = run([*before, need.program("load"), path])
    assert [(line["decision"], line["reason"]) for line in loaded.stats] in (
        [("declined", "no-thread")],
        [],  # the line of the statistics takes a thread, too
    )


def test_a_seccomp_filter_that_kills_for_close_range(mount, doctor):
    """What the library would do there is said before it does it."""
    before = [need.tool("deny"), f"{CLOSE_RANGE}:kill", "--"]
    result = doctor("--json", mount.mountpoint / "one.safetensors", before=before)
    assert result.returncode == 1
    assert as_json(result)["host"]["seccomp_kills"] == ["close_range"]
    assert "kills whoever calls close_range" in advice(result)


def test_kinds_of_userfaultfd(doctor):
    """An ordinary user's is for faults in user mode, unless the system says otherwise."""
    user = need.user()
    kind = as_json(doctor("--json"))["host"]["userfaultfd"]
    through = "device" if device_works() else "system-call"
    assert kind["kind"] == "full" and kind["through"] == through
    result = doctor("--json", before=["setpriv", "--reuid", user, "--clear-groups"])
    with open("/proc/sys/vm/unprivileged_userfaultfd") as file:
        expected = "full" if file.read().strip() == "1" else "user-mode-only"
    assert as_json(result)["host"]["userfaultfd"]["kind"] == expected


def test_a_control_group(mount, doctor):
    """Its limit is seen, and what does not fit it is declined."""
    need.cgroup()
    with Cgroup(96 * MIB) as group:
        result = doctor("--json", mount.mountpoint / "one.safetensors", cgroup=group)
    seen = as_json(result)
    assert seen["memory"]["group_limit"] == 96 * MIB
    assert seen["memory"]["room_limit"] == "cgroup"
    assert seen["memory"]["room"] <= 32 * MIB


def test_usage(doctor):
    """Exit status 2 and a line that says what is wrong."""
    result = doctor("--nonsense")
    assert result.returncode == 2 and result.stderr.startswith("stshim doctor: ")
    assert "Exit status" in doctor("--help").stdout
