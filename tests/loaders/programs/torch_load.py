# SPDX-License-Identifier: Apache-2.0
"""torch_load.py FILE: torch.load(mmap=True) of a checkpoint; checksums of all tensors."""

import sys

import torch
from common import checksums, emit

emit(sums=checksums(torch.load(sys.argv[1], mmap=True, weights_only=True)))
