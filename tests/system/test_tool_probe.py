# SPDX-License-Identifier: Apache-2.0
"""stshim probe: with libraries that stand in for the vendors' and claim or do anything, with the
real CUDA runtime where there is no GPU, and what it leaves for the library."""

import os
import re
import stat
import time
from pathlib import Path

import pytest
from support import need
from support.run import mapped, run
from support.tool import as_json, stshim

LIMIT = 2.0
STANDINS = {
    "CUDA runtime": "libcudart.so.13",
    "CUDA driver": "libcuda.so.1",
    "NVML": "libnvidia-ml.so.1",
    "HIP": "libamdhip64.so.6",
    "Level Zero": "libze_loader.so.1",
}


@pytest.fixture
def run_directory(tmp_path):
    """A directory in the place of /run."""
    directory = tmp_path / "run"
    directory.mkdir(mode=0o755)
    return directory


@pytest.fixture
def probe(tmp_path, run_directory):
    """Runs stshim probe where only the named libraries can be found, with variables that say what
    they claim; returns the Result."""

    def call(*options, libraries=(), hollow=(), **variables):
        directory = tmp_path / "libraries"
        directory.mkdir(exist_ok=True)
        for name in (*libraries, *hollow):
            link = directory / STANDINS[name]
            if not link.is_symlink():
                link.symlink_to(need.tool("libhollow.so" if name in hollow else link.name))
        environment = {"LD_LIBRARY_PATH": directory, **variables}
        return stshim("probe", *options, run_directory=run_directory, env=environment, timeout=20)

    return call


def answer(result, name):
    """What the JSON says of one library."""
    return next(item for item in as_json(result)["libraries"] if item["name"] == name)


@pytest.mark.parametrize(
    "name, variable, claim, unified",
    [
        ("CUDA runtime", "STANDIN_CUDART", "integrated", True),
        ("CUDA runtime", "STANDIN_CUDART", "tables", True),
        ("CUDA runtime", "STANDIN_CUDART", "discrete", False),
        ("CUDA driver", "STANDIN_CUDA", "integrated", True),
        ("CUDA driver", "STANDIN_CUDA", "discrete", False),
        ("NVML", "STANDIN_NVML", "ats", True),
        ("NVML", "STANDIN_NVML", "hmm", False),
        ("HIP", "STANDIN_HIP", "integrated", True),
        ("HIP", "STANDIN_HIP", "tables", True),
        ("HIP", "STANDIN_HIP", "discrete", False),
        ("Level Zero", "STANDIN_ZE", "integrated", True),
        ("Level Zero", "STANDIN_ZE", "discrete", False),
    ],
)
def test_a_claim_decides(probe, name, variable, claim, unified):
    """Each library is asked with the right calls, and its answer is the verdict."""
    result = probe("--refresh", "--json", libraries=[name], **{variable: claim})
    seen = as_json(result)
    assert seen["unified"] is unified and result.returncode == (0 if unified else 1)
    assert answer(result, name)["state"] == "answered"
    assert len(answer(result, name)["devices"]) == 1


def test_facts_of_a_device(probe):
    """The three facts are told apart, and what could not be asked is null."""
    result = probe("--json", libraries=["CUDA runtime", "NVML"], STANDIN_CUDART="tables")
    assert answer(result, "CUDA runtime")["devices"] == [
        {"integrated": False, "pageable_memory_access": True, "host_page_tables": True}
    ]
    assert answer(result, "NVML")["devices"] == [
        {"integrated": None, "pageable_memory_access": None, "host_page_tables": False}
    ]
    # They describe the same GPU: what one of them knows is so.
    assert as_json(result)["unified"] is True


def test_a_gpu_with_its_own_memory_beside_another(probe):
    """An integrated GPU beside one that programs would use is not unified memory."""
    result = probe(
        "--json",
        libraries=["CUDA runtime", "Level Zero"],
        STANDIN_CUDART="discrete",
        STANDIN_ZE="integrated",
    )
    assert as_json(result)["unified"] is False


def test_several_devices(probe):
    """Each is asked; more than there is room for do no harm."""
    two = probe("--json", libraries=["CUDA runtime"], STANDIN_CUDART="two")
    facts = [device["integrated"] for device in answer(two, "CUDA runtime")["devices"]]
    assert facts == [True, False]
    many = probe("--refresh", "--json", libraries=["CUDA runtime"], STANDIN_CUDART="many")
    assert len(answer(many, "CUDA runtime")["devices"]) == 16


@pytest.mark.parametrize(
    "behaviour, state, text",
    [
        ("crash", "crashed", "crashed (Segmentation fault) in cudaGetDeviceCount"),
        ("abort", "crashed", "crashed (Aborted) in cudaGetDeviceCount"),
        ("hang", "timeout", "gave no answer in time in cudaGetDeviceCount"),
        ("handlers", "timeout", "gave no answer in time in cudaGetDeviceCount"),
        ("exit", "exited", "ended the process in cudaGetDeviceCount"),
        ("none", "no-device", "no device"),
        ("error", "failed", "cudaGetDeviceCount returned 999"),
        ("fork", "answered", "GPU 0: not integrated"),
        ("print", "answered", "GPU 0: not integrated"),
    ],
)
def test_misbehaviour_stays_alone(probe, behaviour, state, text):
    """Whatever a library does, the others are heard, nothing is printed, and it is over in time."""
    start = time.monotonic()
    result = probe(
        "--json",
        libraries=["CUDA runtime", "HIP"],
        STANDIN_CUDART=behaviour,
        STANDIN_HIP="integrated" if state != "answered" else "discrete",
    )
    assert time.monotonic() - start < LIMIT
    assert result.stderr == ""
    assert answer(result, "CUDA runtime")["state"] == state
    assert text in answer(result, "CUDA runtime")["text"]
    assert answer(result, "HIP")["state"] == "answered"
    assert as_json(result)["unified"] is (state != "answered")


@pytest.mark.parametrize("behaviour, state", [("crash", "crashed"), ("hang", "timeout")])
def test_misbehaviour_while_it_is_loaded(probe, behaviour, state):
    """A library may do it in its constructor."""
    start = time.monotonic()
    result = probe("--json", libraries=["NVML"], STANDIN_LOAD=behaviour)
    assert time.monotonic() - start < LIMIT
    assert answer(result, "NVML")["state"] == state
    assert "start-up code" in answer(result, "NVML")["text"]


def test_all_hang_at_once(probe):
    """The limit is for all of them together."""
    start = time.monotonic()
    result = probe("--json", libraries=list(STANDINS), STANDIN_LOAD="hang")
    assert time.monotonic() - start < LIMIT
    assert {item["state"] for item in as_json(result)["libraries"]} == {"timeout"}


def test_what_a_library_starts_is_ended(probe, tmp_path):
    """Also a process that has left the session and ignores all signals."""
    pid_file = tmp_path / "pid"
    probe("--json", libraries=["CUDA runtime"], STANDIN_CUDART="stray", STANDIN_PID=pid_file)
    pid = int(pid_file.read_text())
    end = time.monotonic() + 2
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


def test_missing_symbols(probe):
    """A library of another version is reported, and decides nothing."""
    result = probe("--json", hollow=list(STANDINS))
    for name, symbol in [
        ("CUDA runtime", "cudaGetDeviceCount"),
        ("CUDA driver", "cuInit"),
        ("NVML", "nvmlInit_v2"),
        ("HIP", "hipGetDeviceCount"),
        ("Level Zero", "zeInit"),
    ]:
        assert answer(result, name)["state"] == "missing-symbol"
        assert answer(result, name)["text"].endswith(f"has no {symbol}")


def test_the_real_cuda_runtime_without_a_gpu(run_directory, tmp_path):
    """A clean "no device"."""
    need.module("nvidia")
    import nvidia.cuda_runtime

    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU")
    library = next(Path(list(nvidia.cuda_runtime.__path__)[0]).glob("lib/libcudart.so.1*"))
    # Under the name that is tried first, so that it is this one wherever others are installed.
    (tmp_path / STANDINS["CUDA runtime"]).symlink_to(library)
    result = stshim(
        "probe",
        "--json",
        run_directory=run_directory,
        env={"LD_LIBRARY_PATH": tmp_path},
        timeout=20,
    )
    assert answer(result, "CUDA runtime")["state"] == "no-device"
    assert answer(result, "CUDA runtime")["devices"] == []


def cache_of(run_directory):
    """The file that is left."""
    return run_directory / "stnommap" / "probe"


def test_the_answer_is_remembered(probe, run_directory):
    """In the form that the library reads, readable by all and writable by its owner alone, until
    --refresh."""
    first = probe("--json", libraries=["CUDA runtime"], STANDIN_CUDART="integrated")
    cache = cache_of(run_directory)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert cache.read_text().splitlines()[:2] == [f"boot_id={boot_id}", "unified=yes"]
    mode = cache.stat().st_mode
    assert stat.S_IMODE(mode) == (0o644 if os.geteuid() == 0 else 0o600)
    assert as_json(first)["cached"] is False and as_json(first)["cache"].endswith("/stnommap/probe")
    again = probe("--json", STANDIN_CUDART="discrete")
    assert as_json(again)["cached"] is True and as_json(again)["unified"] is True
    assert again.returncode == 0
    refreshed = probe("--refresh", "--json", STANDIN_CUDART="discrete")
    assert as_json(refreshed)["unified"] is False and refreshed.returncode == 1
    assert "unified=no" in cache.read_text()


def test_an_answer_of_another_boot(probe, run_directory):
    """Does not count."""
    probe("--json", libraries=["CUDA runtime"], STANDIN_CUDART="integrated")
    cache = cache_of(run_directory)
    cache.write_text(re.sub("boot_id=.*", "boot_id=0", cache.read_text()))
    assert as_json(probe("--json", STANDIN_CUDART="discrete"))["cached"] is False


def test_a_directory_of_somebody_else(probe, run_directory):
    """Is not written into; the answer is given all the same."""
    (run_directory / "stnommap").mkdir()
    (run_directory / "stnommap").chmod(0o777)
    result = probe("--json")
    assert as_json(result)["cache"] == "" and not cache_of(run_directory).exists()
    assert result.stderr.count("\n") == 1 and "asks again" in result.stderr


def test_a_user_without_a_run_time_directory(tmp_path, user):
    """One line says that nothing is remembered, and what to do."""
    result = stshim(
        "probe",
        run_directory=tmp_path,
        before=["setpriv", "--reuid", user, "--clear-groups", "env", "-u", "XDG_RUNTIME_DIR"],
    )
    assert result.returncode in (0, 1) and result.stdout.startswith("unified memory: ")
    assert "XDG_RUNTIME_DIR is not set; set it" in result.stderr


def test_text(probe):
    """A line for each library."""
    result = probe(libraries=["HIP"], STANDIN_HIP="integrated")
    lines = result.stdout.splitlines()
    assert lines[0] == "unified memory: yes (the GPU uses the CPU's memory)"
    assert "  NVML          not installed" in lines
    assert [line for line in lines if line.startswith("  HIP") and "GPU 0: integrated" in line]


def test_usage(run_directory):
    """Errors are the caller's: exit status 2."""
    for arguments in (["--nonsense"], ["surplus"]):
        result = stshim("probe", *arguments, run_directory=run_directory)
        assert result.returncode == 2 and result.stderr.startswith("stshim probe: ")
    result = stshim("probe", "--help", run_directory=run_directory)
    assert result.returncode == 0 and "Exit status" in result.stdout


def test_the_library_believes_it(probe, run_directory, tmp_path):
    """A verdict left by the probe makes the library engage on a local file."""
    need.root()
    from support import models
    from support.tool import private

    model = models.make_safetensors(tmp_path / "m.safetensors")
    probe("--json", libraries=["CUDA runtime"], STANDIN_CUDART="integrated")
    result = run(private([need.program("load"), model], run_directory), env={"STSHIM_LOG": "info"})
    assert [line["decision"] for line in mapped(result.stats)] == ["engaged"]
