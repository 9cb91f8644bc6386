# SPDX-License-Identifier: Apache-2.0
"""The page cache of a file, and free memory."""

import contextlib
import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                       ctypes.c_long]  # fmt: skip
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]

# Advice 23 is MADV_POPULATE_WRITE: touches the pages.
_TOUCH = """
import mmap, sys
open("/proc/self/oom_score_adj", "w").write("1000")
for _ in range(int(sys.argv[1]) >> 28):
    block = mmap.mmap(-1, 1 << 28, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.madvise(mmap.MADV_HUGEPAGE)
    block.madvise(23)
    globals().setdefault("blocks", []).append(block)
"""


def _check(result):
    """Raises OSError if a C call has failed."""
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Watch:
    """Watches the page cache of a file through one descriptor that stays open. Needed on FUSE:
    opening a file there drops its cached pages unless the server keeps them, so a look from
    outside, after a program has ended, would find nothing. Make it before the program starts. It
    is itself an open that the server counts. Truthful for files one owns, or root."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = os.fstat(self._fd).st_size

    def resident(self):
        """The bytes of the file in the page cache, in whole pages."""
        if self._size == 0:
            return 0
        address = _check(
            _libc.mmap(None, self._size, mmap.PROT_READ, mmap.MAP_PRIVATE, self._fd, 0)
        )
        try:
            pages = ctypes.create_string_buffer(-(-self._size // mmap.PAGESIZE))
            _check(_libc.mincore(address, self._size, pages))
        finally:
            _libc.munmap(address, self._size)
        return pages.raw.count(b"\x01") * mmap.PAGESIZE

    def evict(self):
        """Drops the file's pages that are clean and not mapped by anyone."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self):
        """Ends the watch."""
        os.close(self._fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def resident(path):
    """The bytes of a file in the page cache. On FUSE use Watch, or the server's --keep-cache."""
    with Watch(path) as watch:
        return watch.resident()


def evict(path):
    """Drops one file from the page cache."""
    with Watch(path) as watch:
        os.fsync(watch._fd)
        watch.evict()


def _lock(path):
    """Maps a file and locks it in memory, as far as the limit on that allows; (address, size)."""
    size = os.path.getsize(path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        address = _check(_libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0))
    finally:
        os.close(fd)
    _libc.mlock(address, size)
    return address, size


@contextlib.contextmanager
def held(paths):
    """Keeps files in memory meanwhile. For what a file server reads: a kernel that drops pages
    which lie idle (DAMON) would have the disk measured now and then instead of the server."""
    maps = [_lock(path) for path in paths if os.path.getsize(path)]
    try:
        yield
    finally:
        for address, size in maps:
            _libc.munmap(address, size)


def drop():
    """Drops all clean pages that nobody maps. Needs root. The FUSE server maps the files it
    serves, so those it has served stay in memory: only the mount's own cache becomes cold."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def _meminfo(wanted):
    """A line of /proc/meminfo in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, value = line.split(":")
        if name == wanted:
            return int(value.split()[0]) << 10
    raise KeyError(wanted)


def available():
    """MemAvailable in bytes."""
    return _meminfo("MemAvailable")


def warm_memory(size=None, timeout=120):
    """Touches memory (90% of what is free if size is not given, so that nothing cached has to go)
    in a child that then ends, so that the host of a virtual machine has given it to us: the first
    touch of memory that the host has taken back is several times slower, and would be measured
    instead of the program."""
    size = int(_meminfo("MemFree") * 0.9) if size is None else size
    subprocess.run([sys.executable, "-c", _TOUCH, str(size)], check=True, timeout=timeout)
