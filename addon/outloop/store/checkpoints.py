"""Checkpoints: signed notes of what was pruned, at which a chain goes on although its appends are gone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields, replace

from sqlite_utils.db import Database

from outloop.store.heads import Head
from outloop.store.seal import Seal, is_signed

_DOMAIN = b"outloop checkpoint 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One writer's appends from_seq to to_seq are pruned, and the last of them had `hash`.

    `removed` counts those that this step took: where it meets earlier checkpoints it covers them too. `cutoff` is the `at`
    before which rows went. Numbers rise by one.
    """

    number: int
    at: str
    made_by: str
    cutoff: str
    writer: str
    from_seq: int
    to_seq: int
    hash: str
    removed: int
    signer: str
    signature: str = ""

    @property
    def content(self) -> bytes:
        """What is signed: every field but the signature, in order."""
        return _DOMAIN + json.dumps(astuple(self)[:-1], separators=(",", ":")).encode()

    @property
    def is_signed(self) -> bool:
        """Tell whether the key it names signed it."""
        return is_signed(self.signer, self.content, self.signature)

    def signed(self, seal: Seal) -> Checkpoint:
        """Return it with the seal's signature."""
        named = replace(self, signer=seal.signer)
        return replace(named, signature=seal.sign(named.content))


COLUMNS = tuple(field.name for field in fields(Checkpoint))
_NUMBERS = ("number", "from_seq", "to_seq", "removed")
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM checkpoints"  # noqa: S608  (our own names)


def read_checkpoints(db: Database) -> tuple[Checkpoint, ...]:
    """Return every checkpoint, oldest first. A record of an earlier version has none."""
    if not db["checkpoints"].exists():
        return ()
    return tuple(_checkpoint(row) for row in db.query(f"{_SELECT} ORDER BY number"))


def read_checkpoint(db: Database, condition: str, *values: str | int) -> Checkpoint | None:
    """Return the widest checkpoint that meets the SQL *condition*, or None."""
    if not db["checkpoints"].exists():
        return None
    row = next(db.query(f"{_SELECT} WHERE {condition} ORDER BY to_seq - from_seq DESC LIMIT 1", values), None)
    return None if row is None else _checkpoint(row)


def insert_checkpoint(db: Database, checkpoint: Checkpoint) -> None:
    """Put *checkpoint* on record, inside the caller's transaction."""
    marks = ", ".join("?" * len(COLUMNS))
    db.conn.execute(f"INSERT INTO checkpoints ({', '.join(COLUMNS)}) VALUES ({marks})", astuple(checkpoint))  # noqa: S608


def _checkpoint(row: Mapping[str, object]) -> Checkpoint:
    """Return the row as a checkpoint; a value of a kind that is never written becomes one that nobody signed."""
    numbers = {name: row[name] if isinstance(row[name], int) else -1 for name in _NUMBERS}
    return Checkpoint(**{name: str(value) for name, value in row.items() if name not in numbers} | numbers)  # type: ignore[arg-type]


class Gaps:
    """What of one writer's chain is pruned: where a gap begins, and where the chain goes on after it."""

    def __init__(self, checkpoints: Iterable[Checkpoint] = ()) -> None:
        self._widest: dict[int, Checkpoint] = {}
        for checkpoint in checkpoints:
            known = self._widest.get(checkpoint.from_seq)
            if known is None or known.to_seq < checkpoint.to_seq:
                self._widest[checkpoint.from_seq] = checkpoint

    def after(self, last: Head, until: float) -> Head:
        """Return *last*, or the end of the gap that follows it if that ends before *until*."""
        gap = self._widest.get(last.seq + 1)
        return Head(gap.to_seq, gap.hash) if gap is not None and gap.to_seq < until else last


def gaps_by_writer(checkpoints: Iterable[Checkpoint]) -> Mapping[str, Gaps]:
    """Return each writer's gaps."""
    of_writer: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        of_writer.setdefault(checkpoint.writer, []).append(checkpoint)
    return {writer: Gaps(found) for writer, found in of_writer.items()}


def forged(checkpoints: Iterable[Checkpoint], signer: str) -> Checkpoint | None:
    """Return the first checkpoint that the key with the public half *signer* did not sign, or None."""
    return next(
        (each for each in checkpoints if each.signer != signer or not is_signed(signer, each.content, each.signature)), None
    )


def missing(checkpoints: Iterable[Checkpoint]) -> int | None:
    """Return the first number that no checkpoint has although a later one does, or None."""
    return next((number for number, each in enumerate(checkpoints, 1) if each.number != number), None)
