# SPDX-License-Identifier: Apache-2.0
"""reopen.py ROUNDS FILE: opens the file anew for one tensor each round, then closes it."""

import sys

import torch  # noqa: F401  safetensors imports it itself, but later
from common import checksum, emit
from safetensors import safe_open

sums = {}
for turn in range(int(sys.argv[1])):
    with safe_open(sys.argv[2], framework="pt") as f:
        names = sorted(f.keys())
        name = names[turn % len(names)]
        value = checksum(f.get_tensor(name))
    if sums.setdefault(name, value) != value:
        raise SystemExit(f"{name}: {value} in round {turn}, {sums[name]} before")
emit(sums=sums)
