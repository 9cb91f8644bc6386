# SPDX-License-Identifier: Apache-2.0
"""llama.cpp as the benchmarks use it."""

import numpy


def loaded(path, mode):
    """Loads a GGUF file in a load mode of llama.cpp (MMAP, NONE ...). Returns a function that has
    it predict, and gives the probabilities of all tokens, which depend on all weights."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.load_mode = getattr(xllamacpp.llama_load_mode, "LLAMA_LOAD_MODE_" + mode)
    params.n_ctx, params.n_parallel, params.warmup = 64, 1, False
    server = xllamacpp.Server(params)

    def answer():
        result = server.handle_completions({"prompt": [1, 5], "max_tokens": 1, "temperature": 0,
                                            "n_probs": 100, "ignore_eos": True})
        tokens = result["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return {"logprobs": numpy.array([token["logprob"] for token in tokens])}

    return answer
