# SPDX-License-Identifier: Apache-2.0
"""Children that read what their parent has loaded."""

import data
from loading import modes, same

TORCH = ("header", "write")


def test_forked_children(way, truth, mounted):
    """Children of multiprocessing with fork read the parent's tensors."""
    server = mounted("mixed")
    path = server.mountpoint / "mixed.safetensors"
    under, result, counters = same(way, truth, server, "fork_children.py", path)
    assert under["codes"] == [0, 0, 0]
    assert all(sums == under["sums"][0] for sums in under["sums"])
    assert modes(result, path) == way.modes(*TORCH)
    # What the parent had not touched of a lazily filled map its children read through the kernel's
    # mapping, all of them together once.
    copies = way.copies(*TORCH) + (way.modes("write") == ["lazy"])
    assert counters["bytes"] <= (copies + 0.02) * (data.path("mixed") / path.name).stat().st_size


def test_data_loader(way, truth, mounted):
    """DataLoader workers read rows of an inherited tensor."""
    server = mounted("eight")
    path = server.mountpoint / "part-0.safetensors"
    under, result, _ = same(way, truth, server, "data_loader.py", path)
    assert under["sums"][0] == under["sums"][1]
    assert modes(result, path) == way.modes(*TORCH)
