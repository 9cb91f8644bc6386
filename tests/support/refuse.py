# SPDX-License-Identifier: Apache-2.0
"""Refuses userfaultfd to this process, as Docker's default seccomp profile does."""

import ctypes
import platform
import struct

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, MODE_FILTER = 22, 38, 2
NUMBER = {"x86_64": (323, 16), "aarch64": (282, 29)}  # userfaultfd, ioctl
USERFAULTFD_IOC_NEW = 0xAA00  # of /dev/userfaultfd, which containers do not have
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050001  # EPERM
AT_NUMBER, AT_SECOND = 0, 24  # in struct seccomp_data


def refuse_userfaultfd():
    """Installs the filter, for this thread and those that it starts."""
    userfaultfd, ioctl = NUMBER[platform.machine()]
    program = [(LOAD, 0, 0, AT_NUMBER), (EQUAL, 4, 0, userfaultfd), (EQUAL, 0, 2, ioctl),
               (LOAD, 0, 0, AT_SECOND), (EQUAL, 1, 0, USERFAULTFD_IOC_NEW),
               (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, MODE_FILTER, header)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
