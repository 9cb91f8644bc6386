# SPDX-License-Identifier: Apache-2.0
"""stshim inspect: what it shows of a header, and what it finds wrong; against the real readers and
writers of both formats."""

import json
import random
import struct

import numpy
import pytest
from compare import mounted
from support import need
from support.run import run

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.fixture(autouse=True)
def program():
    """Every test here needs the program."""
    need.tool()


def inspect(path, *options):
    """Runs the program on a file; it must end by itself with 0 or 1."""
    result = run([need.tool(), "inspect", *options, path], preload=False, timeout=20)
    assert not result.timed_out and result.returncode in (0, 1), result
    return result


def seen(path):
    """What it says as JSON; the exit status is that of the verdict."""
    result = inspect(path, "--json")
    assert result.stderr == ""
    value = json.loads(result.stdout)
    assert result.returncode == (0 if value["sound"] else 1)
    assert value["sound"] == (value["problem_count"] == 0)
    return value


def problems(path):
    """What is wrong, as (byte, text)."""
    return [(item["offset"], item["problem"]) for item in seen(path)["problems"]]


def write(tmp_path, header, data=b"", length=None, name="model.safetensors"):
    """A safetensors file with this header: a dict, or text."""
    text = header if isinstance(header, (bytes, str)) else json.dumps(header)
    text = text if isinstance(text, bytes) else text.encode()
    path = tmp_path / name
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def real(tmp_path):
    """A file made by safetensors."""
    from safetensors.numpy import save_file

    path = tmp_path / "real.safetensors"
    tensors = {
        "a.weight": numpy.ones((3, 4), numpy.float32),
        "b": numpy.zeros((5,), numpy.float16),
        "scalar": numpy.array(1.0),
        "none": numpy.zeros((0, 7), numpy.int8),
        'ü "quoted"': numpy.zeros((2, 1), numpy.uint8),
    }
    save_file(tensors, path, metadata={"format": "pt", "x": "y\nz"})
    return path, tensors


def test_safetensors(tmp_path):
    """Every tensor with type, shape, place and size as safetensors has them."""
    path, tensors = real(tmp_path)
    value = seen(path)
    assert value["sound"] and value["format"] == "safetensors"
    assert value["metadata"] == {"format": "pt", "x": "y\nz"}
    data = path.read_bytes()
    assert value["file_bytes"] == len(data)
    assert value["data_offset"] == 8 + value["header_bytes"]
    found = {item["name"]: item for item in value["tensors"]}
    assert set(found) == set(tensors) and value["tensor_count"] == len(tensors)
    for name, array in tensors.items():
        item = found[name]
        assert item["shape"] == list(array.shape) and item["bytes"] == array.nbytes
        assert data[item["offset"] : item["offset"] + item["bytes"]] == array.tobytes()
    types = {item["type"]: (item["tensors"], item["bytes"]) for item in value["types"]}
    assert types["F32"] == (1, 48) and len(types) == 5
    assert (value["gaps"], value["overlaps"], value["trailing_bytes"]) == ([], [], 0)


def test_table(tmp_path):
    """The same for people."""
    result = inspect(real(tmp_path)[0])
    assert result.returncode == 0 and result.stderr == ""
    assert "\n  a.weight    F32   [3, 4]" in result.stdout
    assert "The header is sound" in result.stdout
    bad = inspect(write(tmp_path, {"a": ENTRY}, b"1234567"))
    assert bad.returncode == 1
    assert "its bytes end 1 behind the end of the file" in bad.stdout


def entry(**changes):
    """A tensor's entry with changes; None takes a member out."""
    return {key: value for key, value in {**ENTRY, **changes}.items() if value is not None}


MALFORMED = {
    "short": (b"", 0, "the file has 0 bytes"),
    "huge": ((1 << 62, "{}"), 0, "more than 100000000 may be"),
    "long": ((100, "{}"), 0, "said to have 100 bytes, the file has 2 more"),
    "empty": ((0, ""), 0, "said to be empty"),
    "not-utf8": ('{"a\udcff":1}', 11, "not UTF-8"),
    "not-json": ('{"a":}', 13, "not JSON: a value expected"),
    "no-end": ('{"a":', 13, "not JSON: a value expected"),
    "text-behind": ("{} x", 11, "text behind the end"),
    "blank-first": (" {}", 8, "does not begin with '{'"),
    "array": ("[]", 8, "'{' expected"),
    "comma": ('{"a":1,}', 15, "a string expected"),
    "control": ('{"a\nb":1}', 11, "a control character"),
    "escape": (r'{"a\x":1}', 12, "no such escape"),
    "surrogate": (r'{"\ud800":1}', 12, "half of a surrogate pair"),
    "deep": ("[" * 100000, 8, "'{' expected"),
    "deep-inside": ('{"a":' + "[" * 100000, 13 + 128, "more than 128 levels deep"),
    "no-object": ({"a": 1}, 9, "its value is no object"),
    "no-dtype": ({"a": entry(dtype=None)}, 9, "missing or wrong"),
    "dtype": ({"a": entry(dtype="F33")}, 9, "dtype F33 is none (byte 24)"),
    "dtype-kind": ({"a": entry(dtype=1)}, 9, "dtype is no string"),
    "shape-kind": ({"a": entry(shape="x")}, 9, "shape: '[' expected"),
    "shape-negative": ({"a": entry(shape=[-2])}, 9, "a whole number expected"),
    "shape-float": ({"a": entry(shape=[2.0])}, 9, "not whole"),
    "shape-large": ({"a": entry(shape=[1 << 64])}, 9, "a number of 2^64 or more"),
    "shape-overflow": ({"a": entry(shape=[1 << 33, 1 << 33])}, 9, "give no number of bytes"),
    "offsets-three": ({"a": entry(data_offsets=[0, 4, 8])}, 9, "3 numbers, not 2"),
    "offsets-turned": ({"a": entry(data_offsets=[8, 0])}, 9, "end before they begin"),
    "offsets-large": ({"a": entry(data_offsets=[1 << 63, (1 << 64) - 1])}, 9, "need 8 bytes"),
    "size": ({"a": entry(shape=[3])}, 9, "need 12 bytes, data_offsets give 8"),
    "bits": ({"a": entry(dtype="F4", shape=[3])}, 9, "give no number of bytes"),
    "twice": ('{"a":' + json.dumps(ENTRY) + ',"a":' + json.dumps(ENTRY) + "}", 68,
              "a tensor of this name is at byte 9 already"),
    "member-twice": ('{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 9,
                     "dtype occurs twice"),
    "gap": ({"a": ENTRY, "b": entry(data_offsets=[12, 20])}, None, "4 bytes belong to no tensor"),
    "overlap": ({"a": ENTRY, "b": entry(data_offsets=[4, 12])}, None,
                "b: 4 of its bytes are those of a"),
    "metadata-kind": ({"__metadata__": [], "a": ENTRY}, 25, "__metadata__ is no object"),
    "metadata-value": ({"__metadata__": {"k": 1}, "a": ENTRY}, None, "the value of k is no string"),
    "metadata-twice": ('{"__metadata__":{},"__metadata__":{}}', 27, "__metadata__ occurs twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(MALFORMED))
def test_malformed(tmp_path, case):
    """What is wrong, and at which byte of the file."""
    header, byte, words = MALFORMED[case]
    if header == b"":
        path = tmp_path / "empty"
        path.write_bytes(b"")
    elif isinstance(header, tuple):
        path = write(tmp_path, header[1], length=header[0])
    elif isinstance(header, str) and "\udcff" in header:
        path = write(tmp_path, header.encode(errors="surrogateescape"))
    else:
        path = write(tmp_path, header, bytes(20))
    found = problems(path)
    assert [item for item in found if words in item[1] and byte in (None, item[0])], found


def test_trailing_bytes(tmp_path):
    """Bytes behind the last tensor are counted."""
    value = seen(write(tmp_path, {"a": ENTRY}, bytes(11)))
    assert value["trailing_bytes"] == 3
    assert [item["problem"] for item in value["problems"]] == ["3 bytes behind the last tensor"]


def mutate(chance, data):
    """Some bytes of it changed, cut, doubled, or put in."""
    data = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(data))
        kind = chance.randrange(5)
        if kind == 0:
            data[at] = chance.randrange(256)
        elif kind == 1:
            del data[at : at + chance.randrange(1, 9)]
        elif kind == 2:
            data[at:at] = data[at : at + chance.randrange(1, 40)]
        elif kind == 3:
            data[at] ^= 1 << chance.randrange(8)
        else:
            data[at:at] = chance.choice([b'"', b"{", b"[", b",", b"0", b"\\u0041", b" ", b"null"])
        data = data or bytearray(b"x")
    return bytes(data)


def reference_accepts(data):
    """Whether safetensors reads it."""
    from safetensors import SafetensorError, deserialize

    try:
        deserialize(data)
    except SafetensorError:
        return False
    return True


def test_fuzz_agrees_with_safetensors(tmp_path):
    """On broken files of all kinds the verdict is that of safetensors, but for what the format
    forbids and safetensors does not look at."""
    chance = random.Random(11)
    original = real(tmp_path)[0].read_bytes()
    length = struct.unpack("<Q", original[:8])[0]
    path = tmp_path / "fuzz"
    verdicts = []
    for _ in range(500):
        header = original[8 : 8 + length]
        if chance.random() < 0.7:
            header = mutate(chance, header)
            data = struct.pack("<Q", len(header)) + header + original[8 + length :]
        else:
            data = mutate(chance, original)
        path.write_bytes(data)
        value = seen(path)
        verdicts.append(value["sound"])
        stricter = ("already", "occurs twice", "does not begin", "said to be empty")
        strict = [p for p in value["problems"] if any(w in p["problem"] for w in stricter)]
        if not strict:
            assert value["sound"] == reference_accepts(data), (value["problems"], data)
    assert 5 < sum(verdicts) < 495


def test_random_bytes(tmp_path):
    """Neither format's reader is upset by noise."""
    chance = random.Random(5)
    path = tmp_path / "noise"
    for magic in (b"", b"GGUF", b"GGUF\x03\0\0\0", b"GGUF\x03\0\0\0" + struct.pack("<QQ", 5, 5)):
        for _ in range(25):
            path.write_bytes(magic + chance.randbytes(chance.randrange(300)))
            value = seen(path)
            assert not value["sound"] and value["problem_count"] >= 1


def make_gguf(path):
    """A file made by gguf's own writer; returns its tensors."""
    import gguf

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_string("general.name", "a model")
    writer.add_array("tokens", ["a", "bb", "ccc"] * 1000)
    writer.add_uint32("count", 7)
    writer.add_float32("scale", 1.5)
    writer.add_bool("flag", True)
    writer.add_int8("negative", -5)
    writer.add_string("long", "ü" * 1000)
    chance = numpy.random.default_rng(3)
    tensors = {
        "one": chance.random((4, 33), numpy.float32),
        "two": chance.random((5,), numpy.float32).astype(numpy.float16),
    }
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    quantized = gguf.quants.quantize(
        chance.random((3, 64), numpy.float32), gguf.GGMLQuantizationType.Q8_0
    )
    writer.add_tensor("three", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors | {"three": quantized}


def test_gguf(tmp_path):
    """A GGUF file made by the reference writer."""
    need.module("gguf")
    path = tmp_path / "model.gguf"
    tensors = make_gguf(path)
    value = seen(path)
    assert value["sound"] and (value["format"], value["version"]) == ("gguf", 3)
    assert value["metadata"]["general.name"] == "a model"
    assert value["metadata"]["tokens"] == "array of 3000 string"
    assert [value["metadata"][key] for key in ("count", "scale", "flag", "negative")] == [
        "7", "1.5", "true", "-5"]  # fmt: skip
    assert value["metadata"]["long"] == "ü" * 100 + "..."
    data = path.read_bytes()
    found = {item["name"]: item for item in value["tensors"]}
    assert found["one"]["shape"] == [33, 4] and found["three"]["shape"] == [64, 3]
    assert found["three"]["type"] == "Q8_0"
    for name, array in tensors.items():
        item = found[name]
        assert data[item["offset"] : item["offset"] + item["bytes"]] == array.tobytes()


def test_gguf_knows_every_type(tmp_path):
    """Names, block sizes and type sizes are those of the gguf package."""
    need.module("gguf")
    from gguf.constants import GGML_QUANT_SIZES

    for kind, (elements, size) in GGML_QUANT_SIZES.items():
        header = b"GGUF" + struct.pack("<IQQ", 3, 1, 0)
        header += struct.pack("<Q1sIQIQ", 1, b"t", 1, elements * 3, int(kind), 0)
        path = tmp_path / "type.gguf"
        path.write_bytes(header + bytes(-len(header) % 32) + bytes(3 * size))
        value = seen(path)
        assert value["sound"], value
        assert value["tensors"][0]["type"] == kind.name
        assert value["tensors"][0]["bytes"] == 3 * size


def gguf_header(pairs=b"", tensors=b"", counts=(0, 0), version=3):
    """A GGUF header by hand."""
    return b"GGUF" + struct.pack("<IQQ", version, *reversed(counts)) + pairs + tensors


def text(value):
    """A GGUF string."""
    return struct.pack("<Q", len(value)) + value


GGUF_MALFORMED = {
    "version": (gguf_header(version=9), 4, "neither 2 nor 3"),
    "big-endian": (gguf_header(version=3 << 24), 4, "big-endian"),
    "cut": (gguf_header(counts=(1, 0)), 24, "the file ends within the header"),
    "key-length": (gguf_header(struct.pack("<Q", 1 << 62), counts=(1, 0)), 24, "a key of more"),
    "kind": (gguf_header(text(b"k") + struct.pack("<I", 77), counts=(1, 0)), 33, "of a kind"),
    "array": (gguf_header(text(b"k") + struct.pack("<IIQ", 9, 4, 1 << 62), counts=(1, 0)), 49,
              "ends within"),
    "arrays": (gguf_header(text(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 20,
                           counts=(1, 0)), 37 + 8 * 12, "8 levels"),
    "alignment": (gguf_header(text(b"general.alignment") + struct.pack("<II", 4, 33),
                              counts=(1, 0)), 24, "power of two"),
    "key-twice": (gguf_header((text(b"k") + struct.pack("<IB", 0, 1)) * 2, counts=(2, 0)), 38,
                  "the key k occurs twice"),
    "dimensions": (gguf_header(tensors=text(b"t") + struct.pack("<I", 5), counts=(0, 1)), 33,
                   "more than 4 dimensions"),
    "type": (gguf_header(tensors=text(b"t") + struct.pack("<IQIQ", 1, 1, 4, 0), counts=(0, 1)), 24,
             "type 4 is none"),
    "rows": (gguf_header(tensors=text(b"t") + struct.pack("<IQIQ", 1, 31, 2, 0), counts=(0, 1)),
             24, "rows of 31 are not whole blocks of 32"),
    "offset": (gguf_header(tensors=text(b"t") + struct.pack("<IQIQ", 1, 1, 0, 4), counts=(0, 1)),
               24, "no multiple of 32"),
    "behind": (gguf_header(tensors=text(b"t") + struct.pack("<IQIQ", 1, 1 << 40, 0, 0),
                           counts=(0, 1)), 24, "behind the end of the file"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(GGUF_MALFORMED))
def test_gguf_malformed(tmp_path, case):
    """What is wrong, and at which byte of the file."""
    data, byte, words = GGUF_MALFORMED[case]
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    found = problems(path)
    assert [item for item in found if words in item[1] and item[0] == byte], found


def test_large_header(tmp_path):
    """200000 tensors take seconds and little memory; every one is shown."""
    count = 200000
    header = "{" + ",".join(
        f'"layer.{i}.weight":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{i + 1}]}}'
        for i in range(count)
    ) + "}"  # fmt: skip
    path = write(tmp_path, header, bytes(count))
    result = run(["bash", "-c", f"ulimit -v 400000; exec {need.tool()} inspect --json {path}"],
                 preload=False, timeout=30)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["tensor_count"] == count
    table = inspect(path)
    assert table.stdout.count("\n  layer.") == count


def test_reads_the_header_only(tmp_path):
    """On FUSE nothing but the pages of the header is asked for, and nothing is cached."""
    path = write(tmp_path, {"a": entry(shape=[1 << 23], data_offsets=[0, 1 << 25])}, bytes(1 << 25))
    with mounted(source=tmp_path) as server:
        assert seen(server.mountpoint / path.name)["sound"]
        counters = server.stats()
    assert counters["bytes"] <= 3 * 4096, counters


def test_unreadable(tmp_path):
    """What cannot be read is said in one line, with what to do."""
    for path in (tmp_path / "missing", tmp_path):
        result = inspect(path)
        assert result.returncode == 1 and result.stdout == ""
        assert len(result.stderr.splitlines()) == 1 and "; give a file" in result.stderr
    usage = run([need.tool(), "inspect"], preload=False)
    assert usage.returncode == 2


def test_read_error(tmp_path):
    """A storage error is none of the header's."""
    path = write(tmp_path, {"a": ENTRY}, bytes(8))
    with mounted(source=tmp_path, fault="eio:*:0:4096") as server:
        result = inspect(server.mountpoint / path.name)
    assert result.returncode == 1 and "Input/output error" in result.stderr, result
