"""One writer's chain: rows in, one transaction, the head moved on. Synchronous; used by one thread at a time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from outloop.core.errors import AuditError
from outloop.core.ledger import COLUMNS, TABLES, DecisionRow, Row, Value, canonical_bytes, chain, values
from outloop.store.heads import Head, HeadFile
from outloop.store.schema import explain, open_for_writing

CHECKPOINT_ROWS = 1000
PAGE_BYTES = 4096
LOG_LIMIT_BYTES = 64 * 1024 * 1024

_INSERTS = {
    table: f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))}, ?, ?, ?)"  # noqa: S608  (our own names)
    for table, columns in COLUMNS.items()
}


_BAD_ROW = (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError)


class RowRefused(AuditError):
    """A row that the record does not take (its id is taken, say): trying again is of no use, and other rows are not concerned."""


def waits_for_disk(row: Row) -> bool:
    """Tell whether *row* must have reached the disk itself, and not only the system's cache, before anybody goes on."""
    return isinstance(row, DecisionRow) and row.runtime_mode == "write"


def head_path(database: Path) -> Path:
    """Return where the heads of the record at *database* are kept."""
    return database.with_suffix(".head")


class Appender:
    """Appends rows to the record at *path* as *writer*, a ULID that nobody else uses.

    Raises UsageError when the record was written by a newer Outloop, AuditError when it cannot be opened or written.
    """

    def __init__(self, path: Path, writer: str, busy_timeout_s: float) -> None:
        self._path = path
        self._paths = (str(path), f"{path}-wal", str(head_path(path)))
        self._writer = writer
        self._head = Head()
        self._is_full_sync: bool | None = None
        self._busy_timeout_ms = int(busy_timeout_s * 1000)
        self._is_patient = True
        self._since_checkpoint = 0
        self._is_gone = False
        self._db = open_for_writing(path, busy_timeout_s)
        self._db.execute("PRAGMA wal_autocheckpoint = 0")
        self._db.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}")  # once a reader that let it grow has gone
        try:
            self._heads = HeadFile(head_path(path), writer)
            self._files = self._identity()
        except OSError as error:
            self._db.close()
            raise AuditError(*explain(error, head_path(path))) from error

    @property
    def head(self) -> Head:
        """The last append, as this process remembers it."""
        return self._head

    @property
    def begins_log(self) -> bool:
        """Tell whether the next rows may be the first of a new write-ahead log: its head is synced to the disk."""
        return self._since_checkpoint == 0

    @property
    def is_checkpoint_due(self) -> bool:
        """Tell whether `checkpoint` has something to do, which takes milliseconds."""
        return self._since_checkpoint >= CHECKPOINT_ROWS

    def append(self, rows: Sequence[Row], *, is_patient: bool = True) -> None:
        """Put *rows* on disk, all or none. Decisions must come before their outcomes, here or in an earlier call.

        A lock that somebody else holds is waited for only by the patient.

        Raises RowRefused when one of them can never be taken, AuditError when the database cannot be written just now, or was
        deleted or replaced while in use: from then on until the process ends, for a deleted record is an incident.
        """
        if self._is_gone:
            raise self._gone()
        try:
            batch, head = self._chained(rows)
            self._commit(batch, needs_sync=any(map(waits_for_disk, rows)), is_patient=is_patient)
        except (*_BAD_ROW, TypeError, ValueError, OverflowError) as error:
            raise RowRefused(f"the audit record does not take this row: {error}") from error
        except (sqlite3.Error, OSError) as error:
            raise AuditError(*explain(error, self._path)) from error
        self._head = head
        with contextlib.suppress(OSError):  # the rows are there, and a head that lags behind them is mended by the next one
            self._heads.update(head)
        # Asked after the commit: at this moment the rows stand in files that others find under their names.
        if self._identity() != self._files:
            self._is_gone = True
            raise self._gone()
        self._since_checkpoint += len(rows)

    def checkpoint(self) -> int:
        """Move committed rows from the write-ahead log to the database file, when enough of them have gathered.

        Return how many bytes of the log could not be moved, if they are more than LOG_LIMIT_BYTES: as long as anybody reads at an
        earlier state of the record, the log only grows.
        """
        if self.is_checkpoint_due:
            # The rows are safe where they are: a checkpoint that fails is tried again with the next ones.
            with contextlib.suppress(sqlite3.Error):
                _, pages, moved = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                self._since_checkpoint = 0
                held_bytes: int = (pages - moved) * PAGE_BYTES
                return held_bytes if held_bytes > LOG_LIMIT_BYTES else 0
        return 0

    def close(self) -> None:
        """Close the files."""
        self._heads.close()
        self._db.close()

    def _chained(self, rows: Sequence[Row]) -> tuple[dict[str, list[tuple[Value, ...]]], Head]:
        batch: dict[str, list[tuple[Value, ...]]] = {}
        seq, previous = self._head.seq, self._head.hash
        for row in rows:
            table, stored = TABLES[type(row)], values(row)
            seq += 1
            previous = chain(previous, canonical_bytes(table, self._writer, seq, stored))
            batch.setdefault(table, []).append((*stored, self._writer, seq, previous))
        return batch, Head(seq, previous)

    def _commit(self, batch: dict[str, list[tuple[Value, ...]]], *, needs_sync: bool, is_patient: bool) -> None:
        # The connection itself, not sqlite-utils' insert: that looks up the schema and builds the statement anew for every
        # row, 47 µs where this takes 2.
        connection = self._db.conn
        if needs_sync is not self._is_full_sync:
            connection.execute(f"PRAGMA synchronous = {'FULL' if needs_sync else 'NORMAL'}")
            self._is_full_sync = needs_sync
        if is_patient is not self._is_patient:
            connection.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms if is_patient else 0}")
            self._is_patient = is_patient
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._heads.claim()
            for table in COLUMNS:  # decisions before outcomes
                if table in batch:
                    connection.executemany(_INSERTS[table], batch[table])
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _identity(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(map(_identity, self._paths))

    def _gone(self) -> AuditError:
        return AuditError(
            f"{self._path} was deleted or replaced while in use",
            "find out who did it, then restart the proxy: it begins a new record",
        )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  (on every commit: Path.stat takes twice as long)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
