# SPDX-License-Identifier: Apache-2.0
"""Rounds of all contestants of a scenario in turn, and what they add up to."""

import statistics
import sys
import time
from dataclasses import replace

from support import cache
from support.cgroup import Cgroup

from stnbench import cells, data
from stnbench.contestants import CONTESTANTS, FIO, missing
from stnbench.mounts import Unavailable, disk, testfs

# Python, torch and what they keep; a limit is set above that.
PROGRAM_MEMORY = 700 << 20
SAMPLES_KEPT = 120
# Loaders that hold two copies for a time.
TWICE = ("whole", "pretrained-read")


def say(text):
    """A line of progress."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Settings:
    """Options of the run."""

    def __init__(self, quick, rounds, only=(), mib=None, named=False):
        self.quick = quick
        self._named = named
        self._mib = mib
        self.rounds = rounds
        self.only = only

    def contestants(self, scenario):
        """Who takes part: all in a scenario that was asked for by name but has no few."""
        few = self.quick and not self.only and not (self._named and not scenario.few)
        chosen = scenario.few if few else scenario.contestants
        return [name for name in chosen if not self.only or name in self.only]

    def data(self, scenario):
        """The files."""
        files = scenario.quick if self.quick and scenario.quick else scenario.data
        return replace(files, size=int(self._mib * data.MIB)) if self._mib else files


def can_group():
    """Whether memory cgroups can be made here."""
    try:
        with Cgroup():
            return True
    except OSError:
        return False


class Course:
    """A scenario on its mount, ready to run cells."""

    def __init__(self, scenario, files, mount, with_group):
        self.scenario, self.files, self.mount = scenario, files, mount
        self._with_group = with_group
        self.directory = data.made(files)
        self.sum = None

    def spec(self, contestant):
        """What a child is told."""
        is_gguf = contestant.group == "ceiling" and self.files.kind == "gguf"
        names = data.in_form(self.directory, "gguf" if is_gguf else contestant.form)
        return {"load": contestant.load, "consume": self.scenario.consume,
                "convert": self.scenario.convert, "no_uffd": contestant.no_uffd,
                "paths": [str(self.mount.directory / name) for name in names]}

    def _prepare(self, spec):
        """The page cache of the mount empty."""
        self.mount.watch(spec["paths"])
        self.mount.evict()

    def _warm(self, spec):
        """Just before the clock starts: touches free memory for the cell, not more than there is,
        and brings the files into the page cache where they should be hot."""
        copies = 2.2 if self.scenario.convert or spec["load"] in TWICE else 1.2
        size = int(copies * self.files.size * self.scenario.processes) + (256 << 20)
        cache.warm_memory(min(size, int(cache.available() * 0.8)))
        for path in spec["paths"] if self.scenario.hot else ():
            with open(path, "rb", buffering=0) as file:
                while file.read(16 << 20):
                    pass

    def cell(self, name, with_stats):
        """One cell; its result."""
        contestant = CONTESTANTS[name]
        spec = self.spec(contestant)
        self._prepare(spec)
        processes = self.scenario.processes
        if contestant.group == "ceiling":
            # One process that reads as much: what it takes to start is not in its figures.
            spec["copies"], processes = processes, 1
        with Group(self._with_group, self.scenario.limit) as group:
            result = cells.run(contestant, spec, self.mount, group, processes,
                               None if name in FIO else lambda: self._warm(spec),
                               with_stats=with_stats)
            result["killed"] = group.oom_kills() if group else None
        self._check(contestant, result)
        return result

    def _check(self, contestant, result):
        """Failed where the bytes are not those of the reference."""
        if contestant.group != "ceiling" and result["checksums"] != [self.sum]:
            raise cells.Failed(f"checksum {result['checksums']}, not {self.sum}")


class Group:
    """A cgroup for a cell, or None where there can be none."""

    def __init__(self, wanted, limit):
        self._group = Cgroup(limit and limit + PROGRAM_MEMORY) if wanted else None

    def __enter__(self):
        return self._group

    def __exit__(self, *_):
        if self._group:
            self._group.remove()


def rounds_of(course, names, rounds):
    """All rounds: ({name: results}, {name: why it has none}). The first round does not count."""
    results, failed, decisions = {name: [] for name in names}, {}, {}
    for turn in range(rounds + 1):
        for name in names:
            if name in failed:
                continue
            try:
                result = course.cell(name, turn == 0)
            except cells.Failed as error:
                failed[name] = str(error)
                say(f"  round {turn} {name}: {error}")
                continue
            say(f"  round {turn} {name}: {result['seconds']:.3f} s"
                + (f" {','.join(result['decisions'])}" if result["decisions"] else ""))
            if turn == 0:
                decisions[name] = result["decisions"]
            else:
                results[name].append(result)
    for name, found in results.items():
        for result in found:
            result["decisions"] = decisions[name]
    return {name: found for name, found in results.items() if name not in failed}, failed


def number(values):
    """Median, least and most of numbers; None if there are none."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def thinned(samples):
    """The samples of memory, not more than some."""
    step = -(-len(samples) // SAMPLES_KEPT) or 1
    return samples[::step]


def sum_up(results):
    """What the rounds of one contestant add up to."""
    server = [one["server"] for one in results if one["server"]]
    return {
        "seconds": number([one["seconds"] for one in results]),
        "rounds": [one["seconds"] for one in results],
        "each": [one["each"] for one in results] if len(results[0]["each"]) > 1 else None,
        **{key: number([one[key] for one in results])
           for key in ("anonymous", "file", "cached", "cpu", "server_cpu", "bytes", "killed")},
        "requests": number([one["requests"] for one in server]),
        "delivered": number([one["bytes"] for one in server]),
        "in_flight": number([one["max_inflight"] for one in server]),
        "decisions": sorted({made for one in results for made in one["decisions"]}),
        "samples": thinned(results[len(results) // 2]["samples"]),
    }


def prepare_sum(course):
    """The checksum that all must have."""
    files = course.files
    where = (testfs(course.directory, repeat=files.repeat) if files.repeat > 1
             else disk(course.directory))
    with where as mount:
        course.sum = data.reference(files, mount, {"convert": course.scenario.convert})


def measured(name, scenario, settings, with_group):
    """One scenario: what goes into the JSON."""
    files = settings.data(scenario)
    names = settings.contestants(scenario)
    skipped = {name: why for name in names if (why := missing(name))}
    start = time.monotonic()
    say(f"{name}: {scenario.title}, {files.size / data.MIB:.0f} MiB")
    with scenario.mount(data.made(files)) as mount:
        course = Course(scenario, files, mount, with_group)
        prepare_sum(course)
        results, failed = rounds_of(course, [n for n in names if n not in skipped],
                                    settings.rounds)
        limits = mount.limits()
    return {"title": scenario.title, "size": files.size, "shards": files.shards,
            "tensor": files.tensor, "x": scenario.x, "processes": scenario.processes,
            "mount": limits, "took": time.monotonic() - start, "skipped": {**skipped, **failed},
            "contestants": {n: sum_up(found) for n, found in results.items() if found}}


def run_all(names, scenarios, settings):
    """All scenarios chosen: {name: result}."""
    found, with_group = {}, can_group()
    for name in names:
        if not settings.contestants(scenarios[name]):
            continue
        try:
            found[name] = measured(name, scenarios[name], settings, with_group)
        except Unavailable as error:
            found[name] = {"title": scenarios[name].title, "unavailable": str(error)}
            say(f"{name}: {error}")
    return found


