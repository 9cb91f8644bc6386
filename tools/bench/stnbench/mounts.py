# SPDX-License-Identifier: Apache-2.0
"""Where the files are read from: our FUSE server, the disk, and real FUSE file systems on it. Each
is a context manager over a directory that yields a Mount."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from support import cache, fuse
from support.fuse import FuseServer

MOUNT_SECONDS = 15


class Unavailable(Exception):
    """This kind of mount cannot be had here; says why."""


def process_cpu(pid):
    """CPU seconds of a process so far: its CPU clock, whose number is made from its pid."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def children_of(pid):
    """The processes started by a process, and theirs."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *children_of(int(child))]
    return found


class Mount:
    """A directory to load from; pids: whoever serves it."""

    def __init__(self, directory, server=None, processes=()):
        self.directory = Path(directory)
        self.server = server
        self._processes = list(processes)
        self._watches = []

    def watch(self, files):
        """Opens the files whose page cache is looked at."""
        self.unwatch()
        self._watches = [cache.Watch(path) for path in files]

    def unwatch(self):
        """Closes them."""
        for watch in self._watches:
            watch.close()
        self._watches = []

    def evict(self):
        """Drops the files from the page cache of this mount."""
        for watch in self._watches:
            os.fsync(watch._fd)
            watch.evict()

    def cached(self):
        """Bytes of the files in the page cache."""
        return sum(watch.resident() for watch in self._watches)

    def reset(self):
        """Sets the server's counters to zero."""
        if self.server:
            self.server.reset()

    def stats(self):
        """The server's counters, without those of single files."""
        if not self.server:
            return None
        return {k: v for k, v in self.server.stats().items() if k != "files"}

    def cpu(self):
        """CPU seconds so far of all who serve this mount."""
        own = [self.server.pid] if self.server else [p.pid for p in self._processes]
        return sum(process_cpu(pid) for one in own for pid in (one, *children_of(one)))

    def abort(self):
        """Frees whoever hangs on the mount."""
        if self.server:
            self.server.abort()
        elif fuse.connection_of(self.directory) is not None:
            path = fuse.CONNECTIONS / str(fuse.connection_of(self.directory)) / "abort"
            path.write_text("1\n")

    def limits(self):
        """What the kernel allows the mount: max_background, and read-ahead in KiB."""
        number = fuse.connection_of(self.directory)
        if number is None:
            return None
        control = fuse.CONNECTIONS / str(number)
        shown = {"read_ahead_kb": Path(f"/sys/class/bdi/0:{number}/read_ahead_kb")}
        shown.update({name: control / name for name in ("max_background",
                                                        "congestion_threshold")})
        return {name: int(path.read_text()) for name, path in shown.items() if path.exists()}


@contextlib.contextmanager
def testfs(directory, **options):
    """The tests' FUSE server."""
    with FuseServer(directory, **options) as server:
        mount = Mount(server.mountpoint, server)
        yield mount
        mount.unwatch()


@contextlib.contextmanager
def disk(directory):
    """The directory itself."""
    mount = Mount(directory)
    yield mount
    mount.unwatch()


def need(command, *places):
    """The path of a command; Unavailable without it."""
    found = shutil.which(command) or next((p for p in places if os.access(p, os.X_OK)), None)
    if found is None:
        raise Unavailable(f"the command {command} is not installed")
    return found


def start(argv, log, **options):
    """Starts a server in the background."""
    return subprocess.Popen(list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=log,
                            stderr=log, start_new_session=True, **options)


def stop(process):
    """Ends a process, and what it has started."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)


@contextlib.contextmanager
def served(argv_of, files, before=()):
    """Mounts by a program in the foreground: argv_of(mount point) is its command line, and files
    are what it serves from."""
    with tempfile.TemporaryDirectory(prefix="stn-bench-") as name, cache.held(files):
        point = Path(name).resolve() / "mnt"
        point.mkdir()
        with open(Path(name) / "log", "w+b") as log:
            process = start(argv_of(point), log)
            try:
                wait_mounted(point, process, log)
                mount = Mount(point, processes=[process, *before])
                yield mount
                mount.unwatch()
            finally:
                unmount(point)
                stop(process)
                unmount(point)


def wait_mounted(point, process, log):
    """Waits until something is mounted there."""
    end = time.monotonic() + MOUNT_SECONDS
    while fuse.connection_of(point) is None:
        if process.poll() is not None or time.monotonic() > end:
            log.seek(0)
            raise Unavailable(f"did not mount: {log.read().decode(errors='replace')[-500:]}")
        time.sleep(0.05)


def unmount(point):
    """Takes a mount out of the tree."""
    if fuse.connection_of(point) is not None:
        subprocess.run(["umount", point], capture_output=True, timeout=10)
    if fuse.connection_of(point) is not None:
        subprocess.run(["umount", "-l", point], capture_output=True, timeout=10)


def files_in(directory):
    """The files of a directory and below."""
    return [path for path in directory.rglob("*") if path.is_file()]


def bindfs(directory):
    """bindfs, which passes reads on."""
    program = need("bindfs")
    return served(lambda point: [program, "-f", "--no-allow-other", directory, point],
                  files_in(directory))


def mergerfs(directory, cache_files):
    """mergerfs with one branch."""
    program = need("mergerfs")
    return served(lambda point: [program, "-f", "-o", f"cache.files={cache_files}",
                                 f"{directory}=RO", point], files_in(directory))


@contextlib.contextmanager
def squashfuse(directory):
    """squashfuse over an image of the directory without compression."""
    program = need("squashfuse")
    image = directory.parent / (directory.name + ".squashfs")
    if not image.exists():
        part = image.with_suffix(".part")
        subprocess.run([need("mksquashfs"), directory, part, "-noI", "-noD", "-noF", "-noX",
                        "-noappend", "-quiet", "-no-progress"], check=True, capture_output=True)
        part.rename(image)
    with served(lambda point: [program, "-f", image, point], [image]) as mount:
        yield mount


def free_port():
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_listening(port, process):
    """Waits until somebody listens."""
    end = time.monotonic() + MOUNT_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise Unavailable(f"nobody listens on port {port}")


SSHD = """Port {port}
ListenAddress 127.0.0.1
HostKey {own}/host
AuthorizedKeysFile {own}/user.pub
PidFile none
StrictModes no
PasswordAuthentication no
UsePAM no
Subsystem sftp internal-sftp
"""


@contextlib.contextmanager
def sshfs(directory):
    """sshfs over a loopback sshd with keys of its own."""
    program, sshd = need("sshfs"), need("sshd", "/usr/sbin/sshd")
    Path("/run/sshd").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stn-bench-") as name:
        own, port = Path(name), free_port()
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", own / key],
                           check=True)
        (own / "config").write_text(SSHD.format(port=port, own=own))
        with open(own / "log", "w+b") as log:
            server = start([sshd, "-D", "-e", "-f", own / "config"], log)
            try:
                wait_listening(port, server)
                options = (f"port={port},IdentityFile={own}/user,StrictHostKeyChecking=no,"
                           "UserKnownHostsFile=/dev/null,BatchMode=yes")
                with served(lambda point: [program, "-f", "-o", options,
                                           f"127.0.0.1:{directory}", point],
                            files_in(directory), [server]) as mount:
                    yield mount
            finally:
                stop(server)


@contextlib.contextmanager
def rclone(directory):
    """rclone mount over rclone serve http on the loopback."""
    program = need("rclone")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="stn-bench-") as name:
        env = {**os.environ, "HOME": name, "RCLONE_CONFIG": "/dev/null"}
        with open(Path(name) / "log", "w+b") as log:
            server = start([program, "serve", "http", "--read-only", "--addr",
                            f"127.0.0.1:{port}", directory], log, env=env)
            try:
                wait_listening(port, server)
                with served(lambda point: ["env", "RCLONE_CONFIG=/dev/null", program, "mount",
                                           ":http:", point, "--http-url",
                                           f"http://127.0.0.1:{port}", "--read-only"],
                            files_in(directory), [server]) as mount:
                    yield mount
            finally:
                stop(server)
