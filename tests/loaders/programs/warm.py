# SPDX-License-Identifier: Apache-2.0
"""warm.py: imports what takes seconds to import, then runs programs that are given on stdin, one
after the other, each in a forked child.

A line of stdin is JSON: the program with its arguments, and files for its stdout and stderr. Two
lines answer it: the child's pid, which is its process group's too, and its wait status at its end.
"""

import gc
import json
import os
import runpy
import sys

import accelerate  # noqa: F401
import common  # noqa: F401
import safetensors.torch  # noqa: F401
from diffusers import UNet2DConditionModel  # noqa: F401
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: F401
from transformers.models.llama import modeling_llama  # noqa: F401


def say(number):
    """Answers with a number."""
    os.write(1, f"{number}\n".encode())


def become(request):
    """Makes this child what runs the program: its own session, its own files."""
    os.setsid()
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, path in enumerate(["/dev/null", request["stdout"], request["stderr"]]):
        fd = os.open(path, flags if number else os.O_RDONLY, 0o600)
        os.dup2(fd, number)
        os.close(fd)
    sys.argv = request["argv"]


def serve():
    """Returns the path of a program in the child that is to run it, and None when all is done."""
    while line := sys.stdin.readline():
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(request)
            return sys.argv[0]
        say(pid)
        say(os.waitpid(pid, 0)[1])
    return None


gc.freeze()
say(0)
program = serve()
if program:
    runpy.run_path(program, run_name="__main__")
    sys.stdout.flush()
    os._exit(0)  # to take all that is imported apart again would take more than a second
