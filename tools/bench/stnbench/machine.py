# SPDX-License-Identifier: Apache-2.0
"""The machine, without its name."""

import os
import platform
from pathlib import Path


def _field(path, name):
    """The value of a line "name : value" of a file of /proc."""
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def describe():
    """CPUs, memory, kernel, load."""
    memory = int(_field("/proc/meminfo", "MemTotal").split()[0]) << 10
    return {"cpus": len(os.sched_getaffinity(0)),
            "cpu": _field("/proc/cpuinfo", "model name") or platform.machine(),
            "memory": memory, "kernel": platform.release().split("-")[0],
            "python": platform.python_version(), "load": os.getloadavg()[0]}
