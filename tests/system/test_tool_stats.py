# SPDX-License-Identifier: Apache-2.0
"""stshim stats: the library's own lines added up, and lines of other kinds named."""

import json

import pytest
from compare import BIG, BIG_SIZE, MODEL, MODEL_SIZE, ended, files, mounted
from support import need
from support.run import run


@pytest.fixture(autouse=True)
def program():
    """Every test here needs the program."""
    need.tool()


def stats(path, *options):
    """Runs the program on a file."""
    return ended(run([need.tool(), "stats", *options, path], preload=False, timeout=20))


def seen(path):
    """What it says as JSON; the exit status says whether all lines were good."""
    result = stats(path, "--json")
    value = json.loads(result.stdout)
    assert result.stderr == "" and result.returncode == (1 if value["broken_count"] else 0)
    return value


def line(**fields):
    """A line as the library writes it."""
    start = {"time": 1000.5, "pid": 7, "event": "fill", "path": "/m/a", "size": 100, "dev": "0:1",
             "ino": 5, "file_system": "fuse", "decision": "engaged", "reason": "", "bytes": 100,
             "seconds": 0.5, "gb_per_s": 0, "threads": 2, "direct_bytes": 100, "buffered_bytes": 0,
             "returned_bytes": 0, "huge_pages": 0, "cache_before": 0, "cache_after": 0,
             "note": ""}  # fmt: skip
    return json.dumps({**start, **fields})


def write(tmp_path, *lines):
    """A file of these lines."""
    path = tmp_path / "stats.jsonl"
    path.write_bytes(b"".join(
        (item if isinstance(item, bytes) else item.encode()) + b"\n" for item in lines
    ))  # fmt: skip
    return path


def test_of_the_library(tmp_path):
    """Two processes, two files on FUSE and one on disk."""
    need.library()
    target = tmp_path / "stats"
    with mounted() as server:
        for name in (MODEL, BIG):
            env = {"STSHIM_STATS": target}
            paths_ = [server.mountpoint / name, files() / MODEL]
            ended(run([need.program("load"), "-z300", *paths_], env=env))
        mountpoint = server.mountpoint
    value = seen(target)
    by_path = {item["path"]: item for item in value["files"]}
    assert value["processes"] == 2 and value["lines"] == sum(1 for _ in target.open())
    model, big = by_path[str(mountpoint / MODEL)], by_path[str(mountpoint / BIG)]
    assert model["engaged"] == big["engaged"] == 1 and model["file_system"] == "fuse"
    assert model["bytes"] == model["size"] == MODEL_SIZE and big["direct_bytes"] >= BIG_SIZE
    assert big["gb_per_s"] > 0 and big["cache_after"] == 0
    disk = by_path[str(files() / MODEL)]
    assert (disk["engaged"], disk["declined"]) == (0, 2)
    decisions = {item["decision"]: item["lines"] for item in value["decisions"]}
    assert decisions == {"engaged": 2, "declined:file-system": 2}
    read = sum(value["throughput"]["bytes_per_s"]) * value["throughput"]["step_seconds"]
    assert read == pytest.approx(model["direct_bytes"] + big["direct_bytes"], rel=0.01)
    table = stats(target).stdout
    assert "2 processes, 3 files" in table and "declined:file-system" in table
    assert table.count("GB/s") + table.count("MB/s") == 21


def test_sums(tmp_path):
    """Lines of one file are added; a decision is counted with its reason."""
    path = write(
        tmp_path,
        line(),
        line(time=1001.5, pid=8, seconds=1.5, bytes=50, huge_pages=64),
        line(time=1002, event="map", decision="declined", reason="memory", direct_bytes=0),
        line(time=1003, event="return", decision="returned", reason="advice", size=0,
             direct_bytes=0, returned_bytes=10),
        line(time=1004, path="/m/b", decision="abandoned", reason="timeout", direct_bytes=3),
        line(time=1005, path="/m/b", event="map", decision="would-engage", direct_bytes=0),
        line(time=1006, path="", event="later", decision="declined", reason="new-word",
             direct_bytes=0, unknown=[1]),
    )  # fmt: skip
    value = seen(path)
    first, second, third = value["files"]
    assert (first["path"], first["size"], first["bytes"]) == ("/m/a", 100, 150)
    assert first["seconds"] == 2.0 and first["gb_per_s"] == pytest.approx(75e-9)
    assert [first[k] for k in ("engaged", "declined", "returned")] == [2, 1, 1]
    assert first["returned_bytes"] == 10 and first["huge_pages"] == 64
    assert [second[k] for k in ("abandoned", "observed")] == [1, 1]
    assert third["path"] == "" and third["declined"] == 1
    assert [(d["decision"], d["lines"], d["example"]) for d in value["decisions"]] == [
        ("engaged", 2, "/m/a"), ("declined:memory", 1, "/m/a"), ("returned:advice", 1, "/m/a"),
        ("abandoned:timeout", 1, "/m/b"), ("would-engage", 1, "/m/b"), ("declined:new-word", 1, ""),
    ]  # fmt: skip
    assert (value["first"], value["last"], value["processes"]) == (1000.5, 1006, 2)


def test_lazy_lines(tmp_path):
    """A map that is filled lazily has two lines and is one; its bytes are those that were read."""
    path = write(
        tmp_path,
        line(event="begin", note="lazy", seconds=0.25, direct_bytes=0),
        line(time=1002, event="end", note="lazy", seconds=1.5, direct_bytes=30),
        line(time=1003, seconds=0.75),
        line(time=1004, path="/m/b", event="begin", note="lazy", direct_bytes=0),
        line(time=1005, path="/m/b", event="end", note="lazy", decision="abandoned", reason="io-error",
             direct_bytes=7),
    )  # fmt: skip
    first, second = seen(path)["files"]
    assert [first[k] for k in ("engaged", "bytes", "direct_bytes", "seconds")] == [2, 130, 130, 2.25]
    assert first["gb_per_s"] == pytest.approx(130e-9 / 2.25)
    assert [second[k] for k in ("engaged", "abandoned", "bytes")] == [1, 1, 0]


def test_throughput(tmp_path):
    """Bytes lie where they were read: a fill at each end, nothing between."""
    path = write(tmp_path, line(time=1001, seconds=1, direct_bytes=1000),
                 line(time=1020, seconds=1, direct_bytes=4000))  # fmt: skip
    plot = seen(path)["throughput"]
    assert plot["start"] == 1000 and plot["step_seconds"] == pytest.approx(1)
    rates = plot["bytes_per_s"]
    assert rates[0] == pytest.approx(1000) and rates[19] == pytest.approx(4000)
    assert rates[1:19] == [0] * 18
    rows = [row for row in stats(path).stdout.splitlines() if row.endswith("MB/s")]
    assert [row.count("#") for row in rows] == [10] + [0] * 18 + [40]


def test_broken_lines(tmp_path):
    """Each is counted and named, and the others are used."""
    path = write(
        tmp_path,
        line(),
        '{"time": 1, "pid"',
        "[]",
        line() + " x",
        b'{"a":"\0"}',
        line(decision=5),
        line(time=-1),
        "x" * 70000,
        line(),
    )
    with path.open("ab") as file:
        file.write(line().encode()[:50])
    value = seen(path)
    assert value["lines"] == 10 and value["files"][0]["engaged"] == 2
    assert [(item["line"], item["problem"]) for item in value["broken"]] == [
        (2, "not JSON from column 18 on"),
        (3, "not a JSON object"),
        (4, f"not JSON from column {len(line()) + 2} on"),
        (5, "a NUL byte at column 7"),
        (6, "decision is missing or not what it should be"),
        (7, "time is missing or not what it should be"),
        (8, "longer than 65535 bytes"),
        (10, "not JSON from column 51 on"),
    ]
    table = stats(path)
    assert table.returncode == 1 and "\n  line 5: a NUL byte at column 7\n" in table.stdout


def test_many_broken_lines(tmp_path):
    """A file that is something else gives a short answer."""
    result = stats(write(tmp_path, *["no"] * 5000))
    assert result.returncode == 1 and len(result.stdout.splitlines()) < 110
    assert "understood: 5000" in result.stdout and "and 4900 more" in result.stdout


def test_empty_and_unreadable(tmp_path):
    """No line is no error; no file is one, in one line."""
    assert seen(write(tmp_path))["lines"] == 0
    for path in (tmp_path / "missing", tmp_path):
        result = stats(path)
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result
        assert "STSHIM_STATS" in result.stderr
    assert run([need.tool(), "stats"], preload=False).returncode == 2


def test_standard_input(tmp_path):
    """- is standard input."""
    path = write(tmp_path, line())
    command = f"{need.tool()} stats --json - < {path}"
    result = ended(run(["bash", "-c", command], preload=False))
    assert json.loads(result.stdout)["files"][0]["engaged"] == 1


def test_many_lines(tmp_path):
    """100000 lines of 5000 files take seconds."""
    path = write(tmp_path, *[line(path=f"/m/{n % 5000}") for n in range(100000)])
    value = seen(path)
    assert len(value["files"]) == 5000 and value["files"][7]["engaged"] == 20
