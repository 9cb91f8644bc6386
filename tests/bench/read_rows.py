# SPDX-License-Identifier: Apache-2.0
"""The rows about programs that read instead of mapping."""

import subprocess
import sys
from pathlib import Path

import numpy
from rounds import (GIB, MIB, TENSOR, TESTS, cgroup, files_of, interleave, last_json, median,
                    model_file, model_shards, mounted, python, timed)
from rows import Row, compare, least, loader
from support import models, paths
from support.cache import Watch
from support.run import run

NAMES = {"STSHIM_FILES": "*.safetensors:*.pt:*.npy:*.gguf"}


def checkpoint(size):
    """A checkpoint of torch.save, tensors of 4 MiB; made by a process of its own."""

    def make(new):
        code = ("import sys, torch; n = int(sys.argv[2]); torch.manual_seed(1); "
                "torch.save({f't.{k}': torch.randn(1 << 20) for k in range(n)}, sys.argv[1])")
        subprocess.run([sys.executable, "-c", code, new, str(size // TENSOR)], check=True)

    return models.cached("bench.pt", size, make)


def array(size):
    """An array in a .npy file."""

    def make(new):
        numpy.save(new, numpy.random.default_rng(1).integers(0, 1 << 62, size // 8))

    return models.cached("bench.npy", size, make)


def gguf(size):
    """A GGUF file with a Llama."""
    return models.make_gguf("bench.gguf", size, hidden=2048)


def pair(settings, kind):
    """The variants of a loader whose files are called otherwise than safetensors."""
    return {"stock": lambda path: settings.timed(kind, path, False),
            "library": lambda path: settings.timed(kind, path, True, NAMES)}


def read_pretrained_2ms(settings):
    """transformers from_pretrained(disable_mmap=True), 1 GiB in 5 shards, 2 ms a request."""
    return compare(settings, model_shards(settings.size(GIB)), loader(settings, "pretrained-read"),
                   {"stock": 1 / 4}, 2)


def read_pretrained_20ms(settings):
    """transformers from_pretrained(disable_mmap=True), 256 MiB in 5 shards, 20 ms a request."""
    return compare(settings, model_shards(settings.size(GIB // 4)),
                   loader(settings, "pretrained-read"), {"stock": 1 / 12}, 20)


def read_hf_mount(settings):
    """Unmodified transformers on a mount called hf-mount, 1 GiB in 5 shards, 2 ms a request."""
    return compare(settings, model_shards(settings.size(GIB)), loader(settings, "pretrained"),
                   {"stock": 1 / 4}, 2, fsname="hf-mount")


def read_pread_2ms(settings):
    """safetensors backend="pread", 1 GiB in tensors of 4 MiB, 2 ms a request."""
    return compare(settings, model_file(settings.size(GIB)), loader(settings, "pread"),
                   {"stock": 1 / 4}, 2)


def read_whole_2ms(settings):
    """open().read() of 1 GiB, 2 ms a request."""
    return compare(settings, model_file(settings.size(GIB)), loader(settings, "whole"),
                   {"stock": 1 / 10}, 2)


def read_llama_map(settings):
    """llama.cpp that maps 1 GiB, 2 ms a request."""
    return compare(settings, gguf(settings.size(GIB)), pair(settings, "llama-map"), {"stock": 1}, 2)


def read_llama(settings):
    """llama.cpp that reads 1 GiB, 2 ms a request."""
    return compare(settings, gguf(settings.size(GIB)), pair(settings, "llama-read"),
                   {"stock": 1 / 3}, 2)


def read_torch(settings):
    """torch.load of a zip checkpoint of 1 GiB, read, 2 ms a request."""
    return compare(settings, checkpoint(settings.size(GIB)), pair(settings, "checkpoint"),
                   {"stock": 1}, 2)


def read_torch_map(settings):
    """torch.load(mmap=True) of a zip checkpoint of 1 GiB, 2 ms a request."""
    return compare(settings, checkpoint(settings.size(GIB)), pair(settings, "checkpoint-map"),
                   {"stock": 1}, 2)


def read_numpy_map(settings):
    """np.load(mmap_mode="r") of 1 GiB, 2 ms a request."""
    return compare(settings, array(settings.size(GIB)), pair(settings, "array-map"), {"stock": 1},
                   2)


def rise(kind, path, preload):
    """How far the cgroup's memory rises over a load. The first run brings the interpreter's files
    in, charged to another cgroup."""
    with cgroup() as group:
        if group is None:
            return None
        timed(kind, path, preload)
        return timed(kind, path, preload, extra=("--cgroup", group.path), cgroup=group)["peak"]


def read_memory(settings):
    """Peak memory of loads that read, page cache included; page cache of the files afterwards."""
    found, ok = {}, True
    size = settings.size(GIB)
    for kind, source in (("whole", model_file(size)), ("pread", model_file(size)),
                         ("pretrained-read", model_shards(size))):
        with mounted(source, delay_ms=2, keep_cache=True) as (path, _):
            watches = [Watch(file) for file in files_of(path)]
            peaks = []
            for preload in (False, True):
                for watch in watches:
                    watch.evict()
                peaks.append(rise(kind, path, preload))
            left = sum(watch.resident() for watch in watches)
            for watch in watches:
                watch.close()
        if peaks[0] is None:
            return Row("stock's + 64 MiB, page cache as before", "needs root", None)
        found[kind] = {"stock": peaks[0], "library": peaks[1], "left": left}
        ok = ok and peaks[1] <= peaks[0] + 64 * MIB and left == 0
    text = "; ".join(f"{kind}: stock {one['stock'] / MIB:.0f}, library {one['library'] / MIB:.0f} "
                     f"MiB, left {one['left'] / MIB:.1f}" for kind, one in found.items())
    return Row("stock's + 64 MiB, page cache as before", text, ok, found=found)


def ways(settings):
    """The loads that must end on a server that invalidates: command line by name, and file."""
    size = settings.size(GIB // 4)
    kinds = {"whole": model_file(size), "pread": model_file(size), "torch": model_file(size),
             "checkpoint": checkpoint(size), "checkpoint-map": checkpoint(size),
             "array": array(size), "array-map": array(size), "llama-map": gguf(size),
             "llama-read": gguf(size)}
    commands = {kind: (python("timed_load.py", kind), path) for kind, path in kinds.items()}
    commands["ifstream"] = ([paths.program("ifstream")], model_file(size))
    header = ("import sys, zlib\nfrom safetensors.torch import load_file\n"
              "with open(sys.argv[1], 'rb') as f:\n"
              "    head = f.read(int.from_bytes(f.read(8), 'little'))\n"
              "sum = zlib.crc32(head)\n"
              "for name, tensor in sorted(load_file(sys.argv[1]).items()):\n"
              "    sum = zlib.crc32(tensor.numpy(), sum)\n"
              "print('{\"checksum\": %d}' % sum)")
    commands["header-then-load"] = ([sys.executable, "-c", header], model_file(size))
    return commands


def said(result, what):
    """What a program says about the bytes: its checksum, or all that it prints."""
    if what == "ifstream":
        return result.stdout if result.returncode == 0 and not result.timed_out else None
    return last_json(result, what)["checksum"]


def read_invalidate(settings):
    """A server that invalidates pages in its READ handler: all that reads ends, with the bytes."""
    good, bad, buffered = [], [], 0
    for name, (argv, source) in ways(settings).items():
        truth = said(run([*argv, source], preload=False, timeout=60), name)
        with mounted(source, delay_ms=2, invalidate=True) as (path, server):
            result = run([*argv, path], env=NAMES, timeout=60)
            buffered += server.stats()["buffered_reads"]
        same = not result.timed_out and said(result, name) == truth
        (good if same else bad).append(name)
    return Row("all end with the right bytes", f"right: {' '.join(good)}; not: {bad or 'none'}; "
               f"buffered reads {buffered}", not bad and truth is not None, good=good, bad=bad)


def read_in_a_row(settings):
    """backend="pread", a read of 4 MiB for each tensor: threads, tables and opens."""
    source = model_file(settings.size(GIB))
    trace = paths.build() / "bench" / "trace"
    trace.parent.mkdir(parents=True, exist_ok=True)
    with mounted(source, delay_ms=2) as (path, server):
        argv = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=clone,close_range", "-o",
                trace, "-E", f"LD_PRELOAD={paths.library()}", *python("timed_load.py", "pread")]
        last_json(run([*argv, path], preload=False, timeout=120), "pread")
        counters = server.stats()
    lines = trace.read_text().splitlines()
    # Python's own threads are made by clone3, or end in a different flag.
    threads = sum("clone(" in line and "CLONE_THREAD" in line and "SETTLS" not in line
                  for line in lines)
    tables = sum("close_range(" in line and "UNSHARE" in line for line in lines)
    reads = source.stat().st_size // TENSOR
    return Row("at most 20 threads, 4 tables, 20 opens",
               f"{reads} reads: {threads} threads, {tables} tables, {counters['opens']} opens",
               0 < threads <= 20 and tables <= 4 and counters["opens"] <= 20,
               threads=threads, tables=tables, opens=counters["opens"])


def read_hot_disk(settings):
    """STSHIM_MODE=always, read of 1 GiB that is in the page cache of a local disk, 9 rounds."""
    source = model_file(settings.size(GIB))

    def variant(preload):
        Path(source).read_bytes()
        return settings.timed("whole", source, preload, {"STSHIM_MODE": "always"})

    prepare, settings.prepare = settings.prepare, lambda files: None
    try:
        results = interleave(settings, {"stock": lambda: variant(False),
                                        "library": lambda: variant(True)}, source,
                             rounds=max(9, settings.rounds))
    finally:
        settings.prepare = prepare
    seconds = {name: median(runs) for name, runs in results.items()}
    ratio = seconds["library"] / seconds["stock"]
    return Row("at most 1.05 of stock", ", ".join(
        f"{name} {value:.3f} s (least {least(results[name]):.3f})"
        for name, value in seconds.items()) + f": {ratio:.3f}", ratio <= 1.05, seconds=seconds,
               all={name: [run["seconds"] for run in runs] for name, runs in results.items()})


ROWS = {function.__name__.replace("_", "-"): function for function in (
    read_pretrained_2ms, read_pretrained_20ms, read_hf_mount, read_pread_2ms, read_whole_2ms,
    read_llama_map, read_llama, read_torch, read_torch_map, read_numpy_map, read_memory,
    read_invalidate, read_in_a_row, read_hot_disk)}
