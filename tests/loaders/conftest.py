# SPDX-License-Identifier: Apache-2.0
"""Mounts of the test models for the loader tests."""

import data
import pytest
from support import need
from support.fuse import FuseServer


@pytest.fixture(autouse=True)
def needs():
    """Every test here needs the mount, the library and the loaders."""
    need.fuse()
    need.library()
    for module in ("torch", "safetensors", "transformers", "diffusers", "accelerate"):
        need.module(module)


@pytest.fixture
def mounted():
    """Returns a function that mounts the data of a kind, or a directory, until the test ends."""
    servers = []

    def mount(kind, **options):
        source = data.path(kind) if isinstance(kind, str) else kind
        servers.append(FuseServer(source, **options))
        return servers[-1]

    yield mount
    for server in servers:
        server.stop()
