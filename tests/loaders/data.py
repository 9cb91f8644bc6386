# SPDX-License-Identifier: Apache-2.0
"""Models of the kinds that support.models does not make, kept under build/test-data/loaders.

As a program: data.py KIND DIRECTORY makes one; apart, so that pytest itself never imports torch.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = 2
MIB = 1 << 20


def path(kind):
    """The directory with the data of a kind, made on first use by a process of its own."""
    from support import paths

    directory = paths.data() / "loaders" / f"{kind}-{VERSION}"
    if not directory.exists():
        unfinished = directory.with_name(f"{directory.name}.{os.getpid()}")
        unfinished.mkdir(parents=True)
        subprocess.run([sys.executable, __file__, kind, unfinished], check=True, timeout=300)
        # safetensors writes files that nobody else may read.
        subprocess.run(["chmod", "-R", "a+rX", unfinished], check=True)
        shutil.rmtree(directory, ignore_errors=True)
        unfinished.rename(directory)
    return directory


def random_tensor(shape, dtype, generator):
    """A tensor of random bits that are no NaN, in any dtype."""
    import torch

    bits = torch.randint(0, 120, shape, dtype=torch.uint8, generator=generator)
    return bits.to(dtype) if dtype != torch.bool else bits > 60


def make_mixed(out):
    """One file of 96 MiB: every common dtype, odd shapes, a scalar and an empty tensor."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for n, dtype in enumerate((torch.float32, torch.bfloat16, torch.float16, torch.int64,
                               torch.int8, torch.uint8, torch.bool, torch.float64)):
        rows = 12 * MIB // dtype.itemsize // 1021
        tensors[f"block.{n}"] = random_tensor((rows, 1021), dtype, generator)
        tensors[f"scalar.{n}"] = random_tensor((), dtype, generator)
    tensors["empty"] = torch.empty((0, 3))
    save_file(tensors, out / "mixed.safetensors", metadata={"format": "pt"})


def make_eight(out):
    """Eight files of 24 MiB, for threads."""
    import torch
    from safetensors.torch import save_file

    for n in range(8):
        generator = torch.Generator().manual_seed(n)
        tensors = {f"t.{k}": torch.randn(1024, 1024, generator=generator) for k in range(6)}
        save_file(tensors, out / f"part-{n}.safetensors")


def make_large(out):
    """One file of 192 MiB, in tensors of 4 MiB."""
    from support import models

    models.make_safetensors(out / "large.safetensors", [4 * MIB] * 48)


def make_checkpoint(out):
    """A checkpoint of torch.save, 64 MiB."""
    import torch

    generator = torch.Generator().manual_seed(3)
    tensors = {f"t.{k}": torch.randn(2048, 1024, generator=generator) for k in range(8)}
    torch.save(tensors, out / "model.pt")


def make_arrays(out):
    """An array of 64 MiB in a .npy file, and raw bytes of an odd number."""
    import numpy

    generator = numpy.random.default_rng(4)
    numpy.save(out / "array.npy", generator.standard_normal((1024, 8192)))
    (out / "bytes.raw").write_bytes(generator.bytes(64 * MIB + 777))


def make_unet(out):
    """A small UNet of diffusers, the real class with a small configuration."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(5)
    model = UNet2DConditionModel(sample_size=32, block_out_channels=(64, 128, 256),
                                 down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                                                   "DownBlock2D"),
                                 up_block_types=("UpBlock2D", "CrossAttnUpBlock2D",
                                                 "CrossAttnUpBlock2D"),
                                 cross_attention_dim=256)
    model.save_pretrained(out)


def make_llama(out):
    """A Llama of 192 MiB in five shards, in the directory model."""
    from support import models

    models.make_sharded_llama(out / "model", 192 * MIB, 5)


def make_reads(out):
    """Links to a file of each kind that is read in one place: safetensors, torch.save, numpy."""
    for kind, name in (("mixed", "mixed.safetensors"), ("checkpoint", "model.pt"),
                       ("arrays", "array.npy")):
        os.link(path(kind) / name, out / name)


def make_gguf(out):
    """A Llama of 128 MiB with 128 tokens, as llama.cpp reads it."""
    from support import models

    models.make_gguf(out / "model.gguf", 128 * MIB)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    globals()["make_" + sys.argv[1]](Path(sys.argv[2]))
