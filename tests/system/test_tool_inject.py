# SPDX-License-Identifier: Apache-2.0
"""stshim inject: Debian roots with and without the library, and everything that it must refuse."""

import json
import os
import re
import shutil
import subprocess

import pytest
from compare import ended
from support import debian, need, paths
from support.run import run

LINE = "/usr/lib/libstnommap.so\n"


@pytest.fixture(autouse=True)
def program():
    """Every test here needs the program, the library, and root."""
    need.library()
    need.tool()
    need.root()


def inject(root, *options, **keywords):
    """Runs the program on a root."""
    keywords.setdefault("timeout", 100)
    return ended(run([need.tool(), "inject", "--root", root, *options], preload=False, **keywords))


def seen(root, *options, status=0):
    """What it says as JSON."""
    result = inject(root, "--json", *options)
    assert result.returncode == status and result.stderr == "", result
    value = json.loads(result.stdout)
    assert set(value) == {"root", "state", "changed", "library", "listed", "path", "env", "reason",
                          "tried"}  # fmt: skip
    return value


def snapshot(root):
    """Everything in a root: kinds, modes, owners, sizes, times, targets."""
    found = {}
    for directory, names, others in os.walk(root):
        for name in [".", *names, *others]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            found[path] = (status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns,
                           status.st_ino, os.path.islink(path) and os.readlink(path))  # fmt: skip
    return found


def refused(root, words, *options):
    """Asserts that an injection is refused for this reason and leaves the root as it was."""
    before = snapshot(root)
    result = inject(root, *options)
    assert result.returncode == 1 and result.stdout == "", result
    assert words in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr
    assert snapshot(root) == before


@pytest.fixture
def bookworm(tmp_path):
    """A Debian 12 root of one test."""
    return debian.copy(debian.cached("bookworm", debian.WITH_PYTHON, complete=True), tmp_path / "bookworm")


def compiled(tmp_path, source, *options, compiler="cc"):
    """A shared library of C source."""
    path = tmp_path / "sabotaged.so"
    file = tmp_path / "sabotaged.c"
    file.write_text(source)
    subprocess.run(
        [need.command(compiler), "-shared", "-fPIC", *options, "-o", path, file], check=True
    )
    return path


def outputs(root):
    """What programs in a root do: status, stdout and stderr of each."""
    commands = [
        (None, ["apt-get", "--version"]),
        (None, ["apt-get", "-q", "update"]),
        (None, ["apt-cache", "policy", "stn-test"]),
        (None, ["apt-get", "-q", "-s", "install", "stn-test"]),
        (None, ["dpkg", "--audit"]),
        (None, ["ssh", "-V"]),
        (None, ["ssh", "-G", "somewhere"]),
        (None, ["ssh", "-o", "BatchMode=yes", "-p", "1", "127.0.0.1", "true"]),
        (None, ["ssh-keygen", "-l", "-f", "/etc/stn-key.pub"]),
        (None, ["python3", "-c", "import sys, ssl, threading; print(sys.version, ssl.OPENSSL_VERSION)"]),
        (None, ["python3", "-m", "this"]),
        (None, ["bash", "-c", "echo $BASH_VERSION; for i in 1 2 3; do (exit $i); echo $?; done"]),
        (None, ["perl", "-e", "print `uname -s`, $]"]),
        (None, ["su", "-s", "/bin/sh", "-c", "id; grep -c . /proc/self/maps >/dev/null", "nobody"]),
        ("nobody", ["su", "-c", "true"]),
        ("nobody", ["passwd", "-S"]),
        ("nobody", ["passwd", "--help"]),
        ("nobody", ["newgrp", "nogroup"]),
        ("nobody", ["/usr/local/bin/setuid"]),
    ]  # fmt: skip
    found = {}
    for user, argv in commands:
        result = ended(run(debian.enter(root, argv, user), preload=False, timeout=30))
        found[" ".join(argv)] = result.returncode, result.stdout, result.stderr
    return found


def furnish(root, tmp_path):
    """An apt repository without a network, an ssh key, and a setuid program in a root."""
    build = tmp_path / "package"
    (build / "DEBIAN").mkdir(parents=True)
    (build / "DEBIAN/control").write_text(
        "Package: stn-test\nVersion: 1\nArchitecture: all\nMaintainer: n <n@example.org>\n"
        "Description: nothing\n"
    )
    (root / "repository").mkdir()
    package = root / "repository/stn-test_1_all.deb"
    subprocess.run(["dpkg-deb", "-b", build, package], check=True, capture_output=True)
    size, digest = package.stat().st_size, subprocess.check_output(["sha256sum", package], text=True)
    (root / "repository/Packages").write_text(
        (build / "DEBIAN/control").read_text()
        + f"Filename: ./stn-test_1_all.deb\nSize: {size}\nSHA256: {digest.split()[0]}\n"
    )
    (root / "etc/apt/sources.list").unlink()
    (root / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/repository ./\n")
    (root / "etc/stn-key.pub").write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6hHfSbP0a9J4oJ8y1W2m4Q0bX5v0cFh1b1nq6mW9tY n\n"
    )
    source = tmp_path / "setuid.c"
    source.write_text(
        "#include <stdio.h>\n#include <sys/auxv.h>\n#include <unistd.h>\n"
        'int main(void) { printf("%lu %u %u\\n", getauxval(AT_SECURE), getuid(), geteuid());'
        " return 0; }\n"
    )
    target = root / "usr/local/bin/setuid"
    subprocess.run([need.command("cc"), "-o", target, source], check=True)
    target.chmod(0o4755)


@pytest.mark.limit(400)
def test_debian_12(bookworm, tmp_path):
    """apt-get, ssh, python3, bash, perl and setuid programs show the same before and after, and
    after the removal the root is as it was."""
    furnish(bookworm, tmp_path)
    before = outputs(bookworm)
    assert before["/usr/local/bin/setuid"][1] == "1 65534 0\n"
    assert "stn-test" in before["apt-get -q -s install stn-test"][1]
    assert "Connection refused" in before["ssh -o BatchMode=yes -p 1 127.0.0.1 true"][2]
    value = seen(bookworm)
    assert (value["state"], value["changed"], value["library"], value["listed"]) == (
        "injected", True, True, True)  # fmt: skip
    assert {"/bin/sh", "/usr/bin/python3", "/usr/bin/apt-get", "/usr/bin/ssh", "/bin/su"} <= set(
        value["tried"]
    )
    assert (bookworm / "etc/ld.so.preload").read_text() == LINE
    assert (bookworm / "usr/lib/libstnommap.so").read_bytes() == paths.library().read_bytes()
    loaded = debian.enter(bookworm, ["cat", "/proc/self/maps"])
    assert "/usr/lib/libstnommap.so" in run(loaded, preload=False).stdout
    after = outputs(bookworm)
    for command, shown in before.items():
        assert after[command] == shown, command
    injected = snapshot(bookworm)
    again = seen(bookworm)
    assert (again["state"], again["changed"]) == ("injected", False)
    assert snapshot(bookworm) == injected
    assert seen(bookworm, "--check")["state"] == "injected"
    assert seen(bookworm, "--remove")["state"] == "absent"
    assert not (bookworm / "etc/ld.so.preload").exists()
    assert not (bookworm / "usr/lib/libstnommap.so").exists()
    assert seen(bookworm, "--remove")["changed"] is False
    assert seen(bookworm, "--check", status=1)["state"] == "absent"


@pytest.mark.limit(400)
@pytest.mark.parametrize("suite", ["bullseye", "trixie"])
def test_debian_11_and_13(suite, tmp_path):
    """The C libraries before and after: in, tried, and out."""
    root = debian.copy(debian.cached(suite), tmp_path / suite)
    version = debian.enter(root, ["bash", "--version"])
    before = run(version, preload=False)
    assert before.returncode == 0, before
    value = seen(root)
    assert value["state"] == "injected" and len(value["tried"]) >= 8
    after = run(version, preload=False)
    assert (after.stdout, after.stderr) == (before.stdout, before.stderr)
    maps = run(debian.enter(root, ["cat", "/proc/self/maps"]), preload=False)
    assert "/usr/lib/libstnommap.so" in maps.stdout
    assert seen(root, "--remove")["state"] == "absent"


def test_sabotaged_libraries(bookworm, tmp_path):
    """Each is refused with the reason, and the root is untouched."""
    original = paths.library().read_bytes()
    broken = tmp_path / "broken.so"
    symbol = compiled(tmp_path, "void not_there(void); void *p = not_there;", "-Wl,-z,now")
    refused(bookworm, "undefined symbol: not_there", "--library", symbol)
    broken.write_bytes(original.replace(b"GLIBC_2.17\0", b"GLIBC_9.17\0"))
    refused(bookworm, "needs GLIBC_9.17, the root's libc.so.6 has up to GLIBC_2.36", "--library",
            broken)  # fmt: skip
    broken.write_bytes(original[:18] + b"\xb7\x00" + original[20:])
    refused(bookworm, "is for x86-64, the library for aarch64", "--library", broken)
    broken.write_bytes(original[:4] + b"\x01" + original[5:])
    refused(bookworm, "is a 32-bit file, not a library", "--library", broken)
    broken.write_bytes(original[:9000])
    refused(bookworm, "does not load the library", "--library", broken)
    broken.write_text("no library\n" * 100)
    refused(bookworm, "is no ELF file, not a library", "--library", broken)
    crash = '__attribute__((constructor)) static void f(void) { __builtin_trap(); }'
    refused(bookworm, "is ended by Illegal instruction", "--library", compiled(tmp_path, crash))
    talk = ("#include <unistd.h>\n"
            '__attribute__((constructor)) static void f(void) { write(2, "hello\\n", 6); }')
    refused(bookworm, "does not do the same with the library: hello", "--library",
            compiled(tmp_path, talk))  # fmt: skip
    hang = ("#include <unistd.h>\n#include <string.h>\nextern char *program_invocation_short_name;"
            "__attribute__((constructor)) static void f(void) {"
            ' if (strcmp(program_invocation_short_name, "true") == 0) pause(); }')  # fmt: skip
    refused(bookworm, "/bin/true does not end", "--library",
            compiled(tmp_path, hang, "-D_GNU_SOURCE"))  # fmt: skip
    needs = compiled(tmp_path, "int x;", "-Wl,--no-as-needed", "-lcjson")
    refused(bookworm, "libcjson.so.1", "--library", needs)


@pytest.mark.limit(400)
def test_too_old_a_libc(tmp_path):
    """A library for Debian 12 is refused in Debian 11."""
    root = debian.copy(debian.cached("bullseye"), tmp_path / "root")
    source = "#include <pthread.h>\nvoid *p = (void *)pthread_create;"
    refused(root, "needs GLIBC_2.34, the root's libc.so.6 has up to GLIBC_2.30", "--library",
            compiled(tmp_path, source))  # fmt: skip


def test_other_entries_are_kept(bookworm):
    """What is in ld.so.preload stays, with its comments, and comes back as it was."""
    preload = bookworm / "etc/ld.so.preload"
    text = "# mine\n/lib/x86_64-linux-gnu/libm.so.6 # and why\n\n  /lib/x86_64-linux-gnu/librt.so.1"
    preload.write_text(text)
    preload.chmod(0o640)
    assert seen(bookworm)["state"] == "injected"
    assert preload.read_text() == LINE + text
    assert preload.stat().st_mode & 0o777 == 0o640
    maps = run(debian.enter(bookworm, ["cat", "/proc/self/maps"]), preload=False).stdout
    assert all(name in maps for name in ("libm.so.6", "librt.so.1", "libstnommap.so"))
    seen(bookworm, "--remove")
    assert preload.read_text() == text
    preload.unlink()
    preload.write_text("/lib/x86_64-linux-gnu/libm.so.6:/opt/libstnommap.so\n")
    seen(bookworm, "--remove")
    assert preload.read_text() == "/lib/x86_64-linux-gnu/libm.so.6:\n"


def test_half_of_it(bookworm):
    """A line without the file, a file without the line: --check says so, and inject mends it."""
    seen(bookworm)
    (bookworm / "usr/lib/libstnommap.so").unlink()
    value = seen(bookworm, "--check", status=1)
    assert value["state"] == "broken" and "is not there" in value["reason"]
    assert seen(bookworm)["changed"]
    (bookworm / "etc/ld.so.preload").unlink()
    value = seen(bookworm, "--check", status=1)
    assert value["state"] == "broken" and "does not name it" in value["reason"]
    (bookworm / "usr/lib/libstnommap.so").write_bytes(b"old")
    assert seen(bookworm)["state"] == "injected"
    assert seen(bookworm, "--check")["state"] == "injected"


def test_links_lead_into_the_root(bookworm, tmp_path):
    """A link of the root is followed within it, never outside; a linked ld.so.preload is refused."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (bookworm / "usr/lib").rename(bookworm / "usr/elsewhere")
    (bookworm / "usr/lib").symlink_to("/usr/elsewhere")
    assert seen(bookworm)["state"] == "injected"
    assert (bookworm / "usr/elsewhere/libstnommap.so").exists()
    seen(bookworm, "--remove")
    (bookworm / "etc/ld.so.preload").symlink_to(outside / "target")
    refused(bookworm, "is a symbolic link")
    assert list(outside.iterdir()) == []


def test_env(bookworm):
    """--env copies the library and prints the line for the image."""
    result = inject(bookworm, "--env")
    assert result.returncode == 0, result
    assert result.stdout.splitlines()[-1] == "ENV LD_PRELOAD=/usr/lib/libstnommap.so"
    assert not (bookworm / "etc/ld.so.preload").exists()
    assert seen(bookworm, "--env", "--check")["state"] == "injected"


def test_commands_of_the_user(bookworm):
    """--try adds commands; one that prints something else each time is refused."""
    value = seen(bookworm, "--try", "/usr/bin/id -u", "--try", "/usr/bin/md5sum /etc/passwd")
    assert value["tried"][-2:] == ["/usr/bin/id", "/usr/bin/md5sum"]
    seen(bookworm, "--remove")
    refused(bookworm, "/usr/bin/date does not do the same", "--try", "/usr/bin/date +%N")


def musl_root(tmp_path):
    """A root with one program, of musl."""
    compiler = need.command("musl-gcc")
    root = tmp_path / "musl"
    for name in ("bin", "lib", "usr/lib", "etc"):
        (root / name).mkdir(parents=True)
    source = tmp_path / "shell.c"
    source.write_text('#include <stdio.h>\nint main(void) { puts("works"); return 3; }\n')
    subprocess.run([compiler, "-o", root / "bin/sh", source], check=True)
    interpreter = f"ld-musl-{os.uname().machine}.so.1"
    shutil.copy(os.path.realpath(f"/lib/{interpreter}"), root / "lib" / interpreter)
    return root


def test_musl(tmp_path):
    """musl does not read ld.so.preload: that is said, with the line that helps."""
    root = musl_root(tmp_path)
    refused(root, "musl, which does not read /etc/ld.so.preload; use --env, and in the image: "
                  "ENV LD_PRELOAD=/usr/lib/libstnommap.so")  # fmt: skip
    assert seen(root, "--env")["state"] == "injected"
    assert not (root / "etc/ld.so.preload").exists()
    broken = tmp_path / "broken.so"
    broken.write_bytes(paths.library().read_bytes()[:3000])
    (root / "usr/lib/libstnommap.so").unlink()
    refused(root, "does not load the library", "--env", "--library", broken)


def test_no_program(tmp_path):
    """A root with nothing to try it with is refused."""
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/usr/lib").mkdir(parents=True)
    root = tmp_path / "root"
    refused(root, "no dynamic program")
    (root / "opt").mkdir()
    shutil.copy("/bin/true", root / "opt/thing")
    for path in re.findall(r"(/\S+)", subprocess.check_output(["ldd", "/bin/true"], text=True)):
        (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path.lstrip("/"))
    assert seen(root, "--try", "/opt/thing --version")["tried"] == ["/opt/thing"]


def test_without_rights(tmp_path, user):
    """Who may not write the root is told so, and who may needs no other right."""
    root = musl_root(tmp_path)
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    result = inject(root, "--env", user=user)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result
    subprocess.run(["chown", "-R", f"{user}:", root], check=True)
    result = inject(root, "--env", user=user)
    allowed = subprocess.run(["unshare", "-Urm", "true"], user=user, capture_output=True)
    if allowed.returncode == 0:
        assert result.returncode == 0, result
    else:
        assert "run as root" in result.stderr


def test_usage():
    """Wrong usage is 2."""
    for options in ([], ["x"], ["--root", "/", "--try", "relative"]):
        assert run([need.tool(), "inject", *options], preload=False).returncode == 2
    result = inject("/nowhere")
    assert result.returncode == 1 and "give the directory of an image" in result.stderr
