# SPDX-License-Identifier: Apache-2.0
"""The container files agree with each other, with the build, and with what stshim inject does."""

import json
import re
import shutil

import pytest
import test_elf
import yaml
from compare import BIG, BIG_SIZE, ended, mounted
from support import debian, paths
from support.run import mapped, run

ROOT = paths.REPOSITORY
DOCKERFILE = (ROOT / "tools/container/Dockerfile").read_text()
LIBRARY = "/usr/lib/libstnommap.so"
SERVE = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    sum(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[::4096])
"""


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


@pytest.mark.limit(500)
def test_stages(public, monkeypatch):
    """What the stages do, done in Debian roots: the build installs a library that keeps the rules,
    the carrier's command leaves it in the volume, and a program of the pod that has it from there
    engages on FUSE."""
    install, build = runs()
    packages = re.search(r"--no-install-recommends ([a-z0-9 -]+) &&", install)[1].split()
    root = debian.copy(debian.cached("bookworm", packages, complete=True), public / "build")
    copy_sources(root)
    shell = ["sh", "-c", build.replace("\\\n", "")]
    result = ended(run(debian.enter(root, shell), preload=False, timeout=120))
    assert result.returncode == 0, result
    built = root / re.search(r"COPY --from=build /(\S+)", DOCKERFILE)[1]
    with monkeypatch.context() as patch:
        patch.setenv("STN_BUILD", str(built.parent))
        test_elf.test_exports()
        test_elf.test_symbol_versions()
        test_elf.test_needs_libc_only()

    # The images of the carrier and the server in one.
    base = debian.cached("bookworm", debian.WITH_PYTHON, complete=True)
    image = debian.copy(base, public / "image")
    shutil.copy(built, image / LIBRARY.lstrip("/"))
    (image / "serve.py").write_text(SERVE)
    volumes = {name: public / name for name in ("stnommap", "stats")}
    for volume in volumes.values():
        volume.mkdir()
        volume.chmod(0o777)
    command = pod()["spec"]["initContainers"][0]["command"]
    assert command == yaml.safe_load(re.search(r"^CMD (.*)$", DOCKERFILE, re.M)[1])
    user = re.search(r"^USER (.*)$", DOCKERFILE, re.M)[1]
    binds = [(volumes["stnommap"], "/stnommap")]
    result = ended(run(debian.enter(image, command, user, binds), preload=False))
    assert result.returncode == 0 and result.stderr == "", result

    with mounted() as mount:
        binds = [(path, f"/{name}") for name, path in volumes.items()]
        binds.append((mount.mountpoint, "/models"))
        spec = pod()["spec"]
        variables = [f"{item['name']}={item['value']}" for item in spec["containers"][0]["env"]]
        argv = ["env", *variables, *spec["containers"][0]["command"][:-1], f"/models/{BIG}"]
        user = f"{spec['securityContext']['runAsUser']}:0"
        result = ended(run(debian.enter(image, argv, user, binds), preload=False))
    assert result.returncode == 0 and "info: engaged /models/" in result.stderr, result
    (line,) = mapped(map(json.loads, (volumes["stats"] / "stnommap.jsonl").open()))
    assert (line["decision"], line["bytes"]) == ("engaged", BIG_SIZE)


def copy_sources(root):
    """What the COPY lines take from the sources."""
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.M):
        *names, target = line.split()
        for name in names:
            place = root / target.lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            if not (ROOT / name).is_dir():
                shutil.copy(ROOT / name, place)
            else:
                shutil.copytree(ROOT / name, place, dirs_exist_ok=True)


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


@pytest.mark.parametrize("name", ["tools/container/kubernetes.yaml", "docs/containers.md"])
def test_variables_exist(name):
    """No variable is named that the library does not know."""
    known = set(re.findall(r'"(STSHIM_\w+)"', (ROOT / "lib/config.c").read_text()))
    used = set(re.findall(r"STSHIM_\w+", (ROOT / name).read_text()))
    assert used and used <= known
