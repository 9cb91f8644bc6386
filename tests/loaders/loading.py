# SPDX-License-Identifier: Apache-2.0
"""Runs the loader programs on a mount and looks at what the library and the server say."""

import shutil

import ways
from support.run import mapped

MIB = 1 << 20


def same(way, truth, server, name, *arguments, room=None, fresh=False, **options):
    """Runs a program under the library; it must print what it prints without. Returns (the JSON,
    the Result, the server's counters)."""
    right = truth.of(name, *arguments, server=server, room=room, fresh=fresh)
    server.reset()
    under, result = way.load(name, *arguments, fresh=fresh, **options)
    counters = server.stats()
    assert under == right
    return under, result, counters


def modes(result, path):
    """How each mapping of a file was filled, in order: "lazy", "eager", "peek" for the header only,
    the decision where it is the kernel's. The path is the file's own, without links."""
    return [ways.mode(line) for line in mapped(result.stats) if line["path"] == str(path)]


def read_once(counters, path, size, copies=1, slack=0.02):
    """Asserts that the server delivered all of the file, once or copies times, without the page
    cache."""
    file = counters["files"][path]
    assert file["distinct_bytes"] >= size * (1 - slack), file
    assert size * (copies - slack) <= file["bytes"] <= size * (copies + slack), file
    assert counters["buffered_bytes"] <= slack * size, counters


def beside(server, directory):
    """Fills a directory with links to the models of a mount, and copies of what is no model: where
    the page cache hangs programs can read only models."""
    for file in server.source.iterdir():
        if file.suffix == ".safetensors":
            (directory / file.name).symlink_to(server.mountpoint / file.name)
        else:
            shutil.copy(file, directory)
