# SPDX-License-Identifier: Apache-2.0
"""A server that fails: every page of a map is right or SIGBUS, as without us, and nothing hangs."""

import os
import random
import re
import shutil
import threading
import time

import pytest
from compare import (
    BIG,
    BIG_SIZE,
    MIB,
    argv,
    both,
    decisions,
    ended,
    engaged,
    files,
    mounted,
    released,
)
from support import need
from support.cache import Watch
from support.run import run

AT = 20 * MIB + 8192
PAGES = -(-BIG_SIZE // 4096)
RUN = re.compile(r"(\d+)-(\d+) (\S+?),?(?= |$)")


def outcomes(output):
    """The pages as `load -P` prints them: those that could be read, and those that are SIGBUS."""
    line = [line for line in output.splitlines() if line.startswith("pages:")][0]
    found = {True: set(), False: set()}
    for first, last, outcome in RUN.findall(line):
        found[outcome != "SIGBUS"] |= set(range(int(first), int(last) + 1))
    return found[True], found[False]


def load_pages(server, tmp_path, preload=True, options="-P", check=True, fill="auto"):
    """Loads the file; asserts that every page that could be read is right. Returns the result and
    the pages that are SIGBUS."""
    dump = tmp_path / "dump"
    dump.unlink(missing_ok=True)
    command = [need.program("load"), options, "-o", dump, server.mountpoint / BIG]
    result = ended(run(command, preload=preload, env={"STSHIM_FILL": fill}, timeout=30))
    assert result.returncode == 0, result.stderr
    read, lost = outcomes(result.stdout)
    assert read | lost == set(range(PAGES))
    truth, got = (files() / BIG).read_bytes(), dump.read_bytes()
    wrong = [
        page
        for page in read
        if got[page * 4096 : (page + 1) * 4096]
        != truth[page * 4096 : (page + 1) * 4096].ljust(4096, b"\0")
    ]
    assert not (wrong and check), (wrong[:3], len(wrong), result.log)
    return result, lost


def pages(start, end):
    """The pages of a range of bytes."""
    return set(range(start // 4096, -(-end // 4096)))


@pytest.mark.parametrize("options", ["-P", "-Pw", "-Ps"])
@pytest.mark.parametrize("length", [4096, 100, 3 * MIB])
def test_eio(options, length, tmp_path):
    """An I/O error in the middle: those pages are SIGBUS, all others are read."""
    need.library()
    with mounted(fault=f"eio:{BIG}:{AT}:{length}") as server:
        _, bare = load_pages(server, tmp_path, preload=False, options=options)
        result, preloaded = load_pages(server, tmp_path, options=options)
    assert preloaded == bare == pages(AT, AT + length)
    said = [line for line in result.log.splitlines() if re.search("io-error|EIO|returned", line)]
    assert said and BIG in said[0], result.log


def test_eio_at_both_ends(tmp_path):
    """An I/O error in the first and in the last page."""
    need.library()
    faults = [f"eio:{BIG}:0:1", f"eio:{BIG}:{48 * MIB}:200"]
    with mounted(fault=faults) as server:
        _, bare = load_pages(server, tmp_path, preload=False)
        _, preloaded = load_pages(server, tmp_path)
    assert preloaded == bare == {0, PAGES - 1}


@pytest.mark.parametrize("fill", ["eager", "lazy"])
def test_short_file(fill, tmp_path):
    """The server delivers less than the size that it reported."""
    need.library()
    # The kernel remembers the true size once it has seen it: a mount for each run.
    with mounted(fault=f"short:{BIG}:{AT}") as server:
        # Without us the kernel may show some pages of zeros before that.
        _, bare = load_pages(server, tmp_path, preload=False, check=False)
    with mounted(fault=f"short:{BIG}:{AT}") as server:
        result, preloaded = load_pages(server, tmp_path, fill=fill)
    assert pages(AT + MIB, BIG_SIZE) <= bare
    assert preloaded == pages(AT, BIG_SIZE)
    assert BIG in result.log


@pytest.mark.parametrize("fill", ["eager", "lazy"])
def test_last_page_is_missing(fill, tmp_path):
    """The same where only one read meets the end, and others have the kernel ask for the size
    meanwhile, so that it does not believe the short answer."""
    need.library()
    end = (PAGES - 2) * 4096
    for _ in range(8):
        with mounted(fault=f"short:{BIG}:{end}", attr_timeout=0) as server:
            _, lost = load_pages(server, tmp_path, fill=fill)
        assert lost == pages(end, BIG_SIZE)


def test_file_shrinks_during_the_fill(tmp_path):
    """Pages that are gone are SIGBUS; what can be read is right, never zeros."""
    need.library()
    with mounted(fault=f"shrink:{BIG}:{30 * MIB}:{24 * MIB}", bandwidth=96 * MIB) as server:
        # Without us the kernel shows some pages of zeros before it knows the new size.
        _, bare = load_pages(server, tmp_path, preload=False, check=False)
    with mounted(fault=f"shrink:{BIG}:{30 * MIB}:{24 * MIB}", bandwidth=96 * MIB) as server:
        result, preloaded = load_pages(server, tmp_path)
    assert pages(32 * MIB, 48 * MIB) <= bare
    assert pages(32 * MIB, 48 * MIB) <= preloaded <= pages(24 * MIB, BIG_SIZE), result.log


@pytest.mark.parametrize("fill", ["eager", "lazy"])
@pytest.mark.parametrize("kind", ["rewritten", "touched"])
def test_file_changes_during_the_fill(kind, fill, tmp_path):
    """Written to by somebody else, size as before: nothing half old and half new is handed out by
    an eager fill, the kernel's mapping is, and it shows the new bytes. A lazy one has handed out
    what it read before, as the kernel has; from then on the bytes are new."""
    need.library()
    source = tmp_path / "source"
    source.mkdir()
    path = source / BIG
    shutil.copy(files() / BIG, path)

    def change():
        if kind == "rewritten":
            with open(path, "r+b") as file:
                file.write(random.Random(5).randbytes(BIG_SIZE))
        os.utime(path)

    with mounted(source=source, bandwidth=48 * MIB, attr_timeout=0) as server:
        timer = threading.Timer(0.4, change)
        timer.start()
        command = [need.program("load"), "-P", "-o", tmp_path / "dump", server.mountpoint / BIG]
        preloaded = ended(run(command, env={"STSHIM_FILL": fill}, timeout=30))
        timer.join()
    assert decisions(preloaded, BIG) == ["abandoned:changed"], preloaded.log
    old, new = (files() / BIG).read_bytes(), path.read_bytes()
    read = (tmp_path / "dump").read_bytes()[:BIG_SIZE]
    if fill == "eager":
        assert read == new
    for at in range(0, BIG_SIZE, 4096):
        assert read[at : at + 4096] in (old[at : at + 4096], new[at : at + 4096]), at
    assert read[-4096:] == new[-4096:]


def test_server_dies_during_the_fill(tmp_path):
    """The server is gone: right bytes or SIGBUS, no hang."""
    need.library()
    with mounted(fault=f"die:{BIG}:{AT}") as server:
        _, bare = load_pages(server, tmp_path, preload=False)
    with mounted(fault=f"die:{BIG}:{AT}") as server:
        result, preloaded = load_pages(server, tmp_path)
    assert pages(AT + MIB, 48 * MIB) <= bare
    assert pages(AT + MIB, 48 * MIB) <= preloaded
    assert result.seconds < 10


def test_server_hangs(tmp_path):
    """A read is not answered: after the time limit the program goes on with the kernel's mapping,
    and the log says which file and where. Once the server answers, nothing of ours is left."""
    need.library()
    log = tmp_path / "log"
    env = {"STSHIM_TIMEOUT": "2s", "STSHIM_LOG_FILE": log}
    with mounted(fault=f"hang:{BIG}:{AT}:4096") as server:
        path = server.mountpoint / BIG
        with released(server, log, "abandoned"):
            preloaded = ended(run([need.program("load"), "-it", path], env=env, timeout=30))
        bare = ended(run([need.program("load"), "-it", path], preload=False, timeout=30))
    assert preloaded.stdout.splitlines()[:2] == bare.stdout.splitlines()[:2]
    assert preloaded.stdout.splitlines()[-1] == "threads: 1"
    assert decisions(preloaded, BIG)[-1] == "abandoned:timeout"
    assert 2 <= preloaded.seconds < 8
    line = [line for line in preloaded.log.splitlines() if "abandoned" in line][0]
    assert BIG in line
    # The offset at which nothing came: that of a block that holds the page.
    assert any(AT - 8 * MIB <= int(number) <= AT + MIB for number in re.findall(r"\d+", line)), line


def test_server_hangs_for_good(tmp_path):
    """A read is never answered: the program goes on and ends when the connection is aborted."""
    need.library()
    env = {"STSHIM_TIMEOUT": "1s"}
    with mounted(fault=f"hang:{BIG}:{AT}:4096") as server:
        path = server.mountpoint / BIG
        result = run([need.program("load"), "-iP", path], env=env, timeout=6)
    assert "first: 0-0 " in result.stdout
    assert "abandoned" in result.log


@pytest.mark.parametrize("fill", ["eager", "lazy"])
def test_short_file_of_a_server_that_hangs(fill, tmp_path):
    """The server delivers less than it reported, and does not answer reads behind that, where the
    end is looked for as long as the kernel asks for the size again: it is waited for no longer than
    the time limit."""
    need.library()
    log = tmp_path / "log"
    env = {"STSHIM_TIMEOUT": "2s", "STSHIM_LOG_FILE": log, "STSHIM_FILL": fill}
    command = [need.program("load"), "-P", "-o", tmp_path / "dump"]
    faults = [f"short:{BIG}:{AT}", f"hang:{BIG}:{AT + 2 * MIB}:{16 * MIB}"]
    with mounted(fault=faults, attr_timeout=0) as server, released(server, log, "abandoned"):
        result = ended(run([*command, server.mountpoint / BIG], env=env, timeout=30))
    assert 2 <= result.seconds < 8
    assert outcomes(result.stdout)[0] >= pages(0, AT)
    assert (tmp_path / "dump").read_bytes()[:AT] == (files() / BIG).read_bytes()[:AT]


def test_slow_server_is_not_taken_for_a_dead_one():
    """A fill that takes longer than the limit but makes progress is not abandoned."""
    with mounted(bandwidth=12 * MIB, delay_ms=20) as server:
        path = server.mountpoint / BIG
        preloaded = ended(run([need.program("load"), path], env={"STSHIM_TIMEOUT": "1s"}))
    assert preloaded.seconds > 2
    assert decisions(preloaded, BIG) == ["engaged"], preloaded.log


def test_timeout_off():
    """With STSHIM_TIMEOUT=0 a server that pauses for seconds is waited for."""
    need.library()
    with mounted(fault=f"hang:{BIG}:{AT}:4096") as server:
        timer = threading.Timer(3, server.release)
        timer.start()
        path = server.mountpoint / BIG
        preloaded = ended(run([need.program("load"), path], env={"STSHIM_TIMEOUT": "0"}))
        timer.join()
    assert decisions(preloaded, BIG) == ["engaged"], preloaded.log


@pytest.mark.parametrize("way", ["lazy", "eager"])
def test_server_is_not_told_of_direct_reads(way):
    """The file is opened without O_DIRECT, which a server could refuse or hand on to its disk, and
    read past the page cache all the same."""
    with mounted(fault=f"noopen:{BIG}", keep_cache=True) as server:
        path = server.mountpoint / BIG
        bare, preloaded = both("load", path)
        with Watch(path) as watch:
            watch.evict()
            assert watch.resident() == 0
            server.reset()
            again = ended(run([need.program("load"), path], env={"STSHIM_FILL": way}))
            assert watch.resident() == 0
            stats = server.stats()
    assert again.stdout == bare.stdout
    assert engaged(again, BIG) and stats["direct_opens"] == 0
    assert stats["direct_bytes"] >= BIG_SIZE and stats["buffered_bytes"] == 0


def test_direct_io_mount():
    """On a mount with FOPEN_DIRECT_IO private maps work, shared ones are refused by the kernel;
    under the library both give the bytes."""
    with mounted(direct_io=True) as server:
        path = server.mountpoint / BIG
        bare, _ = both("load", path)
        refused = run(argv("load", path, "-s"), preload=False)
        shared = ended(run(argv("load", path, "-s")))
        assert "ENODEV" in refused.stdout
        assert engaged(shared, BIG) and shared.stdout == bare.stdout


@pytest.mark.limit(60)
def test_invalidating_server():
    """A server that invalidates pages while it answers hangs whoever reads through the page cache;
    under the library the same program ends with the right bytes."""
    need.library()
    command = [need.program("load"), files() / BIG]
    truth = ended(run(command, preload=False))
    with mounted(invalidate=True, delay_ms=2) as server:
        preloaded = ended(run([need.program("load"), server.mountpoint / BIG], timeout=20))
        assert engaged(preloaded, BIG)
    assert preloaded.stdout == truth.stdout
    with mounted(invalidate=True, delay_ms=2) as server:
        start = time.monotonic()
        bare = run([need.program("load"), server.mountpoint / BIG], preload=False, timeout=3)
        assert bare.timed_out or bare.stdout != truth.stdout
        assert time.monotonic() - start < 20
