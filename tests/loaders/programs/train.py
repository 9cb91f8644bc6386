# SPDX-License-Identifier: Apache-2.0
"""train.py FILE: steps of gradient descent in place on the loaded tensors, which are private.

Prints checksums before and after, and those of a second load of the file.
"""

import sys

import torch
from common import checksums, emit
from safetensors.torch import load_file

tensors = load_file(sys.argv[1])
before = checksums(tensors)
with torch.no_grad():
    for tensor in tensors.values():
        if tensor.is_floating_point():
            tensor.mul_(0.5).add_(1)
        elif tensor.dtype == torch.bool:
            tensor.logical_not_()
        else:
            tensor.bitwise_xor_(1)
after = checksums(tensors)
emit(before=before, after=after, again=checksums(load_file(sys.argv[1])))
