# SPDX-License-Identifier: Apache-2.0
"""unet.py DIR: diffusers' UNet2DConditionModel.from_pretrained; checksums of the state."""

import sys

from common import checksums, emit
from diffusers import UNet2DConditionModel

emit(sums=checksums(UNet2DConditionModel.from_pretrained(sys.argv[1]).state_dict()))
