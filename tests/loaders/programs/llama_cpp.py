# SPDX-License-Identifier: Apache-2.0
"""llama_cpp.py MODE... FILE: loads a GGUF file with llama.cpp in each load mode (MMAP, NONE,
DIRECT_IO, MLOCK ...) and has it predict tokens; prints their probabilities, which depend on all
weights, and the seconds of each load."""

import json
import sys
import time
import zlib

import xllamacpp
from common import emit


def parameters(path, mode):
    """What llama.cpp is to do: no more than to load."""
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.load_mode = getattr(xllamacpp.llama_load_mode, "LLAMA_LOAD_MODE_" + mode)
    params.n_ctx = 64
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = 2
    return params


def predict(server):
    """A checksum of the tokens that follow and of the probabilities of all others."""
    answer = server.handle_completions(
        {"prompt": [1, 5, 9, 20, 77], "max_tokens": 4, "temperature": 0, "seed": 1,
         "n_probs": 100, "ignore_eos": True, "cache_prompt": False})
    content = answer["choices"][0]["logprobs"]["content"]
    text = json.dumps([[(one["id"], one["logprob"]) for one in token["top_logprobs"]]
                       for token in content])
    return f"{len(content)}:{zlib.crc32(text.encode()):08x}"


sums, seconds = {}, {}
for mode in sys.argv[1:-1]:
    start = time.perf_counter()
    server = xllamacpp.Server(parameters(sys.argv[-1], mode))
    seconds[mode] = time.perf_counter() - start
    sums[mode] = predict(server)
    del server
print(json.dumps(seconds), file=sys.stderr)
emit(sums=sums)
