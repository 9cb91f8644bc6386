# SPDX-License-Identifier: Apache-2.0
"""safetensors on a FUSE mount: torch and numpy, whole files, slices, metadata, reopening."""

import data
import pytest
from loading import MIB, modes, read_once, same

MIXED = "mixed.safetensors"
TORCH = ("header", "write")  # the two maps of a file that safetensors and torch make


def mixed_size():
    """Bytes of the file with all dtypes."""
    return (data.path("mixed") / MIXED).stat().st_size


def header_size():
    """Bytes of its header."""
    return 8 + int.from_bytes((data.path("mixed") / MIXED).read_bytes()[:8], "little")


@pytest.mark.parametrize("program", ["load_file.py", "safe_open_all.py"])
def test_whole_file(way, truth, mounted, program):
    """Every tensor has the bytes that the stock loader gives, and the file was read once for each
    map that is filled. load_file in a process started anew, in every environment."""
    server = mounted("mixed", delay_ms=2)
    path = server.mountpoint / MIXED
    _, result, counters = same(way, truth, server, program, path, fresh=program == "load_file.py")
    assert modes(result, path) == way.modes(*TORCH)
    read_once(counters, MIXED, mixed_size(), way.copies(*TORCH))


def test_size_of_requests(way, truth, mounted):
    """A mount that takes much longer for requests of 1 MiB is soon asked for smaller ones, where
    the map of the header has shown what those take: not if all of that is filled at once."""
    server = mounted("large", large_ms=60)
    path = server.mountpoint / "large.safetensors"
    _, _, counters = same(way, truth, server, "load_file.py", path)
    copies = way.copies(*TORCH)
    read_once(counters, path.name, path.stat().st_size, copies)
    least, most = (180, 192) if way.name == "eager" else (16, 96)
    assert least * copies <= counters["large_reads"] <= most * copies


def test_whole_file_numpy(way, truth, mounted):
    """safetensors.numpy without torch: one map, for header and data."""
    server = mounted("eight", delay_ms=2)
    path = server.mountpoint / "part-0.safetensors"
    _, result, counters = same(way, truth, server, "load_file_numpy.py", path, fresh=True)
    assert modes(result, path) == way.modes("read")
    read_once(counters, path.name, path.stat().st_size)


def test_whole_file_numpy_with_torch(way, truth, mounted):
    """safetensors.numpy in a process that has torch: the map looks like one for the header, and
    where it is filled for the header only, the data come through page faults."""
    server = mounted("eight", delay_ms=2)
    path = server.mountpoint / "part-0.safetensors"
    program = ["load_file_numpy.py", path, "torch"]
    _, result, counters = same(way, truth, server, *program)
    assert modes(result, path) == way.modes("header")
    if way.modes("header") == ["peek"]:
        assert counters["buffered_bytes"] >= path.stat().st_size - MIB
    else:
        read_once(counters, path.name, path.stat().st_size)


def test_torch_imported_after_the_header(way, truth, mounted):
    """safetensors maps the header before it imports torch: the file is read no more than if it had
    been there."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    _, result, counters = same(way, truth, server, "late_torch.py", path, fresh=True)
    assert modes(result, path) == way.modes(*TORCH)
    read_once(counters, MIXED, mixed_size(), way.copies(*TORCH))


def test_slices(way, truth, mounted):
    """Slices come from the same one copy; where it is filled lazily, little is read of what is not
    asked for."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    _, result, counters = same(way, truth, server, "safe_open_slices.py", path)
    assert modes(result, path) == way.modes(*TORCH)
    most = 0.65 if way.modes("write") == ["lazy"] else 1.02 * way.copies(*TORCH)
    assert counters["bytes"] <= most * mixed_size()
    assert counters["buffered_bytes"] == 0


@pytest.mark.parametrize("framework", ["pt", "np"])
@pytest.mark.parametrize("what", ["keys", "shapes"])
def test_metadata_only(way, truth, mounted, what, framework):
    """Names and shapes cost the header and at most 1 MiB, but for maps that are filled: for torch
    safetensors maps the data, too, when it opens a file."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    maps = TORCH if framework == "pt" else ("header",)
    program = ["safe_open_metadata.py", framework, what, path]
    _, result, counters = same(way, truth, server, *program)
    assert modes(result, path) == way.modes(*maps)
    copies = way.modes(*maps).count("eager")
    assert copies * mixed_size() <= counters["bytes"]
    assert counters["bytes"] <= copies * mixed_size() + header_size() + MIB
    assert counters["buffered_bytes"] == 0


def test_reopened_for_every_tensor(way, truth, mounted):
    """A program that opens the file anew for each tensor makes us read it twice at most."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    _, result, counters = same(way, truth, server, "reopen.py", 100, path)
    found = modes(result, path)
    assert found[:2] == way.modes(*TORCH)
    assert "declined:reread" in found, found
    assert counters["direct_bytes"] <= 2 * mixed_size() + 100 * MIB // 8


def test_write_to_private_tensors(way, truth, mounted):
    """A step of training changes the tensors and neither the file nor another load of it. Filled
    twice for the first load, the file is the kernel's for the second."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    under, result, _ = same(way, truth, server, "train.py", path)
    assert under["before"] == under["again"]
    changed = [name for name in under["before"] if under["before"][name] != under["after"][name]]
    assert len(changed) >= len(under["before"]) - 1  # one tensor is empty
    second = way.modes(*TORCH) if way.copies(*TORCH) == 1 else 2 * ["declined:reread"]
    assert modes(result, path) == way.modes(*TORCH) + second


def test_threads_load_eight_files(way, truth, mounted):
    """Eight threads that load at once get the right bytes, each file read as if it were alone."""
    server = mounted("eight", delay_ms=2)
    files = sorted(server.mountpoint.iterdir())
    _, result, counters = same(way, truth, server, "threads.py", *files)
    for path in files:
        assert modes(result, path) == way.modes(*TORCH), path
        read_once(counters, path.name, path.stat().st_size, way.copies(*TORCH))


def test_write_from_map(way, truth, mounted, room):
    """write() out of the mapped tensors gives the kernel the same bytes."""
    server = mounted("mixed")
    path, copy = server.mountpoint / MIXED, room / "copy.safetensors"
    under, result, _ = same(way, truth, server, "save_from_map.py", path, copy, room=room)
    assert under["sums"] == under["written"]
    assert modes(result, path) == way.modes(*TORCH)
    assert copy.stat().st_size >= mixed_size() - 1024  # no metadata


def test_no_file_of_the_name(way, truth, mounted):
    """Under another name the file is not touched: STSHIM_FILES decides."""
    server = mounted("eight")
    path = server.mountpoint / "part-0.safetensors"
    _, result, counters = same(way, truth, server, "load_file_numpy.py", path, fresh=True,
                               env={"STSHIM_FILES": "*.other"})
    assert result.stats == []
    assert counters["direct_reads"] == 0
