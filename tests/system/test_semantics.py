# SPDX-License-Identifier: Apache-2.0
"""What a program can do with a mapped model, bare and preloaded: the same lines come out."""

import os
import shutil
import sys

import pytest
from compare import (
    BIG,
    MIB,
    MODEL,
    MODEL_SIZE,
    ODD,
    ON_DISK,
    argv,
    both,
    cases,
    core_files,
    decisions,
    engaged,
    ended,
    files,
    mounted,
    place,
    released,
    same,
    sizes,
)
from support import need
from support.run import run

PLACES = pytest.mark.parametrize("kind", ["fuse", "disk"])
NOT_MAPPED = {("errnos", "opening"), ("errnos", "elsewhere"), ("opens", "system-call")}
ELSEWHERE = {
    ("opens", "inherited"),
    ("opens", "moved-away"),
    ("opens", "created"),
    ("opens", "rights-dropped"),
    ("opens", "new-versions"),
    ("extent", "huge"),
}


# While a map is being filled lazily a child that runs no handlers may get SIGSEGV from it.
WITHOUT_HANDLERS = {("forks", "plain-fork"), ("forks", "clone")}


@PLACES
@cases(
    "protect",
    "advise",
    "remap",
    "unmap",
    "replace",
    "forks",
    "extent",
    "locks",
    "opens",
    "errnos",
    without=ELSEWHERE,
)
def test_same(kind, program, case, tmp_path):
    """Every call family of DESIGN section 5, on a mount and on disk."""
    with place(kind, tmp_path) as (directory, env):
        if (program, case) in WITHOUT_HANDLERS:
            env = {**env, "STSHIM_FILL": "eager"}
        engages = (program, case) not in NOT_MAPPED
        if program == "locks" and os.geteuid() != 0:
            # What may be locked is hardly more than the file.
            engages = None
        both(program, directory / MODEL, case, env, cwd=tmp_path, engages=engages)


@pytest.mark.parametrize("io", ["direct", "buffered"])
@cases("advise", "remap", "unmap")
def test_same_without_huge_pages(io, program, case, tmp_path):
    """The same with the other way to read and with blocks that the file is not a multiple of."""
    env = {"STSHIM_HUGEPAGES": "off", "STSHIM_IO": io, "STSHIM_BLOCK": "192K"}
    with mounted() as server:
        both(program, server.mountpoint / MODEL, case, env, cwd=tmp_path)


@cases("protect", "advise", "extent", without=ELSEWHERE)
def test_same_where_lengths_are_page_multiples(program, case, tmp_path):
    """The same on a file that ends with a page."""
    with mounted() as server:
        both(program, server.mountpoint / "multiple.safetensors", case, cwd=tmp_path)


@PLACES
@cases("descriptors")
def test_descriptors(kind, program, case, tmp_path):
    """Descriptors, offsets, flags and locks; slow enough that things happen during the load."""
    with place(kind, tmp_path, bandwidth=96 * MIB) as (directory, env):
        both(program, directory / BIG, case, env, cwd=tmp_path)


def test_descriptor_reused_while_fill_fails(tmp_path):
    """The descriptor is closed and its number reused during a fill that cannot be completed: the
    program gets the kernel's mapping of the file that it asked for, not of the other one."""
    log = tmp_path / "log"
    env = {"STSHIM_TIMEOUT": "1s", "STSHIM_LOG_FILE": log}
    with mounted(fault=f"hang:{BIG}:{20 * MIB}:4096", delay_ms=5) as server:
        command = argv("descriptors", server.mountpoint / BIG, "closed-during")
        with released(server, log, "abandoned"):
            preloaded = run(command, env=env, cwd=tmp_path, timeout=30)
        bare = run(command, preload=False, cwd=tmp_path, timeout=30)
    same(bare, preloaded)
    assert decisions(preloaded, BIG)[-1].startswith("abandoned"), preloaded.stats


def test_renamed_and_unlinked(tmp_path):
    """A file renamed and unlinked after it was opened still gives its bytes."""
    path = tmp_path / MODEL
    need.library()
    command = argv("opens", path, "moved-away")
    shutil.copy(files() / MODEL, path)
    bare = run(command, preload=False)
    shutil.copy(files() / MODEL, path)
    same(bare, run(command, env=ON_DISK))


def test_rights_dropped(public):
    """Opened as root, mapped as somebody who may not open it."""
    need.root()
    need.library()
    path = public / MODEL
    shutil.copy(files() / MODEL, path)
    command = argv("opens", path, "rights-dropped")
    bare = run(command, preload=False)
    same(bare, run(command, env=ON_DISK))
    assert "open: -1 EACCES" in bare.stdout


def test_new_versions(tmp_path):
    """What a file's name leads to changes between maps, and so does the file itself."""
    need.library()
    path, other = tmp_path / MODEL, tmp_path / (MODEL + ".new")
    results = []
    for preload in (False, True):
        shutil.copy(files() / MODEL, path)
        shutil.copy(files() / "multiple.safetensors", other)
        command = argv("opens", path, "new-versions")
        env = ON_DISK if preload else {}
        results.append(run(command, preload=preload, env=env))
    same(*results)
    assert decisions(results[1]) == ["engaged"] * 6, results[1].log


def test_huge_file(tmp_path):
    """A sparse file of 3 TiB: pieces anywhere are engaged, the whole is only lazily."""
    need.library()
    path = tmp_path / "huge.safetensors"
    size = 3 << 40
    with open(path, "wb") as file:
        file.truncate(size)
        for part in range(9):
            file.seek(min(part * size // 8, size - 4096) + 99)
            file.write(b"something %d" % part)
    env = {"STSHIM_MODE": "always"}
    _, preloaded = both("extent", path, "huge", env=ON_DISK)
    assert decisions(preloaded) == ["engaged"] * 8 + ["declined:memory"]
    _, preloaded = both("extent", path, "huge", env=env)
    assert decisions(preloaded) == ["engaged"] * 9


def test_created_files(tmp_path):
    """Modes of new files, directories and FIFOs with a model's name."""
    need.library()
    results = []
    for name, preload in (("bare", False), ("preloaded", True)):
        (tmp_path / name).mkdir()
        command = argv("opens", files() / MODEL, "created")
        env = ON_DISK if preload else {}
        results.append(run(command, preload=preload, env=env, cwd=tmp_path / name, timeout=20))
    same(*results)
    assert not engaged(results[1], "a.safetensors")


@PLACES
@pytest.mark.parametrize("name", sorted(ODD))
def test_odd_files(kind, name, tmp_path):
    """Empty, of one byte, with a header that promises more than there is, and no model at all."""
    with place(kind, tmp_path) as (directory, env):
        both("load", directory / name, env=env, engages=bool(ODD[name]))
        both("load", directory / name, "-Pw", env=env, engages=bool(ODD[name]))


@PLACES
def test_sizes(kind, tmp_path):
    """Files of 32 sizes, all in one process, nothing unmapped until the end."""
    need.library()
    with place(kind, tmp_path) as (directory, env):
        paths = [directory / f"size-{number:02}.safetensors" for number in range(len(sizes()))]
        command = [need.program("load"), "-k"] + paths
        bare = run(command, preload=False)
        preloaded = run(command, env=env)
        same(bare, preloaded)
        assert all(engaged(preloaded, path) for path in paths), preloaded.log


def test_constructor_maps_first(tmp_path):
    """A library's constructor maps the file before the program starts."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        command = argv("constructed", path, "mapped-early")
        bare = run(command, preload=False, env={"MODEL": path}, timeout=20)
        preloaded = run(command, env={"MODEL": path}, timeout=20)
        same(bare, preloaded)
        assert engaged(preloaded, path), preloaded.log


def test_reread_guard():
    """A file mapped five times is delivered at most twice, and the log says why."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        _, preloaded = both("extent", path, "again")
        assert decisions(preloaded) == ["engaged"] * 2 + ["declined:reread"] * 3
        server.reset()
        ended(run(argv("extent", path, "again")))
        assert server.stats()["direct_bytes"] <= 2.02 * MODEL_SIZE + 3 * MIB


@pytest.mark.parametrize("case, loads", [("again-a-little", 1), ("again-most", 2),
                                         ("again-in-pieces", 2)])
def test_a_piece_each_time(case, loads):
    """A file that is mapped whole for less than half of it is read whole once, not twice."""
    if "[never]" in open("/sys/kernel/mm/transparent_hugepage/enabled").read():
        pytest.skip("no transparent huge pages")
    with mounted() as server:
        path = server.mountpoint / BIG
        env = {"STSHIM_FILL": "eager"}
        _, preloaded = both("extent", path, case, env)
        assert decisions(preloaded) == ["engaged"] * loads + ["declined:reread"] * (5 - loads)
        _, preloaded = both("extent", path, case, {**env, "STSHIM_HUGEPAGES": "off"})
        assert decisions(preloaded) == ["engaged"] * 2 + ["declined:reread"] * 3


INHERIT = """
import mmap, os, sys, zlib
def load():
    fd = os.open(sys.argv[1], os.O_RDONLY)
    view = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    os.close(fd)
    return view
view = load()
print(zlib.crc32(view), flush=True)
child = os.fork()
if child:
    sys.exit(os.waitpid(child, 0)[1])
view.close()
print(zlib.crc32(load()))
"""


def test_used_before_a_fork():
    """What the parent has used is not taken for unused when a child unmaps it."""
    with mounted() as server:
        command = [sys.executable, "-c", INHERIT, server.mountpoint / BIG]
        bare = run(command, preload=False)
        preloaded = run(command, env={"STSHIM_FILL": "eager"})
        same(bare, preloaded)
        assert decisions(preloaded) == ["engaged"] * 2


def test_small_maps_open_the_file_once():
    """Hundreds of maps of some pages each: no more requests than maps, hardly an open."""
    with mounted() as server:
        path = server.mountpoint / MODEL
        both("extent", path, "small")
        server.reset()
        preloaded = ended(run(argv("extent", path, "small")))
        stats = server.stats()
        assert decisions(preloaded) == ["engaged"] * 600
        # The program itself opens the file for each map.
        assert stats["opens"] - 600 <= 60, stats
        assert stats["requests"] <= 600, stats
        assert stats["buffered_reads"] == 0, stats


def test_model_bytes_are_not_faulted_in():
    """No page of an engaged map comes through the page cache."""
    with mounted() as server:
        path = server.mountpoint / BIG
        server.reset()
        preloaded = ended(run([need.program("load"), "-w", path]))
        assert decisions(preloaded) == ["engaged"]
        stats = server.stats()
        assert stats["buffered_bytes"] == 0, stats
        assert stats["direct_bytes"] <= 1.02 * path.stat().st_size


@pytest.mark.parametrize("case", ["dump", "dump-pieces"])
def test_core_dump(case, tmp_path):
    """A core dump is written and has no model in it."""
    core_files()
    need.library()
    with mounted() as server:
        path = server.mountpoint / BIG
        preloaded = ended(run(argv("ends", path, case), cwd=tmp_path))
    # Killed: what it read is not in the statistics.
    assert preloaded.decisions("begin") == ["engaged"]
    assert preloaded.signal == 6
    cores = list(tmp_path.glob("core*"))
    assert len(cores) == 1
    assert 0 < cores[0].stat().st_size < 8 * MIB
