"""The audit record: how long a decision takes to be on disk, and what a request's two rows cost."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.report import Line, percentile
from harness.rows import decision, outcome
from outloop.core.ledger import DecisionRow
from outloop.store.audit import AuditWriter


def recording(rows: int) -> Iterator[Line]:
    """Commit decisions and append their outcomes: reads, and writes, which wait for the disk itself."""
    for what, mode in (("read", "read"), ("write (fsync)", "write")):
        for at_once in (1, 16):
            with tempfile.TemporaryDirectory(prefix="outloop-bench-") as folder:
                latencies_ms, cpu_us = asyncio.run(_recorded(Path(folder) / "audit.db", mode, rows, at_once))
            p50_ms, p99_ms = percentile(latencies_ms, 0.5), percentile(latencies_ms, 0.99)
            yield Line(
                f"audit, decision of a {what} on disk, {at_once} at once",
                outloop=f"p50 {p50_ms:.2f} / p99 {p99_ms:.2f} ms",
                result=f"{cpu_us:.0f} µs CPU per request (2 rows)",
            )


async def _recorded(path: Path, mode: str, rows: int, at_once: int) -> tuple[list[float], float]:
    """Return each commit's latency in ms, and the processor time of a request in µs."""
    decisions = [replace(decision(), runtime_mode=mode) for _ in range(rows)]
    writer = AuditWriter(path, time.time)
    writer.start()
    latencies_ms: list[float] = []

    async def record(share: list[DecisionRow]) -> None:
        for row in share:
            start_s = time.perf_counter()
            await writer.commit(row)
            latencies_ms.append((time.perf_counter() - start_s) * 1000)
            writer.append(outcome(row))

    start_s = time.process_time()
    await asyncio.gather(*(record(decisions[number::at_once]) for number in range(at_once)))
    writer.close()
    return latencies_ms, (time.process_time() - start_s) / rows * 1e6
