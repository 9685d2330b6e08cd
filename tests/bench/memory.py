"""Resident memory: over many requests, beside bare mitmdump's, and over one long download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from bench.processes import peak_rss_mb, rss_mb
from bench.report import Line, Spread, at_most, held_to
from bench.stand import Side, Stand

GROWTH_TARGET = at_most(20, " MB")
# What a download of any length may hold at once: some buffers on either side.
FLAT_TARGET = at_most(16, " MB")


def memory(stand: Stand, requests: int, download_mib: int) -> Iterator[Line]:
    """Measure both."""
    bare_before_mb, bare_after_mb = _grown(stand, stand.bare, requests)
    before_mb, after_mb = _grown(stand, stand.outloop, requests)
    yield held_to(
        GROWTH_TARGET,
        f"memory over {requests:,} requests, more growth than bare",
        Spread.of([(after_mb - before_mb) - (bare_after_mb - bare_before_mb)]),
        " MB",
        digits=1,
        bare=f"{bare_before_mb:.0f} → {bare_after_mb:.0f} MB",
        outloop=f"{before_mb:.0f} → {after_mb:.0f} MB",
    )
    yield _downloaded(stand, download_mib)


def _grown(stand: Stand, start: Callable[[], AbstractContextManager[Side]], requests: int) -> tuple[float, float]:
    with start() as side:
        assert side.pid is not None
        before_mb = rss_mb(side.pid)
        stand.run(side, "keep-alive", requests, 8)
        return before_mb, rss_mb(side.pid)


def _downloaded(stand: Stand, mib: int) -> Line:
    direct_s = stand.run(stand.direct, "download", mib).wall_s
    with stand.outloop() as side:
        assert side.pid is not None
        stand.run(side, "keep-alive", 40, 8)
        before_mb = rss_mb(side.pid)
        with peak_rss_mb(side.pid) as peak:
            outloop_s = stand.run(side, "download", mib).wall_s
    return held_to(
        FLAT_TARGET,
        f"memory over a download of {mib:,} MiB, most growth",
        Spread.of([peak[0] - before_mb]),
        " MB",
        digits=1,
        direct=f"{mib * 1.048576 / direct_s:.0f} MB/s",
        outloop=f"{before_mb:.0f} → {peak[0]:.0f} MB; {mib * 1.048576 / outloop_s:.0f} MB/s",
    )
