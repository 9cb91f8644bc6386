# SPDX-License-Identifier: Apache-2.0
"""Other ways of Python to map a model: torch.load, numpy and the mmap module."""

import pytest
from loading import both, engaged, read_once

NAMES = {"STSHIM_FILES": "*.pt:*.npy:*.raw:*.safetensors"}


def test_torch_load(mounted):
    """torch.load(mmap=True): its own reads of the zip directory stay buffered, the map does not."""
    server = mounted("checkpoint", delay_ms=2)
    path = server.mountpoint / "model.pt"
    _, result, counters = both(server, "torch_load.py", path,
                               env={"STSHIM_FILES": "*.pt:*.safetensors"})
    assert engaged(result, path), result.stats
    size = path.stat().st_size
    assert counters["direct_bytes"] >= 0.98 * size
    assert counters["direct_bytes"] <= 1.02 * size


@pytest.mark.parametrize("mode", ["r", "c"])
def test_memmap(mounted, mode):
    """np.memmap, shared or copy-on-write, whole and from within a page."""
    server = mounted("arrays", delay_ms=2)
    path = server.mountpoint / "bytes.raw"
    _, result, counters = both(server, "memmap.py", "raw", mode, path, env=NAMES)
    assert len(engaged(result, path)) == 2, result.stats
    assert counters["files"]["bytes.raw"]["distinct_bytes"] >= path.stat().st_size
    assert counters["buffered_bytes"] == 0


@pytest.mark.parametrize("mode", ["r", "c"])
def test_load_npy(mounted, mode):
    """np.load(mmap_mode=...)."""
    server = mounted("arrays", delay_ms=2)
    path = server.mountpoint / "array.npy"
    _, result, counters = both(server, "memmap.py", "npy", mode, path, env=NAMES)
    assert engaged(result, path), result.stats
    assert counters["direct_bytes"] >= path.stat().st_size * 0.98


@pytest.mark.parametrize("kind", ["read", "copy"])
def test_mmap_module(mounted, kind):
    """mmap.mmap with ACCESS_READ and ACCESS_COPY; stores into the copy stay private."""
    server = mounted("arrays", delay_ms=2)
    path = server.mountpoint / "bytes.raw"
    under, result, _ = both(server, "py_mmap.py", kind, path, env=NAMES)
    assert len(engaged(result, path)) == 2, result.stats
    if kind == "copy":
        assert under["sums"][0] != under["sums"][2]
        assert under["sums"][1] == under["sums"][3]


def test_mmap_module_reads_once(mounted):
    """A whole map reads the file once; a second map of a part reads that part again at most."""
    server = mounted("arrays")
    path = server.mountpoint / "bytes.raw"
    _, _, counters = both(server, "py_mmap.py", "read", path, env=NAMES)
    size = path.stat().st_size
    read_once(counters, "bytes.raw", size, slack=5000001 / size + 0.02)
