# SPDX-License-Identifier: Apache-2.0
"""Whatever a program does to have a model in memory early, nothing reads it into the page cache."""

from compare import BIG, BIG_SIZE, MIB, argv, both, cases, ended, mounted
from support import need
from support.run import run


@cases("prefetch")
def test_no_buffered_read(program, case):
    """The server sees no read but direct ones, each byte once."""
    if case.startswith("lock"):
        need.root()
    with mounted() as server:
        path = server.mountpoint / BIG
        both(program, path, case)
        server.reset()
        ended(run(argv(program, path, case)))
        stats = server.stats()
    assert stats["buffered_reads"] == 0, stats
    assert stats["direct_bytes"] <= 1.02 * BIG_SIZE, stats


def test_advice_goes_to_the_kernel_elsewhere():
    """On a file that is not engaged, the same advice still prefetches."""
    need.library()
    with mounted(keep_cache=True) as server:
        path = server.mountpoint / "plain.bin"
        ended(run(argv("prefetch", path, "readahead")))
        assert server.stats()["buffered_bytes"] > 0
    with mounted(keep_cache=True) as server:
        path = server.mountpoint / BIG
        ended(run(argv("prefetch", path, "fadvise"), env={"STSHIM_MODE": "off"}))
        assert server.stats()["buffered_bytes"] > 40 * MIB
