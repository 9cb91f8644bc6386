# SPDX-License-Identifier: Apache-2.0
"""What the library says: log, statistics, progress; and where it may not write."""

import os
import re
import shutil
import sys

import pytest
from compare import (
    BIG,
    BIG_SIZE,
    MIB,
    MODEL,
    MODEL_SIZE,
    argv,
    both,
    ended,
    files,
    mounted,
)
from support import need
from support.run import run


@pytest.fixture(autouse=True)
def library():
    """Every test here needs the library."""
    need.library()


def load(path, *options, **env):
    """Loads a file under the library with STSHIM_ variables given as keywords."""
    variables = {f"STSHIM_{name}": value for name, value in env.items()}
    return ended(run([need.program("load"), *options, path], env=variables, timeout=30))


TOUCH = """
import mmap, sys, time
with open(sys.argv[1], "rb") as file:
    sum(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[::4096])
time.sleep(0.5)
"""


def test_progress():
    """A bar on stderr for a fill that takes longer than a second, and only if asked for."""
    with mounted(bandwidth=32 * MIB) as server:
        path = server.mountpoint / BIG
        # A program that ends at once may be faster than the end of the bar.
        on = ended(run([sys.executable, "-c", TOUCH, path], env={"STSHIM_PROGRESS": "on"}))
        off = load(path)
    # The harness shows a carriage return as the end of a line.
    assert re.fullmatch(r"(\n\[[#.]{30}\] [^\n]*)+\n", on.stderr), on.stderr
    assert "..] " in on.stderr and "##] 48.00 MiB of 48.00 MiB" in on.stderr
    assert off.stderr == ""
    with mounted() as server:
        assert load(server.mountpoint / MODEL, PROGRESS="on").stderr == ""


MAP = """
import mmap, os, sys
for path in sys.argv[1:]:
    mmap.mmap(os.open(path, os.O_RDONLY), 0, flags=mmap.MAP_PRIVATE)[0]
"""


def test_log_levels():
    """Each level has its lines; without a file they go to stderr."""
    with mounted(fault=f"eio:{BIG}:{20 * MIB}:4096") as server:
        good, bad = server.mountpoint / MODEL, server.mountpoint / BIG
        lines = {}
        for level in ("off", "error", "warn", "info", "debug"):
            env = {"STSHIM_LOG": level, "STSHIM_LOG_FILE": None, "STSHIM_FILL": "eager"}
            result = ended(run([sys.executable, "-c", MAP, good, bad], env=env))
            lines[level] = result.stderr
    assert lines["off"] == lines["error"] == ""
    assert MODEL not in lines["warn"] and BIG in lines["warn"]
    assert re.search(rf"^libstnommap\[\d+\]: info: engaged .*{MODEL}: ", lines["info"], re.M)
    assert BIG in lines["info"] and MODEL in lines["debug"]


@pytest.mark.parametrize("case", ["stderr-replaced", "stderr-dup2", "stderr-closed"])
def test_log_keeps_off_another_file(case, tmp_path):
    """Nothing is written to descriptor 2 once it is another file."""
    env = {"STSHIM_LOG": "debug", "STSHIM_LOG_FILE": None, "STSHIM_PROGRESS": "on"}
    with mounted(bandwidth=40 * MIB) as server:
        both("ends", server.mountpoint / BIG, case, env=env, cwd=tmp_path)


def stats_to(target, tmp_path, name=MODEL, **options):
    """Loads a file with statistics and log sent somewhere else."""
    env = {"STSHIM_STATS": target, "STSHIM_LOG_FILE": target, "STSHIM_MODE": "always",
           "STSHIM_FILL": "eager"}
    # The harness must not read it.
    wrapped = ["env"] + [f"{key}={value}" for key, value in env.items()]
    command = wrapped + argv("load", files() / name, None)
    return ended(run(command, cwd=tmp_path, timeout=10, **options))


def test_statistics_append(tmp_path):
    """Lines are added to what is there."""
    target = tmp_path / "stats"
    target.write_text("before\n")
    stats_to(target, tmp_path)
    text = target.read_text()
    assert text.startswith("before\n") and '"engaged"' in text


def test_statistics_spare_what_is_no_plain_file(tmp_path):
    """Links, files with two names, FIFOs, directories and files of others get nothing, and none of
    them stops the program."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    os.symlink(precious, tmp_path / "symbolic")
    os.link(precious, tmp_path / "hard")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    truth = ended(run(argv("load", files() / MODEL, None), preload=False)).stdout
    for name in ("symbolic", "hard", "fifo", "directory", "missing/file"):
        result = stats_to(tmp_path / name, tmp_path)
        assert (result.stdout, result.stderr) == (truth, ""), name
    assert precious.read_text() == "precious"
    assert stats_to("/dev/full", tmp_path).stdout == truth


def test_statistics_of_another_user(tmp_path):
    """A file that belongs to somebody else gets nothing."""
    need.user("nobody")
    target = tmp_path / "theirs"
    target.touch()
    target.chmod(0o666)
    os.chown(target, 65534, 65534)
    stats_to(target, tmp_path)
    assert target.read_text() == ""


def test_statistics_escape(tmp_path):
    """A path of any bytes comes out as JSON on one line, in the log as one line."""
    path = tmp_path / 'a "b"\n\\c\x01é.safetensors'
    shutil.copy(files() / MODEL, path)
    result = load(path, MODE="always")
    assert [line["path"] for line in result.stats][:1] == [str(path)]
    assert len(result.log.splitlines()) == len(
        [line for line in result.log.splitlines() if line.startswith("libstnommap[")]
    )


def test_statistics_fields():
    """Every field of a line."""
    with mounted() as server:
        path = server.mountpoint / BIG
        status = os.stat(path)
        result = load(path, FILL="eager")
    line = result.stats[-1]
    assert line["path"] == str(path) and line["size"] == line["bytes"] == BIG_SIZE
    assert line["ino"] == status.st_ino
    assert line["dev"] == f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    assert line["file_system"] == "fuse" and line["decision"] == "engaged"
    assert line["direct_bytes"] >= BIG_SIZE and line["buffered_bytes"] == 0
    assert 0 < line["seconds"] < 30 and line["gb_per_s"] > 0
    assert {"time", "pid", "event", "reason", "threads", "huge_pages", "cache_before",
            "cache_after"} <= set(line)  # fmt: skip


def test_statistics_of_pieces_given_back():
    """What goes back to the file is said, with the file."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        result = ended(run(argv("advise", path, "dontneed-clean")))
    lines = [line for line in result.stats if line["event"] == "return"]
    assert lines and sum(line["bytes"] for line in lines) >= MODEL_SIZE
    assert all(line["path"] == str(path) and line["file_system"] == "fuse" for line in lines), lines
