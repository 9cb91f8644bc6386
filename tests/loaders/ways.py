# SPDX-License-Identifier: Apache-2.0
"""The environments in which every loader runs, and what the manual (STSHIM_FILL in libstnommap(7))
says of each.

    root     may have userfaultfd for everything
    user     an ordinary user: has it for faults of its own code only
    seccomp  userfaultfd is refused, as in Docker's default profile
    eager    STSHIM_FILL=eager

As root each program is started anew. In the others, those that take seconds to import are run by a
child of a process that has imported them (programs/warm.py), else they would take minutes.
"""

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from support import fuse, need, paths
from support import run as running
from support.refuse import refuse_userfaultfd

PROGRAMS = Path(__file__).resolve().parent / "programs"
START_SECONDS = 60
QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
         "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error",
         "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
FILES = {"STSHIM_FILES": "*.safetensors:*.pt:*.npy:*.raw:*.gguf"}
NAMES = ["root", "user", "seccomp", "eager"]

# How a map of more than 1 MiB is filled, by what the process has of userfaultfd: "read" is a
# read-only map, "write" a private writable one, "header" the one that safetensors makes for the
# header before torch maps the data.
MODES = {
    "full": {"read": "lazy", "write": "lazy", "header": "lazy"},
    "user": {"read": "lazy", "write": "eager", "header": "lazy"},
    "none": {"read": "eager", "write": "eager", "header": "peek"},
    "eager": {"read": "eager", "write": "eager", "header": "eager"},
}


def mode(line):
    """How a mapping was filled, by its stats line; its decision if it was not."""
    decided = line["decision"] + (":" + line["reason"] if line["reason"] else "")
    if decided == "engaged:header-peek":
        return "peek"
    return {"begin": "lazy", "fill": "eager"}[line["event"]] if decided == "engaged" else decided


class Reach:
    """What an ordinary user is to run, where he may enter: bind mounts of it, where checkout or
    Python lie in a directory that he may not. python, env: Python and the variables it needs."""

    def __init__(self, user):
        self._root, self._binds = None, {}
        self.python, self.env = sys.executable, {}
        if user is None or self._enters(user):
            return
        self._root = Path(tempfile.mkdtemp(prefix="stn-reach-"))
        self._root.chmod(0o755)
        for directory in (paths.build(), paths.REPOSITORY, sys.prefix, sys.base_prefix):
            self._bind(Path(directory).resolve())
        self.python = self.seen(os.path.realpath(sys.executable))
        self.env = {"PYTHONHOME": self.seen(sys.base_prefix),
                    "PYTHONPATH": self.seen(sysconfig.get_path("purelib")),
                    "LD_LIBRARY_PATH": self.seen(sys.base_prefix) / "lib"}

    def _bind(self, directory):
        """Mounts one more directory."""
        bind = self._root / str(len(self._binds))
        bind.mkdir()
        subprocess.run(["mount", "--bind", directory, bind], check=True)
        self._binds[directory] = bind

    @staticmethod
    def _enters(user):
        """Whether the user may run Python with its modules and read library and programs."""
        uid, gid = running.ids_of(user)
        script = "import numpy, sys; [open(path).close() for path in sys.argv[1:]]"
        argv = [sys.executable, "-c", script, paths.library(), PROGRAMS / "common.py"]
        try:
            return subprocess.run(argv, user=uid, group=gid, extra_groups=[], cwd="/",
                                  capture_output=True).returncode == 0
        except PermissionError:
            return False

    def seen(self, path):
        """Where the user finds a path."""
        path = Path(path).resolve()
        for directory, bind in self._binds.items():
            if path.is_relative_to(directory):
                return bind / path.relative_to(directory)
        return path

    def close(self):
        """Takes the mounts away. Removes empty directories only."""
        for bind in self._binds.values():
            subprocess.run(["umount", "-l", bind], check=True)
            bind.rmdir()
        if self._root is not None:
            self._root.rmdir()


@dataclasses.dataclass
class Warm:
    """A process that has imported the loaders and runs programs in children of its own."""

    process: subprocess.Popen
    directory: Path
    ids: tuple

    def _answer(self, timeout):
        """The number in the next line of the process, None if it takes too long."""
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        if not poll.poll(timeout * 1000):
            return None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"warm.py has ended:\n{self._text('stderr')}")
        return int(line)

    def _text(self, name, start=0):
        """What a file of ours has from an offset on."""
        path = self.directory / name
        return path.read_bytes()[start:].decode(errors="replace") if path.exists() else ""

    def _kill(self, pid):
        """Ends a child and what it has started; returns its wait status."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        status = self._answer(running.KILL_SECONDS)
        if status is None:
            fuse.abort_all()
            status = self._answer(running.KILL_SECONDS)
        return status

    def start(self):
        """Waits until everything is imported."""
        if self._answer(START_SECONDS) is None:
            raise RuntimeError("warm.py did not start")
        return self

    def run(self, argv, timeout):
        """Runs a program; returns a Result as support.run.run does."""
        before = {name: len(self._text(name).encode()) for name in ("stats", "log")}
        request = {"argv": [str(argument) for argument in argv]}
        for name in ("stdout", "stderr"):
            request[name] = str(running.file_of(self.directory, f"child-{name}", self.ids))
        start = time.monotonic()
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        pid = self._answer(running.KILL_SECONDS)
        status = self._answer(timeout)
        timed_out = status is None
        seconds = time.monotonic() - start
        code = os.waitstatus_to_exitcode(self._kill(pid) if timed_out else status)
        return running.Result(
            returncode=code, signal=-code if code < 0 else None, seconds=seconds,
            timed_out=timed_out, stdout=self._text("child-stdout"),
            stderr=self._text("child-stderr"), log=self._text("log", before["log"]),
            stats=[json.loads(line) for line in self._text("stats", before["stats"]).splitlines()],
        )

    def close(self):
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait(running.KILL_SECONDS)
        self.process.stdout.close()


class Way:
    """One environment. preload=False: without the library, which tells what is right."""

    def __init__(self, name, preload=True):
        self.name = name
        self._preload = preload
        self._user = need.user() if name == "user" and os.geteuid() == 0 else None
        self._before = refuse_userfaultfd if name == "seccomp" else None
        self._warm = None
        self._reach = Reach(self._user)
        self._home = tempfile.TemporaryDirectory(prefix="stn-way-")
        self._own(self._home.name)
        self.access = self._ask()
        self._modes = MODES["eager" if name == "eager" else self._kind()]

    def _own(self, directory):
        """Gives a directory to the user of this environment."""
        if self._user is not None:
            os.chown(directory, *running.ids_of(self._user))

    def room(self):
        """A new directory for what a program writes."""
        directory = Path(tempfile.mkdtemp(dir=self._home.name))
        self._own(directory)
        return directory

    def _env(self):
        """The variables of this environment."""
        env = {**QUIET, **self._reach.env}
        if self._preload:
            env.update(FILES, LD_PRELOAD=self._reach.seen(paths.library()))
        if self.name == "eager":
            env["STSHIM_FILL"] = "eager"
        if self._user is not None:
            env.update(HOME=self._home.name, TMPDIR=self._home.name)
        return env

    def _ask(self):
        """What uffd_kind.py says here."""
        argv = [self._reach.python, self._reach.seen(PROGRAMS / "uffd_kind.py")]
        result = running.run(argv, preload=False, env=self._reach.env, user=self._user,
                             before=self._before)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def _kind(self):
        """The row of MODES. Where there is a filter the library does not make the system call."""
        if self.access["device"] == 0:
            return "full"
        if self.access["filtered"]:
            return "none"
        return "full" if self.access["call"] == 0 else (
            "user" if self.access["user_only"] == 0 else "none")

    def _warmed(self):
        """The process that has imported everything, started if there is none."""
        if self._warm is None:
            directory = self.room()
            ids = running.ids_of(self._user)
            preloaded = running.preloaded(directory, ids) if self._preload else {}
            variables = running.environment(preloaded, self._env())
            argv = [self._reach.python, self._reach.seen(PROGRAMS / "warm.py")]
            with open(directory / "stderr", "wb") as err:
                process = subprocess.Popen(
                    argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, bufsize=0,
                    env=variables, start_new_session=True,
                    preexec_fn=running.before_exec(ids=ids, also=self._before))
            self._warm = Warm(process, directory, ids).start()
        return self._warm

    def modes(self, *maps):
        """How maps of these kinds, each of more than 1 MiB, are filled here."""
        return [self._modes[kind] for kind in maps]

    def copies(self, *maps):
        """How often the bytes of a file are read if all of it is mapped so, in this order, and all
        of the last map is used."""
        modes = self.modes(*maps)
        return modes.count("eager") + (modes[-1] == "lazy")

    def run(self, name, *arguments, env=None, fresh=False, timeout=120):
        """Runs a program and returns the Result. fresh: started anew in any case."""
        argv = [self._reach.seen(PROGRAMS / name), *arguments]
        if self.name != "root" and not fresh and not env:
            return self._warmed().run(argv, timeout)
        return running.run([self._reach.python, *argv], preload=self._preload,
                           env={**self._env(), **(env or {})}, timeout=timeout, user=self._user,
                           before=self._before)

    def load(self, name, *arguments, timeout=120, **options):
        """Runs a program that must succeed; returns (what it printed as JSON, the Result)."""
        result = self.run(name, *arguments, timeout=timeout, **options)
        assert not result.timed_out, f"{name} was still running after {timeout} s\n{result.log}"
        assert result.returncode == 0, f"{name}: {result.returncode}\n{result.stderr}\n{result.log}"
        return json.loads(result.stdout.splitlines()[-1]), result

    def close(self):
        """Ends what it has started."""
        if self._warm is not None:
            self._warm.close()
        self._reach.close()
        self._home.cleanup()


class Truth:
    """What programs print without the library, of files on the disk; each is run once."""

    def __init__(self):
        self.way = Way("bare", preload=False)
        self._known = {}
        self._room = self.way.room()

    def of(self, name, *arguments, server=None, room=None, fresh=False):
        """The JSON that a program prints with these arguments; those below the mount of server and
        below room are taken from the mount's source and from a room of our own."""
        places = {str(server.mountpoint): str(server.source)} if server else {}
        if room:
            places[str(room)] = str(self._room)
        argv = [str(argument) for argument in arguments]
        for place, other in places.items():
            argv = [argument.replace(place, other) for argument in argv]
        key = (name, *argv, fresh)
        if key not in self._known:
            self._known[key], _ = self.way.load(name, *argv, fresh=fresh)
        return self._known[key]

    def close(self):
        """Ends what it has started."""
        self.way.close()
