# SPDX-License-Identifier: Apache-2.0
"""The rows about lazy fill: what is read for what is used, and when."""

from rounds import (GIB, MIB, cgroup, interleave, last_json, median, model_file, model_shards,
                    mounted, python)
from rows import Row, header_size
from support import models
from support.run import run


def large_tensors(size):
    """A file of float32 tensors of 64 MiB, each of 1024 rows."""
    count = max(size // (64 * MIB), 1)
    tensors = {f"tensor.{n:03}": ("F32", (1024, 16384)) for n in range(count)}
    return models.make_safetensors(f"bench-large-{size >> 20}.safetensors", tensors=tensors)


def used(settings, what, path, fill="auto", preload=True, **options):
    """One run of lazy_load.py: its JSON. fill: auto, or refused (eager for want of a
    userfaultfd)."""
    extra = ["--refuse"] if fill == "refused" else []
    command = python("lazy_load.py", *extra, what, path)
    env = {"BENCH_WARM": settings.warm or None}
    if what == "first":
        # Some virtual machines run the program's own code ten times slower for some 30 ms after
        # much memory was freed: in seconds that does not count, in one tensor's time it is most.
        settings.warm_memory()
        env = {}
    result = run(command, preload=preload, env=env, timeout=200, **options)
    return last_json(result, f"{what} {fill}")


def variants(settings, what, path, *names):
    """Runs by name."""
    every = {"stock": lambda: used(settings, what, path, preload=False),
             "eager": lambda: used(settings, what, path, "refused"),
             "lazy": lambda: used(settings, what, path)}
    return {name: every[name] for name in names}


def timed(settings, what, source, *names, delay=2):
    """Interleaved rounds: {name: results}."""
    with mounted(source, delay_ms=delay) as (path, server):
        return interleave(settings, variants(settings, what, path, *names), path, server)


def share(results, source):
    """The most that a run had the server deliver, in files; the page cache must have had none."""
    most = max(run["server"]["bytes"] for run in results["lazy"]) / source.stat().st_size
    buffered = max(run["server"]["buffered_bytes"] for run in results["lazy"])
    return most if buffered == 0 else float("inf")


def words(results):
    """Seconds of each variant, median (least)."""
    return ", ".join(f"{name} {median(runs):.3f} ({min(run['seconds'] for run in runs):.3f}) s"
                     for name, runs in results.items())


def metadata(settings):
    """Names and shapes of 1 GiB: bytes delivered, and time beside stock."""
    source = model_file(settings.size(GIB))
    results = timed(settings, "keys", source, "stock", "lazy")
    late = (median(results["lazy"]) - median(results["stock"])) * 1e3
    delivered = max(run["server"]["bytes"] for run in results["lazy"])
    header = header_size(source)
    return Row("at most header + 1 MiB, within 20 ms of stock",
               f"{delivered} bytes, header {header}; {late:+.1f} ms; {words(results)}",
               delivered <= header + MIB and late <= 20, delivered=delivered, late_ms=late)


def delivers(settings, what, source, limit):
    """A row about how much of a file is delivered."""
    results = timed(settings, what, source, "stock", "lazy")
    most = share(results, source)
    return Row(f"at most {limit:.3f} of the file", f"{most:.3f}; {words(results)}",
               most <= limit, share=most)


def one_tensor(settings):
    """One tensor of 4 MiB of 256."""
    source = model_file(settings.size(GIB))
    return delivers(settings, "one", source, 32 * MIB / source.stat().st_size)


def slices(settings):
    """The first half of the rows of every tensor of 64 MiB."""
    return delivers(settings, "half", large_tensors(settings.size(GIB)), 0.65)


def every_second(settings):
    """Every second tensor of 4 MiB."""
    return delivers(settings, "second", model_file(settings.size(GIB)), 0.8)


def first_tensor(settings):
    """The time until the first tensor of 1 GiB can be used."""
    results = timed(settings, "first", model_file(settings.size(GIB)), "eager", "lazy")
    seconds = {name: median(runs, "first") for name, runs in results.items()}
    ratio = seconds["lazy"] / seconds["eager"]
    return Row("at most 1/10 of eager", f"{seconds['lazy'] * 1e3:.1f} ms, eager "
               f"{seconds['eager'] * 1e3:.1f} ms: {ratio:.3f}", ratio <= 0.1, ratio=ratio)


def peak(settings, what, source):
    """The most memory of a control group, page cache included, in which that runs the second time:
    the interpreter's files are charged to the first. 0 where there can be none."""
    bare = type(settings)(settings.rounds, 0, settings.scale)
    with mounted(source, delay_ms=2) as (path, _):
        used(bare, what, path)
        with cgroup() as group:
            if group is None:
                return 0
            used(bare, what, path, cgroup=group)
            return group.peak()


def whole(settings):
    """The whole of 1 GiB by load_file: time beside eager, bytes, peak memory."""
    source = model_file(settings.size(GIB))
    results = timed(settings, "all", source, "stock", "eager", "lazy")
    ratio, most = median(results["lazy"]) / median(results["eager"]), share(results, source)
    rise = (peak(settings, "all", source) - peak(settings, "keys", source)
            - source.stat().st_size) / MIB
    return Row("at most 1.1 of eager, each byte once, model + 64 MiB",
               f"{ratio:.3f}; delivered {most:.4f}; memory model {rise:+.0f} MiB; "
               f"{words(results)}", ratio <= 1.1 and most <= 1.02 and rise <= 64,
               ratio=ratio, share=most, rise=rise)


def computing(settings):
    """The whole with 5 ms of computing after each tensor; the same where all of them are made
    before the first is used, which leaves nothing to overlap."""
    source = model_file(settings.size(GIB))
    results = timed(settings, "compute", source, "stock", "eager", "lazy")
    later = timed(settings, "later", source, "eager", "lazy")
    ratio, after = (median(one["lazy"]) / median(one["eager"]) for one in (results, later))
    return Row("faster than eager", f"{ratio:.3f}; {words(results)}; after load_file {after:.3f}",
               ratio < 1, ratio=ratio, later=after)


def huge_pages(settings):
    """A writable map of the whole: the part that is in huge pages at the end."""
    results = timed(settings, "storage", model_file(settings.size(GIB)), "lazy")
    least = min(run["huge"] for run in results["lazy"])
    return Row("at least 0.9 in huge pages", f"{least:.3f}; {words(results)}", least >= 0.9,
               huge=least)


def disk_offload(settings):
    """accelerate with half of the layers left on disk, one forward pass, 1 GiB."""
    source = model_shards(settings.size(GIB))

    def once(preload, path):
        settings.warm_memory()
        return last_json(run(python("offload.py", path), preload=preload, timeout=250), "offload")

    with mounted(source, delay_ms=2) as (path, server):
        results = interleave(settings, {"stock": lambda: once(False, path),
                                        "lazy": lambda: once(True, path)}, path, server)
    size = sum(file.stat().st_size for file in source.glob("*.safetensors"))
    most = max(run["server"]["bytes"] for run in results["lazy"]) / size
    ratio = median(results["lazy"]) / median(results["stock"])
    return Row("at most 1.1 of the files, not slower than stock",
               f"delivered {most:.3f}; {ratio:.3f} of stock; {words(results)}",
               most <= 1.1 and ratio <= 1.05, share=most, ratio=ratio)


ROWS = {"lazy-metadata": metadata, "lazy-one-tensor": one_tensor, "lazy-slices": slices,
        "lazy-every-second": every_second, "lazy-first-tensor": first_tensor, "lazy-whole": whole,
        "lazy-computing": computing, "lazy-huge-pages": huge_pages,
        "lazy-disk-offload": disk_offload}
