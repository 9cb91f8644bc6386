# SPDX-License-Identifier: Apache-2.0
"""offload.py DIR: accelerate reads layers from the safetensors files again for each call.

from_pretrained with a part of the device map on "disk" leaves those weights in their files; each
forward call opens the shard for every tensor.
"""

import sys

import torch
from common import checksum, emit
from transformers import AutoConfig, AutoModelForCausalLM

layers = AutoConfig.from_pretrained(sys.argv[1]).num_hidden_layers
device_map = {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "cpu",
              "model.rotary_emb": "cpu"}
device_map.update({f"model.layers.{n}": "disk" if n % 2 else "cpu" for n in range(layers)})
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16,
                                             device_map=device_map)
torch.set_num_threads(1)
with torch.no_grad():
    logits = [checksum(model(torch.arange(8).reshape(1, 8) + n).logits.float()) for n in range(3)]
emit(logits=logits)
