# SPDX-License-Identifier: Apache-2.0
"""timed_load.py KIND [--cgroup DIR] PATH; the kinds are those of LOADERS

Imports first, then times one load by an unmodified loader plus one touch of every page; the
checksum is made after that. BENCH_WARM=BYTES has a throw-away process touch so much memory just
before the timed part: the host of a virtual machine takes free memory back within seconds. With
--cgroup also says how far the cgroup's memory rose. Prints JSON.
"""

import importlib
import json
import os
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

PAGE = 4096
SUM_BLOCK = 1 << 17  # words of 8 bytes


def load_torch(path):
    """safetensors for torch."""
    from safetensors.torch import load_file

    return load_file(path)


def load_numpy(path):
    """safetensors for numpy; torch is not imported, as in a program that has no use for it."""
    from safetensors.numpy import load_file

    return load_file(path)


def load_pretrained(path, **options):
    """The state of a model that transformers loads."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, **options)
    return dict(model.state_dict())


def load_pretrained_read(path):
    """The same, with transformers told not to map."""
    return load_pretrained(path, disable_mmap=True)


def load_pread(path):
    """safetensors for torch, by its backend that reads."""
    from safetensors.torch import load_file

    return load_file(path, backend="pread")


def load_whole(path):
    """All of a file in one read."""
    with open(path, "rb") as file:
        return {"bytes": numpy.frombuffer(file.read(), numpy.uint8)}


def load_checkpoint(path, **options):
    """A checkpoint of torch.save."""
    import torch

    return torch.load(path, weights_only=True, **options)


def load_checkpoint_map(path):
    """The same, mapped."""
    return load_checkpoint(path, mmap=True)


def load_array(path):
    """A numpy array in its file, read."""
    return {"array": numpy.load(path)}


def load_array_map(path):
    """A numpy array in its file, mapped."""
    return {"array": numpy.load(path, mmap_mode="r")}


def load_llama(path, mode):
    """A GGUF file in llama.cpp; the answer depends on all weights and is had later."""
    from support import llama

    return llama.loaded(path, mode)


def load_llama_map(path):
    """llama.cpp that maps its weights."""
    return load_llama(path, "MMAP")


def load_llama_read(path):
    """llama.cpp that reads its weights."""
    return load_llama(path, "NONE")


LOADERS = {"torch": load_torch, "numpy": load_numpy, "pretrained": load_pretrained,
           "pretrained-read": load_pretrained_read, "pread": load_pread, "whole": load_whole,
           "checkpoint": load_checkpoint, "checkpoint-map": load_checkpoint_map,
           "array": load_array, "array-map": load_array_map, "llama-map": load_llama_map,
           "llama-read": load_llama_read}
MODULES = {"torch": "safetensors.torch", "numpy": "safetensors.numpy", "pread": "safetensors.torch",
           "checkpoint": "torch", "checkpoint-map": "torch", "llama-map": "xllamacpp",
           "llama-read": "xllamacpp"}


def import_all(kind):
    """Imports what the loader would import within the measured time: for transformers, which
    imports and builds tables as it goes, by loading a tiny model from a local directory."""
    if not kind.startswith("pretrained"):
        importlib.import_module(MODULES.get(kind, "numpy"))
    else:
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8,
                             num_hidden_layers=2, num_attention_heads=1)
        with tempfile.TemporaryDirectory() as directory:
            LlamaForCausalLM(config).save_pretrained(directory, max_shard_size=2000)
            LOADERS[kind](directory)


def warm():
    """Touches memory in a throw-away process, bare, if that is asked for."""
    if os.environ.get("BENCH_WARM"):
        os.environ.pop("LD_PRELOAD", None)
        from support import cache

        cache.warm_memory(int(os.environ["BENCH_WARM"]))


def as_array(value):
    """The bytes of a tensor or an array, without a copy."""
    if not isinstance(value, numpy.ndarray):
        import torch

        value = value.detach().reshape(-1).view(torch.uint8).numpy()
    return value.reshape(-1).view(numpy.uint8)


def touch(arrays):
    """Reads one byte of every page."""
    return sum(int(array[::PAGE].sum(dtype=numpy.int64)) for array in arrays)


def block_sums(array):
    """Sums of blocks of 1 MiB."""
    words = array[:array.size // 8 * 8].view(numpy.uint64)
    whole = words[:words.size // SUM_BLOCK * SUM_BLOCK].reshape(-1, SUM_BLOCK)
    return [whole.sum(axis=1), words[whole.size:].sum(keepdims=True),
            numpy.frombuffer(array[words.nbytes:].tobytes().ljust(8, b"\0"), numpy.uint64)]


def checksum(tensors):
    """Cheap checksum over names, bytes and, to a block of 1 MiB, their places."""
    value = 0
    for name in sorted(tensors):
        array = as_array(tensors[name])
        value = zlib.crc32(f"{name}:{array.size}".encode(), value)
        for sums in block_sums(array):
            value = zlib.crc32(sums.tobytes(), value)
    return f"{value:08x}"


class Peak:
    """How far the memory of a cgroup rises above what it is now, page cache included."""

    def __init__(self, directory):
        first = (directory / "memory.max_usage_in_bytes").exists()
        self._usage = directory / ("memory.usage_in_bytes" if first else "memory.current")
        self._peak = open(directory / ("memory.max_usage_in_bytes" if first else "memory.peak"),
                          "r+")
        self._peak.write("0")
        self._peak.flush()
        self._base = int(self._usage.read_text())

    def rise(self):
        """Bytes between the start and the peak since."""
        self._peak.seek(0)
        return int(self._peak.read()) - self._base


def main(kind, *rest):
    """One measured load."""
    import_all(kind)
    warm()
    peak = Peak(Path(rest[1])) if rest[0] == "--cgroup" else None
    start = time.perf_counter()
    tensors = LOADERS[kind](rest[-1])
    arrays = [] if callable(tensors) else [as_array(tensor) for tensor in tensors.values()]
    touch(arrays)
    seconds = time.perf_counter() - start
    rise = peak.rise() if peak else None
    if callable(tensors):
        tensors = tensors()
    print(json.dumps({"seconds": seconds, "checksum": checksum(tensors), "peak": rise,
                      "bytes": sum(array.size for array in arrays)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
