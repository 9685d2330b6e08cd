"""The audit record: how long a decision takes to be on disk, and what a request's two rows cost from fact to file."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.report import Line, Spread, Target, at_most, held_to, percentile
from harness.policies import workspace_of
from outloop.core.exposure import Needles
from outloop.core.model import Agent, Request
from outloop.core.paths import canonical_path
from outloop.core.scrub import ScrubSet
from outloop.core.secret import Secret
from outloop.proxy.exchange import Exchange, Phase, Said
from outloop.proxy.recording import Recorder
from outloop.proxy.vault import Opened
from outloop.store.audit import AuditWriter

HOST = "api.example.com"
TARGET = at_most(150, " µs")
_POLICY = f"""
workspace: acme
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - allow: GET /**
"""


def recording(rows: int, rounds: int) -> Iterator[Line]:
    """Commit decisions and note their outcomes: reads, and writes, which wait for the disk itself.

    Figures are the processor time of the whole process, with the rows' making, their thread and the kernel's part.
    """
    for what, method, target in (("read", "GET", TARGET), ("write (fsync)", "POST", None)):
        for at_once in (1, 16):
            yield _line(what, method, target, rows, at_once, rounds)


def _line(what: str, method: str, target: Target | None, rows: int, at_once: int, rounds: int) -> Line:
    latencies_ms: list[float] = []
    costs_us: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="outloop-bench-") as folder:
            found_ms, cost_us = asyncio.run(_recorded(Path(folder) / "audit.db", method, rows, at_once))
        latencies_ms += found_ms
        costs_us.append(cost_us)
    p50_ms, p99_ms = percentile(latencies_ms, 0.5), percentile(latencies_ms, 0.99)
    return held_to(
        target,
        f"CPU of a {what} on record, decision and outcome, {at_once} at once",
        Spread.best_of(costs_us, min),
        " µs",
        digits=0,
        outloop=f"on disk after p50 {p50_ms:.2f} / p99 {p99_ms:.2f} ms",
    )


async def _recorded(path: Path, method: str, rows: int, at_once: int) -> tuple[list[float], float]:
    """Return each commit's latency in ms, and the processor time of a request in µs."""
    writer = AuditWriter(path, time.time)
    writer.start()
    recorder = Recorder(writer)
    opened = _opened()
    exchanges = _exchanges(recorder, method, rows)
    latencies_ms: list[float] = []

    async def record(share: list[Exchange]) -> None:
        for exchange in share:
            start_s = time.perf_counter()
            await recorder.allowed(exchange, opened)
            latencies_ms.append((time.perf_counter() - start_s) * 1000)
            recorder.outcome(exchange, 200)

    start_s = time.process_time()
    await asyncio.gather(*(record(exchanges[number::at_once]) for number in range(at_once)))
    cost_s = time.process_time() - start_s
    writer.close()
    return latencies_ms, cost_s / rows * 1e6


def _opened() -> Opened:
    secrets = [Secret(f"not-a-real-token-{number:02}-0123456789abcdef".encode()) for number in range(20)]
    return Opened({}, {}, ScrubSet.compile(secrets), Needles.compile(secrets))


def _exchanges(recorder: Recorder, method: str, count: int) -> list[Exchange]:
    workspace = workspace_of(_POLICY)
    service = workspace.services[0]
    exchanges = []
    for number in range(count):
        target = f"/users/me/events/{number}?count=100"
        exchange = Exchange(
            recorder.new_id(), Agent("acme", "claude"), Said(method, "https", HOST, 443, target), time.monotonic()
        )
        exchange.workspace, exchange.service = workspace, service
        exchange.request = Request(method, "https", HOST, 443, canonical_path(target.partition("?")[0]), (("count", "100"),))
        exchange.phase, exchange.sent_s, exchange.secret_exposed = Phase.SENT, time.monotonic(), 0
        exchanges.append(exchange)
    return exchanges
