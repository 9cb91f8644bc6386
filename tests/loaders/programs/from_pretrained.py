# SPDX-License-Identifier: Apache-2.0
"""from_pretrained.py DIR [disable_mmap]: transformers' from_pretrained; checksums of the state."""

import sys

import torch
from common import checksums, emit
from transformers import AutoModelForCausalLM

options = {"disable_mmap": True} if sys.argv[2:] == ["disable_mmap"] else {}
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16, **options)
emit(sums=checksums(model.state_dict()))
