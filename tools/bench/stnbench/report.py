# SPDX-License-Identifier: Apache-2.0
"""docs/benchmarks.md and its plots, from a result."""

import re

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

Made by `tools/bench/run --{kind}`; do not edit. Programs are unmodified: *library* is safetensors'
`load_file` for torch with `LD_PRELOAD=libstnommap.so`, other loaders under it are named.
"""

HOW = """## How it was measured

- **Machine**: {cpus} CPUs ({cpu}), {memory:.1f} GiB, Linux {kernel}, Python {python}; load average
  {load:.1f} at the start.
- **Rounds**: {rounds} that count after one that does not, all loaders of a table in turn (A B C A B
  C ...). {fewer}Seconds are the median, then the least and the most.
- **A cell** is a process of its own that has imported everything and waits. Then another process
  touches free memory and ends, the clock starts, the model is loaded and a byte of every page of
  every tensor is read, the clock stops, and a checksum over all bytes is compared with that of the
  stock loader on the disk.
- **Page cache**: the files are not in that of the mount unless the table says so; on FUSE they are
  in that of the server.
- **Our FUSE server**: asynchronous direct reads, {server}; read-ahead of the mount {ahead} KiB.
- **fio** reads into buffers that it uses again and again: it does not pay for fresh memory.
- **No userfaultfd**: the system call is refused, as by Docker's default profile; the library then
  fills a mapping before `mmap` returns.
- **Versions**: {versions}.
"""

COLUMNS = """*anon* and *file*: the most anonymous memory and page cache above what was there
before, by the process's control group. *cached*: page cache of the files afterwards. *CPU*: seconds
of the program, and of the server. *requests*, *delivered*, *in flight*: counted by our server, the
last is the most at once."""


def gib(value):
    """Bytes for a table."""
    if value is None:
        return "-"
    value = value["median"]
    return f"{value / GIB:.2f} G" if value >= GIB // 16 else f"{value / MIB:.0f} M"


def figure(value, form="{:.0f}"):
    """A figure for a table."""
    return "-" if value is None else form.format(value["median"])


def how(result):
    """How and where it was measured."""
    machine = result["machine"]
    mounts = [one["mount"] for one in result["scenarios"].values() if one.get("mount")]
    ahead = sorted({mount["read_ahead_kb"] for mount in mounts if "read_ahead_kb" in mount})
    few = any(is_short(result, one) for scenario in result["scenarios"].values()
              for one in scenario.get("contestants", {}).values())
    return HOW.format(
        rounds=result["rounds"], cpus=machine["cpus"], cpu=machine["cpu"],
        memory=machine["memory"] / GIB, kernel=machine["kernel"], python=machine["python"],
        load=machine["load"], ahead=", ".join(map(str, ahead)) or "-",
        fewer="Slow ones that no bar compares have fewer, which the table says. " if few else "",
        server=", ".join(f"{name} {'yes' if value is True else value}"
                         for name, value in result["server"].items()),
        versions=", ".join(f"{name} {version or 'missing'}"
                           for name, version in result["versions"].items()))


def is_short(result, one):
    """Whether a contestant has fewer rounds than the others."""
    return len(one["rounds"]) < result["rounds"]


def bar_lines(verdicts):
    """The table of the bars."""
    lines = ["## Bars", "",
             "What has to hold, by the medians and by the least of all rounds (noise only adds):",
             "both are shown, as ratios unless they have a unit.", "",
             "| | bar | measured | | no userfaultfd | |", "|---|---|---|---|---|---|"]
    lines += [f"| {one.where} | {one.bar} | {one.measured} | {one.met} | {one.other} | "
              f"{one.other_met} |" for one in verdicts]
    return lines + [""]


def row(result, name, one):
    """A contestant's line."""
    title = CONTESTANTS[name].title
    if CONTESTANTS[name].group == "ours":
        title = f"**{title}**"
    if is_short(result, one):
        title += f" ({len(one['rounds'])} rounds)"
    seconds = one["seconds"]
    rate = one["bytes"]["median"] / GIB / seconds["median"]
    return (f"| {title} | {seconds['median']:.3f} | {seconds['min']:.3f}-"
            f"{seconds['max']:.3f} | {rate:.2f} | {gib(one['anonymous'])} | {gib(one['file'])} | "
            f"{gib(one['cached'])} | {figure(one['cpu'], '{:.2f}')} | "
            f"{figure(one['server_cpu'], '{:.2f}')} | {figure(one['requests'])} | "
            f"{gib(one['delivered'])} | {figure(one['in_flight'])} |")


def table(result, name, scenario, picture):
    """A scenario's section."""
    lines = [f"### {name}: {scenario['title']}", ""]
    if "unavailable" in scenario:
        return lines + [f"Not measured: {short(scenario['unavailable'])}", ""]
    size = f"{scenario['size'] / GIB:.2f} GiB"
    if scenario["shards"] > 1:
        size += f" in {scenario['shards']} files"
    lines += [f"{size}, tensors of {scenario['tensor'] >> 10} KiB.", ""]
    if picture:
        lines += [f"![{scenario['title']}](benchmarks/{picture})", ""]
    lines += ["| | seconds | least-most | GiB/s | anon | file | cached | CPU | server | requests "
              "| delivered | in flight |", "|---|" + "---:|" * 11]
    order = sorted(scenario["contestants"].items(), key=lambda item: item[1]["seconds"]["median"])
    lines += [row(result, *item) for item in order]
    lines += decided(scenario)
    for who, why in scenario["skipped"].items():
        lines += ["", f"{CONTESTANTS[who].title}: not measured: {short(why)}"]
    return lines + [""]


def decided(scenario):
    """What the library has decided where that is not to engage."""
    lines = []
    for name, one in scenario["contestants"].items():
        refused = [made for made in one["decisions"] if not made.startswith("engaged")]
        if refused:
            lines += ["", f"{CONTESTANTS[name].title}: {', '.join(one['decisions'])}"]
    return lines


def short(text):
    """The last line of an error message, without directories."""
    last = text.strip().splitlines()[-1] if text.strip() else "no reason given"
    return re.sub(r"/\S+/", ".../", last)[:200]


def present(result, prefix):
    """The scenarios of a result that were measured, of that name, or that begin so if it ends in
    a hyphen."""
    return [one for name, one in result["scenarios"].items() if one.get("contestants")
            and (name.startswith(prefix) if prefix.endswith("-") else name == prefix)]


CURVES = (
    ("latency.png", ("0ms", "0.2ms", "2ms", "20ms", "20ms-stock"), "ms a request",
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
    lines = [*HEAD.format(kind=result["kind"]).splitlines(), "", *bar_lines(verdicts),
             *how(result).splitlines(), "", "## Plots", ""]
    for title, file in curves:
        lines += [f"![{title}](benchmarks/{file})", ""]
    lines += ["## Tables", "", *COLUMNS.splitlines(), ""]
    for name, scenario in result["scenarios"].items():
        lines += table(result, name, scenario, own.get(name))
    lines += ["## Not measured here", ""]
    lines += [f"- {name}: {why}" for name, why in NOT_HERE]
    path.write_text("\n".join(lines) + "\n")
    return verdicts
