# SPDX-License-Identifier: Apache-2.0
"""read_all.py DIR WAY...: loads the files of a directory in ways that read and do not map.

Each way is named on stderr before it begins; prints checksums of what was loaded, by way.
"""

import json
import os
import sys
from pathlib import Path

import numpy
import torch
from common import checksum, checksums, emit
from safetensors import safe_open
from safetensors.torch import load, load_file

directory = Path(sys.argv[1])
model, checkpoint, array = (directory / name for name in
                            ("mixed.safetensors", "model.pt", "array.npy"))


def whole():
    """What transformers and diffusers do on a file system that they do not map."""
    return checksums(load(open(model, "rb").read()))


def whole_bytes():
    """All of a file, by pathlib and by os.read."""
    fd = os.open(model, os.O_RDONLY)
    parts = []
    while part := os.read(fd, 5_000_001):
        parts.append(part)
    os.close(fd)
    return [checksum(model.read_bytes()), checksum(b"".join(parts))]


def header_then_load():
    """The header through a buffered file object, 8 bytes and N, then a load that maps."""
    with open(model, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        names = sorted(json.loads(file.read(length)))
        position = file.tell()
        file.seek(-100, os.SEEK_END)
        end = file.read()
    return [names, position, checksum(end), checksums(load_file(model))]


def buffered():
    """Small reads, lines, seeks and readinto through Python's buffered file object."""
    sums = []
    with open(model, "rb") as file:
        for turn in range(60):
            file.seek(turn * 1_234_567 % (90 << 20))
            sums.append(checksum(file.read(1 + turn * turn * 97)))
            sums.append(len(file.readline()))
        file.seek(0)
        memory = bytearray(7_000_001)
        sums += [file.readinto(memory), checksum(memory), file.tell(), checksum(file.peek(10)[:10])]
    return sums


def pread_backend():
    """safetensors' own pread backend, by file and by tensor."""
    with safe_open(model, framework="pt", backend="pread") as file:
        single = {name: checksum(file.get_tensor(name)) for name in file.keys()}
    return [checksums(load_file(model, backend="pread")), single]


def torch_load():
    """A zip checkpoint, read: by name and through a file object."""
    with open(checkpoint, "rb") as file:
        return [checksums(torch.load(checkpoint, weights_only=True)),
                checksums(torch.load(file, weights_only=True))]


def torch_load_map():
    """The same, mapped; its directory is read."""
    return checksums(torch.load(checkpoint, weights_only=True, mmap=True))


def numpy_load():
    """np.load and np.fromfile, which read through a stream on a duplicate of the descriptor."""
    with open(array, "rb") as file:
        file.seek(128)
        part = numpy.fromfile(file, dtype="<f8", count=100_000)
        following = file.read(8)
    return [checksum(numpy.load(array)), checksum(part), checksum(following),
            checksum(numpy.fromfile(array, dtype="u1"))]


def numpy_load_map():
    """np.load(mmap_mode="r"); its header is read."""
    return checksum(numpy.load(array, mmap_mode="r"))


sums = {}
for way in sys.argv[2:]:
    print(way, file=sys.stderr, flush=True)
    sums[way] = globals()[way]()
emit(sums=sums)
