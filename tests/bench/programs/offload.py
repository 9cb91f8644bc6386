# SPDX-License-Identifier: Apache-2.0
"""offload.py DIR: transformers with every second layer left on disk by accelerate, one forward
pass; times both together. Prints JSON."""

import json
import sys
import time
import zlib

import accelerate  # noqa: F401
import safetensors.torch  # noqa: F401
import torch
from transformers import AutoConfig, AutoModelForCausalLM

layers = AutoConfig.from_pretrained(sys.argv[1]).num_hidden_layers
places = {name: "cpu" for name in
          ("model.embed_tokens", "model.norm", "lm_head", "model.rotary_emb")}
places.update({f"model.layers.{n}": "disk" if n % 2 else "cpu" for n in range(layers)})
torch.set_num_threads(1)
start = time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16, device_map=places)
with torch.no_grad():
    logits = model(torch.arange(8).reshape(1, 8)).logits.float()
seconds = time.perf_counter() - start
value = zlib.crc32(logits.numpy().tobytes())
print(json.dumps({"seconds": seconds, "checksum": f"{value:08x}"}))
