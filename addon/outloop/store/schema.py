"""The audit database's shape: append-only tables, and the numbered migrations that lead there."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from sqlite_utils.db import Database
from sqlite_utils.migrations import Migrations

from outloop.core.errors import AuditError, OutloopError, UsageError
from outloop.core.ledger import COLUMNS
from outloop.store.views import CLAIMS, READING, ROTATIONS_END, VIEWS

PRIVATE = 0o600
WAL_RETRY_S = 0.01

migrations = Migrations("outloop-audit")
RECORD = "0001_record"
CLAIMS_LAPSE = "0002_claims_lapse"
CHECKPOINTS = "0003_checkpoints"
READ_AT_ONCE = "0004_read_at_once"
KNOWN = frozenset({RECORD, CLAIMS_LAPSE, CHECKPOINTS, READ_AT_ONCE})
# What a reader cannot do without; a record without the later steps is read as it is, until a writer brings it up to date.
READABLE = frozenset({RECORD, CLAIMS_LAPSE})

# WITHOUT ROWID: ids rise, so rows land at the end, and there is no rowid by which INSERT OR REPLACE could aim at a row.
_TABLES = """
CREATE TABLE decisions (
    id TEXT PRIMARY KEY NOT NULL, at TEXT NOT NULL, workspace TEXT, agent TEXT, service TEXT, key TEXT,
    method TEXT NOT NULL, scheme TEXT NOT NULL, host TEXT NOT NULL, port INTEGER, path TEXT NOT NULL,
    decision TEXT NOT NULL CHECK (decision IN ('allow', 'deny')), reason TEXT NOT NULL, rule TEXT,
    runtime_mode TEXT CHECK (runtime_mode IN ('read', 'write')), proof INTEGER NOT NULL CHECK (proof IN (0, 1)),
    approval TEXT, stripped INTEGER NOT NULL, policy TEXT, session TEXT,
    writer TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE outcomes (
    decision_id TEXT PRIMARY KEY NOT NULL REFERENCES decisions(id), at TEXT NOT NULL, status INTEGER, reason TEXT,
    scrubbed INTEGER NOT NULL, secret_exposed INTEGER CHECK (secret_exposed IN (0, 1)),
    request_bytes INTEGER, response_bytes INTEGER, duration_ms REAL, upstream_ms REAL, error TEXT,
    writer TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE events (
    id TEXT PRIMARY KEY NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL, workspace TEXT, agent TEXT, service TEXT, key TEXT,
    host TEXT, detail TEXT,
    writer TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX decisions_chain ON decisions (writer, seq);
CREATE UNIQUE INDEX outcomes_chain ON outcomes (writer, seq);
CREATE UNIQUE INDEX events_chain ON events (writer, seq);
CREATE INDEX decisions_denied ON decisions (id) WHERE decision = 'deny';
CREATE INDEX decisions_proofs ON decisions (workspace, service, id) WHERE proof = 1;
CREATE TRIGGER outcomes_follow_a_decision BEFORE INSERT ON outcomes
    WHEN NOT EXISTS (SELECT 1 FROM decisions WHERE id = NEW.decision_id)
    BEGIN SELECT RAISE(ABORT, 'an outcome needs its decision'); END;
"""

# REPLACE deletes the row in its way without firing a delete trigger, unless the connection has set recursive_triggers. The
# insert trigger therefore refuses whatever stands in the way of a unique column: the id, and the place in the chain.
_APPEND_ONLY = """
CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table}
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}
    WHEN EXISTS (SELECT 1 FROM {table} WHERE {id} = NEW.{id})
      OR EXISTS (SELECT 1 FROM {table} WHERE writer = NEW.writer AND seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
"""


# A checkpoint says of one writer that its appends from_seq to to_seq were pruned, and what hash the last of them had: there the
# chain goes on. It is written, with `hash` still on record, in the transaction that deletes them. The trigger lets go of what a
# checkpoint covers and of nothing else: at no moment is the record without it, not even for the process that prunes.
_CHECKPOINTS = """
CREATE TABLE checkpoints (
    number INTEGER PRIMARY KEY NOT NULL, at TEXT NOT NULL, made_by TEXT NOT NULL, cutoff TEXT NOT NULL,
    writer TEXT NOT NULL, from_seq INTEGER NOT NULL CHECK (from_seq > 0), to_seq INTEGER NOT NULL CHECK (to_seq >= from_seq),
    hash TEXT NOT NULL, removed INTEGER NOT NULL, signer TEXT NOT NULL, signature TEXT NOT NULL
);
CREATE INDEX checkpoints_chain ON checkpoints (writer, from_seq, to_seq);
CREATE TRIGGER checkpoints_no_update BEFORE UPDATE ON checkpoints
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER checkpoints_no_delete BEFORE DELETE ON checkpoints
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER checkpoints_no_replace BEFORE INSERT ON checkpoints
    WHEN EXISTS (SELECT 1 FROM checkpoints WHERE number = NEW.number)
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER checkpoints_end_on_record BEFORE INSERT ON checkpoints
    WHEN NOT EXISTS (SELECT 1 FROM decisions WHERE writer = NEW.writer AND seq = NEW.to_seq AND hash = NEW.hash)
     AND NOT EXISTS (SELECT 1 FROM outcomes WHERE writer = NEW.writer AND seq = NEW.to_seq AND hash = NEW.hash)
     AND NOT EXISTS (SELECT 1 FROM events WHERE writer = NEW.writer AND seq = NEW.to_seq AND hash = NEW.hash)
     AND NOT EXISTS (SELECT 1 FROM checkpoints WHERE writer = NEW.writer AND to_seq = NEW.to_seq AND hash = NEW.hash)
    BEGIN SELECT RAISE(ABORT, 'a checkpoint ends with an append that is on record'); END;
"""
_PRUNABLE = """
DROP TRIGGER {table}_no_delete;
CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table}
    WHEN NOT EXISTS (SELECT 1 FROM checkpoints WHERE writer = OLD.writer AND from_seq <= OLD.seq AND to_seq >= OLD.seq)
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
"""


@migrations(name=RECORD)
def _record(db: Database) -> None:
    db.executescript(_TABLES)
    for table, key in (("decisions", "id"), ("outcomes", "decision_id"), ("events", "id")):
        db.executescript(_APPEND_ONLY.format(table=table, id=key))
    db.executescript(VIEWS)


@migrations(name=CLAIMS_LAPSE)
def _claims_lapse(db: Database) -> None:
    db.executescript(CLAIMS)


@migrations(name=CHECKPOINTS)
def _checkpoints(db: Database) -> None:
    db.executescript(_CHECKPOINTS)
    for table in COLUMNS:
        db.executescript(_PRUNABLE.format(table=table))
    db.executescript(ROTATIONS_END)


@migrations(name=READ_AT_ONCE)
def _read_at_once(db: Database) -> None:
    db.executescript(READING)


def open_for_writing(path: Path, busy_timeout_s: float) -> Database:
    """Open the record at *path* (mode 0600), made and brought up to date where need be: WAL, autocommit, any one thread.

    Raises UsageError when the record was written by a newer Outloop, AuditError when it cannot be opened or written.
    """
    try:
        _make_private(path)
        db = _database(f"file:{quote(os.fspath(path))}?mode=rw", busy_timeout_s)
        try:
            # Of effect on a new file alone: there, pages that a prune empties are given back a few at a time.
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _enable_wal(db, busy_timeout_s)
            _refuse_newer(db, path)
            if migrations.pending(db):
                db.execute("BEGIN IMMEDIATE")  # so that of two processes the second finds the work done
                migrations.apply(db)
                db.commit()
        except BaseException:
            db.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise AuditError(*explain(error, path)) from error
    return db


def open_for_reading(path: Path, busy_timeout_s: float = 5.0) -> Database:
    """Open the record at *path* so that nothing can be written through it.

    Raises UsageError when there is none or it was written by a newer Outloop, AuditError when it cannot be read.
    """
    try:
        db = _database(f"file:{quote(os.fspath(path))}?mode=ro", busy_timeout_s)
        try:
            # A record edited from outside may hold bytes that are not UTF-8: they are shown escaped, and fail their hash.
            db.conn.text_factory = _lenient_text
            _refuse_newer(db, path)
            if READABLE - {step.name for step in migrations.applied(db)}:
                raise UsageError(
                    f"{path} is not a finished audit record", "start the proxy once: it brings the record up to date"
                )
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise unreadable(error, path) from error
    return db


def unreadable(error: sqlite3.Error, path: Path) -> OutloopError:
    """Return what a reader of the record at *path* is told of a failure: also that it is not, or no longer, there."""
    if not path.is_file():
        return UsageError(
            f"there is no audit record at {path}", "the first proxy on this home starts it; OUTLOOP_HOME names a home"
        )
    return AuditError(*explain(error, path))


def explain(error: sqlite3.Error | OSError, path: Path) -> tuple[str, str]:
    """Return what a failure of the database at *path* means, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"another process has held {path} locked for too long", "find it with `fuser` or `lsof`, and end its transaction"
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {path} is full", "free some space: no request is let through until rows can be written"
    if code == sqlite3.SQLITE_IOERR:
        return f"{path} cannot be read or written: {str(error).lower()}", "look at the disk: it fails, is full or over its quota"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM) or isinstance(error, PermissionError):
        return f"{path} cannot be opened or written", "it must be writable by the user who runs Outloop, and so must its folder"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return (
            f"{path} is damaged or not an audit record",
            "move it away, with its -wal and -shm: the next start begins a new one",
        )
    return f"{path} cannot be used: {str(error).lower()}", "`outloop audit verify` tells whether the record is whole"


def _database(uri: str, busy_timeout_s: float) -> Database:
    connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    # No plugins: whatever else is installed beside Outloop gets no hand on this connection.
    return Database(connection, execute_plugins=False)


def _enable_wal(db: Database, patience_s: float) -> None:
    # Of two processes that begin a record at once, the second is told "locked" without being made to wait.
    deadline = time.monotonic() + patience_s
    while db.journal_mode != "wal":
        try:
            db.enable_wal()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(WAL_RETRY_S)


def _lenient_text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _refuse_newer(db: Database, path: Path) -> None:
    newer = [step.name for step in migrations.applied(db) if step.name not in KNOWN]
    if newer:
        raise UsageError(f"{path} was written by a newer Outloop ({newer[-1]})", "update Outloop, or use another OUTLOOP_HOME")


def _make_private(path: Path) -> None:
    # Only a file that is not there yet is opened here: closing any descriptor of a database drops every lock this process
    # holds on it (sqlite.org/howtocorrupt.html, 2.2).
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            path.chmod(PRIVATE)
