# SPDX-License-Identifier: Apache-2.0
"""The manual pages of stshim have what its --help has, and no other options."""

import re
import subprocess

import pytest
from support import need, paths
from support.run import run

ROOT = paths.REPOSITORY
TABLE = (ROOT / "tools" / "stshim.c").read_text()
NAMES = re.findall(r'\{"(\w+)",\s*"stshim \w+"', TABLE)
COMMON = {"help", "usage", "version"}


def page(name):
    """The source of a manual page, fonts and hyphens made plain."""
    text = (ROOT / "docs" / name).read_text().replace("\\-", "-")
    return re.sub(r"\\f[BIPR]", "", text)


def options(text):
    """The long options that a text names."""
    return set(re.findall(r"(?<![\w-])--([a-z][a-z-]*)", text)) - COMMON


def variables():
    """The options that stand for variables of the library."""
    text = (ROOT / "lib" / "config.c").read_text()
    names = re.findall(r'\{\{"STSHIM_(\w+)"', text)
    return {name.lower().replace("_", "-") for name in names}


def shown(*arguments):
    """What the program prints."""
    result = run([need.tool(), *arguments], preload=False, timeout=20)
    assert result.returncode == 0, result
    return result.stdout


def test_eight_subcommands():
    """What is read from the code here is all that it has, and what --help lists."""
    assert len(NAMES) == 8
    listed = re.search(r"Subcommands:\n(.*?)\n\n", shown("--help"), re.DOTALL)[1]
    assert [line.split()[0] for line in listed.splitlines()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_options(name):
    """The page has every option, and none that is not there."""
    known = options(shown(name, "--help"))
    written = options(re.sub(r"(?s)\n\.SH EXAMPLES.*", "", page(f"stshim-{name}.1")))
    if name == "run":
        known, written = known - variables(), written - variables()
    assert known <= written
    assert written - known <= {"env"} - known


@pytest.mark.parametrize("name", NAMES)
def test_exit_statuses(name):
    """Page and --help tell of them."""
    section = re.search(r"\n\.SH EXIT STATUS\n(.*?)(?=\n\.SH |\Z)", page(f"stshim-{name}.1"), re.S)[1]
    assert "\n.B 2\n" in section
    assert "Exit status" in shown(name, "--help")


@pytest.mark.parametrize("name", ["stshim", *(f"stshim-{name}" for name in NAMES)])
def test_renders(name):
    """groff has nothing to warn of, and the version is that of the build."""
    groff = need.command("groff")
    path = ROOT / "docs" / f"{name}.1"
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww", path], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    version = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text())[1]
    assert f'"libstnommap {version}"' in path.read_text().splitlines()[1]


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["--nonsense"]])
def test_usage(arguments):
    """Without a subcommand that exists: exit status 2."""
    result = run([need.tool(), *arguments], preload=False, timeout=20)
    assert result.returncode == 2 and result.stderr.startswith("stshim: ")


def test_version():
    """That of the build."""
    version = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text())[1]
    assert shown("--version") == f"stshim {version}\n"
    assert shown("run", "--version") == f"stshim {version}\n"
