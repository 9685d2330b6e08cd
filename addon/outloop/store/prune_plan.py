"""What of the record a prune would take: whole appends by age, but never what the views need to go on telling the truth."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from sqlite_utils.db import Database

from outloop.core.ledger import COLUMNS
from outloop.store.heads import Head
from outloop.store.schema import open_for_reading, unreadable


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring appends of one writer."""

    writer: str
    from_seq: int
    to_seq: int

    @property
    def appends(self) -> int:
        """How many they are."""
        return self.to_seq - self.from_seq + 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What a prune takes: `runs`, and how many appends of each table. `kept` are older than `cutoff` too, and stay."""

    cutoff: str
    runs: tuple[Run, ...]
    taken: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0

    @property
    def appends(self) -> int:
        """How many appends it takes."""
        return sum(run.appends for run in self.runs)

    def beyond(self, places: Mapping[str, int]) -> int:
        """Return how many appends it takes that come after *places*, a place for each writer."""
        return sum(max(0, run.to_seq - max(run.from_seq - 1, places.get(run.writer, 0))) for run in self.runs)


# The newest of each kind is what `keys`, `agents`, `claims` and `outloop status` are made of. A proof that stands, and what ends
# one, stays however old it is.
_KEPT = (
    "SELECT max(id) FROM decisions WHERE decision = 'allow' AND key IS NOT NULL GROUP BY workspace, key",
    "SELECT max(id) FROM decisions WHERE workspace IS NOT NULL GROUP BY workspace, agent",
    "SELECT max(id) FROM decisions WHERE service IS NOT NULL GROUP BY workspace, service",
    "SELECT max(id) FROM decisions WHERE policy IS NOT NULL GROUP BY workspace",
    "SELECT max(id) FROM decisions WHERE proof = 1 GROUP BY workspace, service, runtime_mode",
    "SELECT max(id) FROM audit WHERE proof = 1 AND decision = 'allow' AND status IS NOT NULL"
    " GROUP BY workspace, service, runtime_mode",
    "SELECT max(id) FROM audit WHERE service IS NOT NULL AND decision = 'allow' AND status IS NOT NULL"
    " GROUP BY workspace, service",
    "SELECT max(id) FROM events WHERE key IS NOT NULL GROUP BY workspace, key, kind",
    "SELECT max(id) FROM events WHERE service IS NOT NULL GROUP BY workspace, service",
    "SELECT max(id) FROM events WHERE kind IN ('agent_added', 'agent_revoked') GROUP BY workspace, agent, kind",
    "SELECT max(id) FROM events WHERE kind = 'policy_loaded' GROUP BY workspace",
)

# A chain is taken from its beginning to the first append that is young: what a clock that was set back dated later than that is
# not taken for old. An outcome goes with its decision, or alone where a prune was killed in between; a decision without an
# outcome is undecided, and stays.
_TAKEN = """
SELECT d.writer, d.seq, 'decisions' FROM decisions d JOIN outcomes o ON o.decision_id = d.id JOIN ends e ON e.writer = d.writer
    WHERE d.seq < e.stop AND o.seq < e.stop AND d.id NOT IN kept
UNION ALL
SELECT o.writer, o.seq, 'outcomes' FROM outcomes o JOIN ends e ON e.writer = o.writer
    LEFT JOIN decisions d ON d.id = o.decision_id
    WHERE o.seq < e.stop AND (d.id IS NULL OR d.seq < e.stop) AND o.decision_id NOT IN kept
UNION ALL
SELECT v.writer, v.seq, 'events' FROM events v JOIN ends e ON e.writer = v.writer WHERE v.seq < e.stop AND v.id NOT IN kept
ORDER BY 1, 2
"""


def plan_prune(path: Path, cutoff: str, ends: Mapping[str, Head], attested: Mapping[str, Head] | None) -> Plan:
    """Return what pruning the record at *path* of everything before *cutoff* (an `at`) would take.

    *ends* are the chains as they were verified: what came since is left alone. *attested*, the heads of the last anchor, is given
    where a proxy runs: then nothing is taken that came after it, whatever its clock made of it. Raises UsageError when there is
    no record, AuditError when it cannot be read.
    """
    with closing(open_for_reading(path)) as db:
        try:
            db.begin()
            _note_ends(db, cutoff, ends, attested)
            db.execute("CREATE TEMP TABLE kept (id TEXT PRIMARY KEY) WITHOUT ROWID")
            for query in _KEPT:
                db.execute(f"INSERT OR IGNORE INTO kept {query}")
            taken: Counter[str] = Counter()
            runs = tuple(_runs(db, taken))
            old = sum(db.execute(f"SELECT count(*) FROM {table} WHERE at < ?", [cutoff]).fetchone()[0] for table in COLUMNS)  # noqa: S608
        except sqlite3.Error as error:
            raise unreadable(error, path) from error
    return Plan(cutoff, runs, dict(taken), max(0, old - taken.total()))


def _note_ends(db: Database, cutoff: str, ends: Mapping[str, Head], attested: Mapping[str, Head] | None) -> None:
    """Fill the temporary table `ends`: for each writer the place at which a prune has to stop."""
    young = " UNION ALL ".join(f"SELECT writer, min(seq) FROM {table} WHERE at >= :cutoff GROUP BY writer" for table in COLUMNS)  # noqa: S608
    stops = {writer: head.seq + 1 for writer, head in ends.items()}
    if attested is not None:
        stops = {writer: min(stop, attested.get(writer, Head()).seq + 1) for writer, stop in stops.items()}
    for writer, seq in db.execute(young, {"cutoff": cutoff}):
        stops[writer] = min(seq, stops.get(writer, seq))
    db.execute("CREATE TEMP TABLE ends (writer TEXT PRIMARY KEY, stop INTEGER) WITHOUT ROWID")
    db.conn.executemany("INSERT INTO ends VALUES (?, ?)", stops.items())


def _runs(db: Database, taken: Counter[str]) -> Iterator[Run]:
    places = enumerate(db.execute(_TAKEN))
    for (writer, _), group in groupby(places, lambda place: (place[1][0], place[1][1] - place[0])):
        first = last = -1
        for _, (_, seq, table) in group:
            first, last = (seq if first < 0 else first), seq
            taken[table] += 1
        yield Run(writer, first, last)
