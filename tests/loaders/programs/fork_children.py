# SPDX-License-Identifier: Apache-2.0
"""fork_children.py FILE: loads the file, then forked children checksum what the parent mapped."""

import multiprocessing
import sys

from common import checksums, emit
from safetensors.torch import load_file

tensors = load_file(sys.argv[1])


def child(queue):
    """Runs in the child: checksums of the tensors that it inherited."""
    queue.put(checksums(tensors))


context = multiprocessing.get_context("fork")
queue = context.Queue()
children = [context.Process(target=child, args=(queue,)) for _ in range(3)]
for process in children:
    process.start()
sums = [queue.get(timeout=60) for _ in children]
for process in children:
    process.join(60)
emit(sums=sums + [checksums(tensors)], codes=[process.exitcode for process in children])
