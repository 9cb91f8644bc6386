# SPDX-License-Identifier: Apache-2.0
"""threads.py FILE...: one thread for each file, all loading at once; checksums of all tensors."""

import sys
from concurrent.futures import ThreadPoolExecutor

from common import checksums, emit
from safetensors.torch import load_file

with ThreadPoolExecutor(len(sys.argv) - 1) as pool:
    emit(sums=[checksums(tensors) for tensors in pool.map(load_file, sys.argv[1:])])
