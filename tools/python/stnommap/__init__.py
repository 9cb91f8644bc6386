# SPDX-License-Identifier: Apache-2.0
"""libstnommap.so as a Python package: where it is, and what it has engaged in this process.

The library is loaded when a process starts, so importing this package changes nothing:

    stshim run python app.py        or        python -m stnommap run app.py
"""

import ctypes
import mmap
import os
import re
from pathlib import Path

__all__ = ["engaged", "library_path"]

_NAME = "libstnommap.so"
_PR_SET_VMA, _PR_SET_VMA_ANON_NAME = 0x53564D41, 0
_AREA = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ (\S+) (\d+) *(.*)")


def library_path():
    """The path of libstnommap.so, for LD_PRELOAD."""
    return str(Path(__file__).resolve().parent / _NAME)


def engaged():
    """The mappings that the library has engaged in this process: a list of (name, bytes), where
    name is the file's without its directory. Empty if there are none or the library is not loaded.

    Raises RuntimeError, with the reason, where that cannot be known."""
    try:
        with open("/proc/self/smaps", errors="surrogateescape") as smaps:
            areas = _areas(smaps)
    except OSError as error:
        raise RuntimeError(f"the process's own maps cannot be read: {error}") from error
    if not any(area["path"].rpartition("/")[2] == _NAME for area in areas):
        return []
    named = _named(areas)
    return named if named or _kernel_names_memory() else _kept(areas)


def _areas(lines):
    """The areas of an smaps file: addresses, permissions, file, and flags."""
    areas = []
    for line in lines:
        line = line.rstrip("\n")
        head = _AREA.fullmatch(line)
        if head:
            start, end, permissions, device, inode, path = head.groups()
            areas.append({"start": int(start, 16), "end": int(end, 16), "permissions": permissions,
                          "file": (device, inode), "path": path, "flags": []})  # fmt: skip
        elif line.startswith("VmFlags:") and areas:
            areas[-1]["flags"] = line.split()[1:]
    return areas


def _named(areas):
    """Areas with the library's name for them; what is next to each other is one mapping."""
    found = []
    end = None
    for area in areas:
        name = re.fullmatch(r"\[anon:stnommap:(.*)\]", area["path"])
        if not name:
            continue
        size = area["end"] - area["start"]
        if end == area["start"] and found[-1][0] == name[1]:
            found[-1] = (name[1], found[-1][1] + size)
        else:
            found.append((name[1], size))
        end = area["end"]
    return found


def _kernel_names_memory():
    """Whether the kernel has names for anonymous memory (Linux 5.17, CONFIG_ANON_VMA_NAME)."""
    libc = ctypes.CDLL(None)
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        holder = (ctypes.c_char * mmap.PAGESIZE).from_buffer(page)
        address = ctypes.c_ulong(ctypes.addressof(holder))
        result = libc.prctl(_PR_SET_VMA, ctypes.c_ulong(_PR_SET_VMA_ANON_NAME), address,
                            ctypes.c_ulong(mmap.PAGESIZE), b"stnommap")  # fmt: skip
        del holder
    return result == 0


def _kept(areas):
    """Without names: each engaged mapping has a keeper, a mapping of the file without any access,
    and memory that is not dumped (VmFlags dd) or not reserved (nr). Shared libraries have such
    holes too, and executable pieces besides."""
    programs = {area["file"] for area in areas if "x" in area["permissions"]}
    ours = [area for area in areas
            if area["file"] == ("00:00", "0") and {"dd", "nr"} & set(area["flags"])]  # fmt: skip
    if not ours:
        return []
    return [
        (os.path.basename(area["path"]), area["end"] - area["start"])
        for area in areas
        if area["permissions"].startswith("---")
        and area["path"].startswith("/")
        and area["file"] not in programs
    ]
