"""What someone does who can write to the home folder: change the record, and whatever stands beside it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from outloop.core.ledger import COLUMNS, FIRST_HASH, canonical_bytes, chain
from outloop.store.appender import head_path
from outloop.store.heads import SLOT_BYTES


def tamper(path: Path, *statements: str) -> None:
    """Run *statements* on the record, without its triggers."""
    with sqlite3.connect(path, isolation_level=None) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)


def rechain(path: Path, writer: str) -> tuple[int, str]:
    """Compute a writer's hashes anew, so that its chain holds whatever was changed; return its end."""
    with sqlite3.connect(path, isolation_level=None) as db:
        appends = []
        for table, columns in COLUMNS.items():
            for *stored, seq in db.execute(f"SELECT {', '.join(columns)}, seq FROM {table} WHERE writer = ?", [writer]):
                appends.append((seq, table, stored))
        seq, previous = 0, FIRST_HASH
        for seq, table, stored in sorted(appends):
            previous = chain(previous, canonical_bytes(table, writer, seq, stored))
            db.execute(f"UPDATE {table} SET hash = ? WHERE writer = ? AND seq = ?", [previous, writer, seq])
    return seq, previous


def rewrite_head(path: Path, writer: str, seq: int, digest: str) -> None:
    """Make the file of heads say of *writer* that it ends there."""
    content = head_path(path).read_bytes()
    at = content.index(writer.encode())
    line = f"{writer} {seq:020d} {digest}".ljust(SLOT_BYTES - 1) + "\n"
    head_path(path).write_bytes(content[:at] + line.encode() + content[at + SLOT_BYTES :])


def rewrite(path: Path, writer: str, *statements: str) -> None:
    """Change *writer*'s appends by *statements*, its hashes and its head: a record that is whole by all that stands beside it."""
    tamper(path, *statements)
    rewrite_head(path, writer, *rechain(path, writer))
