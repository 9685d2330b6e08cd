"""Whether the chains are whole: every append against its hash, every chain's end against the file of heads."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlite_utils.db import Database

from outloop.core.ledger import COLUMNS, Value, canonical_bytes, chain
from outloop.store.checkpoints import Checkpoint, Gaps, gaps_by_writer, missing, read_checkpoints
from outloop.store.heads import Head
from outloop.store.spelling import Whole, read_whole

# Every writer by one index look-up each, however many rows it has (a loose index scan).
_WRITERS = """
WITH RECURSIVE known (writer) AS (
    SELECT min(writer) FROM {table}
    UNION ALL SELECT (SELECT min(writer) FROM {table} WHERE writer > known.writer) FROM known WHERE known.writer IS NOT NULL)
SELECT writer FROM known WHERE writer IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class BadAppend:
    """The first append of a chain that is not as it was written: its place, its table and id where known, and what is wrong."""

    writer: str
    seq: int
    fault: str
    table: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """How many appends of how many writers were read, and the first bad one, in order of writers' starts.

    `checkpoints` says what was pruned; whether they are signed is not asked here, for that takes the keychain. `ends` holds the
    end of each writer's chain.
    """

    rows: int
    writers: int
    first_bad: BadAppend | None
    checkpoints: tuple[Checkpoint, ...] = ()
    ends: Mapping[str, Head] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Tell whether every append is as it was written, and none is missing."""
        return self.first_bad is None


@dataclass(frozen=True, slots=True)
class _Append:
    writer: str
    seq: int
    table: str
    stored: Sequence[Value]
    hash: str


def writers_of(db: Database) -> list[object]:
    """Return everyone who has appended to *db*, also those of whom all is pruned, each by what stands in the column `writer`."""
    tables = [*COLUMNS, *(["checkpoints"] if db["checkpoints"].exists() else [])]
    found = {row[0] for table in tables for row in db.execute(_WRITERS.format(table=table))}
    return sorted(found, key=str)


def verify_chains(
    db: Database, writers: Iterable[object], heads: Mapping[str, Head], passed: Callable[[int], None] = lambda _: None
) -> Verification:
    """Verify every append of *writers* in *db* (one read transaction), given each one's head as it was before, or an empty one.

    *passed* is called with how many appends were read since the last time.
    """
    rows = count = 0
    faults: list[BadAppend] = []
    ends: dict[str, Head] = {}
    gaps = gaps_by_writer(read_checkpoints(db))
    for writer in writers:
        name = str(writer)
        anchor, pruned = heads.get(name), gaps.get(name, Gaps())
        whole = read_whole(db, writer, anchor, pruned, passed) if anchor else None
        if whole is None:
            chained = _Chain(name, anchor, pruned)
            for append in heapq.merge(*(_appends(db, table, writer) for table in COLUMNS), key=_place):
                chained.add(append)
            whole = chained.end()
            faults += [chained.fault] if chained.fault else []
        rows += whole.rows
        count += whole.rows > 0
        ends[name] = whole.last
    return Verification(rows, count, min(faults, key=_writer, default=None), ends=ends)


def verify_missing(heads: Mapping[str, Head], writers: Iterable[object]) -> Verification:
    """Verify those who have a head and are not among *writers*: they may only have begun."""
    unseen = heads.keys() - {str(writer) for writer in writers}
    faults = [BadAppend(writer, 1, f"appends 1 to {heads[writer].seq} are gone") for writer in unseen if heads[writer].seq]
    return Verification(0, 0, min(faults, key=_writer, default=None))


def verify_checkpoints(db: Database) -> Verification:
    """Return the checkpoints of *db*, and verify that none is missing in between."""
    checkpoints = read_checkpoints(db)
    number = missing(checkpoints)
    fault = None if number is None else BadAppend("", number, f"checkpoint {number} is gone")
    return Verification(0, 0, fault, checkpoints)


def joined(parts: Iterable[Verification]) -> Verification:
    """Return what *parts*, of different writers, are together."""
    found = list(parts)
    faults = [part.first_bad for part in found if part.first_bad]
    total = sum(part.rows for part in found), sum(part.writers for part in found)
    checkpoints = tuple(checkpoint for part in found for checkpoint in part.checkpoints)
    ends = {writer: end for part in found for writer, end in part.ends.items()}
    return Verification(*total, min(faults, key=_writer, default=None), checkpoints, ends)


class _Chain:
    """One writer's appends, read in order; `fault` is the first thing that is wrong."""

    def __init__(self, writer: str, anchor: Head | None, gaps: Gaps) -> None:
        self._writer = writer
        self._anchor = anchor
        self._gaps = gaps
        self._last = Head()
        self.rows = 0
        self.fault: BadAppend | None = None

    def add(self, append: _Append) -> None:
        self.rows += 1
        if self.fault is None:
            self.fault = self._pass_gap(append.seq) or self._check(append)
        self._last = Head(append.seq, append.hash)

    def end(self) -> Whole:
        """Return what was read, once there is no more."""
        self.fault = self.fault or self._pass_gap(math.inf)
        if self.fault is None and self._anchor is None:
            unknown = "the file of heads does not know this writer: rows may have been cut off"
            self.fault = BadAppend(self._writer, self._last.seq, unknown)
        elif self.fault is None and self._anchor and self._anchor.seq > self._last.seq:
            gone = f"appends {self._last.seq + 1} to {self._anchor.seq} are gone: cut off, or lost with the machine's power"
            self.fault = BadAppend(self._writer, self._last.seq + 1, gone)
        return Whole(self.rows, self._last)

    def _pass_gap(self, until: float) -> BadAppend | None:
        """Go on where what was pruned before the append *until* ends."""
        if until == self._last.seq + 1:
            return None
        self._last = self._gaps.after(self._last, until)
        if self._anchor and self._anchor.seq == self._last.seq and self._anchor.hash != self._last.hash:
            rewritten = "rewritten: what was pruned does not end as the file of heads says"
            return BadAppend(self._writer, self._last.seq, rewritten)
        return None

    def _check(self, append: _Append) -> BadAppend | None:
        expected = self._last.seq + 1
        if append.seq > expected:
            return BadAppend(self._writer, expected, "removed: the next one follows a gap that no checkpoint explains")
        if append.seq < expected:
            return self._bad(append, "added: its place in the chain is taken")
        try:
            whole = append.hash == chain(self._last.hash, canonical_bytes(append.table, append.writer, append.seq, append.stored))
        except (TypeError, ValueError):  # a value of a kind that is never written, or a hash that is none
            whole = False
        if not whole:
            return self._bad(append, "edited or moved: it does not match its hash")
        if self._anchor and self._anchor.seq == append.seq and self._anchor.hash != append.hash:
            return self._bad(append, "rewritten: the chain up to here does not end as the file of heads says")
        return None

    def _bad(self, append: _Append, fault: str) -> BadAppend:
        return BadAppend(self._writer, append.seq, fault, append.table, str(append.stored[0]))


def _appends(db: Database, table: str, writer: object) -> Iterator[_Append]:
    columns = ", ".join((*COLUMNS[table], "seq", "hash"))
    sql = f"SELECT {columns} FROM {table} WHERE writer = ? ORDER BY seq"  # noqa: S608  (our own names)
    for *stored, seq, digest in db.execute(sql, [writer]):
        yield _Append(str(writer), seq if isinstance(seq, int) else 0, table, stored, str(digest))


def _place(append: _Append) -> int:
    return append.seq


def _writer(bad: BadAppend) -> str:
    return bad.writer
