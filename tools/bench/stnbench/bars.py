# SPDX-License-Identifier: Apache-2.0
"""The bars: what has to hold, from the figures of a result. A bar is met if it holds by the medians
and by the minima (noise only adds)."""

from dataclasses import dataclass

from stnbench.contestants import CONTESTANTS, FIO

SLOWER = 1.05  # "not slower"
BEST_PEERS = ("fastsafetensors", "runai-16")
MIB = 1 << 20
MET, NOT_MET, NOT_MEASURED = "met", "**not met**", "not measured"


class Absent(Exception):
    """A figure that this run has not measured."""


@dataclass
class Verdict:
    """A bar and what became of it: of the library as it is, and where there is no userfaultfd."""

    where: str
    bar: str
    measured: str
    met: str
    other: str = "-"
    other_met: str = "-"


class Figures:
    """One scenario of a result, by one statistic."""

    def __init__(self, result, scenario, statistic):
        self._found = result["scenarios"].get(scenario, {})
        self._statistic = statistic

    def get(self, contestant, figure="seconds"):
        """A figure of a contestant; Absent if there is none."""
        values = self._found.get("contestants", {}).get(contestant)
        if not values or not values.get(figure):
            failed = contestant in self._found.get("skipped", {})
            raise Absent(f"{contestant} {'failed' if failed else 'not measured'}")
        return values[figure][self._statistic]

    def best(self, contestants):
        """The least seconds of those that were measured, and whose they are."""
        known = self._found.get("contestants", {})
        found = [(self.get(name), name) for name in contestants if name in known]
        if not found:
            raise Absent(self._found.get("unavailable", "nobody measured"))
        return min(found)

    def size(self):
        """Bytes of the model."""
        if "size" not in self._found:
            raise Absent(self._found.get("unavailable", "nobody measured"))
        return self._found["size"]


def bar(where, text, scenario, make, limit, names=("auto", "eager"), rate=False, allowed=None):
    """A verdict on a ratio of times that must not be above limit; make(of, scenario, name) returns
    the ratio of the contestant of that name, and what it is of. names: the library as it is, which
    decides, and where there is no userfaultfd. rate: the bar is one of throughput, shown as such.
    allowed: the ratio that the ceiling has: a bar that asks for more does not hold against us."""

    def ratios(result, name, how=make):
        return {kind: how(lambda one, kind=kind: Figures(result, one, kind), scenario, name)
                for kind in ("median", "min")}

    def told(result, name):
        try:
            found = ratios(result, name)
            ceiling = ratios(result, name, allowed) if allowed else None
        except Absent as error:
            return str(error), NOT_MEASURED
        met = outcome(found, limit)
        said = in_words(found, rate)
        if ceiling and met != MET and outcome(ceiling, limit) != MET:
            return f"{said}; {in_words(ceiling, rate)}", "server does not allow it"
        return said, met

    return lambda result: Verdict(where, text, *told(result, names[0]), *told(result, names[1]))


def in_words(found, rate):
    """Ratios of medians and of minima, and of whom."""
    ratios = [1 / ratio if rate and ratio else ratio for ratio, _ in found.values()]
    return f"{ratios[0]:.2f}, {ratios[1]:.2f} {found['median'][1]}"


def outcome(found, limit):
    """Whether the ratios hold, in a word."""
    held = [kind for kind, (ratio, _) in found.items() if ratio <= limit]
    names = {"median": "by medians only", "min": "by minima only"}
    return MET if len(held) == 2 else names[held[0]] if held else NOT_MET


def of_best(others):
    """Seconds, of those of the best of others."""

    def make(of, scenario, name):
        seconds, who = of(scenario).best(others)
        return of(scenario).get(name) / seconds, f"of {CONTESTANTS[who].title}"

    return make


def ceiling_of_stock(of, scenario, _):
    """Seconds of fio's best, of stock's."""
    seconds, who = of(scenario).best(FIO)
    return seconds / of(scenario).get("stock"), f"by {CONTESTANTS[who].title}"


def cpu_of_stock(of, scenario, name):
    """CPU seconds of program and server, of stock's."""
    both = {one: of(scenario).get(one, "cpu") + of(scenario).get(one, "server_cpu")
            for one in (name, "stock")}
    return both[name] / both["stock"], f"of stock's {both['stock']:.2f} s"


def cache_left(of, scenario, name):
    """Page cache afterwards, in MiB."""
    return of(scenario).get(name, "cached") / MIB, "MiB"


def cache_lost(of, scenario, name):
    """Page cache that is no more, in MiB, of a model that was all cached."""
    lost = of(scenario).size() - of(scenario).get(name, "cached")
    return max(lost, 0) / MIB, "MiB"


def growth(of, _, name):
    """Time per GiB of the largest file, of that of the smallest."""
    per = {one: of(one).get(name) / of(one).size() for one in ("size-1", "size-12")}
    return per["size-12"] / per["size-1"], "of that at 1 GiB"


def overhead(of, _, name):
    """Anonymous memory above the model at 12 GiB, in MiB."""
    return (of("size-12").get(name, "anonymous") - of("size-12").size()) / MIB, "MiB"


def many(of, _, name):
    """Four at once, of one eager load times what four cost at the ceiling."""
    one, four = of("processes-1"), of("processes-4")
    scale = four.best(FIO)[0] / one.best(FIO)[0]
    return four.get(name) / (one.get("eager") * scale), f"of one eager load x {scale:.2f}"


CEILING = "throughput at least 0.85 of fio's best"
PEER = "time at most 1.05 of the faster of fastsafetensors and Run:ai (16)"
NOT_SLOWER = "time at most 1.05 of stock"
LATENCIES = (("2ms", "FUSE 2 ms"), ("0.2ms", "FUSE 0.2 ms"), ("20ms", "FUSE 20 ms"),
             ("cap", "FUSE, bandwidth cap"))
REAL = ("bindfs", "mergerfs-off", "mergerfs-full", "squashfuse", "sshfs", "rclone")

STOCK = of_best(("stock",))
ANYONE = of_best(("stock", "prefetch", "runai-1", "runai-4", *BEST_PEERS))
ON_DISK = ("always", "always-eager")

BARS = (
    *(one for name, where in LATENCIES for one in (
        bar(where, CEILING, name, of_best(FIO), 1 / 0.85, rate=True),
        bar(where, PEER, name, of_best(BEST_PEERS), SLOWER))),
    bar("FUSE 0 ms", "time at most 1.05 of stock and the best peer", "0ms", ANYONE, SLOWER),
    bar("FUSE 0 ms", "CPU of program and server not above stock's", "0ms", cpu_of_stock, 1),
    *(bar(name, NOT_SLOWER, name, STOCK, SLOWER) for name in REAL),
    *(bar(name, "throughput at least 3 times stock's, if its server allows it", name, STOCK, 1 / 3,
          rate=True, allowed=ceiling_of_stock) for name in ("sshfs", "rclone")),
    bar("disk, cold", "throughput at least 0.9 of fio's best", "disk-cold", of_best(FIO), 1 / 0.9,
        ON_DISK, rate=True),
    bar("disk, cold", NOT_SLOWER, "disk-cold", STOCK, SLOWER, ON_DISK),
    bar("disk, cold", "page cache left as found: 0 MiB", "disk-cold", cache_left, 0, ON_DISK),
    bar("disk, hot", "time at most 1.25 of stock", "disk-hot", STOCK, 1.25, ON_DISK),
    bar("disk, hot", "page cache left as found: none lost", "disk-hot", cache_lost, 0, ON_DISK),
    bar("FUSE, hot", "time at most 1.25 of stock", "fuse-hot", STOCK, 1.25),
    bar("FUSE, hot", "page cache left as found: none lost", "fuse-hot", cache_lost, 0),
    bar("500 shards of 4 MiB", "throughput at least 5 times stock's", "shards-500", STOCK, 1 / 5,
        rate=True),
    bar("12 GiB", "time per GiB at most 1.1 of that at 1 GiB", "", growth, 1.1),
    bar("12 GiB", "memory above the model: at most 64 MiB", "", overhead, 64),
    bar("4 processes", "time at most 1.3 of one eager load times the ceiling's scaling", "", many,
        1.3),
)


def judged(result):
    """The verdict on each bar."""
    return [one(result) for one in BARS]
