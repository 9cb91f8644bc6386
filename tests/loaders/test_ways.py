# SPDX-License-Identifier: Apache-2.0
"""The environments are what they are meant to be."""

import errno
import os


def test_what_userfaultfd_there_is(way):
    """Each environment has the userfaultfd that its name promises."""
    with open("/proc/sys/vm/unprivileged_userfaultfd") as file:
        everybody = file.read().strip() == "1" or os.geteuid() != 0
    if way.name == "seccomp":
        assert way.access["device"] and way.access["call"] == way.access["user_only"] == errno.EPERM
    elif way.name == "user" and not everybody:
        assert way.access["device"] == errno.EACCES and way.access["call"] == errno.EPERM
        assert way.access["user_only"] == 0
    elif os.geteuid() == 0:
        assert way.access["device"] == 0 or way.access["call"] == 0
