# SPDX-License-Identifier: Apache-2.0
"""unet.py DIR [disable_mmap]: diffusers' UNet2DConditionModel.from_pretrained; checksums of the
state."""

import sys

from common import checksums, emit
from diffusers import UNet2DConditionModel

options = {"disable_mmap": True} if sys.argv[2:] == ["disable_mmap"] else {}
emit(sums=checksums(UNet2DConditionModel.from_pretrained(sys.argv[1], **options).state_dict()))
