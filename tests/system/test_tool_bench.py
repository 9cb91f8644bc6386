# SPDX-License-Identifier: Apache-2.0
"""stshim bench: four ways to read a file, on mounts that are fast, slow, broken and stuck."""

import json
import os
import shutil

import pytest
from compare import BIG, BIG_SIZE, MIB, ended, files, mounted
from support import cache, need
from support.cgroup import Cgroup
from support.run import run

ORDER = [("direct", 1), ("direct", 2), ("direct", 4), ("direct", 8), ("direct", 16),
         ("library", None), ("mmap", None), ("read", None)]  # fmt: skip


@pytest.fixture(autouse=True)
def program():
    """Every test here needs the program and the library."""
    need.library()
    need.tool()


def bench(path, *options, **keywords):
    """Runs the program on a file."""
    keywords.setdefault("timeout", 60)
    return ended(run([need.tool(), "bench", *options, path], preload=False, **keywords))


def seen(path, *options, status=0, **keywords):
    """What it says as JSON."""
    result = bench(path, "--json", *options, **keywords)
    assert result.returncode == status and result.stderr == "", result
    value = json.loads(result.stdout)
    assert [(way["way"], way["threads"]) for way in value["ways"]] == ORDER
    assert set(value["ways"][0]) == {"way", "threads", "status", "bytes", "seconds", "gb_per_s",
                                     "cached_before", "warm", "note"}  # fmt: skip
    return value


def way(value, name):
    """The last line of a way."""
    return [item for item in value["ways"] if item["way"] == name][-1]


def test_on_fuse():
    """All ways read the same bytes, cold; the library engages and is faster than mmap."""
    with mounted(delay_ms=2) as server:
        value = seen(server.mountpoint / BIG)
    assert value["same_bytes"] and value["file_system"] == "fuse"
    assert value["bytes"] == value["file_bytes"] == BIG_SIZE
    for item in value["ways"]:
        assert item["status"] == "done" and item["bytes"] == BIG_SIZE and item["seconds"] > 0
        assert item["cached_before"] == 0 and not item["warm"]
    assert way(value, "library")["note"] == "engaged"
    assert way(value, "library")["seconds"] < way(value, "mmap")["seconds"]
    assert "STSHIM_FSTYPES" not in value["settings"] and "STSHIM_FILES" not in value["settings"]
    assert any("of the time of mmap" in line for line in value["advice"])


def test_table():
    """The same for people; no bar where there is no terminal."""
    with mounted() as server:
        result = bench(server.mountpoint / BIG)
    lines = result.stdout.splitlines()
    assert result.returncode == 0 and result.stderr == ""
    assert lines[0].endswith(f"{BIG}: 48.00 MiB on fuse")
    assert lines[2].split() == ["way", "threads", "seconds", "GB/s", "page", "cache", "before"]
    assert [line.split()[0] for line in lines[3:11]] == [name for name, _ in ORDER]
    assert lines[-1].startswith("STSHIM_THREADS")


def test_bar_on_a_terminal():
    """A bar for each way, and nothing left of it."""
    need.command("script")
    with mounted(bandwidth=100 * MIB) as server:
        command = f"{need.tool()} bench --bytes 16M {server.mountpoint / BIG}"
        result = ended(run(["script", "-qec", command, "/dev/null"], preload=False))
    assert "direct 1  [" in result.stdout and "mmap    [" in result.stdout, result.stdout
    assert "#" in result.stdout and "the first 16.00 MiB are read" in result.stdout


def test_warm_is_said(tmp_path):
    """On a disk whose file is cached the figures are warm; --drop-caches makes them cold."""
    path = tmp_path / "model.gguf"
    shutil.copy(files() / BIG, path)
    os.sync()
    path.read_bytes()
    warm = seen(path)
    assert way(warm, "mmap")["warm"] and way(warm, "mmap")["cached_before"] > BIG_SIZE // 2
    assert any("warm and no measure" in line for line in warm["advice"])
    assert "warm, 100% cached" in bench(path).stdout
    need.root()
    cold = seen(path, "--drop-caches")
    assert not any(item["warm"] for item in cold["ways"])
    assert not any("warm" in line for line in cold["advice"])


def test_drop_caches_without_root(tmp_path, user):
    """Without the right to drop all, the file's own pages are dropped and that is said."""
    path = tmp_path / "model.safetensors"
    shutil.copy(files() / BIG, path)
    os.sync()
    os.chown(path, 65534, 65534)
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    result = bench(path, "--json", "--drop-caches", user=user)
    assert result.stderr.count("only the cached pages of this file") == 1
    assert way(json.loads(result.stdout), "mmap")["cached_before"] == 0


def test_caches_are_left_alone(tmp_path):
    """Without the option nothing is dropped."""
    path = tmp_path / "model.safetensors"
    shutil.copy(files() / BIG, path)
    path.read_bytes()
    before = cache.resident(path)
    bench(path, "--bytes", "4M")
    assert cache.resident(path) >= before


def test_names_and_places(tmp_path):
    """What must be set for the library to engage on this file at all."""
    strange = tmp_path / "a:b[c]*.gguf"
    shutil.copy(files() / BIG, strange)
    with mounted(source=tmp_path) as server:
        value = seen(server.mountpoint / strange.name)
    assert way(value, "library")["note"] == "engaged"
    assert value["settings"]["STSHIM_FILES"] == "*.safetensors:*.sft:*.gguf"
    assert any(line.startswith("STSHIM_FILES=") for line in value["advice"])


def test_prefix():
    """--bytes reads so much, and says so."""
    with mounted() as server:
        value = seen(server.mountpoint / BIG, "--bytes", "5M")
        text = bench(server.mountpoint / BIG, "--bytes", "5M").stdout
    assert value["bytes"] == 4 * MIB and value["same_bytes"]
    assert "the first 4.00 MiB are read (as asked for)" in text


def test_bounded_memory():
    """In a small control group only a prefix is read, and nobody is killed."""
    need.cgroup()
    with mounted() as server, Cgroup(112 * MIB) as group:
        value = seen(server.mountpoint / BIG, cgroup=group)
        assert group.oom_kills() == 0
    assert 0 < value["bytes"] < BIG_SIZE
    assert all(item["status"] == "done" for item in value["ways"])


def test_stuck():
    """On a server that invalidates in its read handler mmap or read hangs: that is said within the
    time limit, and what would read the file after that is not tried."""
    need.root()
    with mounted(invalidate=True, delay_ms=1) as server:
        result = bench(server.mountpoint / BIG, "--json", "--timeout", "3")
        server.abort()
    value = json.loads(result.stdout)
    assert result.returncode == 1 and result.seconds < 30
    assert [item["status"] for item in value["ways"][:6]] == ["done"] * 6
    assert way(value, "library")["note"] == "engaged"
    statuses = {way(value, "mmap")["status"], way(value, "read")["status"]}
    assert statuses & {"timeout", "stuck"} and statuses <= {"timeout", "stuck", "skipped"}
    if "stuck" in statuses:
        assert any(f"connections/{server.connection_id}/abort" in x for x in value["advice"])


def test_slow_server():
    """A way that takes too long is ended, with what it had."""
    with mounted(bandwidth=16 * MIB) as server:
        value = seen(server.mountpoint / BIG, "--timeout", "2", status=1)
    first = value["ways"][0]
    assert first["status"] == "timeout" and first["note"] == "not done after 2 s"
    assert 0 < first["bytes"] < BIG_SIZE


def test_io_error():
    """A file that cannot be read fails with the reason in every way."""
    with mounted(fault=f"eio:*:0:{BIG_SIZE}") as server:
        result = bench(server.mountpoint / BIG, "--json")
    value = json.loads(result.stdout)
    assert result.returncode == 1
    assert value["ways"][0]["note"] == "direct: Input/output error"
    assert way(value, "mmap")["note"] == "the process was ended by Bus error"
    assert any("No direct read has worked" in line for line in value["advice"])


def test_unusable(tmp_path):
    """What is no model file is refused in one line."""
    (tmp_path / "empty").touch()
    for path in (tmp_path, tmp_path / "missing", tmp_path / "empty"):
        result = bench(path)
        assert result.returncode == 1 and result.stdout == ""
        assert len(result.stderr.splitlines()) == 1 and "; give a" in result.stderr
    for options in (["--bytes", "x"], ["--timeout", "0"], []):
        assert run([need.tool(), "bench", *options], preload=False).returncode == 2
