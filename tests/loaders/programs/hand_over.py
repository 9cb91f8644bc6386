# SPDX-License-Identifier: Apache-2.0
"""hand_over.py CALL FILE COPY: maps a file read-only and gives the map to the kernel untouched, by
write, fwrite, send, sendmsg or process_vm_writev; checksums of what came out."""

import ctypes
import os
import socket
import sys
import threading

import numpy
from common import checksum, emit

call, path, copy = sys.argv[1:]
array = numpy.memmap(path, mode="r")


def received(sender):
    """What comes out of a socket that sender is called with."""
    ours, theirs = socket.socketpair()
    got = bytearray()

    def take():
        while part := theirs.recv(1 << 20):
            got.extend(part)

    thread = threading.Thread(target=take)
    thread.start()
    sender(ours)
    ours.close()
    thread.join()
    return got


def send_messages(target):
    """All of the array in messages of two pieces."""
    view, done = memoryview(array), 0
    while done < len(view):
        done += target.sendmsg([view[done:done + 100_000], view[done + 100_000:done + 900_000]])


def copied():
    """A copy by process_vm_writev into this process itself."""
    class Piece(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    got = numpy.zeros_like(numpy.frombuffer(bytes(1), "u1"), shape=array.shape)
    pieces = [Piece(one.ctypes.data, one.nbytes) for one in (array, got)]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.process_vm_writev.restype = ctypes.c_ssize_t
    done = libc.process_vm_writev(os.getpid(), ctypes.byref(pieces[0]), ctypes.c_ulong(1),
                                  ctypes.byref(pieces[1]), ctypes.c_ulong(1), ctypes.c_ulong(0))
    if done != array.nbytes:
        raise SystemExit(f"process_vm_writev: {done}, {os.strerror(ctypes.get_errno())}")
    return got


if call == "write":
    with open(copy, "wb", buffering=0) as out:
        done = 0
        while done < array.nbytes:
            done += out.write(memoryview(array)[done:])
elif call == "fwrite":
    with open(copy, "wb") as out:
        array.tofile(out)
out = {"send": lambda: received(lambda target: target.sendall(array)),
       "sendmsg": lambda: received(send_messages),
       "process_vm_writev": copied}.get(call, lambda: open(copy, "rb").read())()
emit(sums=[checksum(out)])
