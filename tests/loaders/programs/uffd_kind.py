# SPDX-License-Identifier: Apache-2.0
"""uffd_kind.py: which ways to a userfaultfd this process has, each as 0 or the errno, and whether a
seccomp filter is in force."""

import ctypes
import fcntl
import json
import os

NUMBER = {"x86_64": 323, "aarch64": 282}[os.uname().machine]
NEW, USER_MODE_ONLY = 0xAA00, 1
libc = ctypes.CDLL(None, use_errno=True)


def device():
    """By /dev/userfaultfd."""
    try:
        fd = os.open("/dev/userfaultfd", os.O_RDWR)
        fcntl.ioctl(fd, NEW, os.O_CLOEXEC)
    except OSError as error:
        return error.errno
    return 0


def call(flags):
    """By the system call."""
    return 0 if libc.syscall(NUMBER, os.O_CLOEXEC | flags) >= 0 else ctypes.get_errno()


with open("/proc/self/status") as status:
    filtered = "Seccomp:\t2" in status.read()
print(json.dumps({"device": device(), "call": call(0), "user_only": call(USER_MODE_ONLY),
                  "filtered": filtered}))
