# SPDX-License-Identifier: Apache-2.0
"""The rows of the table: each function measures one and returns (bar, measured, ok, figures)."""

import statistics
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from rounds import (GIB, MIB, TESTS, Failed, cgroup, decisions, files_of, interleave, last_json,
                    median, model_file, model_shards, mounted, python, timed, tool)
from support import cache, models, paths
from support.run import run


class Row:
    """A bar, what was measured, whether it holds (None: nothing to hold), figures for the JSON."""

    def __init__(self, bar, measured, ok, **figures):
        self.bar, self.measured, self.ok, self.figures = bar, measured, ok, figures


def compare(settings, source, variants, limits, delay, **options):
    """Times variants on a mount. limits: {other variant: most the library may take of it}; options:
    the mount's."""
    with mounted(source, delay_ms=delay, **options) as (path, server):
        made = {name: (lambda make=make: make(path)) for name, make in variants.items()}
        results = interleave(settings, made, path, server)
    seconds = {name: median(runs) for name, runs in results.items()}
    ratio = {name: seconds["library"] / seconds[name] for name in limits}
    ok = all(ratio[name] <= limit for name, limit in limits.items())
    total = sum(file.stat().st_size for file in files_of(source))
    delivered = max(run["server"]["bytes"] for run in results["library"]) / total
    bar = ", ".join(f"{limit:.3f} of {name}" for name, limit in limits.items())
    measured = ", ".join(f"{name} {value:.3f} s (least {least(results[name]):.3f})"
                         for name, value in seconds.items())
    measured += "; " + ", ".join(f"{value:.3f} of {name}" for name, value in ratio.items())
    fill = statistics.median(fill_seconds(run) for run in results["library"])
    measured += f"; fills {fill:.3f} s; delivered {delivered:.4f}"
    return Row(f"at most {bar}; delivered 1.02", measured, ok and delivered <= 1.02,
               seconds=seconds, ratio=ratio, delivered=delivered, fill=fill,
               all={name: [run["seconds"] for run in runs] for name, runs in results.items()})


def least(results):
    """The shortest time of the rounds."""
    return min(result["seconds"] for result in results)


def fill_seconds(result):
    """What a run spent in the library's fills, by its own account."""
    return sum(line["seconds"] for line in result["stats"] if line["decision"] == "engaged")


def loader(settings, kind):
    """The variants of a loader: stock and under the library."""
    return {"stock": lambda path: settings.timed(kind, path, False),
            "library": lambda path: settings.timed(kind, path, True)}


def load_file_2ms(settings):
    """safetensors load_file, 1 GiB, 2 ms a request."""
    variants = {**loader(settings, "torch"), "ceiling": settings.ceiling}
    return compare(settings, model_file(settings.size(GIB)), variants,
                   {"stock": 1 / 10, "ceiling": 1.2}, 2)


def load_file_20ms(settings):
    """safetensors load_file, 256 MiB, 20 ms a request."""
    variants = {**loader(settings, "torch"), "ceiling": settings.ceiling}
    return compare(settings, model_file(settings.size(GIB // 4)), variants,
                   {"stock": 1 / 15, "ceiling": 1.2}, 20)


def from_pretrained_2ms(settings):
    """transformers from_pretrained, 1 GiB bf16 in 5 shards, 2 ms a request."""
    variants = {**loader(settings, "pretrained"),
                "disable_mmap": lambda path: settings.timed("pretrained-read", path, False)}
    return compare(settings, model_shards(settings.size(GIB)), variants,
                   {"stock": 1 / 8, "disable_mmap": 1 / 18}, 2)


def from_pretrained_20ms(settings):
    """transformers from_pretrained, 256 MiB bf16 in 5 shards, 20 ms a request."""
    return compare(settings, model_shards(settings.size(GIB // 4)), loader(settings, "pretrained"),
                   {"stock": 1 / 12}, 20)


def under_ceiling(settings, size, delay):
    """from_pretrained under the library beside the ceiling. The time that transformers takes by
    itself, 0.15 to 0.2 s, does not depend on the size: with a small model it is what is measured."""
    variants = {"library": lambda path: settings.timed("pretrained", path, True),
                "ceiling": settings.ceiling}
    return compare(settings, model_shards(settings.size(size)), variants, {"ceiling": 1.3}, delay)


def pretrained_ceiling_2ms(settings):
    """from_pretrained beside the ceiling, 4 GiB bf16 in 5 shards, 2 ms a request."""
    return under_ceiling(settings, 4 * GIB, 2)


def pretrained_ceiling_20ms(settings):
    """from_pretrained beside the ceiling, 2 GiB bf16 in 5 shards, 20 ms a request."""
    return under_ceiling(settings, 2 * GIB, 20)


def numpy_2ms(settings):
    """safetensors.numpy load_file, 1 GiB, 2 ms a request."""
    return compare(settings, model_file(settings.size(GIB)), loader(settings, "numpy"),
                   {"stock": 1 / 3}, 2)


def numpy_20ms(settings):
    """safetensors.numpy load_file, 256 MiB, 20 ms a request."""
    return compare(settings, model_file(settings.size(GIB // 4)), loader(settings, "numpy"),
                   {"stock": 1 / 10}, 20)


def metadata(settings):
    """keys() and get_slice().get_shape() of a whole file: bytes delivered."""
    source = model_file(settings.size(GIB))
    header = header_size(source)
    code = ("import sys, torch\nfrom safetensors import safe_open\n"
            "with safe_open(sys.argv[1], framework=sys.argv[2]) as f:\n"
            "    print(len([f.get_slice(k).get_shape() for k in f.keys()]))")
    delivered = {}
    for framework in ("pt", "np"):
        with mounted(source, delay_ms=2) as (path, server):
            last_json(run([sys.executable, "-c", code, path, framework]), "metadata")
            delivered[framework] = server.stats()["bytes"]
    return Row("at most header + 1 MiB", f"{delivered} bytes, header {header}",
               max(delivered.values()) <= header + MIB, delivered=delivered, header=header)


def header_size(path):
    """Bytes of the header of a safetensors file, its length included."""
    with open(path, "rb") as f:
        return 8 + int.from_bytes(f.read(8), "little")


def peak_memory(settings):
    """How far the cgroup's memory rises over a load, page cache of the model included."""
    rises, ok = {}, True
    for kind, source in (("torch", model_file(settings.size(GIB))),
                         ("pretrained", model_shards(settings.size(GIB)))):
        with mounted(source, delay_ms=2) as (path, _):
            for preload in (False, True):
                with cgroup() as group:
                    if group is None:
                        return Row("model + 64 MiB", "needs root", None)
                    # The first run brings the interpreter's files in, charged to another cgroup.
                    timed(kind, path, preload)
                    result = timed(kind, path, preload, extra=("--cgroup", group.path),
                                   cgroup=group)
                over = (result["peak"] - result["bytes"]) / MIB
                rises[f"{kind} {'library' if preload else 'stock'}"] = over
                ok = ok and (not preload or over <= 64)
    text = ", ".join(f"{name} model {value:+.0f} MiB" for name, value in rises.items())
    return Row("library: at most model + 64 MiB", text, ok, over_mib=rises)


def reread(settings):
    """100 x (safe_open, one get_tensor, close) on 512 MiB, eager for want of a userfaultfd; another
    one each time."""
    source = model_file(settings.size(GIB // 2))
    code = ("import sys\nsys.path.insert(0, sys.argv[2])\n"
            "from support.refuse import refuse_userfaultfd\nrefuse_userfaultfd()\n"
            "import torch\nfrom safetensors import safe_open\nfor n in range(100):\n"
            "    with safe_open(sys.argv[1], framework='pt') as f:\n"
            "        name = sorted(f.keys())[n]\n"
            "        value = float(f.get_tensor(name).double().sum())\nprint(value)")
    header = header_size(source)
    size = source.stat().st_size
    with mounted(source, keep_cache=True) as (path, server):
        result = run([sys.executable, "-c", code, path, TESTS], timeout=200)
        last_json(result, "reread")
        counters = server.stats()
    limit = 2 * size + 100 * (header + 4096)
    ours, delivered = counters["direct_bytes"], counters["bytes"]
    text = (f"direct {ours / size:.3f} files, all {delivered / size:.3f} files, "
            f"decisions {count(result)}")
    return Row("server delivers at most 2 files + 100 headers", text, delivered <= limit,
               counters=counters, size=size)


def count(result):
    """How often each decision was made."""
    made = decisions(result)
    return {name: made.count(name) for name in sorted(set(made))}


def expected_sum(paths_on_disk):
    """What mapsum prints for the files where they lie."""
    result = run([tool("mapsum"), "whole", *paths_on_disk], preload=False)
    return last_json(result, "mapsum")["sum"]


def four_processes(settings):
    """Four processes at once with memory for one and a half copies."""
    source = model_file(settings.size(GIB // 4))
    size = source.stat().st_size
    with cgroup(size * 3 // 2 + 32 * MIB) as group, mounted(source) as (path, _):
        if group is None:
            return Row("none killed, all right", "needs root", None)
        with ThreadPoolExecutor(4) as pool:
            runs = list(pool.map(lambda _: run([tool("mapsum"), "whole", path], cgroup=group),
                                 range(4)))
        kills = group.oom_kills()
    sums = {last_json(result, "mapsum")["sum"] for result in runs}
    said = [decisions(result) for result in runs]
    good = kills == 0 and sums == {expected_sum([source])} and all(said)
    return Row("none killed, all right, the declined say why", f"{kills} killed, {said}", good,
               decisions=said)


def unified_memory(settings):
    """STSHIM_UMA=yes: all shards of 0.6 of the limit mapped, then copied out one by one."""
    source = model_shards(settings.size(GIB // 4))
    total = sum(file.stat().st_size for file in files_of(source))
    with cgroup(int(total / 0.6)) as group, mounted(source) as (path, _):
        if group is None:
            return Row("survives", "needs root", None)
        result = run([tool("mapsum"), "whole", *files_of(path)], cgroup=group,
                     env={"STSHIM_UMA": "yes"})
        kills = group.oom_kills()
    good = last_json(result, "mapsum")["sum"] == expected_sum(files_of(source)) and kills == 0
    return Row("survives", f"{kills} killed, {count(result)}", good)


def half_limit(settings):
    """A cgroup limit of half the file."""
    source = model_file(settings.size(GIB // 4))
    with cgroup(source.stat().st_size // 2) as group, mounted(source) as (path, _):
        if group is None:
            return Row("declined, survives, says why", "needs root", None)
        result = run([tool("mapsum"), "whole", path], cgroup=group)
    good = last_json(result, "mapsum")["sum"] == expected_sum([source])
    good = good and decisions(result)[:1] == ["declined:memory"]
    return Row("declined, survives, says why", f"{count(result)}", good)


def pause(settings):
    """A thread ticking every 10 ms, and a SIGTERM, during a load."""
    source = model_file(settings.size(GIB))
    with mounted(source, delay_ms=2) as (path, _):
        def variant(preload):
            settings.warm_memory()
            return last_json(run(python("pause.py", path), preload=preload, timeout=120), "pause")
        results = interleave(settings, {"stock": lambda: variant(False),
                                        "library": lambda: variant(True)}, path)
    gib = results["library"][0]["bytes"] / GIB
    text = ", ".join(f"{name}: pause {median(runs, 'pause') / gib * 1e3:.0f} ms/GiB, SIGTERM "
                     f"{median(runs, 'signal') * 1e3:.0f} ms, load {median(runs):.2f} s"
                     for name, runs in results.items())
    return Row("measured", text, None, results=results)


def page_cache(settings):
    """Page cache of a file before and after, on a mount that keeps it: cold, and a quarter in."""
    source = model_file(settings.size(GIB // 4))

    def once(part):
        with mounted(source, keep_cache=True) as (path, _), cache.Watch(path) as watch:
            with open(path, "rb") as f:
                f.read(part)
            before = watch.resident()
            timed("torch", path, True)
            return before, watch.resident()

    def left(part):
        # The kernel may take pages by itself meanwhile (DAMON): what we do, we do each time.
        tries = [once(part)]
        while abs(tries[-1][1] - tries[-1][0]) > MIB // 4 and len(tries) < 8:
            tries.append(once(part))
        return tries[-1]

    found = [left(0), left(source.stat().st_size // 4)]
    text = ", ".join(f"{before / MIB:.1f} -> {after / MIB:.1f} MiB" for before, after in found)
    ok = all(abs(after - before) <= MIB // 4 for before, after in found)
    return Row("as before", text, ok, found=found)


def invalidate(settings):
    """A server that invalidates pages in its READ handler."""
    source = model_file(settings.size(GIB // 4))
    argv = ("timed_load.py", "torch")
    with mounted(source, delay_ms=2, invalidate=True) as (path, server):
        stock = run(python(*argv, path), preload=False, timeout=12)
    with mounted(source, delay_ms=2, invalidate=True) as (path, server):
        under = timed("torch", path, True)
        buffered = server.stats()["buffered_reads"]
    same = under["checksum"] == timed("torch", source, False)["checksum"]
    return Row("stock hangs, library ends with the same bytes",
               f"stock {'hung for 12 s' if stock.timed_out else 'ended'}, library "
               f"{under['seconds']:.2f} s, same bytes: {same}, buffered reads: {buffered}",
               stock.timed_out and same)


def silent_server(settings):
    """A server that stops answering in the middle; its reads go on after 8 s, ours gave up at 3."""
    source = model_file(settings.size(GIB // 4))
    fault = f"hang:*:{source.stat().st_size // 2}:{MIB}"
    with mounted(source, fault=[fault]) as (path, server):
        timer = threading.Timer(8, server.release)
        timer.start()
        result = run([tool("mapsum"), "whole", path], env={"STSHIM_TIMEOUT": "3s"}, timeout=40)
        timer.cancel()
    answer = last_json(result, "mapsum")
    good = answer["sum"] == expected_sum([source]) and answer["mapping"] < 5
    said = set(decisions(result))
    return Row("the caller has the kernel's mapping after 3 s",
               f"mmap took {answer['mapping']:.1f} s, {sorted(said)}",
               good and "abandoned:timeout" in said)


def small_maps(settings):
    """400 maps of 4 to 16 KiB, one after the other."""
    source = models.random_file("pieces.safetensors", 4 * MIB)
    measured, ok, sums, opens = {}, True, set(), {}
    for delay in (0, 2):
        for preload in (False, True):
            with mounted(source, delay_ms=delay) as (path, server):
                answer = last_json(run([tool("mapsum"), "pieces", "400", path], preload=preload),
                                   "mapsum")
                counters = server.stats()
            name = f"{delay} ms {'library' if preload else 'stock'}"
            measured[name] = answer["seconds"] / 400 * 1e3
            sums.add(answer["sum"])
            if preload:
                opens[name] = counters["opens"]
                ok = ok and measured[name] < 2 + delay and counters["opens"] <= 20
                ok = ok and counters["buffered_reads"] == 0
    text = ", ".join(f"{name} {value:.3f} ms/map" for name, value in measured.items())
    return Row("under 2 ms + one request each, no open for each", f"{text}; opens {opens}",
               ok and len(sums) == 1, ms_per_map=measured, opens=opens)


def always_on_disk(settings):
    """STSHIM_MODE=always on the disk of the build directory, cold, 9 rounds."""
    source = model_file(settings.size(GIB))
    left = []

    def library():
        result = settings.timed("torch", source, True, {"STSHIM_MODE": "always"})
        left.append(cache.resident(source))
        return result

    results = interleave(settings, {"stock": lambda: settings.timed("torch", source, False),
                                    "library": library}, source, rounds=max(9, settings.rounds))
    seconds = {name: median(runs) for name, runs in results.items()}
    ratio = seconds["library"] / seconds["stock"]
    kind = cache_file_system(source)
    return Row("at most 1.05 of stock, page cache as before",
               f"{kind}: stock {seconds['stock']:.3f} s, library {seconds['library']:.3f} s: "
               f"{ratio:.3f}; cached afterwards {max(left)}", ratio <= 1.05 and max(left) == 0,
               seconds=seconds,
               all={name: [run["seconds"] for run in runs] for name, runs in results.items()})


def cache_file_system(path):
    """The name of the file system that a path lies on."""
    return run(["stat", "-f", "-c", "%T", path], preload=False).stdout.strip()


def start_up(settings):
    """What a process that opens no model pays."""
    differences = []
    for _ in range(max(3, settings.rounds)):
        result = run([tool("spawn_cost"), "1500", tool("libempty.so"), paths.library(),
                      "/bin/true"], preload=False, timeout=120)
        differences.append(last_json(result, "spawn_cost"))
    middle = statistics.median(one["difference_us"] for one in differences)
    return Row("less than 50 us more than an empty library",
               f"{middle:.1f} us ({differences[0]['a_us']:.0f} with an empty one)", middle < 50,
               rounds=differences)


ROWS = {function.__name__.replace("_", "-"): function for function in (
    load_file_2ms, load_file_20ms, from_pretrained_2ms, from_pretrained_20ms,
    pretrained_ceiling_2ms, pretrained_ceiling_20ms, numpy_2ms, numpy_20ms, metadata, peak_memory,
    reread, four_processes, unified_memory, half_limit, pause, page_cache, invalidate,
    silent_server, small_maps, always_on_disk, start_up)}

__all__ = ["ROWS", "Failed", "Row"]
