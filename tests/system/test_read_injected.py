# SPDX-License-Identifier: Apache-2.0
"""Reads while the library's own system calls fail: the file's bytes from the start on, then nothing
or an error; no crash and no hang. The library is built once more for this, see tests/faults."""

import concurrent.futures
import errno
import re

import pytest
from compare import missing, same
from reading import MODEL, SIZE, files, mounted
from support import need, paths
from support.run import run

LIBRARY = paths.build() / "tests" / "faults" / "libstnommap-faults.so"
AT_ONCE = 3
KINDS = [[], ["-b", "100001"], ["-b", "4096"], ["-k", "fread", "-b", "3000"],
         ["-k", "readv", "-b", "1000000"]]  # fmt: skip
STEPS = {"mmap": errno.ENOMEM, "munmap": errno.ENOMEM, "madvise": errno.ENOMEM,
         "clone": errno.EAGAIN, "statx": errno.EIO, "open": errno.EMFILE, "maps": errno.EACCES,
         "futex": errno.EAGAIN, "pread": errno.EIO,
         "preadv": errno.EIO, "vm-readv": errno.EPERM, "lseek": errno.EBADF}  # fmt: skip


def wrong(server, tmp_path, number, inject, kind):
    """Reads the model with a failure injected. What was wrong, or nothing."""
    dump, log = tmp_path / f"dump-{number}", tmp_path / f"log-{number}"
    env = {"LD_PRELOAD": LIBRARY, "STN_INJECT": inject, "STN_INJECT_LOG": log,
           "STSHIM_TIMEOUT": "2s"}  # fmt: skip
    argv = [need.program("reading"), *kind, "-o", dump, server.mountpoint / MODEL]
    result = run(argv, env=env, preload=False, timeout=20)
    got = dump.read_bytes()
    dump.unlink()
    truth = (files() / MODEL).read_bytes()
    right = (result.returncode == 0 and not result.timed_out and got == truth[: len(got)]
             and (len(got) == SIZE or re.search("-1 E(IO|FAULT)", result.stdout)))  # fmt: skip
    failed = len(log.read_text().split()) if log.exists() else 0
    return failed, "" if right else f"{inject} {kind}: {result.returncode} {result.stdout}"


def read_many(tmp_path, injections):
    """Reads with all of these failures; in at least one run something must have failed."""
    if not LIBRARY.exists():
        missing("the library of tests/faults")
    with mounted() as server, concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [(inject, kind) for inject in injections for kind in KINDS]
        results = list(pool.map(lambda number: wrong(server, tmp_path, number, *runs[number]),
                                range(len(runs))))
    assert [text for _, text in results if text] == []
    return sum(failed for failed, _ in results)


@pytest.mark.parametrize("step", STEPS)
def test_step(step, tmp_path):
    """One step fails: the first time, the third, always from the second on."""
    read_many(tmp_path, [f"{step}:{when}:{STEPS[step]}" for when in ("1:1", "3:1", "2:0")])


def test_on_disk(tmp_path):
    """On a disk the hardware is asked first, with what the process does not have yet."""
    if not LIBRARY.exists():
        missing("the library of tests/faults")
    truth = run([need.program("reading"), files() / MODEL], preload=False)
    for count in range(1, 4):
        env = {"LD_PRELOAD": LIBRARY, "STN_INJECT": f"mmap:{count}:1:{errno.ENOMEM}"}
        same(truth, run([need.program("reading"), files() / MODEL], env=env, preload=False))


def test_chance(tmp_path):
    """Any step fails now and then."""
    assert read_many(tmp_path, [f"any:{n}:{odds}:0" for n in range(4) for odds in (20, 300)]) > 0
