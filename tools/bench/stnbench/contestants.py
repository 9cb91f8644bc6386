# SPDX-License-Identifier: Apache-2.0
"""Who is measured: a loader, its settings, and whether the library is under it."""

import importlib.metadata
import shutil
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Contestant:
    """load is a name in loaders.py; form is the file format that it reads."""

    load: str
    group: str
    title: str
    env: dict = field(default_factory=dict)
    form: str = "safetensors"
    package: str = ""
    no_uffd: bool = False  # userfaultfd refused, as in Docker's default profile


def ours(title, load="stock", form="safetensors", **env):
    """An unmodified loader under the library."""
    return Contestant(load, "ours", title, {"STSHIM_" + k: v for k, v in env.items()}, form)


def eager(title, load="stock", form="safetensors", **env):
    """The same where there is no userfaultfd: eager fill, as in a container."""
    return replace(ours(title, load, form, **env), no_uffd=True)


def peer(load, title, package, form="safetensors", **env):
    """A loader for which a program has to be changed, or an option of a stock one."""
    return Contestant(load, "peer", title, env, form, package)


GGUF = "*.gguf"

CONTESTANTS = {
    "stock": Contestant("stock", "stock", "safetensors, mmap"),
    "pread": peer("pread", "safetensors, pread", "safetensors"),
    "whole": peer("whole", "safetensors, whole file read", "safetensors"),
    "numpy": Contestant("numpy", "stock", "safetensors.numpy, mmap"),
    "prefetch": peer("prefetch", "8-thread prefetch + mmap", "safetensors"),
    "cattensors": peer("cattensors", "cattensors, safe_open", "cattensors"),
    "fastsafetensors": peer("fastsafetensors", "fastsafetensors nogds", "fastsafetensors"),
    "runai-1": peer("runai", "Run:ai streamer, 1", "runai-model-streamer",
                    RUNAI_STREAMER_CONCURRENCY="1"),
    "runai-4": peer("runai", "Run:ai streamer, 4", "runai-model-streamer",
                    RUNAI_STREAMER_CONCURRENCY="4"),
    "runai-16": peer("runai", "Run:ai streamer, 16", "runai-model-streamer",
                     RUNAI_STREAMER_CONCURRENCY="16"),
    "flashpack": peer("flashpack", "flashpack, parallel reads", "flashpack", "flashpack",
                      FLASHPACK_CPU_PARALLEL_READ="1"),
    "flashpack-mmap": peer("flashpack", "flashpack, mmap", "flashpack", "flashpack"),
    "tensorizer": peer("tensorizer", "tensorizer", "tensorizer", "tensorizer"),
    "pretrained": Contestant("pretrained", "stock", "transformers"),
    "pretrained-read": peer("pretrained-read", "transformers, disable_mmap", "transformers"),
    "diffusers": Contestant("diffusers", "stock", "diffusers"),
    "diffusers-parallel": peer("diffusers", "diffusers, parallel loading", "diffusers",
                               HF_ENABLE_PARALLEL_LOADING="YES"),
    "llama-map": Contestant("llama-map", "stock", "llama.cpp, mmap", form="gguf"),
    "llama-read": peer("llama-read", "llama.cpp, no-mmap", "xllamacpp", "gguf"),
    "auto": ours("library"),
    "eager": eager("library, no userfaultfd"),
    "lazy": ours("library, FILL=lazy", FILL="lazy"),
    "eager-set": ours("library, FILL=eager", FILL="eager"),
    "reads": ours("library under pread", "pread"),
    "reads-whole": ours("library under whole file read", "whole"),
    "numpy-auto": ours("library under numpy", "numpy"),
    "always": ours("library, MODE=always", MODE="always"),
    "always-eager": eager("library, MODE=always, no userfaultfd", MODE="always"),
    "uma": ours("library, UMA=yes", UMA="yes"),
    "uma-eager": eager("library, UMA=yes, no userfaultfd", UMA="yes"),
    "pretrained-auto": ours("library under transformers", "pretrained"),
    "pretrained-eager": eager("library under transformers, no userfaultfd", "pretrained"),
    "pretrained-reads": ours("library under transformers, disable_mmap", "pretrained-read"),
    "diffusers-auto": ours("library under diffusers", "diffusers"),
    "llama-auto": ours("library under llama.cpp", "llama-map", "gguf", FILES=GGUF),
    "llama-reads": ours("library under llama.cpp, no-mmap", "llama-read", "gguf", FILES=GGUF),
    **{f"eager-t{n}": eager(f"library, no userfaultfd, {n} threads", THREADS=str(n))
       for n in (1, 2, 4, 8, 16, 32)},
    **{name: Contestant(name, "ceiling", title) for name, title in (
        ("fio-psync-1m", "fio psync 1 MiB x 12"), ("fio-psync-16m", "fio psync 16 MiB x 4"),
        ("fio-libaio-1m", "fio libaio 1 MiB, 2 x 16"),
        ("fio-libaio-16m", "fio libaio 16 MiB, 2 x 4"),
        ("plain", "plain direct reader"), ("memcpy", "memcpy, 1 thread"))},
}
FIO = tuple(name for name in CONTESTANTS if name.startswith("fio-"))


def missing(name):
    """Why a contestant cannot run here, or None."""
    contestant = CONTESTANTS[name]
    if name in FIO and shutil.which("fio") is None:
        return "the command fio is not installed"
    try:
        contestant.package and importlib.metadata.version(contestant.package)
    except importlib.metadata.PackageNotFoundError:
        return f"the package {contestant.package} is not installed"
    return None


def versions():
    """{package: version} of all peers."""
    packages = {c.package for c in CONTESTANTS.values() if c.package}
    found = {}
    for package in sorted(packages | {"torch", "numpy", "safetensors"}):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
