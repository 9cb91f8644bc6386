# SPDX-License-Identifier: Apache-2.0
"""transformers, diffusers and accelerate on a FUSE mount."""

import json
import shutil

import data
import pytest
from loading import MIB, modes, read_once, same
from support.run import mapped

SHARDS = 5
TORCH = ("header", "write")


@pytest.fixture(scope="module")
def llama():
    """A directory with a Llama of random weights in five shards."""
    return data.path("llama") / "model"


@pytest.fixture(scope="module")
def hub_cache(llama, tmp_path_factory):
    """The same model as the hub's cache lays it out: snapshots of links to blobs without suffix."""
    root = tmp_path_factory.mktemp("hub")
    root.chmod(0o755)
    blobs, snapshot = root / "blobs", root / "snapshots" / "0123456789abcdef"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for n, file in enumerate(sorted(llama.iterdir())):
        blob = blobs / f"{n:064x}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
    return root


def shards_of(directory):
    """The shards of a model, sorted."""
    return sorted(directory.glob("*.safetensors"))


def at_most_twice(result, counters, directory):
    """Asserts that every shard was read twice at most, but for what was under way when that was
    reached, a block of 2 MiB of each, and for headers, of which each map reads its own."""
    total = sum(shard.stat().st_size for shard in shards_of(directory))
    headers = len(mapped(result.stats)) * MIB // 8
    assert counters["direct_bytes"] <= 2 * total + SHARDS * 2 * MIB + headers


def test_from_pretrained(way, truth, mounted, llama):
    """transformers maps every shard; each is read as a file alone is."""
    server = mounted(llama, delay_ms=2)
    _, result, counters = same(way, truth, server, "from_pretrained.py", server.mountpoint)
    assert len(shards_of(llama)) == SHARDS
    for shard in shards_of(llama):
        assert modes(result, server.mountpoint / shard.name) == way.modes(*TORCH), shard.name
        read_once({**counters, "buffered_bytes": 0}, shard.name, shard.stat().st_size,
                  way.copies(*TORCH))
    assert counters["buffered_bytes"] <= 1 << 20  # config, index


def test_from_pretrained_hub_cache(way, truth, mounted, hub_cache):
    """The name as the program gives it counts, not the blob behind the link."""
    server = mounted(hub_cache)
    snapshot = next((server.mountpoint / "snapshots").iterdir())
    _, result, counters = same(way, truth, server, "from_pretrained.py", snapshot)
    for shard in shards_of(next((hub_cache / "snapshots").iterdir())):
        blob = "blobs/" + shard.resolve().name
        assert modes(result, server.mountpoint / blob) == way.modes(*TORCH), shard.name
        read_once({**counters, "buffered_bytes": 0}, blob, shard.stat().st_size,
                  way.copies(*TORCH))


def test_diffusers(way, truth, mounted):
    """UNet2DConditionModel.from_pretrained reads its file as a file alone is read."""
    name = "diffusion_pytorch_model.safetensors"
    server = mounted("unet", delay_ms=2)
    _, result, counters = same(way, truth, server, "unet.py", server.mountpoint)
    assert modes(result, server.mountpoint / name) == way.modes(*TORCH)
    read_once(counters, name, (data.path("unet") / name).stat().st_size, way.copies(*TORCH))


def test_accelerate_dispatch(way, truth, mounted, llama, room):
    """load_checkpoint_and_dispatch with the last layer on disk: same weights, same output. The
    shard of that layer is mapped once more; filled twice already, it is the kernel's then."""
    server = mounted(llama)
    program = ["dispatch.py", server.mountpoint, room]
    under, result, counters = same(way, truth, server, *program, room=room)
    assert under["on_disk"]
    for shard in shards_of(llama):
        assert modes(result, server.mountpoint / shard.name)[:2] == way.modes(*TORCH), shard.name
        most = 2.05 if way.copies(*TORCH) == 1 else 3.05
        assert counters["files"][shard.name]["bytes"] <= most * shard.stat().st_size
    at_most_twice(result, counters, llama)


def test_accelerate_disk_offload(way, truth, mounted, llama):
    """Layers left in their files are read again for each call, from the file after two copies."""
    server = mounted(llama)
    _, result, counters = same(way, truth, server, "offload.py", server.mountpoint)
    index = json.loads((llama / "model.safetensors.index.json").read_text())["weight_map"]
    for shard in set(index.values()):
        assert modes(result, server.mountpoint / shard)[:2] == way.modes(*TORCH), shard
    at_most_twice(result, counters, llama)
