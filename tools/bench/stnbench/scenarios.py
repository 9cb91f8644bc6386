# SPDX-License-Identifier: Apache-2.0
"""What is measured: files, where they are, and who loads them."""

from dataclasses import dataclass
from functools import partial

from stnbench import mounts
from stnbench.contestants import FIO
from stnbench.data import GIB, MIB, Data

# Fixed for every mount of our server; the limits are those that a kernel chooses by itself. Without
# keep_cache what a loader has brought into the page cache is dropped when the file is opened again:
# prefetching would be for nothing.
SERVER = {"threads": 32, "max_background": 12, "max_readahead": 128 << 10, "keep_cache": True}


def fuse(**options):
    """Our FUSE server with options over the fixed ones."""
    return partial(mounts.testfs, **{**SERVER, **options})


@dataclass(frozen=True)
class Scenario:
    """quick and few are data and contestants of --quick, slow those of few that run fewer rounds
    there; without few it takes no part in that. delay: milliseconds a request, for the estimate.
    consume: touch a byte of each page, or copy every byte. limit: of the control group's memory, in
    sizes of the model. x: its place on the axis of a plot.
    Scenarios of a family take their rounds in turn, since a bar compares them."""

    title: str
    mount: object
    data: Data
    contestants: tuple
    quick: Data = None
    few: tuple = ()
    slow: tuple = ()
    delay: float = 2
    processes: int = 1
    consume: str = "touch"
    convert: bool = False
    hot: bool = False
    limit: float = None
    x: float = None
    family: str = ""


OURS = ("auto", "eager")
MODES = ("lazy", "eager-set", "reads", "reads-whole", "numpy-auto")
PEERS = ("pread", "whole", "numpy", "prefetch", "cattensors", "fastsafetensors", "runai-1",
         "runai-4", "runai-16", "flashpack", "flashpack-mmap", "tensorizer")
EVERYONE = ("stock", *OURS, *MODES, *PEERS, *FIO, "plain", "memcpy")
BEST = ("fastsafetensors", "runai-16")
FIO_1M = ("fio-psync-1m", "fio-libaio-1m")
FEW = (*OURS, *BEST, *FIO, "plain")
REAL = ("stock", *OURS, *BEST, *FIO)
AT_2MS = tuple(name for name in EVERYONE
               if name not in ("reads-whole", "eager-set", "numpy-auto", "flashpack-mmap"))
# In a bar nowhere, or slow.
ASIDE = (*MODES, "pread", "whole", "numpy", "cattensors", "runai-1", "runai-4", "flashpack",
         "flashpack-mmap", "tensorizer", "memcpy")
ONE = Data(GIB)
HALF = Data(GIB // 2)
QUARTER = Data(GIB // 4)
BF16 = Data(GIB, dtype="BF16")
CAP = 1_000_000_000


def latency():
    """Our server at four latencies, and with a bandwidth cap."""
    for name, delay, few in (("0ms", 0, ("stock", *OURS, "prefetch", *BEST, "runai-4", *FIO_1M,
                                 "plain")),
                             ("0.2ms", 0.2, ("stock", *FEW)), ("2ms", 2, AT_2MS),
                             ("20ms", 20, FEW)):
        yield name, Scenario(f"FUSE server, {delay} ms a request", fuse(delay_ms=delay), ONE,
                             EVERYONE, ONE, few, ASIDE if delay != 0.2 else ("stock",), delay,
                             x=delay)
    yield "cap", Scenario("FUSE server, 1 GB/s", fuse(delay_ms=0.2, bandwidth=CAP), ONE, EVERYONE,
                          ONE, FEW, (), 0.2)
    yield "20ms-stock", Scenario("FUSE server, 20 ms a request, beside stock", fuse(delay_ms=20),
                                 QUARTER, ("stock", *OURS), Data(128 * MIB), ("stock", *OURS),
                                 ("stock",), 20, x=20)


def real():
    """Real FUSE file systems; what they read from is in the page cache below."""
    few = ("stock", *OURS, *FIO_1M)
    for name, mount in (("bindfs", mounts.bindfs),
                        ("mergerfs-off", partial(mounts.mergerfs, cache_files="off")),
                        ("mergerfs-full", partial(mounts.mergerfs, cache_files="full")),
                        ("squashfuse", mounts.squashfuse), ("sshfs", mounts.sshfs),
                        ("rclone", mounts.rclone)):
        quick = Data(128 * MIB) if name == "rclone" else QUARTER
        yield name, Scenario(name, mount, ONE, REAL, quick, few, delay=0.5)


def on_disk():
    """The disk of the build directory, and page caches that hold the file."""
    always, uma = ("always", "always-eager"), ("uma", "uma-eager")
    yield "disk-cold", Scenario("local disk, cold", mounts.disk, ONE,
                                ("stock", *always, *uma, *BEST, *FIO), ONE,
                                ("stock", *always, *BEST, *FIO), (), 0)
    yield "disk-hot", Scenario("local disk, in the page cache, every byte copied", mounts.disk, ONE,
                               ("stock", *always, *uma, *BEST, "memcpy"), ONE,
                               ("stock", *always, *uma, "memcpy"), (*uma, "memcpy"), 0,
                               consume="copy", hot=True)
    yield "fuse-hot", Scenario("FUSE, in the page cache, every byte copied",
                               fuse(delay_ms=2), ONE, ("stock", *OURS, *BEST),
                               ONE, ("stock", *OURS), consume="copy", hot=True)


def sizes():
    """From 1 to 12 GiB; the larger ones are one GiB over and over, to fit into memory twice."""
    for gib, slow in ((1, ()), (4, OURS), (12, ())):
        data = Data(gib * GIB, repeat=gib)
        yield f"size-{gib}", Scenario(
            f"FUSE server, 2 ms, {gib} GiB", fuse(delay_ms=2, repeat=gib), data,
            (*OURS, "fastsafetensors", "fio-psync-16m"), data, OURS, slow, x=gib, family="size")


def shards():
    """The same server, from one file to many."""
    for count in (1, 5, 50, 500):
        size = max(GIB, count * 4 * MIB)
        few = ("stock", *OURS, "runai-16") if count == 500 else ()
        yield f"shards-{count}", Scenario(
            f"FUSE server, 2 ms, {count} shards", fuse(delay_ms=2),
            Data(size, tensor=min(4 * MIB, size // count), shards=count),
            ("stock", *OURS, *BEST, "fio-psync-1m"), None, few, ("runai-16",), x=count)


def tensors():
    """Tensors from 4 KiB to 256 MiB."""
    for kib in (4, 64, 1024, 16384, 262144):
        size = GIB // 4 if kib == 4 else GIB
        yield f"tensor-{kib}k", Scenario(f"FUSE server, 2 ms, tensors of {kib} KiB",
                                         fuse(delay_ms=2), Data(size, tensor=kib << 10),
                                         ("stock", *OURS, *BEST), x=kib)


def threads():
    """The library with 1 to 32 threads."""
    who = tuple(f"eager-t{n}" for n in (1, 2, 4, 8, 16, 32))
    for name, delay in (("0ms", 0), ("2ms", 2), ("20ms", 20)):
        yield f"threads-{name}", Scenario(
            f"FUSE server, {delay} ms, threads of the library", fuse(delay_ms=delay), ONE, who,
            HALF, who, who, delay)


def processes():
    """Several processes on one file at once."""
    for count in (1, 2, 4):
        yield f"processes-{count}", Scenario(
            f"FUSE server, 2 ms, {count} at once", fuse(delay_ms=2), ONE,
            ("stock", *OURS, *BEST, *FIO), HALF, (*OURS, *FIO_1M) if count != 2 else (),
            processes=count, family="processes")


def others():
    """Limits, conversion, and loaders of other programs; --quick has few rounds of them."""
    who = ("stock", *OURS, *BEST)
    yield "limit", Scenario("FUSE server, 2 ms, control group of 1.5 times the file",
                            fuse(delay_ms=2), ONE, who, HALF, who, who, limit=1.5)
    who = ("stock", *OURS)
    yield "limit-tight", Scenario("FUSE server, 2 ms, control group of 0.75 of the file",
                                  fuse(delay_ms=2), ONE, who, HALF, who, who, limit=0.75)
    who = ("stock", *OURS, "prefetch", *BEST)
    yield "float32", Scenario("FUSE server, 2 ms, bfloat16 loaded as float32", fuse(delay_ms=2),
                              BF16, who, Data(GIB // 2, dtype="BF16"), who, who, convert=True)
    who = ("pretrained", "pretrained-read", "pretrained-auto", "pretrained-eager",
           "pretrained-reads", "plain")
    yield "load-transformers", Scenario(
        "FUSE server, 2 ms, transformers from_pretrained, 5 shards", fuse(delay_ms=2),
        Data(GIB, shards=5, kind="llama"), who, Data(GIB // 2, shards=5, kind="llama"), who, who)
    who = ("diffusers", "diffusers-parallel", "diffusers-auto", "plain")
    yield "load-diffusers", Scenario(
        "FUSE server, 2 ms, diffusers from_pretrained, 4 shards", fuse(delay_ms=2),
        Data(GIB, shards=4, kind="dit"), who, Data(GIB // 2, shards=4, kind="dit"), who, who)
    who = ("llama-map", "llama-read", "llama-auto", "llama-reads", "plain")
    yield "load-llama.cpp", Scenario("FUSE server, 2 ms, llama.cpp", fuse(delay_ms=2),
                                     Data(GIB, kind="gguf"), who, Data(GIB // 2, kind="gguf"),
                                     who, who)


GROUPS = (latency, real, on_disk, sizes, shards, tensors, threads, processes, others)
SCENARIOS = {name: scenario for group in GROUPS for name, scenario in group()}
