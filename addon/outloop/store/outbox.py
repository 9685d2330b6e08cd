"""The record as an outbox: what a collector has not got yet, in the order of each writer's chain.

A request is sent when its outcome is on record. One that stays open holds up its writer's chain for a while, then it is sent as
it is, and again with its outcome: a collector gets everything at least once.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sqlite_utils.db import Database

from outloop.core.ledger import COLUMNS, Value
from outloop.store.anchor import chain_ends
from outloop.store.schema import open_for_reading, unreadable
from outloop.store.state_file import writing

OPEN_PATIENCE_S = 10.0

Row = Mapping[str, Value]


class Deliveries:
    """How far each collector has got, in the state at *path*. Raises UsageError when that cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def got(self, target: str) -> dict[str, int]:
        """Return, for each writer, the place up to which *target* has everything."""
        with writing(self._path) as connection:
            return dict(connection.execute("SELECT writer, seq FROM deliveries WHERE target = ?", [target]))

    def targets(self) -> dict[str, dict[str, int]]:
        """Return each collector with how far it has got."""
        found: dict[str, dict[str, int]] = {}
        with writing(self._path) as connection:
            for target, writer, seq in connection.execute("SELECT target, writer, seq FROM deliveries"):
                found.setdefault(target, {})[writer] = seq
        return found

    def advance(self, target: str, places: Mapping[str, int]) -> None:
        """Record that *target* has everything up to *places*; one that is behind what is recorded changes nothing."""
        with writing(self._path) as connection:
            connection.executemany(
                "INSERT INTO deliveries VALUES (?, ?, ?) ON CONFLICT (target, writer) DO UPDATE SET seq = max(seq, excluded.seq)",
                [(target, writer, seq) for writer, seq in places.items()],
            )


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of the view `audit` and events, and the places that a collector is at once it has them.

    `is_waiting` tells that a request holds up its chain.
    """

    requests: tuple[Row, ...] = ()
    events: tuple[Row, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)
    is_waiting: bool = False

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.requests) + len(self.events)


@dataclass(frozen=True, slots=True)
class _Append:
    """`is_told` holds for a decision with an outcome, which tells all of it."""

    seq: int
    kind: str
    id: str
    is_told: bool


class Outbox:
    """Reads the record at *path* for one collector, one batch after the other. *clock* is monotonic, in seconds."""

    def __init__(self, path: Path, clock: Callable[[], float], workspace: str | None = None) -> None:
        self._path = path
        self._clock = clock
        self._workspace = workspace
        self._open_since: dict[tuple[str, int], float] = {}

    def next(self, got: Mapping[str, int], limit: int) -> Batch:
        """Return at most *limit* rows of what comes after *got*, oldest writer first.

        Raises UsageError when there is no record, AuditError when it cannot be read.
        """
        requests: list[Row] = []
        events: list[Row] = []
        places: dict[str, int] = {}
        is_waiting = False
        self._open_since = {(w, seq): since for (w, seq), since in self._open_since.items() if seq > got.get(w, 0)}
        with closing(open_for_reading(self._path)) as db:
            try:
                db.begin()
                for writer, end in sorted(chain_ends(db).items()):
                    place = got.get(writer, 0)
                    for append in _appends(db, writer, place) if end.seq > place else ():
                        if len(requests) + len(events) == limit:
                            break
                        if append.kind == "decisions" and not append.is_told and not self._was_waited_for(writer, append.seq):
                            is_waiting = True
                            break
                        place = append.seq
                        if not append.is_told:
                            (events if append.kind == "events" else requests).extend(self._row(db, append))
                    if place > got.get(writer, 0):
                        places[writer] = place
            except sqlite3.Error as error:
                raise unreadable(error, self._path) from error
        return Batch(tuple(requests), tuple(events), places, is_waiting)

    def _was_waited_for(self, writer: str, seq: int) -> bool:
        """Tell whether an open request was waited for long enough: as seen from here, whatever its clock said."""
        since = self._open_since.setdefault((writer, seq), self._clock())
        return self._clock() - since >= OPEN_PATIENCE_S

    def _row(self, db: Database, append: _Append) -> Iterator[Row]:
        view = "events" if append.kind == "events" else "audit"
        for row in db.query(f"SELECT * FROM {view} WHERE id = ?", [append.id]):  # noqa: S608  (our own names)
            if self._workspace in (None, row["workspace"]):
                yield {name: value for name, value in row.items() if name not in _CHAIN} if view == "events" else row


_CHAIN = frozenset({"writer", "seq"})
_IDS = {
    "decisions": "SELECT d.seq, d.id, o.seq IS NOT NULL FROM decisions d LEFT JOIN outcomes o ON o.decision_id = d.id",
    "outcomes": "SELECT d.seq, d.decision_id, 0 FROM outcomes d",
    "events": "SELECT d.seq, d.id, 0 FROM events d",
}


def _appends(db: Database, writer: str, place: int) -> Iterator[_Append]:
    """Yield *writer*'s appends after *place*, in the order of its chain."""
    tables = (_of_table(db, table, writer, place) for table in COLUMNS)
    return heapq.merge(*tables, key=lambda append: append.seq)


def _of_table(db: Database, table: str, writer: str, place: int) -> Iterator[_Append]:
    sql = f"{_IDS[table]} WHERE d.writer = ? AND d.seq > ? ORDER BY d.seq"
    for seq, row_id, is_told in db.execute(sql, [writer, place]):
        yield _Append(seq, table, row_id, bool(is_told))
