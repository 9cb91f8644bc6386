# SPDX-License-Identifier: Apache-2.0
"""The FUSE server stn-testfs as a context manager."""

import contextlib
import json
import os
import pwd
import select
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from . import paths

CONNECTIONS = Path("/sys/fs/fuse/connections")
READY_SECONDS = 10

_alive = []


def alive():
    """The servers that were started and not stopped."""
    return list(_alive)


def abort_all():
    """Ends the connections of all servers alive, so that nothing can hang on them any more."""
    for server in alive():
        server.abort()


def stop_all():
    """Stops all servers alive. Returns their mount points."""
    stopped = [server.mountpoint for server in alive()]
    for server in alive():
        server.stop()
    return stopped


def connection_of(mountpoint):
    """The number of the FUSE connection mounted there, None if there is none. Asks the mount
    table, since a stat of the mount may hang."""
    found = None
    name = os.path.realpath(mountpoint.parent) + "/" + mountpoint.name
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4].encode().decode("unicode_escape") == name:
            found = int(fields[2].split(":")[1])
    return found


def _mount_control():
    """True if there is fusectl, by which whoever has mounted a connection can abort it. Root mounts
    it where it belongs if it is not: a distribution's boot does that, a bare machine's does not."""
    if os.geteuid() == 0 and not os.path.ismount(CONNECTIONS):
        subprocess.run(["mount", "-t", "fusectl", "none", CONNECTIONS], capture_output=True)
    return os.path.ismount(CONNECTIONS)


def _arguments(options):
    """The command line for options given as Python keywords."""
    arguments = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            arguments.append(option)
        elif isinstance(value, (list, tuple)):
            for item in value:
                arguments += [option, str(item)]
        elif value is not None and value is not False:
            arguments += [option, str(value)]
    return arguments


def _ids(user):
    """Keywords of Popen that switch to the named user."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class FuseServer:
    """A mount of source. Options are those of stn-testfs, with _ for -; fault takes one
    specification or a list. user runs the server as that user. Starts when made."""

    def __init__(self, source, mountpoint=None, user=None, **options):
        if not _mount_control() and options.get("invalidate"):
            raise RuntimeError("a server that invalidates can only be ended through fusectl; as "
                               f"root: mount -t fusectl none {CONNECTIONS}")
        self.source = Path(source)
        self._own = Path(tempfile.mkdtemp(prefix="stn-testfs-"))
        self.mountpoint = Path(mountpoint or self._own / "mnt").absolute()
        self.mountpoint.mkdir(parents=True, exist_ok=True)
        self._control = self._own / "control"
        self._stderr = open(self._own / "stderr", "w+b")
        os.chmod(self._own, 0o711)
        if user is not None:
            entry = pwd.getpwnam(user)
            os.chown(self._own, entry.pw_uid, entry.pw_gid)
            os.chown(self.mountpoint, entry.pw_uid, entry.pw_gid)
        argv = [str(paths.testfs()), "--until-eof", "--control", str(self._control)]
        argv += _arguments(options) + [str(source), str(self.mountpoint)]
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            **_ids(user),
        )
        self.pid = self._process.pid
        self.connection_id = None
        _alive.append(self)
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_ready(self):
        """Waits for the line that says that the mount is up."""
        ready, _, _ = select.select([self._process.stdout], [], [], READY_SECONDS)
        line = self._process.stdout.readline() if ready else b""
        if line != b"ready\n":
            raise RuntimeError(f"stn-testfs did not start: {self.errors() or 'no answer'}")
        self.connection_id = connection_of(self.mountpoint)

    def errors(self):
        """What the server has written to stderr."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def running(self):
        """Whether the server process still runs."""
        return self._process.poll() is None

    def wait(self, timeout):
        """Waits for the server to end by itself and returns its exit status."""
        return self._process.wait(timeout)

    def command(self, line, timeout=10):
        """Sends one command and returns its answer; raises ValueError if it was refused."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(self._control))
            connection.sendall(line.encode() + b"\n")
            answer = connection.makefile().readline()
        result = json.loads(answer)
        if "error" in result:
            raise ValueError(f"{line}: {result['error']}")
        return result

    def stats(self):
        """The counters."""
        return self.command("stats")

    def reset(self):
        """Sets the counters to zero."""
        self.command("reset")

    def release(self):
        """Answers the hung reads and disarms the hang faults; returns how many were hung."""
        return self.command("release")["released"]

    def fault(self, spec):
        """Adds a fault."""
        self.command("fault " + spec)

    def no_faults(self):
        """Removes all faults."""
        self.command("nofaults")

    def set_delay(self, milliseconds):
        """Changes the delay of a READ."""
        self.command(f"delay {milliseconds}")

    def abort(self):
        """Ends the connection: requests that wait for an answer fail. Without the right to do
        that through fusectl, kills the server, which has the same effect unless it waits for the
        client."""
        if not self.running() and connection_of(self.mountpoint) is None:
            return
        try:
            (CONNECTIONS / str(self.connection_id) / "abort").write_text("1\n")
        except OSError:
            if self.running():
                self._process.kill()

    def _end_process(self):
        """Ends the server: politely, then by aborting its connection."""
        if not self.running():
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(3)
            return
        self.abort()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)

    def _unmount(self):
        """Takes a mount that the server left behind out of the tree."""
        for argv in (["umount", "-l"], ["fusermount3", "-u", "-z", "-q"]):
            if connection_of(self.mountpoint) is None:
                return
            with contextlib.suppress(subprocess.TimeoutExpired, FileNotFoundError):
                subprocess.run(argv + [self.mountpoint], timeout=2, capture_output=True)

    def stop(self):
        """Ends server and mount; takes 10 s at most, whatever state they are in."""
        if self not in _alive:
            return
        self._end_process()
        self._unmount()
        _alive.remove(self)
        self._process.stdin.close()
        self._process.stdout.close()
        self._stderr.close()
        shutil.rmtree(self._own, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def wait_for(condition, timeout=10, interval=0.02):
    """Waits until condition() is true and returns its value; AssertionError after timeout s."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not so within {timeout} s: {condition}"
        time.sleep(interval)
