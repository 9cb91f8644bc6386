# SPDX-License-Identifier: Apache-2.0
"""The bars: what has to hold, from the figures of a result. A bar is met if it holds by the medians
and by the minima (noise only adds)."""

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


def ratio_bar(where, bar, scenario, make, limit):
    """A verdict on a ratio that must not be above limit; make(figures) returns the ratio and a
    word on what it is of."""

    def verdict(result):
        try:
            ratios = {kind: make(lambda name, kind=kind: Figures(result, name, kind), scenario)
                      for kind in ("median", "min")}
        except (Absent, KeyError) as error:
            return Verdict(where, bar, str(error), "not measured")
        text = ", ".join(f"{kind} {ratio:.2f}" for kind, (ratio, _) in ratios.items())
        held = [kind for kind, (ratio, _) in ratios.items() if ratio <= limit]
        met = {0: "NOT met", 1: f"by {held[0]} only" if held else "", 2: "met"}[len(held)]
        return Verdict(where, bar, f"{text} {ratios['median'][1]}", met)

    return verdict


def of_ceiling(of, scenario):
    """The library's seconds of fio's best."""
    seconds, name = of(scenario).best(FIO)
    return library(of, scenario) / seconds, f"of {name}"


def library(of, scenario, names=("eager",)):
    """The library's seconds."""
    return of(scenario).best(names)[0]


def of_peers(of, scenario):
    """The library's seconds of the better of the two peers'."""
    seconds, name = of(scenario).best(BEST_PEERS)
    return library(of, scenario) / seconds, f"of {name}"


def of_anyone(of, scenario):
    """The library's seconds of the best of stock and peers."""
    seconds, name = of(scenario).best(("stock", "prefetch", *BEST_PEERS))
    return library(of, scenario) / seconds, f"of {name}"


def of_stock(names=("eager",)):
    """The library's seconds of stock."""

    def make(of, scenario):
        return library(of, scenario, names) / of(scenario).get("stock"), "of stock"

    return make


def cpu_of_stock(of, scenario):
    """CPU seconds of program and server, of stock's."""
    both = {name: of(scenario).get(name, "cpu") + of(scenario).get(name, "server_cpu")
            for name in ("eager", "stock")}
    return both["eager"] / both["stock"], f"of stock's {both['stock']:.2f} s"


def disk_ceiling(of, scenario):
    """On the disk: seconds of fio's best."""
    seconds, name = of(scenario).best(FIO)
    return library(of, scenario, ("always",)) / seconds, f"of {name}"


def cache_left(of, scenario):
    """Page cache afterwards, in MiB."""
    left = max(of(scenario).get(name, "cached") for name in ("always", "uma"))
    return left / MIB, "MiB"


def growth(of, _):
    """Time per GiB of the largest file, of that of the smallest."""
    per = {name: library(of, name) / of(name).size() for name in ("size-1", "size-12")}
    return per["size-12"] / per["size-1"], "of that at 1 GiB"


def overhead(of, _):
    """Anonymous memory above the model at 12 GiB, in MiB."""
    return (of("size-12").get("eager", "anonymous") - of("size-12").size()) / MIB, "MiB"


def many(of, _):
    """Four at once, of one load times what four cost at the ceiling."""
    one, four = of("processes-1"), of("processes-4")
    scale = four.best(FIO)[0] / one.best(FIO)[0]
    return (library(of, "processes-4") / (library(of, "processes-1") * scale),
            f"of one load x {scale:.2f}")


CEILING, PEER = "at least 0.85 of fio's best", "at most 1.05 of the best peer"
LATENCIES = (("2ms", "FUSE 2 ms"), ("0.2ms", "FUSE 0.2 ms"), ("20ms", "FUSE 20 ms"),
             ("cap", "FUSE, bandwidth cap"))
REAL = ("bindfs", "mergerfs-off", "mergerfs-full", "squashfuse", "sshfs", "rclone")

BARS = (
    *(bar for name, where in LATENCIES for bar in (
        ratio_bar(where, CEILING, name, of_ceiling, 1 / 0.85),
        ratio_bar(where, PEER, name, of_peers, SLOWER))),
    ratio_bar("FUSE 0 ms", "at most 1.05 of stock and best peer", "0ms", of_anyone, SLOWER),
    ratio_bar("FUSE 0 ms", "CPU of program and server not above stock's", "0ms", cpu_of_stock, 1),
    *(ratio_bar(name, "at most 1.05 of stock", name, of_stock(), SLOWER) for name in REAL),
    *(ratio_bar(name, "at most 1/3 of stock", name, of_stock(), 1 / 3)
      for name in ("sshfs", "rclone")),
    ratio_bar("disk, cold", "at least 0.9 of fio's best", "disk-cold", disk_ceiling, 1 / 0.9),
    ratio_bar("disk, cold", "at most 1.05 of stock", "disk-cold", of_stock(("always",)), SLOWER),
    ratio_bar("disk, cold", "page cache left as found (0)", "disk-cold", cache_left, 0),
    ratio_bar("disk, hot", "at most 1.25 of stock", "disk-hot", of_stock(("always",)), 1.25),
    ratio_bar("FUSE, hot", "at most 1.25 of stock", "fuse-hot", of_stock(), 1.25),
    ratio_bar("500 shards of 4 MiB", "at most 1/5 of stock", "shards-500", of_stock(), 1 / 5),
    ratio_bar("12 GiB", "time per GiB at most 1.1 of that at 1 GiB", "", growth, 1.1),
    ratio_bar("12 GiB", "at most 64 MiB more memory than the model", "", overhead, 64),
    ratio_bar("4 processes", "at most 1.3 of one load x the ceiling's scaling", "", many, 1.3),
)


def judged(result):
    """The verdict on each bar."""
    return [bar(result) for bar in BARS]

