# SPDX-License-Identifier: Apache-2.0
"""docs/benchmarks.md and its plots, from a result."""

from stnbench import bars, plots
from stnbench.contestants import CONTESTANTS

MIB, GIB = 1 << 20, 1 << 30

# Loaders that were asked for, and what they would need.
NOT_HERE = (
    ("fastsafetensors with GPUDirect Storage", "needs CUDA and cuFile"),
    ("InstantTensor", "loads to CUDA devices only"),
    ("safetensors prefetch (0.9)", "CUDA only; not in the version here"),
)

HEAD = """# Benchmarks

Made by `tools/bench/run --{kind}`; do not edit. {rounds} rounds that count after one that does not,
all contestants of a table in turn (A B C A B C ...). Seconds are the median, then least to most.
Every cell is a process of its own that has imported everything and waits; then free memory is
touched by another process, the clock starts, the model is loaded and a byte of every page of every
tensor read, the clock stops, and a checksum over all bytes is compared with that of the stock
loader on the disk. The files are not in the page cache of the mount unless the table says *hot*;
on FUSE they are in that of the server. fio's bytes go into buffers used again and again: it does
not pay for memory.

- Machine: {cpus} CPUs ({cpu}), {memory:.1f} GiB, Linux {kernel}, Python {python}; load {load:.1f} at
  the end.
- Our FUSE server: asynchronous direct reads, {server}; read-ahead of the mount {ahead} KiB.
- {versions}.

*anon* and *file*: most anonymous memory and page cache above what was there before, by the process's
control group. *cached*: page cache of the file afterwards. *CPU*: seconds of the program, and of
the server. *requests*, *delivered*, *in flight*: counted by our server.
"""


def gib(value):
    """Bytes for a table."""
    if value is None:
        return "-"
    value = value["median"]
    return f"{value / GIB:.2f} G" if value >= GIB // 16 else f"{value / MIB:.0f} M"


def figure(value, form="{:.0f}"):
    """A figure for a table."""
    return "-" if value is None else form.format(value["median"])


def head(result):
    """What was measured, how and where."""
    machine = result["machine"]
    mounts = [one["mount"] for one in result["scenarios"].values() if one.get("mount")]
    ahead = sorted({mount["read_ahead_kb"] for mount in mounts if "read_ahead_kb" in mount})
    return HEAD.format(
        kind=result["kind"], rounds=result["rounds"], cpus=machine["cpus"], cpu=machine["cpu"],
        memory=machine["memory"] / GIB, kernel=machine["kernel"], python=machine["python"],
        load=machine["load"], ahead=", ".join(map(str, ahead)) or "-",
        server=", ".join(f"{name} {value}" for name, value in result["server"].items()),
        versions=", ".join(f"{name} {version or 'missing'}"
                           for name, version in result["versions"].items()))


def bar_lines(verdicts):
    """The table of the bars."""
    lines = ["## Bars", "", "Measured values are ratios unless they have a unit.", "",
             "| | bar | measured | |", "|---|---|---|---|"]
    lines += [f"| {one.where} | {one.bar} | {one.measured} | {one.met} |"
              for one in verdicts]
    return lines + [""]


def row(name, one):
    """A contestant's line."""
    seconds = one["seconds"]
    rate = one["bytes"]["median"] / GIB / seconds["median"]
    return (f"| {CONTESTANTS[name].title} | {seconds['median']:.3f} | {seconds['min']:.3f}-"
            f"{seconds['max']:.3f} | {rate:.2f} | {gib(one['anonymous'])} | {gib(one['file'])} | "
            f"{gib(one['cached'])} | {figure(one['cpu'], '{:.2f}')} | "
            f"{figure(one['server_cpu'], '{:.2f}')} | {figure(one['requests'])} | "
            f"{gib(one['delivered'])} | {figure(one['in_flight'])} |")


def table(name, scenario, picture):
    """A scenario's section."""
    lines = [f"### {name}: {scenario['title']}", ""]
    if "unavailable" in scenario:
        return lines + [f"Not measured: {scenario['unavailable']}", ""]
    size = f"{scenario['size'] / GIB:.2f} GiB"
    if scenario["shards"] > 1:
        size += f" in {scenario['shards']} files"
    lines += [f"{size}, tensors of {scenario['tensor'] >> 10} KiB.", ""]
    if picture:
        lines += [f"![{scenario['title']}](benchmarks/{picture})", ""]
    lines += ["| | seconds | least-most | GiB/s | anon | file | cached | CPU | server | requests "
              "| delivered | in flight |", "|---|" + "---:|" * 11]
    order = sorted(scenario["contestants"].items(), key=lambda item: item[1]["seconds"]["median"])
    lines += [row(*item) for item in order]
    for who, why in scenario["skipped"].items():
        lines += ["", f"{CONTESTANTS[who].title}: not measured: {short(why)}"]
    return lines + [""]


def short(text):
    """The last line of an error message."""
    return text.strip().splitlines()[-1][:200] if text.strip() else "no reason given"


def present(result, prefix):
    """The scenarios of a result that were measured and whose names begin so."""
    return [one for name, one in result["scenarios"].items()
            if name.startswith(prefix) and one.get("contestants")]


CURVES = (
    ("latency.png", ("0ms", "0.2ms", "2ms", "20ms"), "ms a request",
     "Throughput over the server's latency"),
    ("size.png", ("size-1", "size-4", "size-12"), "GiB", "Throughput over the size of the file"),
    ("shards.png", ("shards-",), "files", "Throughput over the number of files"),
    ("tensors.png", ("tensor-",), "KiB", "Throughput over the size of the tensors"),
)


def draw(result, directory):
    """Draws what the result has; {scenario: picture}, [pictures over several]."""
    directory.mkdir(parents=True, exist_ok=True)
    own, curves = {}, []
    for name, scenario in result["scenarios"].items():
        if len(scenario.get("contestants", ())) > 1:
            own[name] = f"{name}.png"
            plots.bars(scenario, directory / own[name])
    for file, prefixes, label, title in CURVES:
        scenarios = [one for prefix in prefixes for one in present(result, prefix)]
        if len(scenarios) > 1:
            plots.lines(scenarios, directory / file, label, title)
            curves.append((title, file))
    if found := present(result, "threads-"):
        plots.over_threads(found, directory / "threads.png")
        curves.append(("Throughput of the library over its threads", "threads.png"))
    if found := present(result, "2ms"):
        plots.memory(found[0], directory / "memory.png")
        curves.append(("Memory over time", "memory.png"))
    return own, curves


def write(result, path):
    """Writes the report beside its directory of plots; returns the verdicts."""
    verdicts = bars.judged(result)
    own, curves = draw(result, path.with_suffix(""))
    lines = head(result).splitlines() + ["", *bar_lines(verdicts)]
    for title, file in curves:
        lines += [f"![{title}](benchmarks/{file})", ""]
    lines += ["## Tables", ""]
    for name, scenario in result["scenarios"].items():
        lines += table(name, scenario, own.get(name))
    lines += ["## Not measured here", ""]
    lines += [f"- {name}: {why}" for name, why in NOT_HERE]
    path.write_text("\n".join(lines) + "\n")
    return verdicts
