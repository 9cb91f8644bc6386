# SPDX-License-Identifier: Apache-2.0
"""safe_open_metadata.py pt|np keys|shapes FILE: names, or names and shapes; reads no tensor."""

import sys

import torch  # noqa: F401  safetensors imports it itself, but later
from common import emit
from safetensors import safe_open

_, framework, what, path = sys.argv
with safe_open(path, framework=framework) as f:
    if what == "keys":
        emit(keys=sorted(f.keys()))
    else:
        emit(shapes={name: list(f.get_slice(name).get_shape()) for name in sorted(f.keys())})
