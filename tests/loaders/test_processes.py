# SPDX-License-Identifier: Apache-2.0
"""Children that read what their parent has loaded."""

import data
from loading import both, engaged


def test_forked_children(mounted):
    """Children of multiprocessing with fork read the parent's tensors."""
    server = mounted("mixed")
    path = server.mountpoint / "mixed.safetensors"
    under, result, counters = both(server, "fork_children.py", path)
    assert under["codes"] == [0, 0, 0]
    assert all(sums == under["sums"][0] for sums in under["sums"])
    assert engaged(result, path), result.stats
    # What the parent had not touched its children read through the kernel's mapping, all of them
    # together once.
    assert counters["bytes"] <= 2.02 * (data.path("mixed") / path.name).stat().st_size


def test_data_loader(mounted):
    """DataLoader workers read rows of an inherited tensor."""
    server = mounted("eight")
    path = server.mountpoint / "part-0.safetensors"
    under, result, _ = both(server, "data_loader.py", path)
    assert under["sums"][0] == under["sums"][1]
    assert engaged(result, path), result.stats
