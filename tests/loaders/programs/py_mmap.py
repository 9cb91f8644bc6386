# SPDX-License-Identifier: Apache-2.0
"""py_mmap.py read|copy FILE: CPython's mmap; checksums of whole and a part at an offset."""

import mmap
import sys

from common import checksum, emit

kind, path = sys.argv[1:]
access = mmap.ACCESS_COPY if kind == "copy" else mmap.ACCESS_READ
with open(path, "rb") as f:
    whole = mmap.mmap(f.fileno(), 0, access=access)
    part = mmap.mmap(f.fileno(), 5000001, access=access, offset=16 * mmap.ALLOCATIONGRANULARITY)
sums = [checksum(whole), checksum(part)]
if kind == "copy":
    whole[100:200] = bytes(range(100))
    sums += [checksum(whole), checksum(part)]
    whole.flush()
part.close()
whole.close()
emit(sums=sums)
