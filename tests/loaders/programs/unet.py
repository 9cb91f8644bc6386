# SPDX-License-Identifier: Apache-2.0
"""unet.py DIR [disable_mmap DIR2]: diffusers' UNet2DConditionModel.from_pretrained; checksums of the
state, and with disable_mmap those of a load of DIR2 as well, which is mapped."""

import sys

from common import checksums, emit
from diffusers import UNet2DConditionModel


def load(directory, **options):
    """Checksums of the state."""
    return checksums(UNet2DConditionModel.from_pretrained(directory, **options).state_dict())


if sys.argv[2:]:
    emit(sums=load(sys.argv[1], disable_mmap=True), mapped=load(sys.argv[3]))
else:
    emit(sums=load(sys.argv[1]))
