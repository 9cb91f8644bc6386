# SPDX-License-Identifier: Apache-2.0
"""Loaders that read instead of mapping, on a plain FUSE mount and on the server that hangs whoever
reads through the page cache."""

import shutil

import data
import pytest
from loading import both, engaged, load
from support import need

WAYS = ["whole", "whole_bytes", "header_then_load", "buffered", "pread_backend", "torch_load",
        "torch_load_map", "numpy_load", "numpy_load_map"]
MODES = ["MMAP", "NONE", "DIRECT_IO", "MLOCK"]
NAMES = {"STSHIM_FILES": "*.safetensors:*.pt:*.npy:*.gguf"}
SHARDS = 5


@pytest.fixture(scope="module")
def llama():
    """A directory with a Llama of random weights in five shards."""
    return data.path("llama") / "model"


def reads(result, name=""):
    """The stats lines about reads of the files whose names end so."""
    return [line for line in result.stats if line["event"] == "read"
            and line["decision"] == "engaged" and line["path"].endswith(name)]


def test_ways(mounted):
    """Every way of Python to read a model: the same bytes, past the page cache, few opens."""
    server = mounted("reads")
    _, result, counters = both(server, "read_all.py", server.mountpoint, *WAYS, env=NAMES)
    for name in ("mixed.safetensors", "model.pt", "array.npy"):
        assert counters["files"][name]["buffered_requests"] == 0, counters["files"]
        assert reads(result, name)


@pytest.mark.limit(120)
def test_ways_while_the_server_invalidates(mounted):
    """The same where a stock reader hangs."""
    truth, _ = load("read_all.py", data.path("reads"), *WAYS, preload=False)
    server = mounted("reads", invalidate=True, delay_ms=1)
    under, _ = load("read_all.py", server.mountpoint, *WAYS, env=NAMES, timeout=60)
    assert under == truth
    assert server.stats()["buffered_reads"] == 0


def test_llama_cpp(mounted):
    """llama.cpp: the header in pieces of 4 KiB, then its weights mapped, read or read directly."""
    need.module("xllamacpp")
    server = mounted("gguf")
    path = server.mountpoint / "model.gguf"
    under, result, counters = both(server, "llama_cpp.py", *MODES, path, env=NAMES)
    assert len(set(under["sums"].values())) == 1
    assert counters["files"]["model.gguf"]["buffered_requests"] == 0, counters
    assert engaged(result, path) and reads(result, "model.gguf"), result.stats
    assert counters["opens"] < 60, counters


@pytest.mark.limit(90)
def test_llama_cpp_while_the_server_invalidates(mounted):
    """The same where stock llama.cpp hangs, in every mode."""
    need.module("xllamacpp")
    truth, _ = load("llama_cpp.py", *MODES, data.path("gguf") / "model.gguf", preload=False)
    server = mounted("gguf", invalidate=True, delay_ms=1)
    under, _ = load("llama_cpp.py", *MODES, server.mountpoint / "model.gguf", env=NAMES,
                    timeout=40)
    assert under == truth
    assert server.stats()["buffered_reads"] == 0


def shards_read(result, counters, llama):
    """Asserts that each shard was read once, all of it, and not mapped."""
    for shard in sorted(llama.glob("*.safetensors")):
        file = counters["files"][shard.name]
        assert reads(result, shard.name), result.stats
        assert file["buffered_requests"] == 0 and file["distinct_bytes"] == shard.stat().st_size
        assert file["bytes"] <= 1.02 * shard.stat().st_size, file
    assert not any(line["event"] == "fill" for line in result.stats)


def test_from_pretrained_disable_mmap(mounted, llama):
    """transformers told not to map."""
    server = mounted(llama)
    _, result, counters = both(server, "from_pretrained.py", server.mountpoint, "disable_mmap")
    shards_read(result, counters, llama)


def test_hf_mount(mounted, llama):
    """On an hf-mount, which it recognises by the name in the mount table, unmodified transformers
    reads by itself."""
    server = mounted(llama, fsname="hf-mount")
    _, result, counters = both(server, "from_pretrained.py", server.mountpoint)
    shards_read(result, counters, llama)


@pytest.mark.limit(90)
def test_hf_mount_while_the_server_invalidates(mounted, llama, tmp_path):
    """The same where a stock reader hangs. What is no model is elsewhere: it would hang, too."""
    truth, _ = load("from_pretrained.py", llama, preload=False)
    server = mounted(llama, fsname="hf-mount", invalidate=True)
    for file in llama.iterdir():
        if file.suffix == ".safetensors":
            (tmp_path / file.name).symlink_to(server.mountpoint / file.name)
        else:
            shutil.copy(file, tmp_path)
    under, result = load("from_pretrained.py", tmp_path, timeout=40)
    assert under == truth
    shards_read(result, server.stats(), llama)


def test_diffusers_disable_mmap(mounted):
    """diffusers told not to map."""
    name = "diffusion_pytorch_model.safetensors"
    server = mounted("unet")
    under, result = load("unet.py", server.mountpoint, "disable_mmap", data.path("unet"))
    assert under["sums"] == under["mapped"]
    assert reads(result, name), result.stats
    assert server.stats()["files"][name]["buffered_requests"] == 0, server.stats()
