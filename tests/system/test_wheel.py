# SPDX-License-Identifier: Apache-2.0
"""The Python package: what is in the wheel, and that it works where nothing else is."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import test_elf
from compare import BIG, BIG_SIZE, ended, mounted
from support import debian, need, paths
from support.run import mapped, run

MODULES = ("build", "mesonpy", "ziglang", "wheel", "auditwheel")
LOAD = """
import hashlib, mmap, sys
import stnommap
with open(sys.argv[1], "rb") as file:
    data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE)
print(hashlib.sha256(data).hexdigest(), stnommap.engaged(), stnommap.library_path())
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel for all systems."""
    for name in MODULES:
        need.module(name)
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [paths.REPOSITORY / "tools/python/build-wheel", out],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=170,
    )
    if "Subproject" in done.stdout and "download" in done.stdout and done.returncode != 0:
        need._missing("the sources of libffi and cJSON from the network")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def contents(wheel, tmp_path_factory):
    """The wheel's files."""
    target = tmp_path_factory.mktemp("contents")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def versions(path):
    """The versions of glibc's symbols that a file needs, and the libraries."""
    symbols = subprocess.check_output(["readelf", "-VW", path], text=True)
    dynamic = subprocess.check_output(["readelf", "-dW", path], text=True)
    found = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_(\d[\d.]*)", symbols)}
    return max(v[:2] for v in found), set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))


def test_tag_and_files(wheel, contents):
    """Any Python 3, any glibc from 2.28 on; the library in the package, stshim a script."""
    machine = os.uname().machine
    assert wheel.name == f"stnommap-0.1.0-py3-none-manylinux_2_28_{machine}.whl"
    files = {str(p.relative_to(contents)) for p in contents.rglob("*") if p.is_file()}
    info = "stnommap-0.1.0.dist-info"
    assert files == {
        "stnommap/__init__.py", "stnommap/__main__.py", "stnommap/libstnommap.so",
        "stnommap-0.1.0.data/scripts/stshim", f"{info}/METADATA", f"{info}/RECORD",
        f"{info}/WHEEL", f"{info}/licenses/LICENSE",
        f"{info}/licenses/tools/python/licenses/cJSON",
        f"{info}/licenses/tools/python/licenses/libffi",
    }  # fmt: skip


def test_programs_need_an_old_libc_only(contents):
    """libffi and cJSON are in stshim; both files run with glibc 2.28."""
    newest, libraries = versions(contents / "stnommap-0.1.0.data/scripts/stshim")
    assert newest <= test_elf.NEWEST_GLIBC
    assert libraries <= {"libc.so.6", "libpthread.so.0", "libdl.so.2"}
    strings = subprocess.check_output(
        ["strings", contents / "stnommap-0.1.0.data/scripts/stshim"], text=True
    )
    for place in (str(paths.REPOSITORY), str(Path.home())):
        assert place == "/" or place + "/" not in strings


@pytest.mark.parametrize("rule", [
    test_elf.test_needs_libc_only, test_elf.test_bound_at_start, test_elf.test_has_no_destructor,
    test_elf.test_symbol_versions, test_elf.test_no_thread_local_storage, test_elf.test_exports,
    test_elf.test_no_fortified_imports, test_elf.test_stack_is_not_executable,
], ids=lambda rule: rule.__name__)  # fmt: skip
def test_library_keeps_the_rules(contents, monkeypatch, rule):
    """The library of the wheel is under the same rules as the one that is tested elsewhere."""
    monkeypatch.setenv("STN_BUILD", str(contents / "stnommap"))
    rule()


def inside(root, argv, binds=(), status=0):
    """Runs argv in a root with the environment of Python in /venv."""
    shell = ["sh", "-c", 'PATH=/venv/bin:$PATH exec "$@"', "sh", *argv]
    result = ended(run(debian.enter(root, shell, binds=binds), preload=False, timeout=100))
    assert result.returncode == status, result
    return result


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """A Debian 12 root with python3 and, in an environment made by it, the wheel alone."""
    root = tmp_path_factory.mktemp("installed") / "root"
    debian.copy(debian.cached("bookworm", debian.WITH_PYTHON, complete=True), root)
    inside(root, ["python3", "-m", "venv", "/venv"])
    inside(root, ["pip", "install", "--no-index", f"/wheel/{wheel.name}"],
           binds=[(wheel.parent, "/wheel")])  # fmt: skip
    return root


@pytest.mark.limit(400)
def test_in_a_fresh_debian_12(installed, tmp_path):
    """Where only python3 and the wheel are, stshim run engages on a FUSE mount."""
    root = debian.copy(installed, tmp_path / "root")
    (root / "load.py").write_text(LOAD)
    with mounted() as server:

        def load(*before):
            argv = [*before, f"/models/{BIG}"]
            return inside(root, argv, binds=[(server.mountpoint, "/models")])

        bare = load("python", "/load.py")
        script = load("stshim", "run", "--stats=/stats", "python", "/load.py")
        module = load("python", "-m", "stnommap", "run", "/load.py")
        option = load("python", "-m", "stnommap", "run", "--", "-m", "load")
        doctor = load("stshim", "doctor", "--json")
    digest = bare.stdout.split()[0]
    library = "/venv/lib/python3.11/site-packages/stnommap/libstnommap.so"
    assert bare.stdout == f"{digest} [] {library}\n" and bare.stderr == ""
    size = -(-BIG_SIZE // os.sysconf("SC_PAGESIZE")) * os.sysconf("SC_PAGESIZE")
    for result in (script, module, option):
        assert result.stdout == f"{digest} [('{BIG}', {size})] {library}\n", result
    lines = [json.loads(line) for line in (root / "stats").read_text().splitlines()]
    assert [(line["decision"], line["bytes"]) for line in mapped(lines)] == [("engaged", BIG_SIZE)]
    seen = json.loads(doctor.stdout)
    assert seen["paths"][0]["engages"] is True and seen["host"]["library"] == library


@pytest.mark.limit(400)
def test_in_debian_11(contents, tmp_path):
    """With glibc 2.31 stshim runs and its library loads."""
    root = debian.copy(debian.cached("bullseye"), tmp_path / "root")
    package = root / "usr/local/lib/python3.9/dist-packages/stnommap"
    package.mkdir(parents=True)
    (package / "libstnommap.so").write_bytes((contents / "stnommap/libstnommap.so").read_bytes())
    program = root / "usr/local/bin/stshim"
    program.parent.mkdir(exist_ok=True)
    program.write_bytes((contents / "stnommap-0.1.0.data/scripts/stshim").read_bytes())
    program.chmod(0o755)
    result = run(debian.enter(root, ["stshim", "run", "cat", "/proc/self/maps"]), preload=False)
    assert result.returncode == 0 and str(package)[len(str(root)) :] in result.stdout, result


@pytest.mark.limit(400)
def test_inject_while_an_image_is_built(installed, tmp_path):
    """Inside an image without the right to mount: the library is tried where it is, then put in."""
    root = debian.copy(installed, tmp_path / "root")
    drop = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]

    def inject(*options, status=0):
        argv = [*drop, "stshim", "inject", "--root", "/", "--json", *options]
        return json.loads(inside(root, argv, status=status).stdout)

    value = inject()
    assert value["state"] == "injected" and len(value["tried"]) > 8, value
    assert (root / "etc/ld.so.preload").read_text() == "/usr/lib/libstnommap.so\n"
    assert "/usr/lib/libstnommap.so" in inside(root, ["cat", "/proc/self/maps"]).stdout
    value = inject("--check", status=1)
    assert "without a private mount namespace" in value["reason"]
    assert inject("--remove")["state"] == "absent"


@pytest.mark.limit(300)
def test_pip_install(tmp_path):
    """pip install from the sources, with the compiler and the libraries that are here."""
    for name in ("mesonpy", "pip"):
        need.module(name)
    prefix = tmp_path / "prefix"
    scripts = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    argv = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps",
            "--ignore-installed", f"--prefix={prefix}", paths.REPOSITORY]  # fmt: skip
    done = subprocess.run(argv, env={**os.environ, "PATH": scripts}, capture_output=True,
                          text=True, timeout=170)  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    (package,) = prefix.glob("lib*/python3*/*-packages/stnommap")
    script = tmp_path / "load.py"
    script.write_text(LOAD)
    with mounted() as server:
        env = {"PYTHONPATH": package.parent}
        argv = [prefix / "bin/stshim", "run", "--", sys.executable, script]
        result = ended(run([*argv, server.mountpoint / BIG], preload=False, env=env))
    assert result.returncode == 0 and f"('{BIG}', " in result.stdout, result
    assert result.stdout.endswith(f" {package}/libstnommap.so\n")


def package():
    """The package's module, from the sources."""
    path = paths.REPOSITORY / "tools/python/stnommap/__init__.py"
    spec = importlib.util.spec_from_file_location("stnommap", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def area(place, permissions, file, path, flags="rd mr"):
    """An area as smaps has it."""
    return f"{place} {permissions} 00000000 {file} {path}\nSize: 4 kB\nVmFlags: {flags}\n"


def test_engaged_by_names():
    """With names of memory: each mapping once, however many areas it has."""
    module = package()
    text = area("1000-3000", "r--p", "00:00 0", "[anon:stnommap:a.safetensors]")
    text += area("3000-4000", "rw-p", "00:00 0", "[anon:stnommap:a.safetensors]")
    text += area("5000-6000", "rw-p", "00:00 0", "[anon:stnommap:a.safetensors]")
    text += area("6000-7000", "rw-p", "00:00 0", "[anon:stnommap:b c]")
    text += area("7000-8000", "rw-p", "00:00 0", "[anon:other]")
    found = module._named(module._areas(text.splitlines(keepends=True)))
    assert found == [("a.safetensors", 0x3000), ("a.safetensors", 0x1000), ("b c", 0x1000)]


def test_engaged_by_keepers():
    """Without names: files that are mapped without access, but no holes of libraries, and only
    beside memory that can be the library's."""
    module = package()
    keeper = area("10000-18000", "---p", "00:2c 5", "/m/dir/a.safetensors")
    library = area("20000-21000", "r-xp", "08:01 9", "/usr/lib/libx.so")
    library += area("21000-22000", "---p", "08:01 9", "/usr/lib/libx.so")
    memory = area("30000-38000", "rw-p", "00:00 0", "", "rd wr dd nr")
    plain = area("40000-41000", "rw-p", "00:00 0", "", "rd wr")

    def kept(text):
        return module._kept(module._areas(text.splitlines(keepends=True)))

    assert kept(keeper + library + memory + plain) == [("a.safetensors", 0x8000)]
    assert kept(keeper + library + plain) == [] and kept(library + memory) == []


def test_engaged_without_proc(monkeypatch):
    """What cannot be known is said with its reason."""
    module = package()

    def refuse(*_, **__):
        raise PermissionError("no")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(RuntimeError, match="cannot be read: no"):
        module.engaged()


@pytest.mark.parametrize("given, expected", [
    (["doctor", "x.py"], ["doctor", "x.py"]),
    (["run", "app.py", "-x"], ["run", "--", sys.executable, "app.py", "-x"]),
    (["run", "--mode=always", "a.py"], ["run", "--mode=always", "--", sys.executable, "a.py"]),
    (["run", "--", "-m", "app"], ["run", "--", sys.executable, "-m", "app"]),
    (["run", "ls", "a.py"], ["run", "ls", "a.py"]),
    (["run", "--", "ls", "-m"], ["run", "--", "ls", "-m"]),
    (["run", "--help"], ["run", "--help"]),
    (["run"], ["run"]), ([], []),
])  # fmt: skip
def test_module_puts_python_in_front(given, expected):
    """Scripts and -m, -c are for this Python; other programs are left alone."""
    path = paths.REPOSITORY / "tools/python/stnommap/__main__.py"
    spec = importlib.util.spec_from_file_location("stnommap_main", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.with_python(given) == expected
