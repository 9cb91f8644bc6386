# SPDX-License-Identifier: Apache-2.0
"""One cell, in its own process: child.py SPEC, a JSON object {load, paths, consume, convert}.

Imports, prints "ready", waits for a line, loads and consumes, prints "done" and what it measured,
waits for a line, makes the checksum, prints "sum" and that.
"""

import json
import os
import resource
import sys
import time

from stnbench import loaders
from support.refuse import refuse_userfaultfd

COPY_BUFFER = 64 << 20


def cpu_seconds():
    """User and system time of this process and of what it has started."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def say(word, value):
    """One line for the parent."""
    print(word, json.dumps(value), flush=True)


def copy_out(arrays):
    """Copies every byte through one buffer, as a program does that fills a GPU."""
    import numpy

    buffer = numpy.empty(COPY_BUFFER, numpy.uint8)
    for array in arrays:
        for at in range(0, array.size, COPY_BUFFER):
            piece = array[at:at + COPY_BUFFER]
            buffer[:piece.size] = piece


def consume(tensors, how):
    """Uses the tensors; returns their bytes."""
    from timed_load import as_array, touch

    arrays = [as_array(tensor) for tensor in tensors.values()]
    copy_out(arrays) if how == "copy" else touch(arrays)
    return sum(array.size for array in arrays)


def convert(tensors):
    """All tensors in float32."""
    import torch

    return {name: tensor.to(torch.float32) for name, tensor in tensors.items()}


def load(spec):
    """The timed part: (tensors or a function that makes them, bytes)."""
    tensors = loaders.LOADERS[spec["load"]].function(spec["paths"])
    if callable(tensors):
        return tensors, sum(map(os.path.getsize, spec["paths"]))
    if spec.get("convert"):
        tensors = convert(tensors)
    return tensors, consume(tensors, spec.get("consume"))


def measure(function):
    """(result, seconds and CPU seconds) of a call."""
    cpu, start = cpu_seconds(), time.perf_counter()
    result = function()
    return result, {"seconds": time.perf_counter() - start, "cpu": cpu_seconds() - cpu}


def ceiling(spec):
    """A ceiling measures itself, all but its CPU time."""
    result, measured = measure(lambda: loaders.CEILINGS[spec["load"]](spec["paths"],
                                                                      spec["copies"]))
    return {**measured, "seconds": result["seconds"], "bytes": result["bytes"]}


def main(spec):
    """One cell."""
    if spec.get("no_uffd"):
        refuse_userfaultfd()
    is_ceiling = spec["load"] in loaders.CEILINGS
    if not is_ceiling:
        from timed_load import checksum

        loaders.prepare(spec["load"])
    print("ready", flush=True)
    sys.stdin.readline()
    if is_ceiling:
        say("done", ceiling(spec))
        sys.stdin.readline()
        say("sum", None)
        return
    (tensors, size), measured = measure(lambda: load(spec))
    say("done", {**measured, "bytes": size})
    sys.stdin.readline()
    say("sum", checksum(tensors() if callable(tensors) else tensors))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
