"""Whether the chains are whole: every append against its hash, every chain's end against the file of heads."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlite_utils.db import Database

from outloop.core.ledger import COLUMNS, Value, canonical_bytes, chain
from outloop.store.heads import Head


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
    """How many appends of how many writers were read, and the first bad one, in order of writers' starts."""

    rows: int
    writers: int
    first_bad: BadAppend | None

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


def verify_chains(db: Database, heads: Mapping[str, Head]) -> Verification:
    """Verify every append in *db* (one read transaction), given each writer's head as it was before that, or an empty one."""
    rows = 0
    writers = 0
    faults: list[BadAppend] = []
    missing = dict(heads)
    tables = (_appends(db, table) for table in COLUMNS)
    for writer, appends in itertools.groupby(heapq.merge(*tables, key=_place), key=_writer):
        writers += 1
        chained = _Chain(writer, missing.pop(writer, None))
        for append in appends:
            rows += 1
            chained.add(append)
        chained.end()
        faults += [chained.fault] if chained.fault else []
    faults += [BadAppend(writer, 1, f"appends 1 to {head.seq} are gone") for writer, head in missing.items() if head.seq]
    return Verification(rows, writers, min(faults, key=_writer, default=None))


class _Chain:
    """One writer's appends, read in order; `fault` is the first thing that is wrong."""

    def __init__(self, writer: str, anchor: Head | None) -> None:
        self._writer = writer
        self._anchor = anchor
        self._last = Head()
        self.fault: BadAppend | None = None

    def add(self, append: _Append) -> None:
        if self.fault is None:
            self.fault = self._check(append)
        self._last = Head(append.seq, append.hash)

    def end(self) -> None:
        if self.fault is None and self._anchor is None:
            unknown = "the file of heads does not know this writer: rows may have been cut off"
            self.fault = BadAppend(self._writer, self._last.seq, unknown)
        elif self.fault is None and self._anchor and self._anchor.seq > self._last.seq:
            gone = f"appends {self._last.seq + 1} to {self._anchor.seq} are gone: cut off, or lost with the machine's power"
            self.fault = BadAppend(self._writer, self._last.seq + 1, gone)

    def _check(self, append: _Append) -> BadAppend | None:
        expected = self._last.seq + 1
        if append.seq > expected:
            return BadAppend(self._writer, expected, "removed: the next one on record follows a gap")
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


def _appends(db: Database, table: str) -> Iterator[_Append]:
    columns = ", ".join((*COLUMNS[table], "writer", "seq", "hash"))
    sql = f"SELECT {columns} FROM {table} ORDER BY writer, seq"  # noqa: S608  (our own names)
    for *stored, writer, seq, digest in db.execute(sql):
        yield _Append(str(writer), seq if isinstance(seq, int) else 0, table, stored, str(digest))


def _place(append: _Append) -> tuple[str, int]:
    return append.writer, append.seq


def _writer(item: _Append | BadAppend) -> str:
    return item.writer
