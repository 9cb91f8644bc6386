# SPDX-License-Identifier: Apache-2.0
"""The library as a file: what it needs, what it exports, what it must not have."""

import re
import subprocess
from pathlib import Path

import pytest
from support import need, paths

NEWEST_GLIBC = (2, 28)


@pytest.fixture(autouse=True)
def tools():
    """Every test here looks at the built library with binutils."""
    need.library()
    need.command("readelf")
    need.command("nm")


def output(*argv):
    """What a command prints."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def exports():
    """The names that the library is to export."""
    return set((Path(__file__).parent / "exports.txt").read_text().split())


def test_needs_libc_only():
    """One DT_NEEDED."""
    dynamic = output("readelf", "-dW", paths.library())
    assert re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic) == ["libc.so.6"]
    assert "RPATH" not in dynamic and "RUNPATH" not in dynamic


def test_bound_at_start():
    """All symbols are bound at start-up, and the relocations are read-only afterwards."""
    dynamic = output("readelf", "-dW", paths.library())
    assert re.search(r"BIND_NOW|FLAGS_1.*NOW", dynamic)
    assert "TEXTREL" not in dynamic
    assert "GNU_RELRO" in output("readelf", "-lW", paths.library())


def test_has_no_destructor():
    """Nothing runs at exit."""
    dynamic = output("readelf", "-dW", paths.library())
    sections = output("readelf", "-SW", paths.library())
    size = re.search(r"\.fini_array\s+\S+\s+\S+\s+\S+\s+(\S+)", sections)
    # The one entry that the compiler's start files bring along.
    assert size is None or int(size[1], 16) <= 8, dynamic


def test_symbol_versions():
    """Runs with glibc 2.28."""
    symbols = output("readelf", "-VW", paths.library())
    versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_(\d[\d.]*)", symbols)}
    assert versions
    assert max(version[:2] for version in versions) <= NEWEST_GLIBC
    assert "GLIBC_PRIVATE" not in symbols


def test_no_thread_local_storage():
    """No TLS segment, and no call for one."""
    assert " TLS " not in output("readelf", "-lW", paths.library())
    assert "__tls_get_addr" not in output("nm", "-D", paths.library())


def test_exports():
    """Only listed names, and all of them."""
    names = output("nm", "-D", "--defined-only", "--format=posix", paths.library())
    assert {line.split()[0].split("@")[0] for line in names.splitlines()} == exports()


def test_no_fortified_imports():
    """musl has none of these."""
    names = output("nm", "-D", "--undefined-only", "--format=posix", paths.library())
    imported = {line.split()[0].split("@")[0] for line in names.splitlines()}
    assert not {name for name in imported if name.endswith("_chk") and "stack" not in name}


def test_inner_code_calls_no_interposed_name():
    """No object of lib/ refers to a name that the library interposes."""
    objects = [path for path in paths.build().glob("lib/**/*.o")]
    assert len(objects) > 10
    for path in objects:
        names = output("nm", "-u", "--format=posix", path).splitlines()
        used = {line.split()[0] for line in names} & exports()
        assert not used, (path, used)


def test_stack_is_not_executable():
    """No executable stack, no segment writable and executable."""
    for line in output("readelf", "-lW", paths.library()).splitlines():
        assert "RWE" not in line, line
