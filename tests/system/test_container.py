# SPDX-License-Identifier: Apache-2.0
"""The container files agree with each other, with the build, and with what stshim inject does."""

import re
import subprocess

import pytest
import yaml
from support import need, paths

ROOT = paths.REPOSITORY
DOCKERFILE = (ROOT / "tools/container/Dockerfile").read_text()
LIBRARY = "/usr/lib/libstnommap.so"


def runs():
    """The commands of the RUN lines."""
    return re.findall(r"^RUN ((?:.*\\\n)*.*)$", DOCKERFILE, re.M)


def pod():
    """The pod of the example."""
    return yaml.safe_load((ROOT / "tools/container/kubernetes.yaml").read_text())


def test_last_stage_copies_one_file():
    """One file, then the variable that names it."""
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :].strip().splitlines()
    assert last[0] == "FROM ${BASE}"
    assert re.fullmatch(rf"COPY --from=build (\S+) {re.escape(LIBRARY)}", last[1])
    assert last[2:] == [f"ENV LD_PRELOAD={LIBRARY}"]


def test_sources_are_there():
    """Everything that is copied from the sources exists, and nothing that meson reads is missing."""
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.M)
              for word in line.split()]  # fmt: skip
    assert copied and all((ROOT / name).exists() for name in copied)
    read = {"meson_options.txt", *re.findall(r"^\s*subdir\('(\w+)", (ROOT / "meson.build").read_text(), re.M)}  # fmt: skip
    assert read - {"tests"} <= set(copied)


def test_commands(tmp_path):
    """The shell understands the commands; the build is configured as they say, and installs the
    library where it is copied from."""
    assert len(runs()) == 2
    for command in runs():
        subprocess.run(["sh", "-n", "-c", command], check=True)
    options = re.findall(r"-D\S+", runs()[1])
    build = tmp_path / "build"
    subprocess.run([need.command("meson"), "setup", build, ROOT, *options], check=True,
                   capture_output=True)  # fmt: skip
    listed = subprocess.run(["meson", "introspect", build, "--installed"], check=True,
                            capture_output=True, text=True).stdout  # fmt: skip
    source = re.search(r"COPY --from=build (\S+)", DOCKERFILE)[1]
    assert f'"{source}"' in listed and "stshim\"" not in listed


def test_pod():
    """The volume that the init container fills is the one that the variable names; nobody is root
    or may become it."""
    spec = pod()["spec"]
    (init,), (server,) = spec["initContainers"], spec["containers"]
    source, target = init["command"][1:]
    assert source == LIBRARY
    env = {item["name"]: item["value"] for item in server["env"]}
    assert env["LD_PRELOAD"] == target
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for container in (init, server):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert "emptyDir" in volumes[mounts[target.rpartition("/")[0]]["name"]]
        assert all(mount["name"] in volumes for mount in mounts.values())
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert env["STSHIM_STATS"].rpartition("/")[0] in mounts


@pytest.mark.parametrize("name", ["Dockerfile", "kubernetes.yaml"])
def test_variables_exist(name):
    """No variable is set that the library does not know."""
    known = set(re.findall(r'"(STSHIM_\w+)"', (ROOT / "lib/config.c").read_text()))
    used = set(re.findall(r"STSHIM_\w+", (ROOT / "tools/container" / name).read_text()))
    assert used <= known
