# SPDX-License-Identifier: Apache-2.0
"""The files that are loaded, made once and kept below build/test-data, and their checksums."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support import models, paths

from stnbench import cells
from stnbench.contestants import CONTESTANTS

MIB, GIB = 1 << 20, 1 << 30
WIDTH = {"F32": 4, "BF16": 2}
SUFFIX = {"safetensors": ".safetensors", "flashpack": ".flashpack", "tensorizer": ".tensors",
          "gguf": ".gguf"}


@dataclass(frozen=True)
class Data:
    """size bytes in shards files of tensors of tensor bytes; kind: plain, llama (transformers),
    dit (diffusers), gguf. repeat: the server shows a file so many times over, end to end, and its
    header says so."""

    size: int
    tensor: int = 4 * MIB
    shards: int = 1
    kind: str = "plain"
    dtype: str = "F32"
    repeat: int = 1

    def name(self):
        """The directory of the files."""
        return (f"bench-{self.kind}-{self.dtype}-{self.size >> 10}k-{self.tensor >> 10}k-"
                f"{self.shards}x{self.repeat}")


def make_plain(directory, data):
    """Shards of safetensors with names of their own."""
    directory.mkdir()
    each = data.size // data.shards
    for shard in range(data.shards):
        count = max(each // data.tensor, 1)
        tensors = {f"s{shard:03}.t{i:05}": (data.dtype, (data.tensor // WIDTH[data.dtype],))
                   for i in range(count)}
        models.make_safetensors(
            directory.absolute() / f"model-{shard + 1:05}-of-{data.shards:05}.safetensors",
            tensors=tensors, seed=shard)


def make_repeated(directory, data):
    """One file of size / repeat bytes, whose header describes it repeat times over: the data
    begin at a page, and what the server shows after the file's end is the file again."""
    directory.mkdir()
    whole = data.size // data.repeat
    length, header = 0, 4096
    while length != header:
        length = header
        count = (data.repeat * whole - length) // data.tensor
        header = len(repeated_header(count, data, 0))
        header = -(-header // 4096) * 4096
    text = repeated_header(count, data, length)
    models.random_file(directory.absolute() / "data", whole - length)
    with open(directory / "data", "rb") as body, open(
            directory / "model-00001-of-00001.safetensors", "wb") as file:
        file.write(text)
        while block := body.read(16 * MIB):
            file.write(block)
    (directory / "data").unlink()


def repeated_header(count, data, length):
    """A header of count tensors and what is left as a last one, padded to length bytes."""
    entries, offset = {}, 0
    for i in range(count):
        entries[f"t{i:05}"] = {"dtype": "U8", "shape": [data.tensor],
                               "data_offsets": [offset, offset + data.tensor]}
        offset += data.tensor
    rest = data.size - length - offset
    entries["rest"] = {"dtype": "U8", "shape": [rest], "data_offsets": [offset, offset + rest]}
    text = json.dumps(entries).encode()
    return max(length - 8, len(text)).to_bytes(8, "little") + text.ljust(length - 8)


def in_process(code, *arguments):
    """Runs Python code that imports what we do not want in this process."""
    argv = [sys.executable, "-c", code, *map(str, arguments)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                   timeout=900)


def make_llama(directory, data):
    """A Llama as transformers saves it."""
    in_process("import sys; from support import models; models.make_sharded_llama("
               "sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))",
               directory.absolute(), data.size, data.shards)


DIT = """
import sys, torch
from diffusers import DiTTransformer2DModel
size, shards = int(sys.argv[2]), int(sys.argv[3])
layers = max(2, size // (18 * 1152 * 1152 * 2))
torch.manual_seed(0)
model = DiTTransformer2DModel(num_layers=layers, sample_size=32, in_channels=4, out_channels=8)
model = model.to(torch.bfloat16)
total = sum(t.nbytes for t in model.state_dict().values())
model.save_pretrained(sys.argv[1], max_shard_size=total // shards + (1 << 22))
"""


def make_dit(directory, data):
    """A diffusion transformer as diffusers saves it."""
    in_process(DIT, directory.absolute(), data.size, data.shards)


def make_gguf(directory, data):
    """A GGUF file of a small Llama."""
    directory.mkdir()
    models.make_gguf(directory.absolute() / "model.gguf", data.size)


MAKERS = {"plain": make_plain, "llama": make_llama, "dit": make_dit, "gguf": make_gguf}


def made(data):
    """The directory with the files of data, made now or earlier."""
    maker = make_repeated if data.repeat > 1 else MAKERS[data.kind]
    return models.cached(data.name(), repr(data), lambda new: maker(new, data))


CONVERT = {
    "flashpack": "import sys; from safetensors.torch import load_file;"
                 "from flashpack.serialization import pack_to_file;"
                 "pack_to_file(load_file(sys.argv[1]), sys.argv[2], None)",
    "tensorizer": "import sys; from safetensors.torch import load_file;"
                  "from tensorizer import TensorSerializer;"
                  "s = TensorSerializer(sys.argv[2]); s.write_state_dict(load_file(sys.argv[1]));"
                  "s.close()",
}


def in_form(directory, form):
    """The names of the files of one format, converted if need be."""
    if form in CONVERT:
        for path in sorted(directory.glob("*.safetensors")):
            new = path.with_suffix(SUFFIX[form])
            if not new.exists():
                part = new.with_suffix(".part" + SUFFIX[form])
                in_process(CONVERT[form], path, part)
                part.rename(new)
    return sorted(path.name for path in directory.glob("*" + SUFFIX[form])
                  if ".part" not in path.name)


REFERENCE = {"plain": "stock", "llama": "pretrained", "dit": "diffusers", "gguf": "llama-map"}


def reference(data, mount, spec):
    """The checksum that every contestant must have: that of the stock loader on the disk, kept in
    a file beside the data; of a repeated file, on a plain mount of the server."""
    directory = made(data)
    kept = paths.data() / "bench-sums.json"
    sums = json.loads(kept.read_text()) if kept.exists() else {}
    key = f"{directory.parent.name}/{bool(spec.get('convert'))}"
    if key not in sums:
        stock = CONTESTANTS[REFERENCE[data.kind]]
        names = in_form(directory, stock.form)
        spec = {**spec, "load": stock.load,
                "paths": [str(mount.directory / name) for name in names]}
        with cells.started(stock, spec, mount) as children:
            cells.wait_ready(children)
            sums[key] = cells.run(children, mount, timeout=600)["checksums"][0]
        kept.write_text(json.dumps(sums, indent=1) + "\n")
    return sums[key]


def total(directory: Path, names):
    """Bytes of files."""
    return sum((directory / name).stat().st_size for name in names)
