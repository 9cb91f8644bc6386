# SPDX-License-Identifier: Apache-2.0
"""Model files with random contents. A relative path is below build/test-data, where what was
made once with the same arguments is kept; an absolute one is written where it says, unless it
exists."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy

from . import paths

BLOCK = 16 << 20
VOCABULARY = 1024

# Type: bytes an element, numpy integer of that size, bits kept of a random integer, bits set:
# so that every number lies between 0.5 and 1, with either sign. No bits: any integer will do.
TYPES = {
    "F64": (8, "<u8", 0x800FFFFFFFFFFFFF, 0x3FE0000000000000),
    "F32": (4, "<u4", 0x807FFFFF, 0x3F000000),
    "F16": (2, "<u2", 0x83FF, 0x3800),
    "BF16": (2, "<u2", 0x807F, 0x3F00),
    "I64": (8, "<u8", None, None),
    "U8": (1, "u1", None, None),
}


def cached(path, key, make):
    """The path of a file or directory that make(path) has made, now or earlier. key is what its
    contents depend on."""
    path = Path(path)
    if not path.is_absolute():
        digest = hashlib.sha256(repr((path.name, key)).encode()).hexdigest()[:16]
        path = paths.data() / digest / path
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as name:
        Path(name).chmod(0o755)
        new = Path(name) / path.name
        make(new)
        # safetensors makes files that only their owner may read.
        for made in [new, *new.rglob("*")]:
            made.chmod(0o755 if made.is_dir() else 0o644)
        # Whoever else makes the same at the same time may be first.
        with contextlib.suppress(OSError):
            os.rename(new, path)
    if not path.exists():
        raise RuntimeError(f"could not make {path}")
    return path


def _random(generator, count, dtype):
    """count random elements of a safetensors type, as bytes."""
    width, integer, keep, put = TYPES[dtype]
    numbers = numpy.frombuffer(generator.bytes(count * width), integer)
    return numbers if keep is None else (numbers & numbers.dtype.type(keep)) | put


def _write_random(file, generator, count, dtype):
    """Writes count random elements, a block at a time."""
    width = TYPES[dtype][0]
    while count > 0:
        now = min(count, BLOCK // width)
        file.write(_random(generator, now, dtype).tobytes())
        count -= now


def random_file(path, size, seed=0):
    """A file of random bytes; returns its path."""

    def make(new):
        with open(new, "wb") as file:
            _write_random(file, numpy.random.default_rng(seed), size, "U8")

    return cached(path, ("random", size, seed), make)


def _header(tensors):
    """The header of a safetensors file, the data of which follow in the order given."""
    entries = {}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + TYPES[dtype][0] * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def make_safetensors(path, sizes=(1 << 20,), dtype="F32", seed=0, tensors=None):
    """A safetensors file; returns its path. It has one tensor for each of sizes (bytes) with the
    names tensor.000 ..., or those of tensors, {name: (dtype, shape)}."""
    if tensors is None:
        width = TYPES[dtype][0]
        tensors = {f"tensor.{i:03}": (dtype, (size // width,)) for i, size in enumerate(sizes)}

    def make(new):
        generator = numpy.random.default_rng(seed)
        with open(new, "wb") as file:
            file.write(_header(tensors))
            for type_name, shape in tensors.values():
                _write_random(file, generator, math.prod(shape), type_name)

    return cached(path, ("safetensors", tensors, seed), make)


def _llama_config(total_bytes, shards):
    """A Llama whose weights take about total_bytes in bfloat16, in enough layers for shards."""
    from transformers import LlamaConfig

    for hidden in (2048, 1024, 512, 256, 128, 64):
        layer = 16 * hidden * hidden + 2 * hidden
        layers = round((total_bytes // 2 - 2 * VOCABULARY * hidden) / layer)
        if layers >= max(4, 2 * shards):
            break
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=max(layers, 1),
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        max_position_embeddings=256,
        dtype="bfloat16",
    )


def _shard_size(state, shards):
    """The smallest limit of a shard, to 1%, that splits the weights into that many."""
    from huggingface_hub import split_torch_state_dict_into_shards

    total = sum(tensor.nbytes for tensor in state.values())
    for percent in range(100, 300):
        size = total * percent // (100 * shards) + 1
        split = split_torch_state_dict_into_shards(state, max_shard_size=size)
        if len(split.filename_to_tensors) == shards:
            return size
    raise ValueError(f"cannot split {total} bytes into {shards} shards")


def make_sharded_llama(directory, total_bytes, shards=1, seed=0):
    """A directory with a LlamaForCausalLM of random bfloat16 weights (no tokenizer) as
    save_pretrained writes it; returns its path."""

    def make(new):
        import torch
        from transformers import LlamaForCausalLM

        torch.manual_seed(seed)
        model = LlamaForCausalLM(_llama_config(total_bytes, shards)).to(torch.bfloat16)
        model.save_pretrained(new, max_shard_size=_shard_size(model.state_dict(), shards))
        written = len(list(new.glob("*.safetensors")))
        if written != shards:
            shutil.rmtree(new)
            raise RuntimeError(f"{written} shards instead of {shards}")

    return cached(directory, ("llama", total_bytes, shards, seed), make)


def _gguf_vocabulary(writer, size):
    """A vocabulary of bytes."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(size - 3)]
    writer.add_vocab_size(size)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([2, 3, 3] + [6] * (size - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _gguf_shapes(hidden, layers, vocabulary):
    """The names and shapes of a Llama's tensors; vectors are norms."""
    shapes = {"token_embd": (vocabulary, hidden), "output_norm": (hidden,),
              "output": (vocabulary, hidden)}
    block = {"attn_norm": (hidden,), "ffn_norm": (hidden,), "attn_q": (hidden, hidden),
             "attn_k": (hidden, hidden), "attn_v": (hidden, hidden),
             "attn_output": (hidden, hidden), "ffn_gate": (4 * hidden, hidden),
             "ffn_up": (4 * hidden, hidden), "ffn_down": (hidden, 4 * hidden)}
    for number in range(layers):
        shapes.update({f"blk.{number}.{name}": shape for name, shape in block.items()})
    return {name + ".weight": shape for name, shape in shapes.items()}


def _gguf_tensor(generator, shape):
    """Ones for a norm, else small random numbers in half precision."""
    if len(shape) == 1:
        return numpy.ones(shape, numpy.float32)
    bits = numpy.frombuffer(generator.bytes(2 * math.prod(shape)), "<u2")
    bits = (bits & numpy.uint16(0x83FF)) | numpy.uint16(0x2400)
    return bits.view(numpy.float16).reshape(shape)


def make_gguf(path, total_bytes, hidden=1024, vocabulary=128, seed=0):
    """A GGUF file with a Llama of random weights in half precision, about total_bytes, and a tiny
    vocabulary; returns its path."""

    def make(new):
        from gguf import GGUFWriter

        generator = numpy.random.default_rng(seed)
        layers = max(1, round(total_bytes / (32 * hidden * hidden)))
        writer = GGUFWriter(str(new), "llama")
        writer.add_context_length(256)
        writer.add_embedding_length(hidden)
        writer.add_block_count(layers)
        writer.add_feed_forward_length(4 * hidden)
        writer.add_head_count(hidden // 64)
        writer.add_head_count_kv(hidden // 64)
        writer.add_rope_dimension_count(64)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_file_type(1)
        _gguf_vocabulary(writer, vocabulary)
        for name, shape in _gguf_shapes(hidden, layers, vocabulary).items():
            writer.add_tensor(name, _gguf_tensor(generator, shape))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return cached(path, ("gguf", total_bytes, hidden, vocabulary, seed), make)
