# SPDX-License-Identifier: Apache-2.0
"""memmap.py raw|npy r|c FILE: np.memmap or np.load(mmap_mode); checksums of whole and parts.

A raw file is mapped whole and from an offset within a page.
"""

import sys

import numpy
from common import checksum, emit

kind, mode, path = sys.argv[1:]
if kind == "npy":
    array = numpy.load(path, mmap_mode=mode)
    emit(sums=[checksum(array), checksum(array[1:])])
else:
    whole = numpy.memmap(path, mode=mode)
    part = numpy.memmap(path, mode=mode, offset=12345, shape=(1000001,))
    emit(sums=[checksum(whole), checksum(part)])
