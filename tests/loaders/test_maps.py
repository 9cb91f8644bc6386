# SPDX-License-Identifier: Apache-2.0
"""Other ways of Python to map a model: torch.load, numpy and the mmap module."""

import pytest
from loading import modes, read_once, same

KINDS = {"r": "read", "c": "write"}  # of numpy's modes


def test_torch_load(way, truth, mounted):
    """torch.load(mmap=True): its own reads of the zip directory, and one map."""
    server = mounted("checkpoint", delay_ms=2)
    path = server.mountpoint / "model.pt"
    _, result, counters = same(way, truth, server, "torch_load.py", path)
    assert modes(result, path) == way.modes("write")
    size = path.stat().st_size
    assert 0.98 * size <= counters["direct_bytes"] <= 1.02 * size


@pytest.mark.parametrize("mode", ["r", "c"])
def test_memmap(way, truth, mounted, mode):
    """np.memmap, shared or copy-on-write, whole and from within a page. The part is filled before
    mmap returns, as all small maps are."""
    server = mounted("arrays", delay_ms=2)
    path = server.mountpoint / "bytes.raw"
    _, result, counters = same(way, truth, server, "memmap.py", "raw", mode, path, fresh=True)
    assert modes(result, path) == way.modes(KINDS[mode]) + ["eager"]
    assert counters["files"]["bytes.raw"]["distinct_bytes"] >= path.stat().st_size
    assert counters["buffered_bytes"] == 0


@pytest.mark.parametrize("mode", ["r", "c"])
def test_load_npy(way, truth, mounted, mode):
    """np.load(mmap_mode=...)."""
    server = mounted("arrays", delay_ms=2)
    path = server.mountpoint / "array.npy"
    _, result, counters = same(way, truth, server, "memmap.py", "npy", mode, path, fresh=True)
    assert modes(result, path) == way.modes(KINDS[mode])
    assert counters["direct_bytes"] >= path.stat().st_size * 0.98


@pytest.mark.parametrize("kind", ["read", "copy"])
def test_mmap_module(way, truth, mounted, kind):
    """mmap.mmap with ACCESS_READ and ACCESS_COPY; stores into the copy stay private. The whole is
    read once, the part that is mapped again once more at most."""
    server = mounted("arrays", delay_ms=2)
    path = server.mountpoint / "bytes.raw"
    under, result, counters = same(way, truth, server, "py_mmap.py", kind, path, fresh=True)
    assert modes(result, path) == 2 * way.modes("read" if kind == "read" else "write")
    size = path.stat().st_size
    read_once(counters, "bytes.raw", size, slack=5000001 / size + 0.02)
    if kind == "copy":
        assert under["sums"][0] != under["sums"][2]
        assert under["sums"][1] == under["sums"][3]


@pytest.mark.parametrize("call", ["write", "fwrite", "send", "sendmsg", "process_vm_writev"])
def test_system_calls_on_a_map(way, truth, mounted, room, call):
    """A read-only map that nobody has touched yet is given to the kernel: it gets the bytes."""
    server = mounted("arrays", delay_ms=1)
    path = server.mountpoint / "bytes.raw"
    _, result, counters = same(way, truth, server, "hand_over.py", call, path, room / "copy",
                               room=room, fresh=True)
    assert modes(result, path) == way.modes("read")
    read_once(counters, "bytes.raw", path.stat().st_size)
