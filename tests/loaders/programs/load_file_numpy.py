# SPDX-License-Identifier: Apache-2.0
"""load_file_numpy.py FILE [torch]: safetensors.numpy.load_file; checksums of all tensors. torch: in
a process that has imported that."""

import sys

from common import checksums, emit
from safetensors.numpy import load_file

if sys.argv[2:] == ["torch"]:
    import torch  # noqa: F401

emit(sums=checksums(load_file(sys.argv[1])))
