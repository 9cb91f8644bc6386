# SPDX-License-Identifier: Apache-2.0
"""Every variable does what it says, and a value that is not understood changes nothing."""

import ctypes
import mmap
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from compare import (
    BIG,
    BIG_SIZE,
    MIB,
    MODEL,
    MODEL_SIZE,
    argv,
    decisions,
    ended,
    engaged,
    files,
    missing,
    mounted,
    released,
)
from support import cache, need, paths
from support.run import run


@pytest.fixture(autouse=True)
def library():
    """Every test here needs the library."""
    need.library()


def load(path, *options, **env):
    """Loads a file under the library with STSHIM_ variables given as keywords."""
    variables = {f"STSHIM_{name}": value for name, value in env.items()}
    return ended(run([need.program("load"), *options, path], env=variables, timeout=30))


def read_by_library(server):
    """The bytes that the server has delivered to direct readers."""
    return server.stats()["direct_bytes"]


BAD = [
    ("STSHIM_MODE", "yes"),
    ("STSHIM_MODE", ""),
    ("STSHIM_UMA", "1"),
    ("STSHIM_FILL", "eagerly"),
    ("STSHIM_AHEAD", "everything"),
    ("STSHIM_IO", "DIRECT"),
    ("STSHIM_THREADS", "0"),
    ("STSHIM_THREADS", "65"),
    ("STSHIM_THREADS", "4 "),
    ("STSHIM_THREADS", "-1"),
    ("STSHIM_THREADS", "18446744073709551617"),
    ("STSHIM_BLOCK", "1K"),
    ("STSHIM_BLOCK", "65M"),
    ("STSHIM_BLOCK", "8X"),
    ("STSHIM_BLOCK", "99999999999999999999G"),
    ("STSHIM_MEMORY", "101%"),
    ("STSHIM_MEMORY", "lots"),
    ("STSHIM_MEMORY", "%"),
    ("STSHIM_CACHE", "remove"),
    ("STSHIM_MLOCK", "yes"),
    ("STSHIM_TIMEOUT", "soon"),
    ("STSHIM_TIMEOUT", "-3s"),
    ("STSHIM_TIMEOUT", "3h"),
    ("STSHIM_HUGEPAGES", "on"),
    ("STSHIM_PROGRESS", "1"),
    ("STSHIM_NO_SUCH_VARIABLE", "1"),
]


@pytest.mark.parametrize("name, value", BAD, ids=lambda text: str(text)[:24] or "empty")
def test_bad_value(name, value):
    """One line in the log names the variable; the default stays; two loads, still one line."""
    with mounted() as server:
        command = [need.program("load"), server.mountpoint / MODEL, server.mountpoint / BIG]
        result = ended(run(command, env={name: value}))
    assert decisions(result) == ["engaged", "engaged"]
    assert len([line for line in result.log.splitlines() if name in line]) == 1, result.log


def test_bad_log_level():
    """A log level that does not exist leaves the log off."""
    with mounted() as server:
        result = load(server.mountpoint / MODEL, LOG="loud")
    assert engaged(result, MODEL)
    assert result.log == "" and result.stderr == ""


def test_several_bad_values():
    """Each has its line, and everything still works."""
    with mounted() as server:
        result = load(server.mountpoint / MODEL, MODE="on", THREADS="many", BLOCK="1")
    assert engaged(result, MODEL)
    for name in ("STSHIM_MODE", "STSHIM_THREADS", "STSHIM_BLOCK"):
        assert result.log.count(name) == 1, result.log


def test_very_long_values():
    """Values longer than any buffer."""
    with mounted() as server:
        result = load(server.mountpoint / MODEL, FILES="*" * 100000, FSTYPES="x," * 50000)
    assert engaged(result, MODEL), result.log


def test_mode_off():
    """Nothing is decided or said, and nothing is read by us."""
    with mounted() as server:
        result = load(server.mountpoint / MODEL, MODE="off")
        assert server.stats()["direct_reads"] == 0
    assert result.stats == [] and result.log == ""


def test_mode_observe():
    """Decided and logged, but nothing is changed."""
    with mounted() as server:
        result = load(server.mountpoint / MODEL, "-m", MODE="observe")
        stats = server.stats()
    assert decisions(result) == ["would-engage"]
    assert stats["direct_reads"] == 0 and stats["buffered_bytes"] >= MODEL_SIZE
    assert MODEL in result.stdout, "not the file's own mapping"


def test_mode_observe_says_why_not():
    """What would be declined is said, too."""
    result = load(files() / MODEL, MODE="observe")
    assert decisions(result) == ["declined:file-system"]


def test_mode_auto_leaves_disks_alone():
    """Off FUSE, on a host without unified memory, the kernel's mapping stays."""
    result = load(files() / MODEL, "-m", UMA="no")
    assert decisions(result) == ["declined:file-system"]
    assert MODEL in result.stdout
    assert decisions(load(files() / MODEL, UMA="yes")) == ["engaged"]


def test_mode_always():
    """Engages on a disk; the mapping is anonymous memory with a name."""
    cache.evict(files() / MODEL)
    result = load(files() / MODEL, "-m", MODE="always")
    assert decisions(result) == ["engaged"]
    maps = [line for line in result.stdout.splitlines() if line.startswith("map:")]
    assert maps and not any(MODEL in line and "[anon" not in line for line in maps), maps


def test_region_has_a_name():
    """Engaged regions can be told in /proc/PID/maps, where the kernel names anonymous memory."""
    if not _names_memory():
        pytest.skip("this kernel does not name anonymous memory (CONFIG_ANON_VMA_NAME)")
    with mounted() as server:
        result = load(server.mountpoint / MODEL, "-m")
    named = [line for line in result.stdout.splitlines() if line.startswith("map: [anon:")]
    assert named and "stnommap" in named[0], result.stdout


def _names_memory():
    """Whether the kernel gives anonymous memory a name (PR_SET_VMA_ANON_NAME)."""
    memory = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    words = [ctypes.c_ulong(word) for word in (0, address, 4096)]
    return ctypes.CDLL(None).prctl(0x53564D61, *words, b"name") == 0


FILE_GLOBS = [
    ("*.bin", {"plain.bin"}),
    ("*.bin:*.safetensors", {"plain.bin", MODEL}),
    ("*/model.*", {MODEL}),
    ("model.safetensors", set()),
    ("*/[m-p]*[!x].safe?ensors", {MODEL}),
    (":::", set()),
    ("*", {"plain.bin", MODEL}),
    ("[", set()),
    ("*****************************************************************z", set()),
]


@pytest.mark.parametrize("globs, expected", FILE_GLOBS, ids=[glob for glob, _ in FILE_GLOBS])
def test_files(globs, expected):
    """The globs that name models, matched against the path as the program gives it."""
    with mounted() as server:
        names = ["plain.bin", MODEL]
        command = [need.program("load")] + [server.mountpoint / name for name in names]
        result = ended(run(command, env={"STSHIM_FILES": globs}))
    assert {name for name in names if engaged(result, name)} == expected


def test_file_systems():
    """The file systems that auto engages on."""
    disk = _type_of(files())
    with mounted() as server:
        assert decisions(load(server.mountpoint / MODEL, FSTYPES="nfs")) == [
            "declined:file-system"
        ]
        for listed in ("fuse", "nfs,fuse", "all"):
            assert decisions(load(server.mountpoint / MODEL, FSTYPES=listed)) == ["engaged"]
    for listed in (f"fuse,{disk}", "all"):
        cache.evict(files() / MODEL)
        assert decisions(load(files() / MODEL, FSTYPES=listed)) == ["engaged"]


def test_cached_file():
    """Off FUSE and unified memory the kernel's own mapping of a cached file is left alone, unless it
    is said how to fill it."""
    path = files() / BIG
    cache.evict(path)
    assert decisions(load(path, MODE="always", UMA="no")) == ["engaged"]
    path.read_bytes()
    for fill, uma, decision in (("auto", "no", "declined:cached"), ("lazy", "no", "engaged"),
                                ("eager", "no", "engaged"), ("auto", "yes", "engaged")):
        path.read_bytes()
        assert decisions(load(path, MODE="always", FILL=fill, UMA=uma)) == [decision], fill
    path.read_bytes()
    assert decisions(load(path, MODE="always", UMA="no", CACHE="drop")) == ["engaged"]
    path.read_bytes()
    with mounted(keep_cache=True) as server:
        (server.mountpoint / BIG).read_bytes()
        assert decisions(load(server.mountpoint / BIG)) == ["engaged"]


def _type_of(path):
    """The type of the file system of a path, as the mount table names it."""
    found = ("", "")
    for line in open("/proc/self/mountinfo"):
        before, after = line.split(" - ")
        mountpoint = before.split()[4]
        if str(path).startswith(mountpoint) and len(mountpoint) >= len(found[0]):
            found = (mountpoint, after.split()[0])
    return found[1]


def test_memory_backed_files():
    """A file in memory already is never copied."""
    if _type_of("/dev/shm/x") != "tmpfs":
        missing("a tmpfs at /dev/shm")
    path = f"/dev/shm/stn-{os.getpid()}.safetensors"
    shutil.copy(files() / MODEL, path)
    try:
        assert decisions(load(path, MODE="always")) == ["declined:memory-backed"]
    finally:
        os.unlink(path)


@pytest.mark.parametrize(
    "io, direct, buffered", [("auto", 1, 0), ("direct", 1, 0), ("buffered", 0, 1)]
)
def test_io(io, direct, buffered):
    """How the file is read, as the server and the statistics have it."""
    with mounted(keep_cache=True) as server:
        path = server.mountpoint / BIG
        with cache.Watch(path) as watch:
            result = load(path, IO=io, FILL="eager")
            assert watch.resident() == 0
        stats = server.stats()
    assert decisions(result) == ["engaged"]
    fill = [line for line in result.stats if line["event"] == "fill"][-1]
    assert bool(fill["direct_bytes"]) == bool(direct)
    assert bool(fill["buffered_bytes"]) == bool(buffered)
    assert (stats["direct_bytes"] >= BIG_SIZE) == bool(direct)
    assert (stats["buffered_bytes"] >= BIG_SIZE) == bool(buffered)


@pytest.fixture
def refusing(tmp_path):
    """A directory with a copy of a model on a file system that refuses O_DIRECT."""
    need.root()
    lower, empty, merged = (tmp_path / name for name in ("lower", "empty", "merged"))
    for directory in (lower, empty, merged):
        directory.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", lower], check=True)
    try:
        shutil.copy(files() / BIG, lower)
        overlay = ["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower}:{empty}", merged]
        subprocess.run(overlay, check=True)
        try:
            yield merged
        finally:
            subprocess.run(["umount", "-l", merged], check=True)
    finally:
        subprocess.run(["umount", "-l", lower], check=True)


@pytest.mark.parametrize("fill", ["eager", "lazy"])
@pytest.mark.parametrize("io, given", [("auto", True), ("direct", False)])
def test_o_direct_refused(refusing, fill, io, given):
    """Where O_DIRECT is refused the file is read through the page cache, but not with `direct`. A
    lazy fill, which reads past it only, becomes an eager one."""
    path = refusing / BIG
    result = load(path, IO=io, MODE="always", FILL=fill)
    assert result.stdout == load(path, MODE="off").stdout
    assert bool(engaged(result, BIG)) == given, result.log
    if given:
        line = [line for line in result.stats if line["event"] == "fill"][-1]
        assert line["direct_bytes"] == 0 and line["buffered_bytes"] >= BIG_SIZE


def half_cached(server, env):
    """Loads a file of which the first 16 MiB are in the page cache; returns how much is there
    before and after, and the result."""
    path = server.mountpoint / BIG
    with cache.Watch(path) as watch:
        watch.evict()
        with open(path, "rb") as file:
            file.read(16 * MIB)
            os.posix_fadvise(file.fileno(), 24 * MIB, 0, os.POSIX_FADV_DONTNEED)
        before = watch.resident()
        result = load(path, **env)
        return before, watch.resident(), result


@pytest.mark.parametrize("io", ["direct", "buffered"])
@pytest.mark.parametrize("setting", ["auto", "restore", "drop", "keep"])
def test_page_cache_afterwards(io, setting):
    """As found, or dropped, or kept. auto is restore where memory is not unified."""
    with mounted(keep_cache=True) as server:
        env = {"IO": io, "CACHE": setting, "UMA": "no"}
        before, after, result = half_cached(server, env)
    assert engaged(result, BIG)
    assert 16 * MIB <= before < 32 * MIB
    if setting == "drop":
        assert after == 0
    elif setting == "keep" and io == "buffered":
        assert after >= BIG_SIZE
    else:
        assert abs(after - before) <= MIB


def test_page_cache_on_unified_memory():
    """auto is drop there, since cached pages count as used."""
    with mounted(keep_cache=True) as server:
        _, after, result = half_cached(server, {"UMA": "yes"})
    assert engaged(result, BIG) and after == 0


@pytest.mark.parametrize("setting", ["restore", "drop"])
def test_page_cache_on_disk(setting):
    """On a disk: a file that was cached stays so, or is dropped; one that was not is not."""
    path = files() / BIG
    cache.evict(path)
    assert cache.resident(path) == 0
    assert engaged(load(path, MODE="always", FILL="eager", CACHE=setting, UMA="no"), BIG)
    assert cache.resident(path) == 0
    path.read_bytes()
    assert engaged(load(path, MODE="always", FILL="eager", CACHE=setting, UMA="no"), BIG)
    assert cache.resident(path) == (0 if setting == "drop" else -(-BIG_SIZE // 4096) * 4096)


@pytest.mark.parametrize("io", ["direct", "buffered"])
@pytest.mark.parametrize("cached", [False, True])
def test_page_cache_of_somebody_elses_file(io, cached, public):
    """The same where the reader is not the owner, who is the only one to be told by mincore."""
    need.user("nobody")
    path = public / BIG
    shutil.copy(files() / BIG, path)
    path.chmod(0o644)
    shutil.copy(need.program("load"), public)
    shutil.copy(paths.library(), public)
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    cache.evict(path)
    if cached:
        path.read_bytes()
    before = cache.resident(path)
    env = {"STSHIM_MODE": "always", "STSHIM_IO": io, "STSHIM_UMA": "no"}
    env["LD_PRELOAD"] = public / paths.library().name
    result = ended(run([public / "load", path], env=env, user="nobody"))
    assert engaged(result, BIG), result.log
    assert cache.resident(path) == before


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_threads(threads):
    """So many reads at once, with blocks that are one request each, and so many threads; another
    one is taken for a moment by the look at what was used, when the file is unmapped."""
    with mounted(delay_ms=25, max_background=64) as server:
        path = server.mountpoint / BIG
        result = load(path, THREADS=threads, BLOCK="1M", FILL="eager")
        server.reset()
        # Silent, since a line of the log or the statistics may take a thread for a moment.
        silent = {"STSHIM_STATS": None, "STSHIM_LOG": None, "STSHIM_LOG_FILE": None}
        eager = {"STSHIM_FILL": "eager", "STSHIM_BLOCK": "1M"}
        env = {"STSHIM_THREADS": threads, **eager, **silent}
        counted = ended(run([need.program("load"), "-t", path], env=env))
        stats = server.stats()
    assert stats["max_inflight"] == threads, stats
    most = int(re.search(r"threads at most: (\d+)", counted.stdout)[1])
    # The program has two of its own.
    assert threads + 1 <= most <= threads + 3
    assert max(line["threads"] for line in result.stats) == threads


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_threads_of_lazy_fill(threads):
    """So many reads at once, each at most eight requests to the server, and one thread more for the
    faults; another one is taken for a moment by the first look at the mapping."""
    with mounted(delay_ms=25, max_background=64) as server:
        path = server.mountpoint / BIG
        result = load(path, THREADS=threads)
        server.reset()
        silent = {"STSHIM_STATS": None, "STSHIM_LOG": None, "STSHIM_LOG_FILE": None}
        env = {"STSHIM_THREADS": threads, **silent}
        counted = ended(run([need.program("load"), "-t", path], env=env))
        stats = server.stats()
    assert threads <= stats["max_inflight"] <= 8 * threads, stats
    most = int(re.search(r"threads at most: (\d+)", counted.stdout)[1])
    assert threads + 2 <= most <= threads + 4
    assert max(line["threads"] for line in result.stats) <= threads


@pytest.mark.parametrize("block", ["64K", "256K", "1M"])
def test_block(block):
    """No read is larger than a block."""
    with mounted() as server:
        result = load(server.mountpoint / MODEL, BLOCK=block, FILL="eager")
        largest = server.stats()["largest_read"]
    assert engaged(result, MODEL)
    assert largest == {"64K": 65536, "256K": 262144, "1M": MIB}[block]


def test_huge_pages():
    """In huge pages where the kernel has them, and not if they are off."""
    enabled = open("/sys/kernel/mm/transparent_hugepage/enabled").read()
    with mounted() as server:
        auto = load(server.mountpoint / BIG, "-m", FILL="eager")
        off = load(server.mountpoint / BIG, "-m", HUGEPAGES="off", FILL="eager")
    assert "huge: 0 kB" in off.stdout
    if "[never]" not in enabled:
        huge = int(re.search(r"huge: (\d+) kB", auto.stdout)[1])
        assert huge >= 40 * 1024
        assert max(line["huge_pages"] for line in auto.stats) == huge << 10


def test_mlock_try():
    """Locked where the limit allows, and no harm done where it does not."""
    need.root()
    with mounted() as server:
        path = server.mountpoint / BIG
        locked = load(path, "-m", MLOCK="try")
        command = ["setpriv", "--inh-caps=-ipc_lock", "--bounding-set=-ipc_lock"]
        command += ["prlimit", "--memlock=65536", *argv("load", path, "-m")]
        refused = ended(run(command, env={"STSHIM_MLOCK": "try"}))
    assert int(re.search(r"locked: (\d+) kB", locked.stdout)[1]) << 10 >= BIG_SIZE
    assert engaged(refused, BIG) and "locked: 0 kB" in refused.stdout


def test_mlock_require():
    """A map that cannot be locked is refused."""
    need.root()
    with mounted() as server:
        path = server.mountpoint / BIG
        locked = load(path, "-m", MLOCK="require")
        command = ["setpriv", "--inh-caps=-ipc_lock", "--bounding-set=-ipc_lock"]
        command += ["prlimit", "--memlock=65536", *argv("load", path, "-m")]
        refused = ended(run(command, env={"STSHIM_MLOCK": "require"}))
    assert int(re.search(r"locked: (\d+) kB", locked.stdout)[1]) << 10 >= BIG_SIZE
    assert re.match(r"mmap: -1 E(AGAIN|NOMEM|PERM)$", refused.stdout.strip()), refused.stdout


def test_timeout_units(tmp_path):
    """The limit can be given in milliseconds."""
    log = tmp_path / "log"
    with mounted(fault=f"hang:{BIG}:0:4096") as server:
        path = server.mountpoint / BIG
        env = {"STSHIM_TIMEOUT": "700ms", "STSHIM_LOG_FILE": log}
        with released(server, log, "abandoned"):
            result = ended(run(argv("load", path, None), env=env, timeout=20))
    assert decisions(result, BIG)[-1] == "abandoned:timeout"
    assert 0.7 <= result.seconds < 5


def test_no_procfs():
    """Without /proc the kernel's mapping stays."""
    need.root()
    with mounted() as server:
        command = argv("load", server.mountpoint / MODEL, None)
        bare = ended(run(command, preload=False))
        script = 'mount -t tmpfs none /proc && exec "$@"'
        preloaded = ended(run(["unshare", "-m", "sh", "-c", script, "sh", *command]))
    assert preloaded.stdout == bare.stdout
    assert decisions(preloaded) == ["declined:no-procfs"], preloaded.log


def test_threads_refused():
    """Where no thread can be had, the kernel's mapping stays."""
    need.root()
    pids = _pids_cgroup()
    try:
        with mounted() as server:
            command = argv("load", server.mountpoint / MODEL, None)
            bare = ended(run(command, preload=False))
            script = f'echo $$ > {pids}/cgroup.procs && exec "$@"'
            preloaded = ended(run(["sh", "-c", script, "sh", *command], timeout=20))
        assert preloaded.stdout == bare.stdout
    finally:
        pids.rmdir()


def _pids_cgroup():
    """A cgroup for one task."""
    for parent in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
        group = Path(parent) / f"stn-{os.getpid()}"
        try:
            group.mkdir()
            (group / "pids.max").write_text("1")
            return group
        except OSError:
            if group.exists():
                group.rmdir()
    return missing("a pids cgroup")


def test_library_is_where_the_build_says():
    """A wrong STN_BUILD would make every comparison one of bare with bare."""
    assert paths.library().stat().st_size > 10000
