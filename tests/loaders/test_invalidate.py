# SPDX-License-Identifier: Apache-2.0
"""A server that tells the kernel to drop pages from within its READ handler: what hangs readers of
the page cache for ever. Every loader that maps, in every environment; test_read_loaders.py has
those that read."""

import data
import pytest
from loading import beside, modes, same

TORCH = ("header", "write")
SECONDS = 40

# What is mounted, the program, its arguments below the mount, the maps of each file, and whether it
# is started anew. Not here: what the manual says is read through the page cache (files that are
# opened again and again, children of a lazily filled parent, safetensors.numpy beside torch without
# userfaultfd).
LOADERS = {
    "load_file": ("mixed", ["load_file.py", "mixed.safetensors"], TORCH, False),
    "safe_open": ("mixed", ["safe_open_all.py", "mixed.safetensors"], TORCH, False),
    "slices": ("mixed", ["safe_open_slices.py", "mixed.safetensors"], TORCH, False),
    "late_torch": ("mixed", ["late_torch.py", "mixed.safetensors"], TORCH, True),
    "metadata": ("mixed", ["safe_open_metadata.py", "np", "keys", "mixed.safetensors"],
                 ("header",), False),
    "threads": ("eight", ["threads.py", *(f"part-{n}.safetensors" for n in range(8))], TORCH,
                False),
    "numpy": ("eight", ["load_file_numpy.py", "part-0.safetensors"], ("read",), True),
    "torch_load": ("checkpoint", ["torch_load.py", "model.pt"], ("write",), False),
    "npy": ("arrays", ["memmap.py", "npy", "r", "array.npy"], ("read",), True),
    "npy_copy": ("arrays", ["memmap.py", "npy", "c", "array.npy"], ("write",), True),
    "mmap": ("arrays", ["py_mmap.py", "read", "bytes.raw"], ("read", "read"), True),
    "mmap_copy": ("arrays", ["py_mmap.py", "copy", "bytes.raw"], ("write", "write"), True),
}


def test_stock_hangs(truth, mounted):
    """Without the library load_file does not end; ending the connection frees it."""
    server = mounted("mixed", invalidate=True, delay_ms=2)
    path = server.mountpoint / "mixed.safetensors"
    assert truth.way.run("load_file.py", path, fresh=True, timeout=8).timed_out


@pytest.mark.parametrize("loader", LOADERS)
def test_loads_under_the_library(way, truth, mounted, loader):
    """Under the library the load ends, header included, with the same bytes."""
    kind, (program, *arguments), maps, fresh = LOADERS[loader]
    server = mounted(kind, invalidate=True, delay_ms=1)
    files = [server.mountpoint / file for file in arguments if "." in file]
    arguments = [server.mountpoint / one if "." in one else one for one in arguments]
    _, result, counters = same(way, truth, server, program, *arguments, fresh=fresh,
                               timeout=SECONDS)
    for file in files:
        assert modes(result, file) == way.modes(*maps)
    assert counters["buffered_reads"] == 0


@pytest.mark.parametrize("kind, program",
                         [("llama", "from_pretrained.py"), ("unet", "unet.py")])
def test_frameworks_under_the_library(way, truth, mounted, room, kind, program):
    """transformers and diffusers. What is no model is elsewhere."""
    source = data.path(kind) / ("model" if kind == "llama" else "")
    server = mounted(source, invalidate=True, delay_ms=1)
    beside(server, room)
    right = truth.of(program, source)
    under, result = way.load(program, room, timeout=SECONDS)
    assert under == right
    for file in source.glob("*.safetensors"):
        assert modes(result, server.mountpoint / file.name) == way.modes(*TORCH), file.name
    assert server.stats()["buffered_reads"] == 0
