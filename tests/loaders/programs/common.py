# SPDX-License-Identifier: Apache-2.0
"""What the loader programs share: checksums of tensors and one JSON line as their result."""

import json
import zlib


def as_bytes(value):
    """The bytes of a tensor, an array or a buffer, without a copy where the layout allows it."""
    if hasattr(value, "untyped_storage"):
        import torch
        value = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    elif hasattr(value, "tobytes") and hasattr(value, "reshape"):
        import numpy
        value = numpy.ascontiguousarray(value).reshape(-1).view(numpy.uint8)
    return memoryview(value)


def checksum(value):
    """A checksum that depends on every byte and its place, with the length in front."""
    data = as_bytes(value)
    return f"{data.nbytes}:{zlib.crc32(data):08x}"


def checksums(tensors):
    """A dictionary of checksums, one for each named tensor."""
    return {name: checksum(tensor) for name, tensor in sorted(tensors.items())}


def emit(**result):
    """Prints the result of the program as one line of JSON."""
    print(json.dumps(result), flush=True)
