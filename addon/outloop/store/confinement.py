"""What a connection may do on which somebody's own SQL runs: read this record, within bounds of memory."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from outloop.core.ledger import UlidFactory, inert

LONGEST_VALUE_BYTES = 4 * 1024 * 1024
_DAY_MS = 86_400_000


def confine(connection: sqlite3.Connection, clock: Callable[[], float] = time.time) -> None:
    """Take from *connection* what reading the record does not need, and give it `days_ago(n)`: the lowest id of that moment.

    An id begins with its time and is the key of its table, so that ``id >= days_ago(7)`` reads seven days and no more. How long
    a statement may run is for whoever runs it to say.
    """
    connection.execute("PRAGMA query_only = 1")
    connection.execute("PRAGMA trusted_schema = 0")  # a view of an edited record runs no function that reaches outside
    connection.text_factory = _printable
    limit(connection)
    connection.create_function(
        "days_ago", 1, lambda days: first_id(int(clock() * 1000 - float(days) * _DAY_MS)), deterministic=True
    )


def limit(connection: sqlite3.Connection) -> None:
    """Keep *connection* from other files, and from values that fill the memory."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE_BYTES)


def _printable(raw: bytes) -> str:
    """Return text as it was written, but for what somebody may have put into the file since; lines stay lines (SQL has them)."""
    text = raw.decode(errors="backslashreplace")
    return text if text.isprintable() else "\n".join(map(inert, text.split("\n")))


def first_id(clock_ms: int) -> str:
    """Return the lowest id of that millisecond: ids begin with their time."""
    return UlidFactory(lambda: clock_ms, bytes).next()
