# SPDX-License-Identifier: Apache-2.0
"""save_from_map.py FILE OUT: writes mapped tensors with save_file, so the kernel reads the map."""

import sys

from common import checksums, emit
from safetensors.torch import load_file, save_file

tensors = load_file(sys.argv[1])
save_file(tensors, sys.argv[2])
emit(sums=checksums(tensors), written=checksums(load_file(sys.argv[2])))
