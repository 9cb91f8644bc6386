# SPDX-License-Identifier: Apache-2.0
"""load_file.py FILE...: safetensors.torch.load_file of each file; checksums of all tensors."""

import sys

from common import checksums, emit
from safetensors.torch import load_file

emit(sums=[checksums(load_file(path)) for path in sys.argv[1:]])
