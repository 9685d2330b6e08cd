"""Reading the record: the last rows, one row, new rows as they come, and whether the chains are whole."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils.db import Database

from outloop.core.errors import AuditError, UsageError
from outloop.core.ledger import COLUMNS, Value
from outloop.store.appender import head_path
from outloop.store.heads import Head, read_heads
from outloop.store.schema import explain, open_for_reading, unreadable
from outloop.store.verification import Verification, joined, verify_chains, verify_checkpoints, verify_missing, writers_of
from outloop.store.verifiers import processes_for, verify_with

ULID_LENGTH = 26
SHORT_ID_LENGTH = 8
PAGE_ROWS = 1000
OUTCOME_POLL_S = 0.02
FOLLOW_POLL_S = 0.25
FOLLOW_PATIENCE_POLLS = 8

Record = Mapping[str, Value]

# Every writer by one index look-up each, however many rows it has (a loose index scan).
_WRITERS = """
WITH RECURSIVE known (writer) AS (
    SELECT min(writer) FROM decisions
    UNION ALL SELECT (SELECT min(writer) FROM decisions WHERE writer > known.writer) FROM known WHERE known.writer IS NOT NULL)
SELECT writer, (SELECT max(seq) FROM decisions WHERE decisions.writer = known.writer) AS seq FROM known WHERE writer IS NOT NULL
"""

_USED_KEYS = """
SELECT json_array(workspace, key)
FROM (SELECT DISTINCT workspace, key FROM decisions WHERE key IS NOT NULL AND decision = 'allow')
"""
_NEWEST_USE = """
SELECT json_array(d.workspace, d.key) AS pair, d.id, d.workspace, d.key, d.at AS last_used, o.status AS last_status
FROM decisions d LEFT JOIN outcomes o ON o.decision_id = d.id
WHERE d.id < :before AND d.decision = 'allow' AND json_array(d.workspace, d.key) IN (SELECT value FROM json_each(:wanted))
ORDER BY d.id DESC LIMIT 1
"""
_AFTER_EVERY_ID = "~"


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows of the view `audit` to read; from the `at` *since* (UTC ISO 8601) on, and before *until*."""

    workspace: str | None = None
    service: str | None = None
    denied: bool = False
    since: str | None = None
    until: str | None = None

    def where(self) -> tuple[str, list[str]]:
        """Return the SQL condition and its parameters."""
        tests = {"workspace = ?": self.workspace, "service = ?": self.service, "at >= ?": self.since, "at < ?": self.until}
        chosen = {test: value for test, value in tests.items() if value is not None}
        denied = ["decision = 'deny'"] if self.denied else []
        return " AND ".join([*chosen, *denied]) or "1", list(chosen.values())


# In the order of the view.
VIEW_COLUMNS = (
    *(
        "id",
        "at",
        "workspace",
        "agent",
        "service",
        "key",
        "method",
        "scheme",
        "host",
        "port",
        "path",
        "decision",
        "reason",
        "rule",
    ),
    *("runtime_mode", "proof", "approval", "status", "stripped", "scrubbed", "secret_exposed", "request_bytes", "response_bytes"),
    *("duration_ms", "upstream_ms", "error", "policy", "session", "hash"),
)


class Records:
    """Reads the record at *path*. Every call opens it anew and read-only: usable from any thread, whether or not a proxy runs.

    Every method raises UsageError when there is no record or a newer Outloop wrote it, AuditError when it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def tail(self, filters: Filters, limit: int) -> list[Record]:
        """Return the last *limit* rows of the view `audit` that pass *filters*, oldest first."""
        condition, parameters = filters.where()
        with self._open() as db:
            sql = f"SELECT * FROM audit WHERE {condition} ORDER BY id DESC LIMIT ?"  # noqa: S608  (values are parameters)
            newest_first: list[Record] = list(db.query(sql, [*parameters, limit]))
        return newest_first[::-1]

    def each(self, filters: Filters) -> Iterator[Record]:
        """Yield the rows of the view `audit` that pass *filters*, by id: all that are there when it begins, and few at a time.

        No read transaction outlives a page: however slowly the rows are taken, the write-ahead log does not grow for it.
        """
        condition, parameters = filters.where()
        page = f"SELECT * FROM audit WHERE id > ? AND id <= ? AND {condition} ORDER BY id LIMIT {PAGE_ROWS}"  # noqa: S608
        with self._open() as db:
            (last,) = db.execute("SELECT max(id) FROM decisions").fetchone()
            after = ""
            while rows := list(db.query(page, [after, last, *parameters])):
                yield from rows
                after = rows[-1]["id"]

    def ends(self) -> dict[str, int]:
        """Return each writer's last place in its chain of decisions: where `follow` is to begin."""
        with self._open() as db:
            return {row["writer"]: row["seq"] for row in db.query(_WRITERS)}

    def follow(self, filters: Filters, ends: Mapping[str, int], pause: Callable[[float], None] = time.sleep) -> Iterator[Record]:
        """Yield rows decided after *ends* that pass *filters*: each once, with its outcome if that comes within two seconds.

        Never ends; *pause* is called with seconds between looks. By place in the chain, not by id: of two writers, one may run
        behind a clock that was set back.
        """
        condition, parameters = filters.where()
        by_id = f"SELECT * FROM audit WHERE id = ? AND {condition}"  # noqa: S608  (values are parameters)
        waiting: dict[str, int] = {}  # id → looks taken at it
        while True:
            now = self.ends()
            with self._open() as db:
                for writer, seq in now.items():
                    fresh = db.query(
                        "SELECT id FROM decisions WHERE writer = ? AND seq > ? AND seq <= ?", [writer, ends.get(writer, 0), seq]
                    )
                    waiting.update((row["id"], 0) for row in fresh)
                ends = now
                shown: list[Record] = []
                for audit_id in sorted(waiting):
                    row = next(db.query(by_id, [audit_id, *parameters]), None)
                    waiting[audit_id] += 1
                    if row is None or row["status"] is not None or waiting[audit_id] > FOLLOW_PATIENCE_POLLS:
                        del waiting[audit_id]
                        shown += [row] if row else []
            yield from shown
            pause(FOLLOW_POLL_S)

    def get(self, audit_id: str) -> Record:
        """Return the row with this id, or the one row whose id begins or ends with it.

        Raises UsageError when there is none, or more than one.
        """
        wanted = audit_id.strip().upper()
        with self._open() as db:
            found = self._ids(db, wanted)
            if not found:
                raise UsageError(f"there is no audit row {audit_id!r}", "`outloop audit tail` lists the last rows with their ids")
            if len(found) > 1:
                more = f"write more of the id: {', '.join(found)}, …"
                raise UsageError(f"more than one audit row answers to {audit_id!r}", more)
            return next(db.query("SELECT * FROM audit WHERE id = ?", found))

    def wait_outcome(self, audit_id: str, timeout_s: float) -> Record | None:
        """Return the row with this whole id once its outcome is on record; None when that takes longer than *timeout_s*."""
        deadline = time.monotonic() + timeout_s
        with self._open() as db:
            while True:
                row = next(
                    db.query("SELECT * FROM audit WHERE id = ? AND id IN (SELECT decision_id FROM outcomes)", [audit_id]), None
                )
                if row is not None or time.monotonic() >= deadline:
                    return row
                time.sleep(OUTCOME_POLL_S)

    def key_uses(self) -> list[Record]:
        """Return workspace, key, last_used and last_status of every key that was used."""
        with self._open() as db:
            db.begin()
            # Two passes over the rows at most, however many keys lie idle: each look goes on from where the last one ended.
            wanted = {row[0] for row in db.execute(_USED_KEYS)}
            found: list[Record] = []
            while wanted:
                before = found[-1]["id"] if found else _AFTER_EVERY_ID
                row = next(db.query(_NEWEST_USE, {"before": before, "wanted": json.dumps(sorted(wanted))}), None)
                if row is None:
                    break
                wanted.discard(row["pair"])
                found.append(row)
            return found

    def verify(self, passed: Callable[[int], None] = lambda _: None) -> Verification:
        """Read every append of every writer, and compare the chains with their hashes and with the file of heads.

        *passed* is called with how many appends were read since the last time.
        """
        try:
            # Before the rows: meanwhile the database may run ahead of the heads, never behind. Those of writers that begin
            # meanwhile are found afterwards.
            before = read_heads(head_path(self._path))
            with self._open() as db:
                db.begin()  # one snapshot for the three tables, taken by the first look
                writers = writers_of(db)
                heads = dict.fromkeys(read_heads(head_path(self._path)), Head()) | before
                processes = processes_for(self.appends(), len(writers))
                if processes == 1:
                    found = verify_chains(db, writers, heads, passed)
                else:
                    found = verify_with(processes, self._path, writers, heads, passed)
                return joined([found, verify_missing(heads, writers), verify_checkpoints(db)])
        except OSError as error:
            raise AuditError(*explain(error, head_path(self._path))) from error

    def appends(self) -> int:
        """Return how many rows the record has, decisions, outcomes and events."""
        with self._open() as db:
            return sum(int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in COLUMNS)  # noqa: S608

    @contextmanager
    def _open(self) -> Iterator[Database]:
        db = open_for_reading(self._path)
        try:
            yield db
        except sqlite3.Error as error:
            raise unreadable(error, self._path) from error
        finally:
            db.close()

    def _ids(self, db: Database, wanted: str) -> list[str]:
        if not wanted.isascii() or not wanted.isalnum() or len(wanted) > ULID_LENGTH:
            return []
        if len(wanted) == ULID_LENGTH:
            return [row["id"] for row in db.query("SELECT id FROM decisions WHERE id = ?", [wanted])]
        found = db.query(
            "SELECT id FROM decisions WHERE id BETWEEN :wanted AND :wanted || 'ZZ'"
            " UNION SELECT id FROM decisions WHERE substr(id, -length(:wanted)) = :wanted LIMIT 3",
            {"wanted": wanted},
        )
        return [row["id"] for row in found]
