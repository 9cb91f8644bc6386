# SPDX-License-Identifier: Apache-2.0
"""The manual and the README say what the code says, and name nothing that is not there."""

import re
import subprocess
from pathlib import Path

import pytest
from support import need, paths

ROOT = paths.REPOSITORY
MANUAL = ROOT / "docs" / "libstnommap.7"
README = ROOT / "README.md"
TEXTS = [README, ROOT / "CONTRIBUTING.md", MANUAL, *sorted((ROOT / "docs").glob("*.md"))]
VARIABLE = r"STSHIM_[A-Z]+(?:_[A-Z]+)*"


def source(name):
    """The text of a file of lib/."""
    return (ROOT / "lib" / name).read_text()


def manual():
    """The manual's source with its hyphens and fonts as plain text."""
    text = MANUAL.read_text().replace("\\-", "-")
    return re.sub(r"\\f[BIPR]", "", text)


def section(name):
    """The lines of one section of the manual."""
    return re.search(rf"\n\.SH {name}\n(.*?)(?=\n\.SH |\Z)", manual(), re.DOTALL)[1]


def variables():
    """{name: (default, values)} of the configuration table."""
    table = re.findall(r'\{\{"(STSHIM_\w+)",\s*"([^"]*)",\s*"([^"]*)"\}', source("config.c"))
    return {name: (default, values) for name, default, values in table}


def decisions():
    """The decisions' names as the log has them."""
    words = re.findall(r'\[STN_\w+\] =\s*\{"([\w-]+)",\s*"([\w-]*)"\}', source("policy.c"))
    return {f"{verb}:{reason}" if reason else verb for verb, reason in words}


def fields():
    """The names of the fields of a line of the statistics."""
    return re.findall(r'\badd_(?:key|number|string)\(&?line,\s*"(\w+)"', source("journal.c"))


def test_nothing_of_the_code_is_missed():
    """What is read from the code here is all that it has."""
    assert len(variables()) == len(re.findall(r'"STSHIM_\w', source("config.c"))) > 0
    names = re.search(r"enum stn_decision \{(.*?)STN_DECISIONS", source("policy.h"), re.DOTALL)[1]
    assert len(decisions()) == len(re.findall(r"\bSTN_\w+", names)) > 0
    assert {"time", "pid", "event", "decision", "note"} < set(fields())


@pytest.mark.parametrize("name", sorted(variables()))
def test_variable_in_manual(name):
    """Every variable has an entry with the values that it takes and its default."""
    default, values = variables()[name]
    entry = f"\n.TP\n.B {name}\nValues: {values}.\nDefault: {default or 'empty'}.\n"
    assert section("ENVIRONMENT").count(entry) == 1


@pytest.mark.parametrize("name", sorted(variables()))
def test_variable_in_readme(name):
    """Every variable has a row with its default and the values that it takes."""
    default, values = variables()[name]
    shown = f"`{default}`" if default else "empty"
    rows = [line for line in README.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 1
    assert rows[0].startswith(f"| `{name}` | {shown} | {values} | ")


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_other_variables(path):
    """No text tells of a variable that does not exist."""
    assert set(re.findall(VARIABLE, path.read_text())) <= set(variables())


def test_decisions_in_manual():
    """The manual explains every decision and no other."""
    assert set(re.findall(r"\n\.TP\n\.B (\S+)\n", section("DECISIONS"))) == decisions()


def test_statistics_in_manual():
    """The manual explains every field of the statistics once, and no other."""
    listed = re.findall(r"\n\.TP\n\.B (\S+)\n", section("STATISTICS"))
    assert sorted(listed) == sorted(fields())


def test_manual_renders():
    """groff has nothing to warn of."""
    groff = need.command("groff")
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww", MANUAL], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "LIBSTNOMMAP(7)" in done.stdout


def test_manual_has_the_version():
    """The manual is of the version that is built."""
    version = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text())[1]
    assert f'"libstnommap {version}"' in MANUAL.read_text().splitlines()[1]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_paths_of_this_machine(path):
    """Texts hold wherever the repository lies."""
    text = path.read_text()
    for place in (ROOT, Path.home(), paths.build()):
        assert place == Path("/") or str(place) + "/" not in text
    assert re.findall(r"(?<![\w.~*])/(?:home|root|work|tmp|var/tmp)/\S+", text) == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_named_files_exist(path):
    """Links and names of files in this repository lead somewhere."""
    text = path.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    names = re.findall(r"(?<![\w/.*$])((?:lib|shim|tests|tools|docs|\.ci)/[\w./-]*\w)", text)
    missing = [link for link in links if not (path.parent / link).exists()]
    missing += [name for name in names if not (ROOT / name).exists()]
    assert missing == []
