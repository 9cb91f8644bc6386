# SPDX-License-Identifier: Apache-2.0
"""safetensors on a FUSE mount: torch and numpy, whole files, slices, metadata, reopening."""

import data
import pytest
from loading import MIB, both, decision, engaged, filled, load, read_once

MIXED = "mixed.safetensors"


def mixed_size():
    """Bytes of the file with all dtypes."""
    return (data.path("mixed") / MIXED).stat().st_size


@pytest.mark.parametrize("program", ["load_file.py", "load_file_numpy.py", "safe_open_all.py"])
def test_whole_file(mounted, program):
    """Every tensor has the bytes that the stock loader gives, and the file was read once."""
    server = mounted("mixed", delay_ms=2)
    path = server.mountpoint / MIXED
    if program == "load_file_numpy.py":  # numpy has no bfloat16
        server = mounted("eight", delay_ms=2)
        path = server.mountpoint / "part-0.safetensors"
    _, result, counters = both(server, program, path)
    assert engaged(result, path), result.stats
    read_once(counters, path.name, path.stat().st_size)


def test_torch_imported_after_the_header(mounted):
    """safetensors maps the header before it imports torch: the file is read once all the same."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    _, result, counters = both(server, "late_torch.py", path)
    assert engaged(result, path), result.stats
    read_once(counters, MIXED, mixed_size())


def test_slices(mounted):
    """Slices come from the same one copy; of what is not asked for little is read."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    _, result, counters = both(server, "safe_open_slices.py", path)
    assert engaged(result, path), result.stats
    assert counters["bytes"] <= 0.65 * mixed_size()
    assert counters["buffered_bytes"] == 0


@pytest.mark.parametrize("framework", ["pt", "np"])
@pytest.mark.parametrize("what", ["keys", "shapes"])
def test_metadata_only(mounted, what, framework):
    """Names and shapes cost the header and at most 1 MiB."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    bare, _ = load("safe_open_metadata.py", framework, what, path, preload=False)
    server.reset()
    under, result = load("safe_open_metadata.py", framework, what, path)
    header = 8 + int.from_bytes((data.path("mixed") / MIXED).read_bytes()[:8], "little")
    assert under == bare
    assert {decision(line) for line in result.stats} == {"engaged"}, result.stats
    assert server.stats()["bytes"] <= header + MIB


def test_reopened_for_every_tensor(mounted):
    """A program that opens the file anew for each tensor makes us read it twice at most."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    _, result, counters = both(server, "reopen.py", 100, path)
    assert engaged(result, path), result.stats
    assert any(decision(line) == "declined:reread" for line in result.stats), result.stats
    assert counters["direct_bytes"] <= 2 * mixed_size() + 100 * MIB // 8


def test_eager_fills_peeks(mounted):
    """With STSHIM_FILL=eager the map for the header is filled like any other."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    _, result = load("safe_open_metadata.py", "np", "keys", path, env={"STSHIM_FILL": "eager"})
    assert filled(result, path) >= mixed_size()
    assert server.stats()["files"][MIXED]["distinct_bytes"] >= mixed_size()
    assert not any(decision(line) == "engaged:header-peek" for line in result.stats)


def test_write_to_private_tensors(mounted):
    """A step of training changes the tensors and neither the file nor another load of it."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    under, result, _ = both(server, "train.py", path)
    assert under["before"] == under["again"]
    changed = [name for name in under["before"] if under["before"][name] != under["after"][name]]
    assert len(changed) >= len(under["before"]) - 1  # one tensor is empty
    assert len(engaged(result, path)) >= 2, result.stats


def test_threads_load_eight_files(mounted):
    """Eight threads that load at once get the right bytes, each file read once."""
    server = mounted("eight", delay_ms=2)
    files = sorted(server.mountpoint.iterdir())
    _, result, counters = both(server, "threads.py", *files)
    for path in files:
        assert engaged(result, path), path
        read_once(counters, path.name, path.stat().st_size)


def test_write_from_map(mounted, tmp_path):
    """write() out of the mapped tensors gives the kernel the same bytes."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    under, result = load("save_from_map.py", path, tmp_path / "copy.safetensors")
    assert under["sums"] == under["written"]
    assert engaged(result, path), result.stats
    assert (tmp_path / "copy.safetensors").stat().st_size >= mixed_size() - 1024  # no metadata


def test_no_file_of_the_name(mounted):
    """Under another name the file is not touched: STSHIM_FILES decides."""
    server = mounted("mixed")
    path = server.mountpoint / MIXED
    _, result, counters = both(server, "load_file.py", path, env={"STSHIM_FILES": "*.other"})
    assert not engaged(result, path)
    assert counters["direct_reads"] == 0
