# SPDX-License-Identifier: Apache-2.0
"""lazy_load.py [--refuse] WHAT FILE: uses a part of a safetensors file with torch, and times it.

WHAT: keys, one, half (the first half of each tensor's rows), second (every second tensor), first
(the time until one tensor can be used, then all), all, compute (tensor by tensor, 5 ms of work
after each), later (all are made, then used with 5 ms of work after each), storage (the file as one
writable map of torch's; says how much of it is in huge pages).
--refuse: without userfaultfd. Prints JSON; the checksum is over what was used.
"""

import json
import os
import re
import sys
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support import cache, refuse  # noqa: E402

import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402


def checksum(tensor, value=0):
    """A sum of the 8-byte words of a tensor, chained."""
    words = tensor.contiguous().view(-1).view(torch.int64)
    return zlib.crc32(str(int(words.sum())).encode(), value)


def work(seconds=0.005):
    """Computes for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def use(what, path):
    """Does it; returns the checksum and figures."""
    start, value, figures = time.perf_counter(), 0, {}
    if what == "first":
        with safe_open(path, "pt") as file:
            value = checksum(file.get_tensor(next(iter(file.keys()))))
            figures["first"] = time.perf_counter() - start
    if what in ("first", "all", "later"):
        tensors = load_file(path)
        for name in sorted(tensors):
            value = checksum(tensors[name], value)
            if what == "later":
                work()
        return value, figures
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        if what == "keys":
            value = zlib.crc32(str([file.get_slice(name).get_shape() for name in names]).encode())
        elif what == "one":
            value = checksum(file.get_tensor(names[len(names) // 2]))
        elif what == "second":
            for name in names[::2]:
                value = checksum(file.get_tensor(name), value)
        elif what == "compute":
            for name in names:
                value = checksum(file.get_tensor(name), value)
                work()
        elif what == "half":
            for name in names:
                rows = file.get_slice(name).get_shape()[0]
                value = checksum(file.get_slice(name)[:rows // 2], value)
    return value, figures


def use_storage(path):
    """Reads the file through a writable map; the share of it that is in huge pages."""
    size = os.stat(path).st_size // 8 * 8
    storage = torch.UntypedStorage.from_file(path, shared=False, nbytes=size)
    value = checksum(torch.tensor([], dtype=torch.int64).set_(storage))
    time.sleep(0.3)
    address = storage.data_ptr()
    huge = 0
    for area in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(),
                         flags=re.MULTILINE):
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", area)
        if found and int(found[1], 16) < address + size and int(found[2], 16) > address:
            huge += int(re.search(r"AnonHugePages:\s+(\d+)", area)[1]) << 10
    return value, {"huge": huge / size}


def main():
    """Runs one of them."""
    arguments = sys.argv[1:]
    if arguments[0] == "--refuse":
        refuse.refuse_userfaultfd()
        arguments.pop(0)
    what, path = arguments
    if os.environ.get("BENCH_WARM"):
        cache.warm_memory(int(os.environ.pop("BENCH_WARM")))
    start = time.perf_counter()
    value, figures = use_storage(path) if what == "storage" else use(what, path)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "checksum": f"{value:08x}", **figures}))


main()
