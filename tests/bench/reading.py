"""The audit record, read when it has grown: every question that a command or a page asks of it, in processor time."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import yaml

from bench.history import DAYS, history
from bench.report import Line, Spread, at_most, held_to
from outloop.operator.browse import FOLDER, Site, site
from outloop.store.confinement import confine
from outloop.store.overview import Overview
from outloop.store.records import Filters, Records

PORT = 8001
TARGET_MS = 1000
ROUNDS = 2
PAGES = ("", "audit", "audit/audit", "audit/decisions", "audit/outcomes", "audit/events", "audit/claims", "audit/approvals")


def reading(requests: int) -> Iterator[Line]:
    """Write a record of *requests* requests over DAYS days, and read it."""
    with tempfile.TemporaryDirectory(prefix="outloop-bench-") as folder:
        path = Path(folder) / "audit.db"
        start_s = time.process_time()
        history(path, requests, int(time.time() * 1000))
        cost_us = (time.process_time() - start_s) / requests * 1e6
        size = path.stat().st_size / requests
        yield Line(
            f"record of {requests:,} requests in {DAYS} days", result=f"{size:.0f} bytes and {cost_us:.0f} µs CPU per request"
        )
        records = Records(path)
        last = str(records.tail(Filters(), 1)[0]["id"])
        yield from (_timed(f"record, {what}", question) for what, question in _questions(path, last).items())
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        appends = records.verify().rows
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        yield Line(
            "record, audit verify", outloop=f"{appends:,} appends", result=f"{wall_s:.1f} s in all ({cpu_s:.1f} s CPU of its own)"
        )
        yield from _queries(path)
        yield from asyncio.run(_pages(site(path, PORT), last))


def _questions(path: Path, last: str) -> dict[str, Callable[[], object]]:
    records, overview = Records(path), Overview(path)
    return {
        "tail": lambda: records.tail(Filters(), 20),
        "tail --denied": lambda: records.tail(Filters(denied=True), 20),
        "tail --workspace of one request in 10,000": lambda: records.tail(Filters(workspace="pico"), 20),
        "tail --workspace that has none": lambda: records.tail(Filters(workspace="nobody"), 20),
        "show by short id": lambda: records.get(last[-8:]),
        "show by whole id (why)": lambda: records.get(last),
        "key list and status: last uses": records.key_uses,
        "status: claims": overview.claims,
        "status: today": lambda: overview.counts(int(time.time() * 1000) - 86_400_000),
    }


def _queries(path: Path) -> Iterator[Line]:
    metadata = yaml.safe_load((FOLDER / "metadata.yaml").read_text())
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        confine(db)
        for name, query in metadata["databases"]["audit"]["queries"].items():
            yield _timed(f"query, {name}", _asked(db, query["sql"]))
        for name, chart in metadata["plugins"]["datasette-dashboards"]["charts"]["charts"].items():
            yield _timed(f"chart, {name}", _asked(db, chart["query"].replace("[[ and workspace = :workspace ]]", "")))


def _asked(db: sqlite3.Connection, sql: str) -> Callable[[], object]:
    return lambda: db.execute(sql, {"workspace": "", "agent": ""}).fetchall()


async def _pages(pages: Site, last: str) -> list[Line]:
    lines = []
    transport = httpx.ASGITransport(pages.application)
    async with httpx.AsyncClient(transport=transport, base_url=pages.address, follow_redirects=True, timeout=600) as http:
        (await http.get(pages.sign_in)).raise_for_status()
        for page in (*PAGES, f"-/request/{last}", "-/dashboards/charts"):
            figures = []
            for _ in range(ROUNDS):
                start_s = time.process_time()
                (await http.get(pages.address + page)).raise_for_status()
                figures.append((time.process_time() - start_s) * 1000)
            lines.append(_line(f"page, /{page.partition(last)[0]}", figures))
    return lines


def _timed(what: str, question: Callable[[], object]) -> Line:
    figures = []
    for _ in range(ROUNDS):
        start_s = time.process_time()
        question()
        figures.append((time.process_time() - start_s) * 1000)
    return _line(what, figures)


def _line(what: str, figures: list[float]) -> Line:
    return held_to(at_most(TARGET_MS, " ms"), what, Spread.best_of(figures, min), " ms", 1)
