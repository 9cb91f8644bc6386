# SPDX-License-Identifier: Apache-2.0
"""safe_open_all.py FILE: every tensor of a file through one safe_open, checksums."""

import sys

import torch  # noqa: F401  safetensors imports it itself, but later
from common import checksum, emit
from safetensors import safe_open

with safe_open(sys.argv[1], framework="pt") as f:
    emit(sums={name: checksum(f.get_tensor(name)) for name in sorted(f.keys())})
