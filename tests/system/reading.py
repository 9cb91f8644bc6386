# SPDX-License-Identifier: Apache-2.0
"""What the tests of read() share: files, and how to tell that the library has served a read."""

import contextlib
import random
import shutil
from pathlib import Path

import numpy
from compare import MIB, ended, same
from support import models, need
from support.cache import evict
from support.fuse import FuseServer
from support.run import run

MODEL = "model.safetensors"
TWIN = "twin.bin"
OTHER = "other.bin"
WORDS = "words.safetensors"
SIZE = 24 * MIB + 777
WORD_COUNT = 3 * MIB + 100


def _write(directory):
    """A model, its twin under a name that is none, a third file, and a file of words of 8 bytes
    each of which is the number of its place."""
    directory.mkdir()
    (directory / MODEL).write_bytes(random.Random(3).randbytes(SIZE))
    shutil.copy(directory / MODEL, directory / TWIN)
    (directory / OTHER).write_bytes(random.Random(4).randbytes(300000))
    numpy.arange(WORD_COUNT, dtype="<u8").tofile(directory / WORDS)


def files():
    """The directory of the files."""
    return models.cached("reads", (SIZE, WORD_COUNT), _write)


def mounted(**options):
    """The files on a FUSE mount."""
    need.fuse()
    need.library()
    return FuseServer(options.pop("source", None) or files(), **options)


@contextlib.contextmanager
def place(kind, tmp_path, **options):
    """The files on a mount, or copied to a disk, where all sizes of requests are engaged."""
    if kind == "fuse":
        with mounted(**options) as server:
            yield server.mountpoint, {}, server
        return
    need.library()
    directory = tmp_path / "files"
    shutil.copytree(files(), directory)
    yield directory, {"STSHIM_MODE": "always", "STSHIM_READ_MIN": "64K"}, None


def lines(result, name):
    """The stats lines about reads of a file."""
    return [line for line in result.stats
            if line["event"] == "read" and Path(line["path"]).name == name]


def served(result, name):
    """The bytes of a file that the library has read for read(), by its own account."""
    return sum(line["bytes"] for line in lines(result, name) if line["decision"] == "engaged")


def buffered(server, name):
    """The requests for a file that came through the page cache."""
    return server.stats()["files"].get(name, {"buffered_requests": 0})["buffered_requests"]


def forget(server, path):
    """Before a run: the server's counters at zero; a file on disk out of the page cache, from which
    the kernel would serve it."""
    if server:
        server.reset()
    else:
        evict(path)


def both(argv, server, path, env=None, timeout=30, **options):
    """Runs a program bare and preloaded; they must show the same, and the library's run must not
    have read the file at path on the mount through the page cache. Returns both results."""
    bare = run(argv, preload=False, timeout=timeout, **options)
    forget(server, path)
    preloaded = ended(run(argv, env=env, timeout=timeout, **options))
    same(bare, preloaded)
    if server:
        assert buffered(server, path.name) == 0, (server.stats(), preloaded.log)
        assert server.stats()["direct_bytes"] > 0
    return bare, preloaded
