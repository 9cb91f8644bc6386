# SPDX-License-Identifier: Apache-2.0
"""The measured part of tools/demo: one model, one mount, three ways to load it, one table."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rounds import GIB, MIB, SHARDS, TESTS, Failed, cgroup, files_of, timed  # noqa: E402
from support import cache, paths  # noqa: E402
from support.fuse import FuseServer  # noqa: E402

DELAY_MS = 2
ROUNDS = 2
WAYS = (("stock", "pretrained", False),
        ("disable_mmap=True", "pretrained-read", False),
        ("under libstnommap.so", "pretrained", True))
COLUMNS = ("", "seconds", "peak memory", "page cache left", "requests", "delivered", "checksum")


def say(text):
    """One line of progress."""
    print(f"demo: {text}", flush=True)


def make_model(directory):
    """A Llama of random bfloat16 weights in five shards; made by a process of its own."""
    if not directory.exists():
        say(f"making a model of 1 GiB in {SHARDS} shards")
        code = ("import sys; sys.path.insert(0, sys.argv[1]); from support import models; "
                f"models.make_sharded_llama(sys.argv[2], {GIB}, {SHARDS})")
        subprocess.run([sys.executable, "-c", code, TESTS, directory], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def load(server, kind, preload):
    """One load from the cold mount; returns the figures of a line of the table."""
    warm = 3 * GIB if cache.available() > 6 * GIB else None
    with contextlib.ExitStack() as stack:
        watches = [stack.enter_context(cache.Watch(path)) for path in files_of(server.mountpoint)]
        group = stack.enter_context(cgroup())
        for watch in watches:
            watch.evict()
        server.reset()
        inside = {"extra": ("--cgroup", group.path), "cgroup": group} if group else {}
        result = timed(kind, server.mountpoint, preload, {"BENCH_WARM": warm}, **inside)
        result["left"] = sum(watch.resident() for watch in watches)
        result["server"] = server.stats()
    return result


def size(value):
    """Bytes for people."""
    if value is None:
        return "n/a"
    return f"{value / GIB:.2f} GiB" if value >= GIB // 8 else f"{value / MIB:.1f} MiB"


def line(name, result):
    """The cells of one line."""
    return (name, f"{result['seconds']:.2f}", size(result["peak"]), size(result["left"]),
            str(result["server"]["requests"]), size(result["server"]["bytes"]),
            result["checksum"])


def print_table(rows):
    """Columns as wide as their widest cell; the first to the left, figures to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())


def main():
    """Loads the model in all ways and prints the table; status 1 where bytes differ."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = paths.build() / "demo"
    make_model(directory / "model")
    mountpoint = directory / "mnt"
    with FuseServer(directory / "model", mountpoint, delay_ms=DELAY_MS) as server:
        say(f"mounted on {mountpoint}, {DELAY_MS} ms a request")
        results = {name: [] for name, _, _ in WAYS}
        for number in range(1, ROUNDS + 1):
            for name, kind, preload in WAYS:
                say(f"round {number} of {ROUNDS}: {name}")
                results[name].append(load(server, kind, preload))
    checksums = {result["checksum"] for runs in results.values() for result in runs}
    results = {name: min(runs, key=lambda run: run["seconds"]) for name, runs in results.items()}
    with contextlib.suppress(OSError):
        mountpoint.rmdir()
    print(f"\ntransformers from_pretrained, {size(results['stock']['bytes'])} in bfloat16, "
          f"{SHARDS} shards, FUSE with {DELAY_MS} ms a request, cold; better of {ROUNDS} rounds\n")
    print_table([COLUMNS] + [line(name, result) for name, result in results.items()])
    if os.geteuid() != 0:
        print("\npeak memory is measured through a cgroup, which takes root")
    same = len(checksums) == 1
    ratio = results["stock"]["seconds"] / results["under libstnommap.so"]["seconds"]
    print(f"\n{ratio:.1f} times as fast as stock; checksums are "
          f"{'the same' if same else 'DIFFERENT'}")
    return 0 if same else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"demo: {error}")
