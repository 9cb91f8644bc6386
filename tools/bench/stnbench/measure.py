# SPDX-License-Identifier: Apache-2.0
"""Rounds of all contestants of a scenario in turn, and what they add up to."""

import contextlib
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace

from support import cache
from support.cgroup import Cgroup

from stnbench import cells, data
from stnbench.contestants import CONTESTANTS, missing
from stnbench.mounts import Unavailable, disk, testfs

# What the program may use beside the model, above what it has when it is ready, where that is
# limited.
PROGRAM_MEMORY = 64 << 20
SAMPLES_KEPT = 120
# Loaders that hold two copies for a time.
TWICE = ("whole", "pretrained-read", "numpy")
TWICE_BY_NAME = ("eager-set",)
SLOW_ROUNDS = 2  # of --quick that count, where a loader takes minutes and no bar hangs on it

# Tries to empty the page cache: a process that has just ended may still hold pages.
EVICTIONS = 5

# Processes that import at the same time and then wait for their turn.
START_TOGETHER = 8

# What a cell is likely to cost, in seconds: a process with torch, or a command; for each GiB, to
# touch memory and load, and for a loader the checksum; and requests of the page cache, of 128 KiB,
# about two at a time.
START, COMMAND, LOAD_GIB, SUM_GIB, CACHE_REQUEST, AT_ONCE = 1.2, 0.4, 0.6, 0.4, 128 << 10, 2
BY_CACHE = ("stock", "pread", "whole", "numpy", "cattensors", "flashpack-mmap", "pretrained",
            "pretrained-read", "diffusers", "diffusers-parallel", "llama-map", "llama-read")


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
        page = 4096 * files.repeat
        return replace(files, size=int(self._mib * data.MIB) // page * page) if self._mib else files

    def rounds_of(self, scenario, name):
        """Rounds of a contestant that count."""
        slow = self.quick and name in scenario.slow
        return min(self.rounds, SLOW_ROUNDS) if slow else self.rounds

    def estimate(self, scenario):
        """Seconds that a scenario is likely to take."""
        files = self.data(scenario)
        return sum((self.rounds_of(scenario, name) + 1) * likely(scenario, files, name)
                   for name in self.contestants(scenario))


def likely(scenario, files, name):
    """Seconds of one cell."""
    size = files.size * scenario.processes
    if CONTESTANTS[name].group == "ceiling":
        return COMMAND + LOAD_GIB * size / data.GIB
    by_cache = name in BY_CACHE and not scenario.hot
    return (START * scenario.processes + (LOAD_GIB + SUM_GIB) * size / data.GIB
            + by_cache * size / CACHE_REQUEST * scenario.delay / 1000 / AT_ONCE)


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
        self.results, self.failed, self.decisions, self.took = {}, {}, {}, 0.0

    def spec(self, contestant):
        """What a child is told."""
        is_gguf = contestant.group == "ceiling" and self.files.kind == "gguf"
        names = data.in_form(self.directory, "gguf" if is_gguf else contestant.form)
        return {"load": contestant.load, "consume": self.scenario.consume,
                "convert": self.scenario.convert, "no_uffd": contestant.no_uffd,
                "paths": [str(self.mount.directory / name) for name in names]}

    def _prepare(self, spec):
        """The page cache of the mount empty; where it should be hot, as it was left."""
        self.mount.watch(spec["paths"])
        for _ in range(0 if self.scenario.hot else EVICTIONS):
            self.mount.evict()
            if self.mount.cached() == 0:
                return
            time.sleep(0.1)
        if not self.scenario.hot:
            say(f"  {self.mount.cached() >> 20} MiB stay in the page cache")

    def _warm(self, name, spec):
        """Just before the clock starts: touches free memory for the cell, not more than there is,
        and brings the files into the page cache where they should be hot."""
        twice = self.scenario.convert or spec["load"] in TWICE or name in TWICE_BY_NAME
        copies = 2.2 if twice else 1.2
        size = int(copies * self.files.size * self.scenario.processes) + (256 << 20)
        cache.warm_memory(min(size, int(cache.available() * 0.8)))
        for path in spec["paths"] if self.scenario.hot else ():
            with open(path, "rb", buffering=0) as file:
                while file.read(16 << 20):
                    pass

    @contextlib.contextmanager
    def begun(self, name, with_stats):
        """A cell whose processes have been started; yields it."""
        contestant = CONTESTANTS[name]
        spec = self.spec(contestant)
        processes = self.scenario.processes
        if contestant.group == "ceiling":
            # One process that reads as much: what it takes to start is not in its figures.
            spec["copies"], processes = processes, 1
        with Group(self._with_group) as group, cells.started(
                contestant, spec, self.mount, group, processes, with_stats) as children:
            yield Cell(self, name, spec, group, children)

    def _check(self, contestant, result):
        """Failed where the bytes are not those of the reference."""
        if contestant.group != "ceiling" and result["checksums"] != [self.sum]:
            raise cells.Failed(f"checksum {result['checksums']}, not {self.sum}")

    def measure(self, cell):
        """Runs a cell that has begun; its result."""
        cells.wait_ready(cell.children)
        self._prepare(cell.spec)
        if cell.group and self.scenario.limit:
            cell.group.set_limit(int(cell.group.usage() + PROGRAM_MEMORY +
                                     self.scenario.limit * self.files.size))
        result = cells.run(cell.children, self.mount, cell.group,
                           lambda: self._warm(cell.name, cell.spec))
        result["killed"] = cell.group.oom_kills() if cell.group else None
        self._check(CONTESTANTS[cell.name], result)
        return result

    def keep(self, name, number, result):
        """Keeps a result, but that of round 0."""
        if number == 0:
            self.decisions[name] = result["decisions"]
        else:
            self.results.setdefault(name, []).append(result)


@dataclass
class Cell:
    """One contestant in one round, started."""

    course: Course
    name: str
    spec: dict
    group: object
    children: list

    def turn(self, number):
        """Measures it; its course keeps the result, or why there is none."""
        start = time.monotonic()
        try:
            result = self.course.measure(self)
        except (cells.Failed, OSError, subprocess.SubprocessError) as error:
            self.course.failed[self.name] = str(error)
            say(f"  round {number} {self.name}: {error}")
            return
        finally:
            for child in self.children:
                child.end(self.course.mount.abort)
            self.course.took += time.monotonic() - start
        self.course.keep(self.name, number, result)
        say(f"  round {number} {self.name}: {result['seconds']:.3f} s of "
            f"{time.monotonic() - start:.1f} {','.join(result['decisions'])}")


class Group:
    """A cgroup for a cell, or None where there can be none."""

    def __init__(self, wanted):
        self._group = Cgroup() if wanted else None

    def __enter__(self):
        return self._group

    def __exit__(self, *_):
        if self._group:
            self._group.remove()


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
        "samples": thinned(results[len(results) // 2]["samples"]),
    }


def prepare_sum(course):
    """The checksum that all must have."""
    files = course.files
    where = (testfs(course.directory, repeat=files.repeat) if files.repeat > 1
             else disk(course.directory))
    with where as mount:
        course.sum = data.reference(files, mount, {"convert": course.scenario.convert})


def batches(turns):
    """The cells of a round, (course, contestant), in groups whose processes start together: that
    makes use of all CPUs while they import, and none of them does while another is measured."""
    batch, count = [], 0
    for course, name in turns:
        if batch and count + course.scenario.processes > START_TOGETHER:
            yield batch
            batch, count = [], 0
        batch.append((course, name))
        count += course.scenario.processes
    if batch:
        yield batch


def run_batch(batch, number):
    """Cells that start together and are measured one by one."""
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        begun = [stack.enter_context(course.begun(name, number == 0)) for course, name in batch]
        for cell in begun:
            with contextlib.suppress(cells.Failed):
                cells.wait_ready(cell.children)
        ready = time.monotonic() - start
        for cell in begun:
            cell.course.took += ready / len(begun)
            cell.turn(number)


def take_turns(courses, settings):
    """All rounds of the courses, which share them: the first round of each does not count."""
    for number in range(settings.rounds + 1):
        turns = [(course, name) for course in courses.values()
                 for name in settings.contestants(course.scenario)
                 if name not in course.failed
                 and number <= settings.rounds_of(course.scenario, name)]
        for batch in batches(turns):
            run_batch(batch, number)


def summary(course):
    """A course that has been run: what goes into the JSON."""
    files, scenario = course.files, course.scenario
    return {"title": scenario.title, "size": files.size, "shards": files.shards,
            "tensor": files.tensor, "x": scenario.x, "processes": scenario.processes,
            "mount": course.mount.limits(), "took": course.took, "skipped": course.failed,
            "contestants": {name: {**sum_up(found), "decisions": course.decisions[name]}
                            for name, found in course.results.items()
                            if name not in course.failed}}


def measured(scenarios, settings, with_group):
    """Scenarios whose rounds are taken in turn: {name: what goes into the JSON}."""
    courses = {}
    # Free memory in large pieces; what a server is to have cached it has after round 0.
    with contextlib.suppress(PermissionError):
        cache.drop()
    with contextlib.ExitStack() as stack:
        for name, scenario in scenarios.items():
            files = settings.data(scenario)
            say(f"{name}: {scenario.title}, {files.size / data.MIB:.0f} MiB")
            mount = stack.enter_context(scenario.mount(data.made(files)))
            courses[name] = course = Course(scenario, files, mount, with_group)
            course.failed.update({who: why for who in settings.contestants(scenario)
                                  if (why := missing(who))})
            prepare_sum(course)
        take_turns(courses, settings)
        return {name: summary(course) for name, course in courses.items()}


def prepare(names, scenarios, settings):
    """Makes the files of the scenarios, in all formats that they need."""
    for name in names:
        who = settings.contestants(scenarios[name])
        if not who:
            continue
        files = settings.data(scenarios[name])
        say(f"{name}: {files.name()}")
        for form in sorted({CONTESTANTS[one].form for one in who if not missing(one)}):
            data.in_form(data.made(files), form)


def together(names, scenarios):
    """The names, those whose rounds are taken in turn in one group."""
    groups = {}
    for name in names:
        groups.setdefault(scenarios[name].family or name, []).append(name)
    return list(groups.values())


def run_all(names, scenarios, settings, found, keep):
    """All scenarios chosen into found, {name: result}, but what is there; calls keep() after each
    that is done, so that an interrupted run loses no more than the one it was at."""
    with_group, start = can_group(), time.monotonic()
    groups = together([name for name in names
                       if name not in found and settings.contestants(scenarios[name])], scenarios)
    left = sum(settings.estimate(scenarios[name]) for group in groups for name in group)
    for group in groups:
        say(f"{(time.monotonic() - start) / 60:.0f} min gone, about {left / 60:.0f} min left")
        left -= sum(settings.estimate(scenarios[name]) for name in group)
        try:
            found.update(measured({name: scenarios[name] for name in group}, settings, with_group))
        except Unavailable as error:
            say(f"{' '.join(group)}: {error}")
            found.update({name: {"title": scenarios[name].title, "unavailable": str(error)}
                          for name in group})
        keep()
