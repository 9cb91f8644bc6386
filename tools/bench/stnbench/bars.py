# SPDX-License-Identifier: Apache-2.0
"""The bars: what has to hold, from the figures of a result. A bar is met if it holds by the medians
and by the minima (noise only adds)."""

import contextlib
from dataclasses import dataclass

from stnbench.contestants import FIO

SLOWER = 1.05  # "not slower"
BEST_PEERS = ("fastsafetensors", "runai-16")
MIB, GIB = 1 << 20, 1 << 30


class Absent(Exception):
    """A figure that this run has not measured."""


@dataclass
class Verdict:
    """A bar and what became of it, in a word."""

    where: str
    bar: str
    measured: str
    met: str


class Figures:
    """One scenario of a result, by one statistic."""

    def __init__(self, result, scenario, statistic):
        self._found = result["scenarios"].get(scenario, {})
        self._statistic = statistic

    def get(self, contestant, figure="seconds"):
        """A figure of a contestant; Absent if there is none."""
        values = self._found.get("contestants", {}).get(contestant)
        if not values or not values.get(figure):
            raise Absent(f"{contestant} not measured")
        return values[figure][self._statistic]

    def best(self, contestants):
        """The least seconds of those that were measured, and whose they are."""
        known = self._found.get("contestants", {})
        found = [(self.get(name), name) for name in contestants if name in known]
        if not found:
            raise Absent("none measured")
        return min(found)

    def size(self):
        """Bytes of the model."""
        return self._found["size"]


def bar(where, text, scenario, make, limit, names=("auto", "eager")):
    """A verdict on a ratio that must not be above limit; make(of, scenario, name) returns the
    ratio of the contestant of that name, and what it is of. names: the library as it is, which
    decides, and where there is no userfaultfd."""

    def ratios(result, name):
        return {kind: make(lambda one, kind=kind: Figures(result, one, kind), scenario, name)
                for kind in ("median", "min")}

    def verdict(result):
        try:
            found = ratios(result, names[0])
        except (Absent, KeyError) as error:
            return Verdict(where, text, str(error), "not measured")
        said = f"{in_words(found)} {found['median'][1]}"
        with contextlib.suppress(Absent, KeyError):
            other = ratios(result, names[1])
            said += f"; no userfaultfd: {in_words(other)}, {outcome(other, limit)}"
        return Verdict(where, text, said, outcome(found, limit))

    return verdict


def in_words(found):
    """Ratios of medians and of minima."""
    return ", ".join(f"{kind} {ratio:.2f}" for kind, (ratio, _) in found.items())


def outcome(found, limit):
    """Whether the ratios hold, in a word."""
    held = [kind for kind, (ratio, _) in found.items() if ratio <= limit]
    return "met" if len(held) == 2 else f"by {held[0]} only" if held else "NOT met"


def of_best(others):
    """Seconds, of those of the best of others."""

    def make(of, scenario, name):
        seconds, who = of(scenario).best(others)
        return of(scenario).get(name) / seconds, f"of {who}"

    return make


def cpu_of_stock(of, scenario, name):
    """CPU seconds of program and server, of stock's."""
    both = {one: of(scenario).get(one, "cpu") + of(scenario).get(one, "server_cpu")
            for one in (name, "stock")}
    return both[name] / both["stock"], f"of stock's {both['stock']:.2f} s"


def cache_left(of, scenario, name):
    """Page cache afterwards, in MiB."""
    return of(scenario).get(name, "cached") / MIB, "MiB"


def growth(of, _, name):
    """Time per GiB of the largest file, of that of the smallest."""
    per = {one: of(one).get(name) / of(one).size() for one in ("size-1", "size-12")}
    return per["size-12"] / per["size-1"], "of that at 1 GiB"


def overhead(of, _, name):
    """Anonymous memory above the model at 12 GiB, in MiB."""
    return (of("size-12").get(name, "anonymous") - of("size-12").size()) / MIB, "MiB"


def many(of, _, name):
    """Four at once, of one load times what four cost at the ceiling."""
    one, four = of("processes-1"), of("processes-4")
    scale = four.best(FIO)[0] / one.best(FIO)[0]
    return four.get(name) / (one.get(name) * scale), f"of one load x {scale:.2f}"


CEILING, PEER = "at least 0.85 of fio's best", "at most 1.05 of the best peer"
LATENCIES = (("2ms", "FUSE 2 ms"), ("0.2ms", "FUSE 0.2 ms"), ("20ms", "FUSE 20 ms"),
             ("cap", "FUSE, bandwidth cap"))
REAL = ("bindfs", "mergerfs-off", "mergerfs-full", "squashfuse", "sshfs", "rclone")

STOCK = of_best(("stock",))
ANYONE = of_best(("stock", "prefetch", *BEST_PEERS))
ON_DISK = ("always", "always-eager")

BARS = (
    *(one for name, where in LATENCIES for one in (
        bar(where, CEILING, name, of_best(FIO), 1 / 0.85),
        bar(where, PEER, name, of_best(BEST_PEERS), SLOWER))),
    bar("FUSE 0 ms", "at most 1.05 of stock and best peer", "0ms", ANYONE, SLOWER),
    bar("FUSE 0 ms", "CPU of program and server not above stock's", "0ms", cpu_of_stock, 1),
    *(bar(name, "at most 1.05 of stock", name, STOCK, SLOWER) for name in REAL),
    *(bar(name, "at most 1/3 of stock", name, STOCK, 1 / 3) for name in ("sshfs", "rclone")),
    bar("disk, cold", "at least 0.9 of fio's best", "disk-cold", of_best(FIO), 1 / 0.9, ON_DISK),
    bar("disk, cold", "at most 1.05 of stock", "disk-cold", STOCK, SLOWER, ON_DISK),
    bar("disk, cold", "page cache left as found (0)", "disk-cold", cache_left, 0, ON_DISK),
    bar("disk, hot", "at most 1.25 of stock", "disk-hot", STOCK, 1.25, ON_DISK),
    bar("FUSE, hot", "at most 1.25 of stock", "fuse-hot", STOCK, 1.25),
    bar("500 shards of 4 MiB", "at most 1/5 of stock", "shards-500", STOCK, 1 / 5),
    bar("12 GiB", "time per GiB at most 1.1 of that at 1 GiB", "", growth, 1.1),
    bar("12 GiB", "at most 64 MiB more memory than the model", "", overhead, 64),
    bar("4 processes", "at most 1.3 of one load x the ceiling's scaling", "", many, 1.3),
)


def judged(result):
    """The verdict on each bar."""
    return [one(result) for one in BARS]
