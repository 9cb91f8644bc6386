# SPDX-License-Identifier: Apache-2.0
"""pause.py FILE: load_file while a thread ticks every 10 ms and another process sends SIGTERM.

Prints the longest time without a tick and the time until the handler ran, as JSON.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

from safetensors.torch import load_file

SENDER = """
import os, signal, sys, time
sys.stdin.readline()
time.sleep(0.1)
print(time.monotonic(), flush=True)
os.kill(int(sys.argv[1]), signal.SIGTERM)
"""

ticks, handled = [], []
loading = True


def tick():
    """Notes the time every 10 ms."""
    while loading:
        ticks.append(time.monotonic())
        time.sleep(0.01)
    ticks.append(time.monotonic())


def touch(tensors):
    """Reads one byte of every page."""
    for tensor in tensors.values():
        tensor.reshape(-1)[::1024].sum()


signal.signal(signal.SIGTERM, lambda *_: handled.append(time.monotonic()))
sender = subprocess.Popen([sys.executable, "-S", "-c", SENDER, str(os.getpid())],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
time.sleep(0.5)
ticker = threading.Thread(target=tick)
ticker.start()
time.sleep(0.05)
sender.stdin.write("go\n")
sender.stdin.flush()
start = time.monotonic()
tensors = load_file(sys.argv[1])
touch(tensors)
seconds = time.monotonic() - start
loading = False
ticker.join()
sent = float(sender.communicate(timeout=60)[0])
while not handled:
    time.sleep(0.001)
pause = max(b - a for a, b in zip(ticks, ticks[1:]))
print(json.dumps({"seconds": seconds, "pause": pause, "signal": handled[0] - sent,
                  "bytes": sum(tensor.nbytes for tensor in tensors.values())}))
