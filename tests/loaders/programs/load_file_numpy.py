# SPDX-License-Identifier: Apache-2.0
"""load_file_numpy.py FILE: safetensors.numpy.load_file; checksums of all tensors."""

import sys

from common import checksums, emit
from safetensors.numpy import load_file

emit(sums=checksums(load_file(sys.argv[1])))
