# SPDX-License-Identifier: Apache-2.0
"""Mounts of the test models, and the environments, for the loader tests."""

import data
import pytest
import ways
from support import need
from support.fuse import FuseServer


@pytest.fixture(autouse=True, scope="session")
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


@pytest.fixture(scope="session")
def truth(needs):
    """What the programs print without the library."""
    kept = ways.Truth()
    yield kept
    kept.close()


@pytest.fixture(scope="session", params=ways.NAMES)
def way(request, needs):
    """Each environment in turn."""
    if request.param == "root":
        need.root()
    environment = ways.Way(request.param)
    yield environment
    environment.close()


@pytest.fixture
def room(way):
    """A directory that the programs of the environment may write to."""
    return way.room()
