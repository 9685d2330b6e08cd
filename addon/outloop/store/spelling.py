"""A writer's chain read the fast way: SQLite spells each append as it was hashed, and merges the three tables in order.

This only ever says that a chain is whole. Whoever is told otherwise reads it again, value by value, to find out what is wrong.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlite_utils.db import Database

from outloop.core.ledger import COLUMNS, FIRST_HASH
from outloop.store.checkpoints import Gaps
from outloop.store.heads import Head

PROGRESS_APPENDS = 5000

_SPELL = json.JSONEncoder(separators=(",", ":")).encode
_NULL_AT_THE_END = b",null]"


@dataclass(frozen=True, slots=True)
class Whole:
    """A chain as it was read: how many appends of it there are, and its end, be that pruned."""

    rows: int
    last: Head


def read_whole(db: Database, writer: object, anchor: Head, gaps: Gaps, passed: Callable[[int], None]) -> Whole | None:
    """Return *writer*'s chain if each append follows the one before it, or one of *gaps*, matches its hash, and *anchor* is met.

    None when any of that cannot be said. *passed* is called with a number of appends now and then.
    """
    rows, seq, previous, anchored = 0, 0, bytes.fromhex(FIRST_HASH), anchor.seq == 0
    try:
        for place, digest, spelled in _spelled(db, writer):
            rows += 1
            if place != (seq := seq + 1):
                last = gaps.after(Head(seq - 1, previous.hex()), place if isinstance(place, int) else 0)
                if place != last.seq + 1 or _contradicts(anchor, last):
                    return None
                anchored = anchored or seq <= anchor.seq <= last.seq
                seq, previous = last.seq + 1, bytes.fromhex(last.hash)
            previous = hashlib.sha256(previous + spelled).digest()
            if previous.hex() != digest:
                return None
            if place == anchor.seq:
                anchored = digest == anchor.hash
            if rows % PROGRESS_APPENDS == 0:
                passed(PROGRESS_APPENDS)
    except (sqlite3.OperationalError, TypeError, ValueError):  # a value of a kind that is never written, a blob say
        return None
    passed(rows % PROGRESS_APPENDS)
    last = gaps.after(Head(seq, previous.hex()), math.inf)
    is_met = anchored or (seq < anchor.seq <= last.seq and not _contradicts(anchor, last))
    return Whole(rows, last) if is_met else None


def _contradicts(anchor: Head, last: Head) -> bool:
    return anchor.seq == last.seq and anchor.hash != last.hash


def _spelled(db: Database, writer: object) -> Iterator[tuple[object, object, bytes]]:
    """Yield place, hash and `canonical_bytes` of each append in order."""
    for place, digest, head, first_ms, second_ms, rest in db.execute(_SQL, {"writer": writer}):
        spelled = head
        if rest is not None:
            # SQLite rounds numbers to 15 digits where Python has 17: an edit could hide in the difference.
            spelled = b"%s,%s,%s,%s" % (head[:-1], _number(first_ms), _number(second_ms), rest[1:])
        if not spelled.isascii():
            spelled = _SPELL(json.loads(spelled)).encode()
        while spelled.endswith(_NULL_AT_THE_END):
            spelled = spelled[: -len(_NULL_AT_THE_END)] + b"]"
        yield place, digest, spelled


def _number(value: object) -> bytes:
    if value is None:
        return b"null"
    if type(value) is not float:
        raise TypeError("times are stored as floats")
    return repr(value).encode()


def _select(table: str, columns: tuple[str, ...]) -> str:
    head = list(itertools.takewhile(lambda name: not name.endswith("_ms"), columns))
    rest = columns[len(head) + 2 :]
    numbers = [*columns[len(head) : len(head) + 2], _blob(f"json_array({', '.join(rest)})")] if rest else ["NULL", "NULL", "NULL"]
    shown = ", ".join(("seq", "hash", _blob(f"json_array('{table}', writer, seq, {', '.join(head)})"), *numbers))
    return f"SELECT {shown} FROM {table} WHERE writer = :writer"  # noqa: S608  (our own names)


def _blob(expression: str) -> str:
    return f"CAST({expression} AS BLOB)"


_SQL = " UNION ALL ".join(_select(table, columns) for table, columns in COLUMNS.items()) + " ORDER BY 1"
