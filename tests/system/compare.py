# SPDX-License-Identifier: Apache-2.0
"""What the tests here share: their files, and one way to compare bare and preloaded runs."""

import contextlib
import difflib
import os
import random
import resource
import subprocess
import threading
from pathlib import Path

import pytest
from support import models, need, paths
from support.fuse import FuseServer
from support.run import run

MIB = 1 << 20
MODEL = "model.safetensors"
MODEL_SIZE = 5 * MIB + 777
BIG = "big.safetensors"
BIG_SIZE = 48 * MIB + 123
PARTS = 16
ODD = {
    "empty.safetensors": b"",
    "one.safetensors": b"\x2a",
    "header.safetensors": (1 << 40).to_bytes(8, "little") + b"{}" * 3000,
    "header-max.safetensors": b"\xff" * 8 + b"x" * 100,
    "text.safetensors": b"this is no model at all\n" * 999,
}


def sizes():
    """Sizes of 32 files: the edges of pages and blocks, and what chance gives."""
    chance = random.Random(7)
    edges = [1, 7, 8, 4095, 4096, 4097, 65536, 65537, 2 * MIB, 2 * MIB - 1, 2 * MIB + 1, 8 * MIB,
             8 * MIB + 1, 3 * 4096]  # fmt: skip
    return edges + [chance.randrange(1, 3 * MIB) for _ in range(32 - len(edges))]


def _write(directory):
    """Writes all files that do not change."""
    directory.mkdir()
    chance = random.Random(1)

    def write(name, contents):
        (directory / name).write_bytes(contents)

    write(MODEL, chance.randbytes(MODEL_SIZE))
    write(BIG, chance.randbytes(BIG_SIZE))
    write("multiple.safetensors", chance.randbytes(2 * MIB))
    for name, contents in ODD.items():
        write(name, contents)
    for number in range(PARTS):
        write(f"part-{number:02}.safetensors", chance.randbytes(MIB + 1000 * number))
    for number, size in enumerate(sizes()):
        write(f"size-{number:02}.safetensors", chance.randbytes(size))
    write("plain.bin", chance.randbytes(300000))


def files():
    """The directory of the files."""
    return models.cached("system", (sizes(), sorted(ODD)), _write)


def big_file(size, seed=0):
    """A directory with one larger file, big.safetensors."""

    def make(directory):
        directory.mkdir()
        models.random_file(directory.absolute() / BIG, size, seed)

    return models.cached("system-big", (size, seed), make)


def program_cases(name):
    """The names of the cases of a C program."""
    try:
        done = subprocess.run([paths.program(name), "--list"], capture_output=True, timeout=10)
    except FileNotFoundError:
        return ["not-built"]
    return done.stdout.decode().split()


def cases(*names, without=()):
    """A parametrization over programs and their cases."""
    found = [(name, case) for name in names for case in program_cases(name)]
    found = [item for item in found if item not in without]
    return pytest.mark.parametrize("program, case", found, ids=["-".join(item) for item in found])


def mounted(**options):
    """The files on a FUSE mount."""
    need.fuse()
    return FuseServer(options.pop("source", None) or files(), **options)


# An environment that engages; by itself a cached file on a disk is left to the kernel.
ON_DISK = {"STSHIM_MODE": "always", "STSHIM_FILL": "eager"}


@contextlib.contextmanager
def place(kind, tmp_path, **options):
    """The files on a FUSE mount or on disk, as a directory and the environment that engages."""
    if kind == "fuse":
        with mounted(**options) as server:
            yield server.mountpoint, {}
    else:
        yield files(), ON_DISK


def argv(program, path, case):
    """The command line of a case; a program by its name or its path."""
    program = program if isinstance(program, Path) else need.program(program)
    return [program, path] + ([case] if case else [])


def engaged(result, path):
    """The stats lines that say that a file was engaged."""
    name = os.path.basename(path)
    return [
        line
        for line in result.stats
        if line["event"] in ("fill", "begin")
        and line["decision"] == "engaged"
        and os.path.basename(line["path"]) == name
    ]


def decisions(result, name=""):
    """The decisions about maps with their reasons, as the log writes them; of a map that was begun
    lazily and given up only the latter."""
    found = []
    for line in result.stats:
        if not line["path"].endswith(name):
            continue
        what = line["decision"] + (":" + line["reason"] if line["reason"] else "")
        if line["event"] in ("map", "fill", "begin"):
            found.append((line["event"], line["path"], what))
        elif line["event"] == "end" and what != "engaged":
            last = len(found) - 1 - found[::-1].index(("begin", line["path"], "engaged"))
            found[last] = ("end", line["path"], what)
    return [what for *_, what in found]


def seen(result):
    """What a program shows to the outside."""
    return result.returncode, result.stdout, result.stderr


def ended(result):
    """Asserts that a program ended by itself, and returns its result."""
    assert not result.timed_out, f"time limit\n{result.stdout}\n{result.stderr}\n{result.log}"
    return result


def difference(bare, preloaded):
    """What differs between two runs, as a diff from bare to preloaded, and the log."""
    lines = difflib.unified_diff(
        [f"status {bare.returncode}"] + (bare.stdout + bare.stderr).splitlines(),
        [f"status {preloaded.returncode}"] + (preloaded.stdout + preloaded.stderr).splitlines(),
        "bare",
        "preloaded",
        lineterm="",
    )
    return "\n".join(["", *lines, preloaded.log])


def same(bare, preloaded):
    """Asserts that a program has shown the same bare and preloaded."""
    ended(bare)
    ended(preloaded)
    assert seen(preloaded) == seen(bare), difference(bare, preloaded)


@contextlib.contextmanager
def released(server, log, words):
    """While the body runs: as soon as the log says these words, lets hung reads go on. Sees to it
    that the log exists."""
    log.touch()
    over = threading.Event()

    def release():
        while not over.wait(0.05):
            if words in log.read_text():
                server.release()
                return

    helper = threading.Thread(target=release)
    helper.start()
    try:
        yield
    finally:
        over.set()
        helper.join()


def missing(what):
    """Skips the test for want of something, or fails it where nothing may be skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")


def core_files():
    """The test needs core dumps to be written to files in the working directory."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if not pattern.startswith("core") or hard != resource.RLIM_INFINITY:
        missing(f"core dumps in files named core, not {pattern}")


def both(program, path, case=None, env=None, cwd=None, engages=True, timeout=20, **options):
    """Runs a case bare and preloaded, asserts that both show the same, and that the library engaged
    the file (or did not; None: whatever). Returns both results."""
    need.library()
    command = argv(program, path, case)
    bare = run(command, preload=False, cwd=cwd, timeout=timeout, **options)
    preloaded = run(command, env=env, cwd=cwd, timeout=timeout, **options)
    same(bare, preloaded)
    assert engages in (None, bool(engaged(preloaded, path))), preloaded.stats
    return bare, preloaded
