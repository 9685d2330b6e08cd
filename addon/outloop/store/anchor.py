"""Anchors: the ends of all chains, signed with the key in the keychain.

The file of heads shows that rows were cut off, but stands beside the database: whoever can rewrite one can rewrite the other.
The list of anchored heads stands there too, but is signed, and number and signature of the newest are in the keychain: it can
be neither changed nor replaced by an earlier one. The record may be ahead of its anchor, never behind it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlite_utils.db import Database

from outloop.core.errors import AuditError, NoError
from outloop.core.ledger import COLUMNS
from outloop.store.appender import head_path
from outloop.store.checkpoints import read_checkpoint
from outloop.store.files import locked, replace_file
from outloop.store.heads import Head, read_heads
from outloop.store.keychain import Keychain
from outloop.store.schema import explain, open_for_reading, unreadable
from outloop.store.seal import Seal, is_signed

LOCK_PATIENCE_S = 3.0
_DOMAIN = b"outloop anchor 1\n"
_KEEP = "keep a copy of audit.db, audit.head and audit.anchor as they are, and find out who can write to the home folder"


@dataclass(frozen=True, slots=True)
class Anchor:
    """The heads of all writers, and how many checkpoints there were, at one moment. Numbers rise by one."""

    number: int
    at: str
    checkpoints: int
    heads: Mapping[str, Head]
    signature: str = ""

    @property
    def appends(self) -> int:
        """How many appends, of all writers, it attests."""
        return sum(head.seq for head in self.heads.values())

    @property
    def content(self) -> bytes:
        """What is signed."""
        heads = [[writer, head.seq, head.hash] for writer, head in sorted(self.heads.items())]
        fields = [self.number, self.at, self.checkpoints, heads]
        return _DOMAIN + json.dumps(fields, separators=(",", ":")).encode()


def anchor_path(database: Path) -> Path:
    """Return where the anchored heads of the record at *database* are listed."""
    return database.with_suffix(".anchor")


def read_anchor(path: Path) -> Anchor | None:
    """Return the anchor listed at *path*, or None where there is no file. Raises ValueError for a file that lists none."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except RecursionError as error:
        raise ValueError(f"{path.name} is not a list of anchored heads") from error
    try:
        heads = {str(writer): Head(int(seq), str(digest)) for writer, seq, digest in found["heads"]}
        return Anchor(int(found["number"]), str(found["at"]), int(found["checkpoints"]), heads, str(found["signature"]))
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{path.name} is not a list of anchored heads") from error


def examine(database: Path, seal: Seal | None) -> tuple[Anchor | None, str]:
    """Return the anchor of the record at *database*, and in what way it contradicts record or *seal*; "" if in none.

    Raises UsageError when there is no record, AuditError when it cannot be read.
    """
    with _reading(database) as db:
        return _fault_of(seal, anchor_path(database), db)


def renew(database: Path, keychain: Keychain, at: str, own: tuple[str, Head] | None = None) -> Anchor | None:
    """Anchor the heads as they stand at the time *at*, and return the anchor; None where nothing is on record.

    *own* is a writer with its head as the process that wrote it remembers it. Where record and head, file of heads or anchor
    contradict each other the anchor stays as it is, so that it never attests what was tampered with. Raises NoError, saying
    so; AuditError when the record cannot be read or another process is at it; KeychainError.
    """
    path = anchor_path(database)
    try:
        with locked(database.with_suffix(".lock"), LOCK_PATIENCE_S):
            seal = Seal.settle(keychain) if not path.exists() else Seal.read(keychain)
            known = read_heads(head_path(database)) | dict([own] if own else [])  # read first: the record may be ahead of them
            with _reading(database) as db:
                before, fault = _fault_of(seal, path, db)
                fault = fault or next((said for writer, head in known.items() if (said := _fault_of_head(db, writer, head))), "")
                heads = chain_ends(db)
                count = _count(db)
            if fault or seal is None:
                raise NoError(f"the record is not anchored anew: {fault}", _KEEP)
            if before is not None and (before.heads, before.checkpoints, before.number) == (heads, count, seal.number):
                return before
            return _put(path, keychain, seal, Anchor(max(seal.number, before.number if before else 0) + 1, at, count, heads))
    except BlockingIOError as error:
        raise AuditError("another process is anchoring or pruning the record", "try again when it has ended") from error
    except OSError as error:
        raise AuditError(*explain(error, path)) from error


def chain_ends(db: Database) -> dict[str, Head]:
    """Return each writer's last append, or the end of what was pruned of it."""
    ends: dict[str, Head] = {}
    tables = [(table, "seq") for table in COLUMNS] + ([("checkpoints", "to_seq")] if db["checkpoints"].exists() else [])
    for table, seq in tables:
        for writer, place, digest in db.execute(_ENDS.format(table=table, seq=seq)):
            # Of a record that was edited from outside anything may be expected, but that it says so is for verify.
            if isinstance(place, int) and place > ends.get(str(writer), Head()).seq:
                ends[str(writer)] = Head(place, str(digest))
    return ends


# Every writer by one index look-up each, however many appends it has (a loose index scan).
_ENDS = """
WITH RECURSIVE known (writer) AS (
    SELECT min(writer) FROM {table}
    UNION ALL SELECT (SELECT min(writer) FROM {table} WHERE writer > known.writer) FROM known WHERE known.writer IS NOT NULL)
SELECT known.writer, t.{seq}, t.hash FROM known JOIN {table} t ON t.writer = known.writer
    AND t.{seq} = (SELECT max({seq}) FROM {table} WHERE writer = known.writer)
"""


def _put(path: Path, keychain: Keychain, seal: Seal, anchor: Anchor) -> Anchor:
    signed = replace(anchor, signature=seal.sign(anchor.content))
    heads = [[writer, head.seq, head.hash] for writer, head in sorted(signed.heads.items())]
    fields = {"number": signed.number, "at": signed.at, "checkpoints": signed.checkpoints, "heads": heads}
    # The list first: killed in between, it is one ahead of the keychain, which only the holder of the key can have made it.
    replace_file(path, json.dumps({**fields, "signature": signed.signature}).encode() + b"\n", 0o600)
    seal.keep(keychain, signed.number, signed.signature)
    return signed


def _fault_of(seal: Seal | None, path: Path, db: Database) -> tuple[Anchor | None, str]:
    """Return the anchor listed at *path*, and in what way seal, list and record contradict each other; "" if in none."""
    try:
        anchor = read_anchor(path)
    except ValueError:
        return None, f"{path.name} was altered: it is no list of anchored heads"
    if seal is None:
        return anchor, "" if anchor is None else f"the keychain no longer holds the key that signed {path.name}"
    if anchor is None:
        return None, f"{path.name} is gone: the keychain holds its number {seal.number}" if seal.number else ""
    if not is_signed(seal.signer, anchor.content, anchor.signature):
        return anchor, f"{path.name} was altered: the key in the keychain did not sign it"
    if anchor.number < seal.number:
        return anchor, f"{path.name} is an earlier one, number {anchor.number}: the keychain holds number {seal.number}"
    if anchor.number == seal.number and anchor.signature != seal.signature:
        return anchor, f"{path.name} is not the one that the keychain holds"
    return anchor, _behind(db, anchor)


def _behind(db: Database, anchor: Anchor) -> str:
    if _count(db) < anchor.checkpoints:
        return f"checkpoints are gone: there were {anchor.checkpoints}, there are {_count(db)}"
    return next((fault for writer, head in anchor.heads.items() if (fault := _fault_of_head(db, writer, head))), "")


def _fault_of_head(db: Database, writer: str, head: Head) -> str:
    """Return in what way the record lacks *head*; "" when that append is on record, or pruned by a checkpoint."""
    if not head.seq:
        return ""
    for table in COLUMNS:
        sql = f"SELECT hash FROM {table} WHERE writer = ? AND seq = ?"  # noqa: S608  (our own names)
        for (digest,) in db.execute(sql, [writer, head.seq]):
            return "" if digest == head.hash else f"append {head.seq} of writer {writer} was rewritten since then"
    gap = read_checkpoint(db, "writer = ? AND from_seq <= ? AND to_seq >= ?", writer, head.seq, head.seq)
    if gap is None:
        return f"append {head.seq} of writer {writer} is gone"
    return "" if gap.to_seq > head.seq or gap.hash == head.hash else f"append {head.seq} of writer {writer} was rewritten"


def _count(db: Database) -> int:
    return db["checkpoints"].count if db["checkpoints"].exists() else 0


@contextmanager
def _reading(database: Path) -> Iterator[Database]:
    with closing(open_for_reading(database)) as db:
        try:
            db.begin()
            yield db
        except sqlite3.Error as error:
            raise unreadable(error, database) from error
