"""Pruning: appends go and a signed checkpoint comes, in one transaction after the other, while proxies go on writing.

One transaction for everything would hold the write lock for longer than a proxy waits, and then refuse requests. So a prune goes
in steps. Each is whole: killed at any moment, the record is as after a shorter prune, and the next one goes on from there.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from sqlite_utils.db import Database

from outloop.core.errors import AuditError
from outloop.core.ledger import COLUMNS
from outloop.store.checkpoints import Checkpoint, insert_checkpoint, read_checkpoint
from outloop.store.prune_plan import Plan, Run
from outloop.store.schema import explain, open_for_writing
from outloop.store.seal import Seal

STEP_APPENDS = 5_000
BUSY_TIMEOUT_S = 30.0
VACUUM_PAGES = 1_000  # 4 MB a step
SHORTEST_PAUSE_S = 0.12  # SQLite looks every 100 ms whether a lock is free


class Pruner:
    """Takes from the record at *path* what a plan says. *pause* sleeps; between two steps it lets proxies write."""

    def __init__(self, path: Path, made_by: str, pause: Callable[[float], None] = time.sleep) -> None:
        self._path = path
        self._made_by = made_by
        self._pause = pause

    def prune(self, plan: Plan, seal: Seal, at: str) -> Iterator[int]:
        """Carry out *plan* at the time *at*, signed with *seal*; yield after each step how many appends it took.

        Raises UsageError when a newer Outloop wrote the record, AuditError when it cannot be written or changed meanwhile: the
        step under way is then undone, and those before it stand.
        """
        try:
            with closing(open_for_writing(self._path, BUSY_TIMEOUT_S)) as db:
                for step in _steps(plan.runs):
                    began = time.monotonic()
                    with _transaction(db):
                        for run in step:
                            insert_checkpoint(db, self._checkpoint(db, run, plan.cutoff, at).signed(seal))
                            _delete(db, run)
                    yield sum(run.appends for run in step)
                    self._pause(max(SHORTEST_PAUSE_S, time.monotonic() - began))
        except sqlite3.Error as error:
            raise AuditError(*explain(error, self._path)) from error

    def give_back(self, *, may_stop_writers: bool) -> int:
        """Give pages that are free back to the file system; return how many bytes stay free inside the file, for rows to come.

        A record begun by an earlier version can only be given back by being written anew, during which nothing else can write:
        that is done where *may_stop_writers*. A disk that has no room for it is no error.
        """
        try:
            with closing(open_for_writing(self._path, BUSY_TIMEOUT_S)) as db:
                is_incremental = _pragma(db, "auto_vacuum") == _INCREMENTAL
                if not is_incremental and may_stop_writers:
                    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                    db.execute("VACUUM")
                while is_incremental and (free := _pragma(db, "freelist_count")):
                    began = time.monotonic()
                    # A page a step of the statement, of which Python 3.11's execute takes one.
                    db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
                    if _pragma(db, "freelist_count") == free:
                        break
                    self._pause(max(SHORTEST_PAUSE_S, time.monotonic() - began))
                db.execute("PRAGMA busy_timeout = 0")  # a reader that stands in the way is not waited for
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                return _pragma(db, "freelist_count") * _pragma(db, "page_size")
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                return self._free_bytes()
            raise AuditError(*explain(error, self._path)) from error

    def _free_bytes(self) -> int:
        with closing(open_for_writing(self._path, BUSY_TIMEOUT_S)) as db:
            return _pragma(db, "freelist_count") * _pragma(db, "page_size")

    def _checkpoint(self, db: Database, run: Run, cutoff: str, at: str) -> Checkpoint:
        """Return what stands for *run*, and for the checkpoints it meets: one gap has one."""
        before = read_checkpoint(db, "writer = ? AND to_seq = ?", run.writer, run.from_seq - 1)
        after = read_checkpoint(db, "writer = ? AND from_seq = ?", run.writer, run.to_seq + 1)
        return Checkpoint(
            number=db.execute("SELECT coalesce(max(number), 0) + 1 FROM checkpoints").fetchone()[0],
            at=at,
            made_by=self._made_by,
            cutoff=cutoff,
            writer=run.writer,
            from_seq=before.from_seq if before else run.from_seq,
            to_seq=after.to_seq if after else run.to_seq,
            hash=after.hash if after else _hash(db, run.writer, run.to_seq),
            removed=run.appends,
            signer="",
        )


_INCREMENTAL = 2


def _steps(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Yield *runs* in portions of at most STEP_APPENDS appends."""
    step: list[Run] = []
    room = STEP_APPENDS
    for run in runs:
        first = run.from_seq
        while first <= run.to_seq:
            piece = Run(run.writer, first, min(run.to_seq, first + room - 1))
            step.append(piece)
            first, room = piece.to_seq + 1, room - piece.appends
            if not room:
                yield step
                step, room = [], STEP_APPENDS
    if step:
        yield step


@contextmanager
def _transaction(db: Database) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.conn.in_transaction:
            db.execute("ROLLBACK")
        raise


def _delete(db: Database, run: Run) -> None:
    place = [run.writer, run.from_seq, run.to_seq]
    deleted = sum(
        db.execute(f"DELETE FROM {table} WHERE writer = ? AND seq BETWEEN ? AND ?", place).rowcount  # noqa: S608
        for table in COLUMNS
    )
    if deleted != run.appends:
        raise _changed()


def _hash(db: Database, writer: str, seq: int) -> str:
    for table in COLUMNS:
        for (digest,) in db.execute(f"SELECT hash FROM {table} WHERE writer = ? AND seq = ?", [writer, seq]):  # noqa: S608
            return str(digest)
    raise _changed()


def _changed() -> AuditError:
    return AuditError("the record is not as it was when the prune was planned", "another prune is under way: try again later")


def _pragma(db: Database, name: str) -> int:
    value: int = db.execute(f"PRAGMA {name}").fetchone()[0]
    return value
