# SPDX-License-Identifier: Apache-2.0
"""What a contestant does inside its process: from paths to tensors. Each function takes a list of
paths and returns {name: tensor}, or a function that returns it once the clock has stopped."""

import importlib
import json
import os
import subprocess
import threading
from dataclasses import dataclass

import numpy

from support import llama

MIB = 1 << 20
PREFETCH_THREADS, PREFETCH_BLOCK = 8, 16 * MIB


def merged(load, paths, **options):
    """The tensors of several files in one dictionary."""
    tensors = {}
    for path in paths:
        tensors.update(load(path, **options))
    return tensors


def stock(paths):
    """safetensors for torch, which maps the file."""
    from safetensors.torch import load_file

    return merged(load_file, paths)


def pread(paths):
    """safetensors for torch, its backend that reads."""
    from safetensors.torch import load_file

    return merged(load_file, paths, backend="pread")


def whole(paths):
    """The whole file in one read, then safetensors from those bytes."""
    from safetensors.torch import load

    tensors = {}
    for path in paths:
        with open(path, "rb") as file:
            tensors.update(load(file.read()))
    return tensors


def for_numpy(paths):
    """safetensors for numpy."""
    from safetensors.numpy import load_file

    return merged(load_file, paths)


def read_into_cache(blocks):
    """A thread of prefetch: reads blocks that are left, and forgets them."""
    buffer = bytearray(PREFETCH_BLOCK)
    while True:
        try:
            path, offset = blocks.pop()
        except IndexError:
            return
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            file.readinto(buffer)


def prefetch(paths):
    """Eight threads read the files into the page cache, as vLLM and SGLang do; then stock."""
    blocks = [(path, offset) for path in paths
              for offset in range(0, os.path.getsize(path), PREFETCH_BLOCK)][::-1]
    threads = [threading.Thread(target=read_into_cache, args=(blocks,))
               for _ in range(PREFETCH_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return stock(paths)


def cattensors(paths):
    """safetensors patched by cattensors, which reads into the page cache first. By safe_open: under
    its patch load_file of safetensors 0.8 ends in a TypeError (argument "backend")."""
    import cattensors as module
    import safetensors

    module.patch()
    tensors = {}
    for path in paths:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors.update((name, file.get_tensor(name)) for name in file.keys())
    return tensors


def fastsafetensors(paths):
    """fastsafetensors without GPUDirect Storage, to CPU memory."""
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    loader = SafeTensorsFileLoader(SingleGroup(), "cpu", nogds=True, debug_log=False)
    loader.add_filenames({0: [str(path) for path in paths]})
    buffers = loader.copy_files_to_device()
    return {name: buffers.get_tensor(name) for name in loader.get_keys()}


def runai(paths):
    """Run:ai model streamer; RUNAI_STREAMER_CONCURRENCY says how many threads."""
    from runai_model_streamer import SafetensorsStreamer

    with SafetensorsStreamer() as streamer:
        streamer.stream_files([str(path) for path in paths])
        return dict(streamer.get_tensors())


def flashpack(paths):
    """flashpack from its own format; its variables say whether it maps or reads."""
    from flashpack import deserialization

    tensors = {}
    for path in paths:
        storage, metadata = deserialization.read_flashpack_file(str(path), "cpu")
        tensors.update(deserialization.iterate_from_flash_tensor(storage, metadata))
    return tensors


def tensorizer(paths):
    """tensorizer from its own format."""
    from tensorizer import TensorDeserializer

    tensors = {}
    for path in paths:
        tensors.update(TensorDeserializer(str(path), device="cpu"))
    return tensors


def pretrained(paths, **options):
    """transformers from_pretrained of the directory of the files."""
    from timed_load import load_pretrained

    return load_pretrained(os.path.dirname(paths[0]), **options)


def pretrained_read(paths):
    """The same, told not to map."""
    return pretrained(paths, disable_mmap=True)


def diffusers(paths):
    """A diffusers transformer, from the directory of the files."""
    import torch
    from diffusers import DiTTransformer2DModel

    return DiTTransformer2DModel.from_pretrained(
        os.path.dirname(paths[0]), torch_dtype=torch.bfloat16, local_files_only=True,
        low_cpu_mem_usage=True).state_dict()


def llama_map(paths):
    """llama.cpp that maps its file."""
    return llama.loaded(paths[0], "MMAP")


def llama_read(paths):
    """llama.cpp with --no-mmap."""
    return llama.loaded(paths[0], "NONE")


@dataclass(frozen=True)
class Loader:
    """A function and what is imported before the clock starts."""

    function: object
    modules: tuple = ()
    tables: str = ""  # a loader of timed_load.py that imports as it goes


LOADERS = {
    "stock": Loader(stock, ("safetensors.torch",)),
    "pread": Loader(pread, ("safetensors.torch",)),
    "whole": Loader(whole, ("safetensors.torch",)),
    "numpy": Loader(for_numpy, ("safetensors.numpy",)),
    "prefetch": Loader(prefetch, ("safetensors.torch",)),
    "cattensors": Loader(cattensors, ("torch", "cattensors")),
    "fastsafetensors": Loader(fastsafetensors, ("fastsafetensors.frameworks._torch",)),
    "runai": Loader(runai, ("runai_model_streamer",)),
    "flashpack": Loader(flashpack, ("flashpack.deserialization",)),
    "tensorizer": Loader(tensorizer, ("tensorizer",)),
    "pretrained": Loader(pretrained, tables="pretrained"),
    "pretrained-read": Loader(pretrained_read, tables="pretrained-read"),
    "diffusers": Loader(diffusers, ("diffusers", "diffusers.models.transformers")),
    "llama-map": Loader(llama_map, ("xllamacpp",)),
    "llama-read": Loader(llama_read, ("xllamacpp",)),
}


def prepare(name):
    """Imports what a loader needs."""
    loader = LOADERS[name]
    for module in loader.modules:
        importlib.import_module(module)
    if loader.tables:
        from timed_load import import_all

        import_all(loader.tables)


def fio(paths, copies, engine, block, jobs, depth):
    """Seconds and bytes of one fio run that reads the files copies times at once, each job a share
    of them."""
    argv = ["fio", "--output-format=json", "--direct=1", "--rw=read", "--thread",
            "--group_reporting", f"--ioengine={engine}", f"--bs={block}", f"--iodepth={depth}"]
    total = copies * sum(os.path.getsize(path) for path in paths)
    for n, (path, start, length) in enumerate(shares(paths, jobs, block) * copies):
        argv += [f"--name=job{n}", f"--filename={path}", f"--offset={start}", f"--size={length}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"fio: {done.stderr[-1000:]}")
    read = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]["read"]
    # fio leaves out the ends of files that fill no block of the disk: at most a page each.
    return {"seconds": read["io_bytes"] / read["bw_bytes"] * total / read["io_bytes"],
            "bytes": read["io_bytes"]}


def shares(paths, jobs, block):
    """Pieces of files, one for each fio job: (path, offset, length), in whole pages."""
    if len(paths) > jobs:
        return [(":".join(map(str, paths[n::jobs])), 0,
                 sum(os.path.getsize(path) // 4096 * 4096 for path in paths[n::jobs]))
                for n in range(jobs)]
    pieces = []
    for path in paths:
        size = os.path.getsize(path) // 4096 * 4096
        step = max(-(-size // (jobs // len(paths) or 1) // block) * block, block)
        pieces += [(path, at, min(step, size - at)) for at in range(0, size, step)]
    return pieces


def plain(paths, _copies):
    """The C program that reads in parallel with O_DIRECT into fresh huge pages."""
    from support import paths as places

    program = places.build() / "tests" / "bench" / "ceiling"
    done = subprocess.run([program, *paths], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def memcpy(paths, _copies):
    """A copy of as many bytes from memory to fresh memory, by one thread; reads no file."""
    import mmap
    import time

    total = sum(os.path.getsize(path) for path in paths)
    source = numpy.ones(64 * MIB, numpy.uint8)
    start = time.perf_counter()
    memory = mmap.mmap(-1, total, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    target = numpy.frombuffer(memory, numpy.uint8)
    for at in range(0, total, source.size):
        piece = target[at:at + source.size]
        piece[:] = source[:piece.size]
    return {"seconds": time.perf_counter() - start, "bytes": total}


CEILINGS = {
    "fio-psync-1m": lambda paths, copies: fio(paths, copies, "psync", MIB, 12, 1),
    "fio-psync-16m": lambda paths, copies: fio(paths, copies, "psync", 16 * MIB, 4, 1),
    "fio-libaio-1m": lambda paths, copies: fio(paths, copies, "libaio", MIB, 2, 16),
    "fio-libaio-16m": lambda paths, copies: fio(paths, copies, "libaio", 16 * MIB, 2, 4),
    "plain": plain,
    "memcpy": memcpy,
}
