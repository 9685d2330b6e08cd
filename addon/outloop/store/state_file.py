"""The file ``state.db``: its schema, the numbered steps that bring an older one up to date, and connections to it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outloop.core.errors import UsageError

BUSY_TIMEOUT_S = 5.0
# What a proxy's event loop may wait for a lock: other processes hold one for milliseconds.
LOOP_BUSY_TIMEOUT_S = 1.0

_TABLES = """
CREATE TABLE keys (
    workspace TEXT NOT NULL,
    name TEXT NOT NULL,
    service TEXT NOT NULL,
    runtime_access INTEGER NOT NULL DEFAULT 0 CHECK (runtime_access IN (0, 1)),
    generation INTEGER NOT NULL UNIQUE,
    added_at TEXT NOT NULL,
    previous_until REAL,
    PRIMARY KEY (workspace, name)
);
CREATE TABLE agents (
    token_hash TEXT PRIMARY KEY CHECK (length(token_hash) = 64),
    workspace TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL,
    revoked_at TEXT
);
CREATE UNIQUE INDEX agents_live ON agents (workspace, name) WHERE revoked_at IS NULL;
CREATE TABLE cooldowns (workspace TEXT NOT NULL, service TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (workspace, service));
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE takes (workspace TEXT NOT NULL, service TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX takes_by_time ON takes (workspace, service, at);
CREATE TABLE proxies (pid INTEGER PRIMARY KEY, host TEXT NOT NULL, port INTEGER NOT NULL, started_at TEXT NOT NULL);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO counters VALUES ('revision', 0), ('generation', 0);
"""

_BUMP = "UPDATE counters SET value = value + 1 WHERE name = 'revision';"
# Triggers rather than code: a row changed by hand (sqlite3, sqlite-utils) must reach the running proxies too.
_REVISIONS = "".join(
    f"CREATE TRIGGER {table}_{verb} AFTER {verb} ON {table} BEGIN {_BUMP} END;\n"
    for table in ("keys", "agents", "cooldowns", "meta")
    for verb in ("insert", "update", "delete")
)

# Of the requests with one binding at most one waits, stands or still has to be told no. An agent's end is that of its
# approvals: another that gets its name later inherits none.
_APPROVALS = """
CREATE TABLE approvals (
    id TEXT PRIMARY KEY,
    workspace TEXT NOT NULL, agent TEXT NOT NULL, service TEXT NOT NULL,
    method TEXT NOT NULL, host TEXT NOT NULL, port INTEGER NOT NULL, path TEXT NOT NULL,
    headers TEXT NOT NULL, body TEXT NOT NULL, body_bytes INTEGER NOT NULL,
    rule TEXT NOT NULL, rule_text TEXT NOT NULL, rule_mark TEXT NOT NULL, binding TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'approved', 'granted', 'refused', 'expired', 'consumed', 'revoked')),
    asked_at REAL NOT NULL, since REAL NOT NULL, until REAL NOT NULL,
    because TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX approvals_open ON approvals (binding) WHERE status IN ('pending', 'approved', 'refused', 'expired');
CREATE INDEX approvals_until ON approvals (until);
CREATE TRIGGER approvals_end_with_their_agent AFTER UPDATE OF revoked_at ON agents WHEN NEW.revoked_at IS NOT NULL
    BEGIN DELETE FROM approvals WHERE workspace = NEW.workspace AND agent = NEW.name; END;
"""

# How far a collector has got each writer's chain: rows leave the record for it from there on.
_DELIVERIES = """
CREATE TABLE deliveries (target TEXT NOT NULL, writer TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (target, writer));
"""

# How often a proxy has stored a new value that a provider gave in exchange for the one before (a refresh token).
_RENEWALS = "ALTER TABLE keys ADD COLUMN renewals INTEGER NOT NULL DEFAULT 0;"

# A decoy has its name among the keys', and can become none of them: not by its switch, and not by hand.
_DECOYS = """
ALTER TABLE keys ADD COLUMN decoy INTEGER NOT NULL DEFAULT 0 CHECK (decoy IN (0, 1) AND decoy + runtime_access < 2);
CREATE TRIGGER keys_decoys_stay BEFORE UPDATE OF decoy ON keys WHEN NEW.decoy <> OLD.decoy
    BEGIN SELECT RAISE(ABORT, 'a decoy never becomes a key, nor a key a decoy'); END;
"""

# Step N brings a file from version N-1 to N. A step that has been released is never edited.
MIGRATIONS = (_TABLES + _REVISIONS, _APPROVALS, _DELIVERIES, _RENEWALS, _DECOYS)


def connect(path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """Open the database at *path*, made (mode 0600) or migrated where needed.

    The connection is in autocommit mode and for one thread at a time.
    Raises UsageError for a file of a newer schema and sqlite3.Error for one that cannot be used.
    """
    connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    try:
        if _version(connection) != len(MIGRATIONS):
            _migrate(connection, path)
        # WAL needs no fsync to stay consistent; a switch that a power cut takes back was off before.
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run the block as one write transaction: the lock is taken first, so that what was read still holds when it is written."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Run the block as one write transaction on a connection of its own. Raises UsageError when the file cannot be used."""
    try:
        connection = connect(path)
        try:
            with transaction(connection):
                yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise explained(error, path) from error


def explained(error: sqlite3.Error, path: Path) -> UsageError:
    """Return *error* as the line an operator reads."""
    reason = str(error)
    if "locked" in reason:
        hint = "another process holds it: try again, or look for a program that has it open"
    elif isinstance(error, sqlite3.OperationalError):
        hint = "make sure that you own it and that the disk is neither full nor read-only"
    else:
        hint = f"move {path.name} away and set switches and agents again: the keys' values are in the keychain, not in it"
    return UsageError(f"{path} cannot be used: {reason}", hint)


class HeldConnection:
    """A connection kept open, for one thread at a time, and opened anew when another file has taken the path's place.

    `openings` counts: what was read through an earlier connection says nothing about the file that is there now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self.openings = 0

    def __enter__(self) -> sqlite3.Connection:
        self._lock.acquire()
        try:
            if self._connection is None or self._file != self._identity():
                self._reopen()
            assert self._connection is not None
            return self._connection
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._drop()
        self._lock.release()

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            self._drop()

    def _reopen(self) -> None:
        self._drop()
        self._connection = connect(self._path, LOOP_BUSY_TIMEOUT_S)
        self._file = self._identity()
        self.openings += 1

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise UsageError(
            f"{path} was written by a newer outloop (schema {version}, this one knows {len(MIGRATIONS)})",
            "upgrade outloop, or set OUTLOOP_HOME to another folder",
        )
    if version == 0:
        path.chmod(0o600)  # before the WAL is made: it takes its mode from this file
    _switch_to_wal(connection)
    with transaction(connection):
        for number, step in enumerate(MIGRATIONS, 1):
            if number <= _version(connection):  # another process may have got here first
                continue
            for statement in _statements(step):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch, waiting for another process that makes the file at the same moment: here SQLite itself does not wait."""
    give_up_at = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)


def _statements(script: str) -> Iterator[str]:
    # `executescript` would commit the transaction under way.
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            if statement.strip(" \n;"):
                yield statement
            statement = ""
