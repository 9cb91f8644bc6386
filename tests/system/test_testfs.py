# SPDX-License-Identifier: Apache-2.0
"""The FUSE server of the tests, and the harness around it: what the other tests rely on."""

import concurrent.futures
import contextlib
import errno
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from support import cache, cgroup, fuse, models, need, paths
from support.fuse import FuseServer, wait_for
from support.run import run

MIB = 1 << 20
SIZE = 8 * MIB + 1234

pytestmark = pytest.mark.limit(60)


@pytest.fixture(autouse=True)
def fuse_needed():
    """All tests here mount."""
    need.fuse()


@pytest.fixture(scope="module")
def contents():
    """The bytes of the test file."""
    return models.random_file("testfs.bin", SIZE).read_bytes()


@pytest.fixture
def source(contents):
    """A tree with the test file, another one in a directory and a link to it, as in a Hugging Face
    cache. Other users can reach it, which they cannot in pytest's own directories."""
    with tempfile.TemporaryDirectory(prefix="stn-source-") as name:
        tree = Path(name)
        tree.chmod(0o755)
        (tree / "blobs" / "deep").mkdir(parents=True)
        (tree / "snapshots").mkdir()
        (tree / "a.bin").write_bytes(contents)
        (tree / "blobs" / "deep" / "b").write_bytes(contents[: 3 * MIB])
        (tree / "snapshots" / "b.bin").symlink_to("../blobs/deep/b")
        (tree / "empty").touch()
        yield tree


@contextlib.contextmanager
def opened(path, flags=os.O_RDONLY):
    """A file descriptor."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def direct(path, size=SIZE, offset=0):
    """Bytes of a file by one direct read into page-aligned memory, which the kernel splits into
    the fewest requests."""
    with opened(path, os.O_RDONLY | os.O_DIRECT) as fd, mmap.mmap(-1, size) as buffer:
        return buffer[: os.preadv(fd, [buffer], offset)]


def start(argv):
    """A child in the background that does not hold our standard streams."""
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip


def dd(path, *arguments):
    """The command that reads a file."""
    return ["dd", f"if={path}", "of=/dev/null", "bs=1M", *arguments]


# What is served.


def test_bytes_are_right_however_they_are_read(source, contents):
    """read, direct read and mmap give the bytes of the source."""
    with FuseServer(source) as server:
        path = server.mountpoint / "a.bin"
        assert path.read_bytes() == contents
        assert direct(path) == contents
        assert direct(path, 100, 4097) == contents[4097:4197]
        assert direct(path, 100, SIZE) == b""
        with opened(path) as fd, mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == contents
        assert (server.mountpoint / "empty").read_bytes() == b""


def test_tree_links_and_attributes_are_those_of_the_source(source, contents):
    """Directories, symbolic links, inode numbers, sizes and times are passed through."""
    with FuseServer(source) as server:
        mounted = server.mountpoint
        assert sorted(os.listdir(mounted)) == ["a.bin", "blobs", "empty", "snapshots"]
        assert os.readlink(mounted / "snapshots" / "b.bin") == "../blobs/deep/b"
        assert (mounted / "snapshots" / "b.bin").read_bytes() == contents[: 3 * MIB]
        for name in ("a.bin", "blobs/deep/b", "blobs", "empty"):
            ours, theirs = os.stat(mounted / name), os.stat(source / name)
            for field in ("st_ino", "st_size", "st_mtime_ns", "st_mode", "st_uid"):
                assert getattr(ours, field) == getattr(theirs, field), (name, field)
        with pytest.raises(FileNotFoundError):
            os.stat(mounted / "nothing")


def test_large_directory_is_listed_whole(tmp_path):
    """A directory that takes several READDIR requests has all its entries, once each."""
    names = [f"file-{i:04}-{'x' * 60}" for i in range(1000)]
    for name in names:
        (tmp_path / name).touch()
    with FuseServer(tmp_path) as server:
        assert sorted(os.listdir(server.mountpoint)) == names


def test_file_that_grows_or_is_replaced_is_read_as_it_is(source):
    """The server's own mapping of a file does not freeze it."""
    with FuseServer(source, attr_timeout=0, entry_timeout=0) as server:
        path = server.mountpoint / "a.bin"
        assert len(direct(path)) == SIZE
        with open(source / "a.bin", "ab") as file:
            file.write(b"more" * 5000)
        assert direct(path, 20000, SIZE) == b"more" * 5000
        (source / "new").write_bytes(b"new contents")
        os.rename(source / "new", source / "a.bin")
        assert path.read_bytes() == b"new contents"
        os.truncate(source / "a.bin", 3)
        assert path.read_bytes() == b"new"


def test_mount_is_read_only_and_named_as_asked(source):
    """The mount table shows the names given; writing is refused."""
    with FuseServer(source, fsname="bucket", subtype="hf-mount") as server:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        mine = [line for line in lines if f" {server.mountpoint} " in line]
        assert len(mine) == 1 and " - fuse.hf-mount bucket ro" in mine[0]
        with pytest.raises(OSError) as caught:
            os.open(server.mountpoint / "a.bin", os.O_RDWR)
        assert caught.value.errno == errno.EROFS


# Counters.


def test_counters_count(source):
    """Each counter has the number of what was done, by how the file was opened."""
    with FuseServer(source) as server:
        path = server.mountpoint / "a.bin"
        direct(path, 4 * MIB)
        direct(path, 2 * MIB, 3 * MIB)
        (server.mountpoint / "snapshots" / "b.bin").read_bytes()
        wait_for(lambda: server.stats()["releases"] == 3)
        stats = server.stats()
        assert stats["direct_bytes"] == 6 * MIB and stats["direct_reads"] == 6
        assert stats["buffered_bytes"] == 3 * MIB and stats["buffered_reads"] >= 3
        assert stats["bytes"] == 9 * MIB
        assert stats["requests"] == stats["direct_reads"] + stats["buffered_reads"]
        assert stats["opens"] == 3 and stats["direct_opens"] == 2
        assert stats["inflight"] == 0 and stats["max_inflight"] >= 1
        assert stats["largest_read"] == MIB and stats["large_reads"] >= 6
        assert stats["meta_requests"] >= 3 * 2
        assert stats["files"]["a.bin"] == {
            "bytes": 6 * MIB, "requests": 6, "buffered_requests": 0, "opens": 2, "distinct_bytes": 5 * MIB,
        }  # fmt: skip
        assert stats["files"]["blobs/deep/b"]["distinct_bytes"] == 3 * MIB


def test_distinct_bytes_are_the_union_of_the_ranges(source):
    """Overlapping, adjacent and enclosing ranges in any order are counted once."""
    with FuseServer(source) as server:
        with opened(server.mountpoint / "a.bin", os.O_RDONLY | os.O_DIRECT) as fd:
            for offset, size in [(5000, 100), (1000, 50), (5100, 10), (4990, 20), (1, 10), (3, 2)]:
                os.pread(fd, size, offset)
            assert server.stats()["files"]["a.bin"]["distinct_bytes"] == 120 + 50 + 10
            os.pread(fd, 8000, 0)
        assert server.stats()["files"]["a.bin"]["distinct_bytes"] == 8000


def test_reset_zeroes_the_counters(source):
    """After a reset only what comes later is counted, also on a handle opened before."""
    with FuseServer(source) as server:
        with opened(server.mountpoint / "a.bin", os.O_RDONLY | os.O_DIRECT) as fd:
            os.pread(fd, MIB, 0)
            server.reset()
            stats = server.stats()
            assert stats["bytes"] == stats["requests"] == stats["opens"] == 0
            assert stats["files"] == {}
            os.pread(fd, 1000, 0)
        stats = server.stats()
        assert stats["direct_bytes"] == 1000 and stats["direct_reads"] == 1
        assert stats["files"]["a.bin"]["distinct_bytes"] == 1000


# Time.


def test_delay_delays_and_waiting_reads_do_not_block_others(source):
    """Reads one after the other take the sum of their delays, reads at once take one delay."""
    with FuseServer(source, delay_ms=50, max_background=64) as server:
        path = server.mountpoint / "a.bin"
        with opened(path, os.O_RDONLY | os.O_DIRECT) as fd:
            began = time.monotonic()
            for i in range(6):
                os.pread(fd, 1000, i * MIB)
            assert time.monotonic() - began >= 0.3
            server.reset()
            began = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(24) as pool:
                list(pool.map(lambda i: os.pread(fd, 1000, i * 1000), range(24)))
            assert time.monotonic() - began < 24 * 0.05 / 2
            assert server.stats()["max_inflight"] > 16
            server.set_delay(0)
            began = time.monotonic()
            for i in range(6):
                os.pread(fd, 1000, i * MIB)
            assert time.monotonic() - began < 0.3


def test_threads_limit_what_is_served_at_once(source):
    """With two threads no more than two requests wait."""
    with FuseServer(source, delay_ms=20, threads=2) as server:
        began = time.monotonic()
        direct(server.mountpoint / "a.bin", 8 * MIB)
        assert time.monotonic() - began >= 4 * 0.02
        assert server.stats()["max_inflight"] == 2


def test_meta_delay_delays_what_is_not_a_read(source):
    """A cold stat waits for its LOOKUP."""
    with FuseServer(source, meta_delay_ms=100) as server:
        began = time.monotonic()
        os.stat(server.mountpoint / "a.bin")
        assert time.monotonic() - began >= 0.1


def test_bandwidth_is_shared_by_all_reads(source):
    """8 MiB at 32 MiB/s take a quarter of a second, in parallel too."""
    with FuseServer(source, bandwidth=32 * MIB) as server:
        began = time.monotonic()
        direct(server.mountpoint / "a.bin", 8 * MIB)
        assert 0.24 <= time.monotonic() - began < 2


def test_file_of_whole_pages_is_repeated(tmp_path):
    """The same bytes end to end, also in a read across the end of one copy; other files once."""
    pages = bytes(range(256)) * 16 * 300
    (tmp_path / "pages").write_bytes(pages)
    (tmp_path / "odd").write_bytes(b"odd")
    with FuseServer(tmp_path, repeat=3) as server:
        assert (server.mountpoint / "pages").stat().st_size == 3 * len(pages)
        assert (server.mountpoint / "pages").read_bytes() == 3 * pages
        assert (server.mountpoint / "odd").read_bytes() == b"odd"


def test_background_requests_are_limited_as_asked(source):
    """The kernel splits one large direct read into 1 MiB requests, 12 at once unless told."""
    with open(source / "a.bin", "ab") as file:
        file.truncate(32 * MIB)
    most = {}
    for background in (None, 32):
        with FuseServer(source, delay_ms=100, max_background=background) as server:
            direct(server.mountpoint / "a.bin", 32 * MIB)
            most[background] = server.stats()["max_inflight"]
    assert most[None] <= 12 < most[32]


def test_readahead_and_attribute_cache_are_as_asked(source):
    """A small read-ahead limits buffered requests; attributes are asked for again at time-out 0."""
    with FuseServer(source, max_readahead=16384, attr_timeout=0) as server:
        path = server.mountpoint / "a.bin"
        with opened(path) as fd, mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
            assert sum(mapped[i] for i in range(0, SIZE, 4096)) > 0
        assert server.stats()["largest_read"] <= 16384
        server.reset()
        for _ in range(5):
            os.stat(path)
        assert server.stats()["meta_requests"] >= 5
    with FuseServer(source) as server:
        path = server.mountpoint / "a.bin"
        os.stat(path)
        server.reset()
        for _ in range(5):
            os.stat(path)
        assert server.stats()["meta_requests"] == 0


# Page cache.


def test_page_cache_is_kept_only_if_asked(source):
    """An open drops the cached pages of a file unless the server says to keep them."""
    for keep in (False, True):
        with FuseServer(source, keep_cache=keep) as server:
            path = server.mountpoint / "a.bin"
            path.read_bytes()
            assert (cache.resident(path) >= SIZE) is keep


def test_watch_sees_what_a_program_leaves_in_the_cache(source):
    """A watch opened before finds the pages of a buffered reader, and none of a direct one."""
    with FuseServer(source) as server:
        path = server.mountpoint / "a.bin"
        with cache.Watch(path) as watch:
            assert run(dd(path, "iflag=direct"), preload=False).returncode == 0
            assert watch.resident() == 0
            assert run(dd(path), preload=False).returncode == 0
            assert watch.resident() >= SIZE
            watch.evict()
            assert watch.resident() == 0


def test_direct_io_bypasses_the_page_cache(source, contents):
    """With FOPEN_DIRECT_IO an ordinary read leaves no pages."""
    with FuseServer(source, direct_io=True) as server:
        path = server.mountpoint / "a.bin"
        with opened(path) as fd:
            assert os.pread(fd, SIZE, 0) == contents
            assert cache.resident(path) == 0
        assert server.stats()["buffered_bytes"] == SIZE


def test_dropping_caches_makes_the_mount_cold(source, contents):
    """After a drop the bytes come from the server again."""
    need.root()
    with FuseServer(source, keep_cache=True) as server:
        path = server.mountpoint / "a.bin"
        path.read_bytes()
        cache.drop()
        assert cache.resident(path) == 0
        server.reset()
        assert path.read_bytes() == contents
        assert server.stats()["bytes"] == SIZE


# Faults.


def error_of(function, *arguments):
    """The errno that a call fails with, 0 if it does not."""
    try:
        function(*arguments)
    except OSError as error:
        return error.errno
    return 0


def test_eio_fails_the_reads_of_a_range_of_matching_files(source, contents):
    """Only what overlaps the range fails, direct or buffered, and only until nofaults."""
    with FuseServer(source, fault=f"eio:a.*:{2 * MIB}:100") as server:
        path = server.mountpoint / "a.bin"
        assert direct(path, 2 * MIB) == contents[: 2 * MIB]
        assert direct(path, MIB, 2 * MIB + 100) == contents[2 * MIB + 100 : 3 * MIB + 100]
        assert error_of(direct, path, 1, 2 * MIB + 99) == errno.EIO
        assert error_of(direct, path, 2, 2 * MIB - 1) == errno.EIO
        assert error_of(path.read_bytes) == errno.EIO
        assert len((server.mountpoint / "blobs" / "deep" / "b").read_bytes()) == 3 * MIB
        server.no_faults()
        assert path.read_bytes() == contents


def test_glob_matches_the_whole_path_or_the_last_part(source):
    """Faults are found by the path below the mount and by the name of the file."""
    with FuseServer(source) as server:
        path = server.mountpoint / "blobs" / "deep" / "b"
        for glob, expected in [("b", errno.EIO), ("blobs/*", errno.EIO), ("deep/b", 0)]:
            server.fault(f"eio:{glob}:0:10")
            assert error_of(direct, path, 100) == expected, glob
            server.no_faults()


def test_short_file_ends_early_but_claims_its_size(source, contents):
    """GETATTR says the whole size, READs end before it."""
    with FuseServer(source, fault=f"short:a.bin:{MIB + 10}") as server:
        path = server.mountpoint / "a.bin"
        assert os.stat(path).st_size == SIZE
        assert direct(path, MIB) == contents[:MIB]
        assert direct(path, MIB, MIB) == contents[MIB : MIB + 10]
        assert direct(path, MIB, 4 * MIB) == b""


def test_hang_holds_reads_until_release(source):
    """A read of the range is not answered, others are; release lets it finish."""
    with FuseServer(source, fault=f"hang:a.bin:{4 * MIB}:1") as server:
        path = server.mountpoint / "a.bin"
        assert len(direct(path, 4 * MIB)) == 4 * MIB
        child = start(dd(path, "iflag=direct"))
        wait_for(lambda: server.stats()["inflight"] == 1)
        assert len((server.mountpoint / "snapshots" / "b.bin").read_bytes()) == 3 * MIB
        assert child.poll() is None
        assert server.release() == 1
        assert child.wait(10) == 0
        assert server.stats()["inflight"] == 0
        assert len(direct(path)) == SIZE


def test_many_hung_reads_do_not_use_up_the_threads(source):
    """More hung reads than threads leave the server able to serve."""
    with FuseServer(source, threads=2, fault="hang:a.bin:0:100000000") as server:
        path = server.mountpoint / "a.bin"
        children = [start(dd(path, "iflag=direct", "count=1", f"skip={i}")) for i in range(5)]
        wait_for(lambda: server.stats()["inflight"] == 5)
        assert len(direct(server.mountpoint / "blobs" / "deep" / "b")) == 3 * MIB
        assert server.release() == 5
        assert [child.wait(10) for child in children] == [0] * 5


def test_die_ends_the_server_at_the_offset(source):
    """Reads before the offset are served; the one that reaches it kills the server."""
    with FuseServer(source, fault=f"die:a.bin:{6 * MIB}") as server:
        path = server.mountpoint / "a.bin"
        assert len(direct(path, 6 * MIB)) == 6 * MIB
        assert server.running()
        assert error_of(direct, path, 10, 6 * MIB) in (errno.ENOTCONN, errno.ECONNABORTED)
        assert server.wait(10) == 9
        assert error_of(direct, path) == errno.ENOTCONN
    assert fuse.connection_of(server.mountpoint) is None


def test_shrink_makes_the_file_shorter_for_everyone(source, contents):
    """The read that reaches the offset finds a shorter file, and so do GETATTR and the kernel."""
    with FuseServer(source, fault=f"shrink:a.bin:{5 * MIB}:{2 * MIB}") as server:
        path = server.mountpoint / "a.bin"
        before = os.stat(path)
        assert direct(path, 5 * MIB) == contents[: 5 * MIB]
        assert os.stat(path).st_size == SIZE
        assert direct(path, 10, 5 * MIB) == b""
        wait_for(lambda: os.stat(path).st_size == 2 * MIB)
        assert os.stat(path).st_mtime_ns > before.st_mtime_ns
        assert path.read_bytes() == contents[: 2 * MIB]


def test_noopen_refuses_direct_opens(source, contents):
    """O_DIRECT gives EINVAL, an ordinary open works."""
    with FuseServer(source, fault=["noopen:*.bin", "eio:nothing:0:1"]) as server:
        path = server.mountpoint / "a.bin"
        assert error_of(os.open, path, os.O_RDONLY | os.O_DIRECT) == errno.EINVAL
        assert path.read_bytes() == contents
        assert len(direct(server.mountpoint / "blobs" / "deep" / "b")) == 3 * MIB


def test_bad_requests_are_refused(source):
    """Unknown commands, faults and options are errors, not ignored."""
    with FuseServer(source) as server:
        for line in ("nonsense", "fault nonsense:a:1", "fault eio:a:1", "delay x", "fault eio"):
            with pytest.raises(ValueError):
                server.command(line)
    for options in ({"fault": "eio:a"}, {"delay_ms": "-1"}, {"threads": "many"}, {"none": True}):
        with pytest.raises(RuntimeError):
            FuseServer(source, **options)
    with pytest.raises(RuntimeError):
        FuseServer(source / "nothing")
    assert fuse.alive() == []


# Hangs, and how they end.


def test_invalidating_server_hangs_page_cache_readers_only(source, contents):
    """The fault that the library is for: direct readers finish, a buffered one does not, until
    its connection is aborted."""
    need.root()
    with FuseServer(source, invalidate=True) as server:
        path = server.mountpoint / "a.bin"
        assert direct(path) == contents
        result = run(dd(path), preload=False, timeout=2)
        assert result.timed_out and result.returncode is not None


def test_time_out_of_run_ends_a_hung_direct_read(source):
    """A direct read that waits for the server cannot be killed: run aborts the connection."""
    with FuseServer(source, fault="hang:*:0:1") as server:
        result = run(dd(server.mountpoint / "a.bin", "iflag=direct"), preload=False, timeout=1)
        assert result.timed_out and result.signal == signal.SIGKILL
        assert error_of(os.stat, server.mountpoint / "blobs") == errno.ENOTCONN


def test_abort_fails_a_hung_read(source):
    """The reader gets an error, not a signal."""
    with FuseServer(source, fault="hang:*:0:1") as server:
        child = start(dd(server.mountpoint / "a.bin", "iflag=direct"))
        wait_for(lambda: server.stats()["inflight"] == 1)
        server.abort()
        assert child.wait(10) == 1
        assert server.wait(10) == 0


def test_stop_is_quick_with_reads_hung(source):
    """Stopping unmounts, ends the readers and takes no 10 s."""
    server = FuseServer(source, fault="hang:*:0:1")
    child = start(dd(server.mountpoint / "a.bin", "iflag=direct"))
    wait_for(lambda: server.stats()["inflight"] == 1)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 10
    assert child.wait(10) == 1
    assert fuse.connection_of(server.mountpoint) is None
    assert not Path(f"/proc/{server.pid}").exists()


def test_sigterm_unmounts_and_succeeds(source):
    """Also while a file is open."""
    with FuseServer(source) as server:
        fd = os.open(server.mountpoint / "a.bin", os.O_RDONLY)
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait(10) == 0
        assert fuse.connection_of(server.mountpoint) is None
        assert error_of(os.close, fd) == errno.ENOTCONN


def test_server_ends_with_whoever_started_it(source, tmp_path):
    """A test run that is killed leaves no mount."""
    script = (
        f"import sys, tempfile, time; sys.path.insert(0, {str(paths.REPOSITORY / 'tests')!r})\n"
        f"tempfile.tempdir = {str(source)!r}\n"
        "from support.fuse import FuseServer\n"
        f"server = FuseServer({str(source)!r}, {str(tmp_path / 'mnt')!r})\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    child = start([sys.executable, "-c", script])
    assert child.stdout.readline() == b"up\n"
    assert fuse.connection_of(tmp_path / "mnt") is not None
    child.kill()
    child.wait()
    wait_for(lambda: fuse.connection_of(tmp_path / "mnt") is None)


# Several servers and users.


def test_two_mounts_at_once(source):
    """Servers are independent: connections, counters, faults."""
    with FuseServer(source) as one, FuseServer(source, fault=f"eio:*:0:{SIZE}") as other:
        assert one.connection_id != other.connection_id
        assert len(direct(one.mountpoint / "a.bin")) == SIZE
        assert error_of(direct, other.mountpoint / "a.bin") == errno.EIO
        assert one.stats()["bytes"] == SIZE and other.stats()["bytes"] == 0
        other.abort()
        assert len(direct(one.mountpoint / "a.bin")) == SIZE


def test_unprivileged_user_can_mount(source, user_with_fuse):
    """fusermount3 does it for a server that is not root."""
    user = user_with_fuse
    with FuseServer(source, user=user) as server:
        result = run(["md5sum", server.mountpoint / "a.bin"], preload=False, user=user)
        expected = run(["md5sum", source / "a.bin"], preload=False)
        assert result.stdout.split()[:1] == expected.stdout.split()[:1] != []
        assert server.stats()["bytes"] == SIZE
    assert fuse.connection_of(server.mountpoint) is None


def test_other_users_are_held_to_the_modes(source):
    """On root's mount an ordinary user reads what the modes allow, and no more."""
    user = need.user()
    (source / "secret").write_text("secret")
    (source / "secret").chmod(0o600)
    with FuseServer(source) as server:
        assert run(["cat", server.mountpoint / "a.bin"], preload=False, user=user).returncode == 0
        result = run(["cat", server.mountpoint / "secret"], preload=False, user=user)
        assert result.returncode == 1 and "Permission denied" in result.stderr


# The rest of the harness.


def test_cgroup_limits_and_measures():
    """A program inside is charged, and killed over the limit."""
    need.cgroup()
    script = [sys.executable, "-S", "-c", f"bytearray({100 * MIB})"]
    with cgroup.Cgroup(400 * MIB) as group:
        assert run(script, preload=False, cgroup=group).returncode == 0
        assert 100 * MIB <= group.peak() < 200 * MIB and group.oom_kills() == 0
        assert group.limit() == 400 * MIB
    assert not group.path.exists()
    with cgroup.Cgroup(50 * MIB) as group:
        assert run(script, preload=False, cgroup=group).signal == signal.SIGKILL
        assert group.oom_kills() >= 1


def test_run_reports_how_a_program_ended(monkeypatch):
    """Status, output, time, and no configuration from outside."""
    monkeypatch.setenv("STSHIM_MODE", "off")
    monkeypatch.setenv("KEPT", "1")
    script = 'echo "[$STSHIM_MODE$LD_PRELOAD]$KEPT$GIVEN"; echo err >&2; sleep 0.2; exit 3'
    result = run(["sh", "-c", script], preload=False, env={"GIVEN": 2})
    assert (result.returncode, result.stdout, result.stderr) == (3, "[]12\n", "err\n")
    assert 0.2 <= result.seconds < 5 and not result.timed_out and result.signal is None
    result = run(["sleep", "30"], preload=False, timeout=0.3)
    assert result.timed_out and result.signal == signal.SIGKILL and result.seconds < 5


def test_models_are_what_they_say(tmp_path):
    """A made file is read by safetensors, has the bytes asked for, and is made once."""
    need.module("safetensors")
    from safetensors.numpy import load_file

    path = models.make_safetensors(tmp_path / "x.safetensors", sizes=[40, 4 * MIB], dtype="F16")
    tensors = load_file(path)
    assert {name: tensor.nbytes for name, tensor in tensors.items()} == {
        "tensor.000": 40, "tensor.001": 4 * MIB,
    }  # fmt: skip
    assert len(set(tensors["tensor.001"][:1000].tolist())) > 100
    assert models.random_file("once.bin", 1000) == models.random_file("once.bin", 1000)
    assert models.random_file("once.bin", 1000, seed=1).read_bytes() != (
        models.random_file("once.bin", 1000).read_bytes()
    )


def test_sharded_llama_has_the_shards_asked_for():
    """The directory loads with transformers and has about the size and exactly the shards."""
    need.module("transformers")
    from transformers import AutoConfig

    directory = models.make_sharded_llama("llama", 24 * MIB, shards=3)
    sizes = [shard.stat().st_size for shard in directory.glob("*.safetensors")]
    assert len(sizes) == 3 and 0.8 < sum(sizes) / (24 * MIB) < 1.2
    assert AutoConfig.from_pretrained(directory).model_type == "llama"
