# SPDX-License-Identifier: Apache-2.0
"""The plots of the report, as PNG files."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as pyplot  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: E402

from stnbench.contestants import CONTESTANTS  # noqa: E402

MIB, GIB = 1 << 20, 1 << 30
COLOURS = {"ours": "#1b7f4b", "peer": "#4c78a8", "stock": "#9a9a9a", "ceiling": "#d9a441"}
# Lines of one group, told apart by shade.
SHADES = {"ours": ("#0f5f35", "#35b06f", "#8fd6ae"), "stock": ("#303030", "#9a9a9a"),
          "ceiling": ("#b8791a", "#e0a83c", "#8a5a10", "#f0cd8a"),
          "peer": ("#4c78a8", "#b279a2", "#e45756", "#72b7b2", "#54489c", "#ff9da6", "#9d755d",
                   "#2f4b7c", "#d67195", "#439894", "#bab0ac")}


def save(figure, path):
    """Writes a figure; without the date of its making, so that equal figures are equal files."""
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)


def plain_ticks(axes, at):
    """Ticks of a logarithmic plot as plain numbers: those of x where there are points."""
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.yaxis.set_minor_formatter(FuncFormatter(some_numbers))
    axes.set_xticks(at, [f"{value:g}" for value in at])
    axes.xaxis.set_minor_formatter(NullFormatter())


def plain_number(value, _):
    """A tick's label."""
    return f"{value:g}"


def some_numbers(value, _):
    """Labels of the minor ticks of a logarithmic axis that have room for one."""
    text = f"{value:g}"
    return text if text.strip("0.")[:1] in ("2", "5") else ""


def bars(scenario, path):
    """Seconds of each contestant of a scenario: median, with a line from least to most."""
    found = sorted(scenario["contestants"].items(), key=lambda item: item[1]["seconds"]["median"])
    names = [CONTESTANTS[name].title for name, _ in found]
    values = [one["seconds"] for _, one in found]
    middle = [value["median"] for value in values]
    spread = [[value["median"] - value["min"] for value in values],
              [value["max"] - value["median"] for value in values]]
    figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.27 * len(found)))
    axes.barh(names, middle, xerr=spread, capsize=2,
              color=[COLOURS[CONTESTANTS[name].group] for name, _ in found])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_title(f"{scenario['title']}, {scenario['size'] / GIB:g} GiB", fontsize=10)
    for place, value in enumerate(middle):
        axes.annotate(f" {value:.2f}", (values[place]["max"], place), va="center", fontsize=7)
    axes.margins(x=0.1)
    save(figure, path)


def throughput(one):
    """GiB/s of a contestant."""
    return one["bytes"]["median"] / GIB / one["seconds"]["median"]


def lines(scenarios, path, label, title, logarithmic=True):
    """Throughput over the x of scenarios, a line for each contestant in at least two of them."""
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    names = [name for name in CONTESTANTS
             if sum(name in one["contestants"] for one in scenarios) > 1]
    used = dict.fromkeys(SHADES, 0)
    for name in names:
        points = {}
        for one in scenarios:
            if name in one["contestants"]:
                points.setdefault(one["x"], throughput(one["contestants"][name]))
        group = CONTESTANTS[name].group
        colour = SHADES[group][used[group] % len(SHADES[group])]
        used[group] += 1
        axes.plot(*zip(*points.items()), marker="o", markersize=3, label=CONTESTANTS[name].title,
                  color=colour,
                  linewidth=2 if group == "ours" else 1,
                  linestyle={"ceiling": ":", "stock": "--"}.get(group, "-"))
    if logarithmic:
        axes.set_xscale("symlog" if any(one["x"] == 0 for one in scenarios) else "log",
                        **({"linthresh": 0.1} if any(one["x"] == 0 for one in scenarios) else {}))
    axes.set_yscale("log")
    plain_ticks(axes, sorted({one["x"] for one in scenarios}))
    axes.set_xlabel(label)
    axes.set_ylabel("GiB/s")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)


def over_threads(scenarios, path):
    """Throughput of the library over its threads, a line for each scenario."""
    figure, axes = pyplot.subplots(figsize=(8, 4))
    for one in scenarios:
        points = sorted((int(name.removeprefix("eager-t")), throughput(found))
                        for name, found in one["contestants"].items() if name.startswith("eager-t"))
        axes.plot(*zip(*points), marker="o", label=one["title"].split(", ")[1])
    axes.set_xscale("log", base=2)
    axes.set_xticks((1, 2, 4, 8, 16, 32), "1 2 4 8 16 32".split())
    axes.set_ylim(bottom=0)
    axes.set_xlabel("STSHIM_THREADS")
    axes.set_ylabel("GiB/s")
    axes.set_title("Throughput of the library over its threads", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    save(figure, path)


def memory(scenario, path):
    """Anonymous and file memory over time, a panel for each contestant."""
    found = [(name, one) for name, one in scenario["contestants"].items()
             if len(one["samples"]) > 1 and CONTESTANTS[name].group != "ceiling"]
    columns = 4
    figure, panels = pyplot.subplots(-(-len(found) // columns), columns, squeeze=False,
                                     figsize=(11, 2.1 * -(-len(found) // columns)), sharey=True)
    for panel in panels.flat[len(found):]:
        panel.set_axis_off()
    for panel, (name, one) in zip(panels.flat, found):
        times, anonymous, file = zip(*one["samples"])
        panel.stackplot(times, [value / GIB for value in anonymous],
                        [value / GIB for value in file], labels=("anonymous", "page cache"),
                        colors=(COLOURS["ours"], COLOURS["ceiling"]))
        panel.axhline(scenario["size"] / GIB, color="black", linewidth=0.5, linestyle=":")
        panel.set_title(CONTESTANTS[name].title, fontsize=7)
        panel.tick_params(labelsize=6)
    panels[0][0].legend(fontsize=6)
    panels[0][0].set_ylabel("GiB", fontsize=7)
    figure.supxlabel("seconds", fontsize=8)
    figure.suptitle(f"Memory over time: {scenario['title']}", fontsize=10)
    figure.tight_layout()
    save(figure, path)
