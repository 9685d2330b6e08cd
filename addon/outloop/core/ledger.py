"""The rows of the audit record, the bytes they are hashed as, and the ids that order them.

Every append is bound to the one before it: hash = SHA-256(previous hash ‖ canonical bytes), one chain per writer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from threading import Lock
from types import MappingProxyType

Value = str | int | float | None

FIRST_HASH = "0" * 64
TEXT_LIMIT = 16 * 1024

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_PAIR_SHIFTS = range(120, -1, -10)
_RANDOM_BITS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """What was asked and what policy said, known before a byte goes upstream. `proof` is 0 or 1; `rule` is file:line."""

    id: str
    at: str
    workspace: str | None = None
    agent: str | None = None
    service: str | None = None
    key: str | None = None
    method: str = ""
    scheme: str = ""
    host: str = ""
    port: int | None = None
    path: str = ""
    decision: str
    reason: str
    rule: str | None = None
    runtime_mode: str | None = None
    proof: int = 0
    approval: str | None = None
    stripped: int = 0
    policy: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRow:
    """What became of a decision. `reason` None means the decision's; `secret_exposed` None means it could not be measured."""

    decision_id: str
    at: str
    status: int | None = None
    reason: str | None = None
    scrubbed: int = 0
    secret_exposed: int | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    duration_ms: float | None = None
    upstream_ms: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """Something other than a request: a key's switch, a policy reload, a client that distrusts the certificate authority."""

    id: str
    at: str
    kind: str
    workspace: str | None = None
    agent: str | None = None
    service: str | None = None
    key: str | None = None
    host: str | None = None
    detail: str | None = None


Row = DecisionRow | OutcomeRow | EventRow

TABLES: Mapping[type[Row], str] = MappingProxyType({DecisionRow: "decisions", OutcomeRow: "outcomes", EventRow: "events"})
COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {table: tuple(field.name for field in fields(kind)) for kind, table in TABLES.items()}
)
_FIELDS = {table: attrgetter(*columns) for table, columns in COLUMNS.items()}
# What a number in each column is that can be stored as it stands: an integer, unless it is a time.
_WHOLE = {table: tuple(None if name.endswith("_ms") else int for name in columns) for table, columns in COLUMNS.items()}
_SPELL = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode  # made once: json.dumps would make one for every row


def inert(text: str) -> str:
    """Return *text* as printable characters only.

    Controls, line breaks, bidirectional overrides, zero-width characters and lone surrogates appear as Python escapes; a byte
    that was decoded with ``surrogateescape`` as ``\\xNN``. Applying it twice changes nothing more.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def values(row: Row) -> tuple[Value, ...]:
    """Return the row's values in column order, as they are stored: texts inert and cut at TEXT_LIMIT characters (with a note of
    how many are missing), truth values as 0 and 1, times as floats.

    Raises ValueError for a number that is not finite: SQLite would store NULL.
    """
    table = TABLES[type(row)]
    return tuple(
        [
            # Nearly every value is one of these three: the rest is worth a call each, these are not.
            value
            if value is None or type(value) is whole or (type(value) is str and len(value) <= TEXT_LIMIT and value.isprintable())
            else _plain(name, value)
            for name, whole, value in zip(COLUMNS[table], _WHOLE[table], _FIELDS[table](row), strict=True)
        ]
    )


def canonical_bytes(table: str, writer: str, seq: int, stored: Sequence[Value]) -> bytes:
    """Return the one spelling of an append: ASCII JSON ``[table,writer,seq,value,…]``, values in column order, no spaces.

    NULLs at the end are left out, so that a column added later (always as the last) does not change the bytes of the rows
    written before it. Raises TypeError for a value that no column can hold.
    """
    length = len(stored)
    while length and stored[length - 1] is None:
        length -= 1
    return _SPELL([table, writer, seq, *stored[:length]]).encode()


def chain(previous: str, canonical: bytes) -> str:
    """Return the hash (64 hex digits) of an append that follows the append with hash *previous*."""
    return hashlib.sha256(bytes.fromhex(previous) + canonical).hexdigest()


def timestamp(clock_ms: int) -> str:
    """Return milliseconds since 1970 as UTC ISO 8601, always the same length, so that text order is time order."""
    return f"{_second(clock_ms // 1000)}.{clock_ms % 1000:03d}Z"


@lru_cache(maxsize=4)
def _second(clock_s: int) -> str:
    return datetime.fromtimestamp(clock_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class UlidFactory:
    """Ids that sort by time (https://github.com/ulid/spec), and strictly rise even when the clock stands still or goes back.

    `clock_ms` returns milliseconds since 1970; `randomness(n)` returns n random bytes. Safe to call from several threads.
    """

    def __init__(self, clock_ms: Callable[[], int], randomness: Callable[[int], bytes]) -> None:
        self._clock_ms = clock_ms
        self._randomness = randomness
        self._last = -1
        self._lock = Lock()

    def next(self) -> str:
        """Return an id greater than every one before: 26 characters of Crockford's base 32."""
        with self._lock:
            fresh = (max(self._clock_ms(), 0) << _RANDOM_BITS) | int.from_bytes(self._randomness(10))
            if fresh >> _RANDOM_BITS <= self._last >> _RANDOM_BITS:
                # A random step instead of 1, so that the last characters, by which people name a row, differ at a glance.
                fresh = self._last + 1 + int.from_bytes(self._randomness(4))
            self._last = fresh
        return "".join([_PAIRS[(fresh >> shift) & 1023] for shift in _PAIR_SHIFTS])


def _plain(name: str, value: object) -> Value:
    if value is None:
        return None
    if isinstance(value, str):
        return inert(str(value) if len(value) <= TEXT_LIMIT else f"{value[:TEXT_LIMIT]}…[+{len(value) - TEXT_LIMIT}]")
    if isinstance(value, (int, float)):
        if not name.endswith("_ms"):
            return int(value)
        if value - value != 0:
            raise ValueError(f"{name} is not a finite number")
        return float(value)
    raise TypeError(f"{name} cannot hold a {type(value).__name__}")


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
