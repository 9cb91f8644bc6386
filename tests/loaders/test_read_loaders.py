# SPDX-License-Identifier: Apache-2.0
"""Loaders that read instead of mapping, on a plain FUSE mount and on the server that hangs whoever
reads through the page cache."""

import data
import pytest
from loading import beside, modes, same
from support import need

# Ways of read_all.py, and how they map which files. Those of a line share a process: a file is
# mapped twice at most, for each map may be filled.
WAYS = {
    "whole whole_bytes header_then_load buffered torch_load torch_load_map numpy_load "
    "numpy_load_map": {"mixed.safetensors": ("header", "write"), "model.pt": ("write",),
                       "array.npy": ("read",)},
    "pread_backend": {"mixed.safetensors": ("header", "header")},
}
MODES = ["MMAP", "NONE", "DIRECT_IO", "MLOCK"]
SHARDS = 5


@pytest.fixture(scope="module")
def llama():
    """A directory with a Llama of random weights in five shards."""
    return data.path("llama") / "model"


def reads(result, name=""):
    """The stats lines about reads of the files whose names end so."""
    return [line for line in result.stats if line["event"] == "read"
            and line["decision"] == "engaged" and line["path"].endswith(name)]


def read_all(way, truth, server, names, **options):
    """Runs some ways; they must give the same bytes as stock, past the page cache."""
    program = ["read_all.py", server.mountpoint, *names.split()]
    _, result, counters = same(way, truth, server, *program, **options)
    for name, maps in WAYS[names].items():
        assert modes(result, server.mountpoint / name) == way.modes(*maps), name
        assert reads(result, name)
    assert counters["buffered_reads"] == 0, counters["files"]


@pytest.mark.parametrize("names", WAYS, ids=lambda names: names.split()[0])
def test_ways(way, truth, mounted, names):
    """Every way of Python to read a model: the same bytes, past the page cache."""
    read_all(way, truth, mounted("reads"), names)


@pytest.mark.limit(120)
@pytest.mark.parametrize("names", WAYS, ids=lambda names: names.split()[0])
def test_ways_while_the_server_invalidates(way, truth, mounted, names):
    """The same where a stock reader hangs."""
    read_all(way, truth, mounted("reads", invalidate=True, delay_ms=1), names, timeout=60)


def test_llama_cpp(way, truth, mounted):
    """llama.cpp: the header in pieces of 4 KiB, then its weights mapped, read or read directly. It
    asks for its map to be populated: that is filled before mmap returns, everywhere."""
    need.module("xllamacpp")
    server = mounted("gguf")
    path = server.mountpoint / "model.gguf"
    program = ["llama_cpp.py", *MODES, path]
    under, result, counters = same(way, truth, server, *program, fresh=True)
    assert len(set(under["sums"].values())) == 1
    assert counters["files"]["model.gguf"]["buffered_requests"] == 0, counters
    assert modes(result, path) == ["eager"] and reads(result, "model.gguf"), result.stats
    assert counters["opens"] < 60, counters


@pytest.mark.limit(90)
def test_llama_cpp_while_the_server_invalidates(way, truth, mounted):
    """The same where stock llama.cpp hangs, in every mode."""
    need.module("xllamacpp")
    server = mounted("gguf", invalidate=True, delay_ms=1)
    program = ["llama_cpp.py", *MODES, server.mountpoint / "model.gguf"]
    same(way, truth, server, *program, fresh=True, timeout=40)
    assert server.stats()["buffered_reads"] == 0


def shards_read(result, counters, llama):
    """Asserts that each shard was read once, all of it, and not mapped."""
    for shard in sorted(llama.glob("*.safetensors")):
        file = counters["files"][shard.name]
        assert reads(result, shard.name), result.stats
        assert file["buffered_requests"] == 0 and file["distinct_bytes"] == shard.stat().st_size
        assert file["bytes"] <= 1.02 * shard.stat().st_size, file
    assert {line["event"] for line in result.stats} == {"read"}, result.stats


def test_from_pretrained_disable_mmap(way, truth, mounted, llama):
    """transformers told not to map."""
    server = mounted(llama)
    program = ["from_pretrained.py", server.mountpoint, "disable_mmap"]
    _, result, counters = same(way, truth, server, *program)
    shards_read(result, counters, llama)


def test_hf_mount(way, truth, mounted, llama):
    """On an hf-mount, which it recognises by the name in the mount table, unmodified transformers
    reads by itself."""
    server = mounted(llama, fsname="hf-mount")
    _, result, counters = same(way, truth, server, "from_pretrained.py", server.mountpoint)
    shards_read(result, counters, llama)


@pytest.mark.limit(90)
def test_hf_mount_while_the_server_invalidates(way, truth, mounted, llama, room):
    """The same where a stock reader hangs. What is no model is elsewhere: it would hang, too."""
    server = mounted(llama, fsname="hf-mount", invalidate=True)
    beside(server, room)
    right = truth.of("from_pretrained.py", llama)
    under, result = way.load("from_pretrained.py", room, timeout=40)
    assert under == right
    shards_read(result, server.stats(), llama)


def test_diffusers_disable_mmap(way, truth, mounted):
    """diffusers told not to map."""
    name = "diffusion_pytorch_model.safetensors"
    server = mounted("unet")
    program = ["unet.py", server.mountpoint, "disable_mmap"]
    _, result, counters = same(way, truth, server, *program)
    assert reads(result, name), result.stats
    assert counters["files"][name]["buffered_requests"] == 0, counters
