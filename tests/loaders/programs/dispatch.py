# SPDX-License-Identifier: Apache-2.0
"""dispatch.py DIR OFFLOAD_DIR: accelerate's load_checkpoint_and_dispatch, the last layer on disk.

Prints checksums of the state and of the output of the model for fixed tokens, which needs the
part on disk as well.
"""

import sys

import torch
from accelerate import init_empty_weights, load_checkpoint_and_dispatch
from common import checksum, checksums, emit
from transformers import AutoConfig, AutoModelForCausalLM

config = AutoConfig.from_pretrained(sys.argv[1])
with init_empty_weights():
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
last = f"model.layers.{config.num_hidden_layers - 1}"
device_map = {"model.embed_tokens": "cpu", "model.norm": "cpu", "lm_head": "cpu",
              "model.rotary_emb": "cpu"}
device_map.update({f"model.layers.{n}": "cpu" for n in range(config.num_hidden_layers)})
device_map[last] = "disk"
model = load_checkpoint_and_dispatch(model, sys.argv[1], device_map=device_map,
                                     offload_folder=sys.argv[2], dtype=torch.bfloat16)
state = {name: t for name, t in model.state_dict().items() if t.device.type != "meta"}
torch.set_num_threads(1)
with torch.no_grad():
    logits = model(torch.arange(8).reshape(1, 8)).logits
on_disk = sorted(name for name in model.state_dict() if name not in state)
emit(sums=checksums(state), logits=checksum(logits.float()), on_disk=on_disk)
