# SPDX-License-Identifier: Apache-2.0
"""stshim run: the environment it makes, what it passes through, what it warns of, its report."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import models, need, paths
from support.fuse import FuseServer
from support.run import mapped, run
from support.tool import private, stshim

MIB = 1 << 20
SECOND = 20


@pytest.fixture
def directory(tmp_path):
    """A directory in the place of /run."""
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def tool_run(directory):
    """Runs stshim run."""

    def call(*arguments, **keywords):
        return stshim("run", *arguments, run_directory=directory, timeout=SECOND, **keywords)

    return call


@pytest.fixture
def mount(tmp_path):
    """A FUSE mount with a model of 3 MiB."""
    need.fuse()
    source = tmp_path / "source"
    models.make_safetensors(source / "m.safetensors", sizes=(3 * MIB,))
    with FuseServer(source, delay_ms=1) as server:
        yield server


def variables(result):
    """The environment that `env` has printed."""
    assert result.returncode == 0, result
    return dict(line.split("=", 1) for line in result.stdout.splitlines())


def test_a_model_is_engaged(mount, tool_run):
    """The whole way: the program has the library, which engages."""
    model = mount.mountpoint / "m.safetensors"
    load = need.program("load")
    bare = subprocess.run([load, model], capture_output=True, text=True, timeout=SECOND)
    result = tool_run("--log", "info", load, model)
    assert result.returncode == 0 and result.stdout == bare.stdout
    assert re.search(r"info: engaged .*/m\.safetensors: 3\.00 MiB on fuse", result.stderr)


def test_the_environment(tool_run):
    """The library once in front, the answer of the probe, and nothing else."""
    made = variables(tool_run("env"))
    bare = variables(stshim_free(["env"]))
    assert made.pop("LD_PRELOAD") == str(paths.library())
    assert made.pop("STSHIM_UMA") == "no"
    for name in ("XDG_RUNTIME_DIR", "_", "PWD", "OLDPWD", "SHLVL"):
        made.pop(name, None)
        bare.pop(name, None)
    assert made == bare


def stshim_free(argv):
    """Runs argv as the tests run everything, without stshim."""
    from support.run import run

    return run(argv, preload=False)


@pytest.mark.parametrize(
    "before, after",
    [
        ("/lib/other.so", "{}:/lib/other.so"),
        ("{}", "{}"),
        ("/lib/a.so {} /lib/b.so", "{}:/lib/a.so:/lib/b.so"),
        ("/elsewhere/libstnommap.so:/lib/a.so", "{}:/lib/a.so"),
        ("libstnommap.so", "{}"),
        ("/lib/otherlibstnommap.so", "{}:/lib/otherlibstnommap.so"),
    ],
)
def test_ld_preload_has_it_once(tool_run, before, after):
    """Other libraries stay, behind it, in their order; other copies of it go."""
    library = str(paths.library())
    result = tool_run("env", env={"LD_PRELOAD": before.format(library)})
    assert variables(result)["LD_PRELOAD"] == after.format(library)


def test_nested(tool_run):
    """Run in itself it changes nothing more."""
    once = variables(tool_run("env"))
    twice = variables(tool_run(need.tool(), "run", "env"))
    assert once["LD_PRELOAD"] == twice["LD_PRELOAD"]


def test_an_injected_library_is_enough(tool_run, tmp_path):
    """Where /etc/ld.so.preload has it LD_PRELOAD is left as it was."""
    need.root()
    (tmp_path / "etc").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "etc" / "ld.so.preload").write_text(f"# ours\n{paths.library()}\n")
    layers = f"lowerdir=/etc,upperdir={tmp_path}/etc,workdir={tmp_path}/work"
    script = f'mount -t overlay -o {layers} none /etc && exec "$@"'
    result = tool_run("env", before=["sh", "-c", script, "sh"])
    if "mount:" in result.stderr:
        pytest.skip("needs overlay mounts")
    assert "LD_PRELOAD" not in variables(result)


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--mode", "always"], {"STSHIM_MODE": "always"}),
        (["--files=*.gguf:*.pte"], {"STSHIM_FILES": "*.gguf:*.pte"}),
        (["--threads=4", "--block", "2M"], {"STSHIM_THREADS": "4", "STSHIM_BLOCK": "2M"}),
        (["--log-file", "/tmp/x"], {"STSHIM_LOG_FILE": "/tmp/x"}),
        (["--uma", "yes"], {"STSHIM_UMA": "yes"}),
        (["--stats="], {"STSHIM_STATS": ""}),
    ],
)
def test_options_become_variables(tool_run, options, expected):
    """Also over what the environment has."""
    made = variables(tool_run(*options, "env", env={"STSHIM_MODE": "off"}))
    assert made.items() >= expected.items()


def test_every_variable_has_an_option(tool_run):
    """The list is the library's own."""
    text = Path(paths.REPOSITORY / "lib" / "config.c").read_text()
    names = set(re.findall(r'"STSHIM_([A-Z_]+)"', text))
    shown = tool_run("--help").stdout
    options = set(re.findall(r"^ +(?:-., )?--([a-z-]+)", shown, re.MULTILINE))
    assert len(names) > 10
    assert {name.lower().replace("_", "-") for name in names} <= options


@pytest.mark.parametrize(
    "arguments",
    [[], ["--nonsense", "true"], ["--mode=fast", "true"], ["--report=xml", "true"], ["--threads"]],
)
def test_usage(tool_run, arguments):
    """Exit status 2, and a line that says what is wrong; nothing is started."""
    result = tool_run(*arguments)
    assert result.returncode == 2 and result.stderr.startswith("stshim run: ")
    assert result.stdout == ""


def test_the_programs_own_options_are_its_own(tool_run):
    """From the first argument on, with -- or without."""
    for separator in ([], ["--"]):
        result = tool_run(*separator, "echo", "--mode=off", "-r", "--", "x")
        assert result.stdout == "--mode=off -r -- x\n"


@pytest.mark.parametrize("report", [[], ["--report"]])
def test_exit_statuses(tool_run, report):
    """The program's, its signal, and those for a program that cannot be started."""
    assert tool_run(*report, "sh", "-c", "exit 7").returncode == 7
    assert tool_run(*report, "sh", "-c", "kill -TERM $$").signal == signal.SIGTERM
    for name, status in [("no-such-program", 127), ("/etc/passwd", 126), ("/", 126)]:
        result = tool_run(*report, name)
        assert result.returncode == status
        errors = [line for line in result.stderr.splitlines() if line.startswith("stshim run: ")]
        assert len(errors) == 1 and errors[0].startswith(f"stshim run: {name}: ")


def test_a_library_that_is_not_there(tool_run, tmp_path):
    """Exit status 125; the program is not started without it."""
    result = tool_run("--library", "/nonexistent", "echo", "x")
    assert result.returncode == 125 and result.stdout == ""
    alone = tmp_path / "stshim"
    shutil.copy(need.tool(), alone)
    result = subprocess.run([alone, "run", "echo"], capture_output=True, text=True, timeout=SECOND)
    assert result.returncode == 125 and "--library FILE" in result.stderr


@pytest.mark.parametrize("layout", ["same", "prefix"])
def test_the_library_is_found_beside_it(tmp_path, layout):
    """In the same directory, as a Python package has them, and where it is installed."""
    bin_directory = tmp_path / "bin"
    library = tmp_path / ("bin" if layout == "same" else "lib") / "libstnommap.so"
    if layout == "prefix":
        text = need.tool().read_bytes()
        library = bin_directory / re.search(rb"\.\./lib[a-z0-9_/.-]*", text)[0].decode()
        library = Path(os.path.normpath(library)) / "libstnommap.so"
    bin_directory.mkdir()
    library.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(need.tool(), bin_directory)
    shutil.copy(paths.library(), library)
    result = subprocess.run(
        [bin_directory / "stshim", "run", "--uma=no", "env"],
        capture_output=True,
        text=True,
        timeout=SECOND,
    )
    assert f"LD_PRELOAD={library}\n" in result.stdout


def test_a_path_that_ld_so_cannot_read(tool_run, tmp_path):
    """Blanks and colons separate, in LD_PRELOAD."""
    for name in ("a b", "a:b", "$LIB"):
        library = tmp_path / name / "libstnommap.so"
        library.parent.mkdir()
        shutil.copy(paths.library(), library)
        result = tool_run("--library", library, "true")
        assert result.returncode == 125 and "copy it to another place" in result.stderr


def test_no_parent_is_left(tool_run):
    """The program is the process that was started."""
    script = "echo $$; exec stat -c %n /proc/self"
    result = subprocess.Popen(
        [need.tool(), "run", "--uma=no", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    )
    out, _ = result.communicate(timeout=SECOND)
    assert out.split()[0] == str(result.pid)


def started(directory, *options):
    """The program that shows its signals, under stshim run, once it is ready."""
    argv = private([need.tool(), "run", *options, need.tool("signals")], directory)
    process = subprocess.Popen(
        [str(part) for part in argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(directory)},
    )
    return process, process.stdout.readline()


def test_signals_pass_through_a_reporting_parent(directory):
    """Each reaches the program once, whose signal mask is untouched and whose end is taken over."""
    process, line = started(directory, "--report")
    assert line == f"ready 0 blocked, parent {process.pid}\n"
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM):
        process.send_signal(number)
        assert process.stdout.readline() == f"signal {number}\n"
    assert process.wait(SECOND) == 3
    assert "no model file was mapped" in process.stderr.read()


def test_stopping_and_going_on_with_a_reporting_parent(directory):
    """A program that stops, stops its parent, which the shell looks at; SIGCONT wakes both."""
    process, line = started(directory, "--report")
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill(child, signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == f"signal {signal.SIGTERM}\n"
    assert process.wait(SECOND) == 3


def test_a_program_that_is_killed_under_a_reporting_parent(directory):
    """The parent ends by the same signal, after its report."""
    process, _ = started(directory, "--report")
    process.send_signal(signal.SIGUSR2)
    assert process.wait(SECOND) == -signal.SIGUSR2
    assert "stshim run: " in process.stderr.read()


def test_report(mount, tool_run):
    """A row for each file and decision, with sizes, time, memory and page cache."""
    model = mount.mountpoint / "m.safetensors"
    result = tool_run("--report", "--fill=eager", need.program("load"), "-n", "3", model)
    assert result.returncode == 0
    lines = result.stderr.splitlines()
    assert lines[0] == "stshim run: what the library did"
    heads = re.split(r"  +", lines[1].strip())
    assert heads == [
        "file", "size", "decision", "times", "seconds", "GB/s", "memory", "huge pages",
        "page cache",
    ]  # fmt: skip
    rows = [re.split(r"  +", line.strip()) for line in lines[2:-1]]
    assert [(row[0], row[1], row[2], row[3]) for row in rows] == [
        (str(model), "3.00 MiB", "engaged", "2"),
        (str(model), "3.00 MiB", "declined:reread", "1"),
    ]
    assert lines[-1].startswith("  peak memory of the largest process: ")


def test_report_of_lazy_fill(mount, tool_run):
    """A map is one, although it has two lines; what was not read is no memory."""
    model = mount.mountpoint / "m.safetensors"
    result = tool_run("--report=json", "--fill=lazy", need.program("load"), "-z300", model)
    (file,) = json.loads(result.stderr)["files"]
    assert (file["decision"], file["times"]) == ("engaged", 1) and file["gb_per_s"] > 0
    assert 0 < file["bytes"] == file["memory"] <= model.stat().st_size


def test_report_of_reads(mount, tool_run):
    """What was read into the program's own memory is no memory of the library's."""
    model = mount.mountpoint / "m.safetensors"
    result = tool_run("--report=json", need.program("reading"), model)
    (file,) = json.loads(result.stderr)["files"]
    assert (file["decision"], file["bytes"]) == ("engaged", model.stat().st_size)
    assert file["memory"] == 0 and file["gb_per_s"] > 0


def test_report_as_json(mount, tool_run):
    """The same for programs; the schema."""
    model = mount.mountpoint / "m.safetensors"
    result = tool_run("--report=json", need.program("load"), "-z300", model)
    seen = json.loads(result.stderr)
    assert set(seen) == {"files", "peak_memory"} and seen["peak_memory"] > 3 * MIB
    (file,) = seen["files"]
    assert set(file) == {
        "path", "size", "decision", "times", "bytes", "seconds", "gb_per_s", "memory",
        "huge_pages", "page_cache",
    }  # fmt: skip
    assert file["path"] == str(model) and file["decision"] == "engaged"
    assert file["size"] == file["bytes"] == file["memory"] == model.stat().st_size
    assert file["page_cache"] == 0 and file["seconds"] > 0


def test_the_reports_file_is_removed(mount, tool_run, tmp_path):
    """Nothing is left in the directory for temporary files."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    model = mount.mountpoint / "m.safetensors"
    result = tool_run("-r", need.program("load"), model, env={"TMPDIR": temporary})
    assert "engaged" in result.stderr and list(temporary.iterdir()) == []
    temporary.rmdir()
    result = tool_run("-r", "true", env={"TMPDIR": temporary})
    assert result.returncode == 125 and "another directory with TMPDIR" in result.stderr


def test_a_file_for_statistics_that_is_given(mount, tool_run, tmp_path):
    """Is used, kept, and only what is new in it is reported."""
    model = mount.mountpoint / "m.safetensors"
    stats = tmp_path / "stats"
    for _ in range(2):
        result = tool_run("-r", "--stats", stats, need.program("load"), model)
        assert len([line for line in result.stderr.splitlines() if str(model) in line]) == 1
    assert len(mapped(map(json.loads, stats.read_text().splitlines()))) == 2


def on_a_terminal(argv, directory):
    """What a program prints whose standard error is a terminal."""
    master, slave = pty.openpty()
    argv = [str(part) for part in private(argv, directory)]
    env = {**os.environ, "XDG_RUNTIME_DIR": str(directory)}
    result = subprocess.run(argv, stdout=subprocess.PIPE, stderr=slave, env=env, timeout=SECOND)
    os.close(slave)
    os.close(master)
    return result.stdout.decode()


def test_progress_for_a_terminal(directory, tool_run):
    """Only there, and only where nobody has decided."""
    assert "STSHIM_PROGRESS" not in variables(tool_run("env"))
    run = [need.tool(), "run"]
    assert "STSHIM_PROGRESS=on\n" in on_a_terminal([*run, "env"], directory)
    assert "STSHIM_PROGRESS=off\n" in on_a_terminal([*run, "--progress=off", "env"], directory)


def warnings(result):
    """The lines of warning."""
    return [line for line in result.stderr.splitlines() if "warning: " in line]


@pytest.mark.parametrize(
    "name, text, status, out",
    [
        ("hello", None, 0, "hello\n"),
        ("hello-static", "is a static program", 0, "hello\n"),
        ("hello-go", "is a Go program", 0, "hello\n"),
        ("hello-32", "is a 32-bit program", 7, ""),
    ],
)
def test_programs_that_it_cannot_help(tool_run, name, text, status, out):
    """One line of warning; they run all the same."""
    result = tool_run(need.tool(name))
    assert (result.returncode, result.stdout) == (status, out)
    assert len(warnings(result)) == (text is not None)
    assert text is None or f"{need.tool(name)} {text}" in warnings(result)[0]


def test_another_architecture(tool_run, tmp_path):
    """Told by the ELF header."""
    program = tmp_path / "foreign"
    text = bytearray(need.tool("hello").read_bytes())
    text[18:20] = (8).to_bytes(2, "little")  # EM_MIPS
    program.write_bytes(text)
    program.chmod(0o755)
    assert "is for another architecture" in warnings(tool_run(program))[0]


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o755])
def test_a_program_with_more_rights(directory, public, mode, user):
    """setuid and setgid for somebody else; not for the user himself."""
    program = public / "hello"
    shutil.copy(need.tool("hello"), program)
    program.chmod(mode)
    before = ["setpriv", "--reuid", user, "--regid", "65534", "--clear-groups"]
    result = stshim("run", program, run_directory=directory, before=before)
    assert result.stdout == "hello\n"
    assert len(warnings(result)) == (mode != 0o755)
    own = stshim("run", program, run_directory=directory)
    assert warnings(own) == [] and own.stdout == "hello\n"


def test_file_capabilities(directory, public, user):
    """Make a program one with more rights, too."""
    need.command("setcap")
    program = public / "hello"
    shutil.copy(need.tool("hello"), program)
    subprocess.run(["setcap", "cap_net_raw=ep", program], check=True)
    before = ["setpriv", "--reuid", user, "--clear-groups"]
    result = stshim("run", program, run_directory=directory, before=before)
    assert result.stdout == "hello\n" and "more rights" in warnings(result)[0]


@pytest.mark.parametrize(
    "line",
    [
        "#!{}",
        "#! {} -x",
        "#!/usr/bin/env hello-static",
        "#!/usr/bin/env -S hello-static x",
        "#!/usr/bin/env -S A=1 hello-static",
    ],
)
def test_scripts(tool_run, tmp_path, line):
    """The interpreter counts, also behind env."""
    static = need.tool("hello-static")
    script = tmp_path / "script"
    script.write_text(line.format(static) + "\n")
    script.chmod(0o755)
    path = f"{static.parent}:{os.environ['PATH']}"
    result = tool_run(script, env={"PATH": path})
    assert result.stdout == "hello\n" and "is a static program" in warnings(result)[0]


def test_a_script_of_a_dynamic_interpreter(tool_run, tmp_path):
    """No warning."""
    script = tmp_path / "script"
    script.write_text(f"#!{sys.executable}\nprint('x')\n")
    script.chmod(0o755)
    result = tool_run(script)
    assert result.stdout == "x\n" and result.stderr == ""


def test_start_up_time():
    """Less than 10 ms more than the program alone, with an answer of the probe or without."""
    program = paths.REPOSITORY / "tests/bench/tool_cost.py"
    need.tool()
    result = run([sys.executable, program, "--starts", "40", "--json"], preload=False)
    assert result.returncode == 0, result
    least = {name: row["least"] for name, row in json.loads(result.stdout).items()}
    assert least["stshim run true"] - least["true"] < 10
    assert least["the same, nothing remembered"] - least["true"] < 10
