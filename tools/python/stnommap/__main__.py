# SPDX-License-Identifier: Apache-2.0
"""python -m stnommap ARGUMENT...: stshim, where it is not on the PATH. A script is run by the same
Python: `python -m stnommap run app.py`, or `run -- -m package`."""

import importlib.metadata
import os
import shutil
import sys


def program():
    """The path of stshim: as installed with this package, else the one on the PATH."""
    try:
        files = importlib.metadata.files("stnommap") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "stshim" and os.access(file.locate(), os.X_OK):
            return os.path.realpath(file.locate())
    found = shutil.which("stshim")
    if found is None:
        sys.exit("stnommap: stshim is not found; install the package again")
    return found


def with_python(arguments):
    """The arguments with this Python in front of what only it can run. The program is what follows
    `--`, or the first argument that is no option; options have their values behind a `=`."""
    if not arguments or arguments[0] != "run":
        return arguments
    for at, argument in enumerate(arguments[1:], 1):
        if argument == "--":
            at += 1
            break
        if not argument.startswith("-"):
            break
    else:
        return arguments
    first = arguments[at] if at < len(arguments) else ""
    if first.endswith((".py", ".pyz")) or first in ("-m", "-c"):
        before = [item for item in arguments[:at] if item != "--"]
        return [*before, "--", sys.executable, *arguments[at:]]
    return arguments


def main():
    """Becomes stshim."""
    path = program()
    os.execv(path, ["stshim", *with_python(sys.argv[1:])])


if __name__ == "__main__":
    main()
