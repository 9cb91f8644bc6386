# SPDX-License-Identifier: Apache-2.0
"""transformers, diffusers and accelerate on a FUSE mount."""

import json
import shutil

import data
import pytest
from loading import both, engaged, read_once

SHARDS = 5


@pytest.fixture(scope="module")
def llama():
    """A directory with a Llama of random weights in five shards."""
    return data.path("llama") / "model"


@pytest.fixture(scope="module")
def hub_cache(llama, tmp_path_factory):
    """The same model as the hub's cache lays it out: snapshots of links to blobs without suffix."""
    root = tmp_path_factory.mktemp("hub")
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


def test_from_pretrained(mounted, llama):
    """transformers maps every shard; each is read once."""
    server = mounted(llama, delay_ms=2)
    _, result, counters = both(server, "from_pretrained.py", server.mountpoint)
    assert len(shards_of(llama)) == SHARDS
    for shard in shards_of(llama):
        assert engaged(result, server.mountpoint / shard.name), shard.name
        read_once({**counters, "buffered_bytes": 0}, shard.name, shard.stat().st_size)
    assert counters["buffered_bytes"] <= 1 << 20  # config, index


def test_from_pretrained_hub_cache(mounted, hub_cache):
    """The name as the program gives it counts, not the blob behind the link."""
    server = mounted(hub_cache)
    snapshot = next((server.mountpoint / "snapshots").iterdir())
    _, result, counters = both(server, "from_pretrained.py", snapshot)
    for shard in shards_of(next((hub_cache / "snapshots").iterdir())):
        blob = "blobs/" + shard.resolve().name
        assert engaged(result, server.mountpoint / blob), shard.name
        read_once({**counters, "buffered_bytes": 0}, blob, shard.stat().st_size)


def test_diffusers(mounted):
    """UNet2DConditionModel.from_pretrained reads its file once."""
    name = "diffusion_pytorch_model.safetensors"
    server = mounted("unet", delay_ms=2)
    _, result, counters = both(server, "unet.py", server.mountpoint)
    assert engaged(result, server.mountpoint / name), result.stats
    read_once(counters, name, (data.path("unet") / name).stat().st_size)


def test_accelerate_dispatch(mounted, llama, tmp_path):
    """load_checkpoint_and_dispatch with the last layer on disk: same weights, same output."""
    server = mounted(llama)
    under, result, counters = both(server, "dispatch.py", server.mountpoint, tmp_path)
    assert under["on_disk"]
    for shard in shards_of(llama):
        assert engaged(result, server.mountpoint / shard.name), shard.name
        assert counters["files"][shard.name]["bytes"] <= 2.05 * shard.stat().st_size


def test_accelerate_disk_offload(mounted, llama):
    """Layers left in their files are read again for each call, from the file after two copies."""
    server = mounted(llama)
    _, result, counters = both(server, "offload.py", server.mountpoint)
    index = json.loads((llama / "model.safetensors.index.json").read_text())["weight_map"]
    assert any(engaged(result, server.mountpoint / shard) for shard in set(index.values()))
    total = sum(shard.stat().st_size for shard in shards_of(llama))
    assert counters["direct_bytes"] <= 2.05 * total
