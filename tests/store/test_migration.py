"""A record that an earlier version wrote: read as it is, brought up to date by the first writer."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from harness.rows import decision
from outloop.core.ledger import FIRST_HASH
from outloop.store import schema
from outloop.store.appender import head_path
from outloop.store.audit import AuditWriter
from outloop.store.records import Filters, Records

HERE = Path(__file__).parent


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A record as the version before checkpoints left it, dumped by sqlite3."""
    path = tmp_path / "audit.db"
    with sqlite3.connect(path) as db:
        db.executescript((HERE / "record-0002.sql").read_text())
        db.execute("PRAGMA journal_mode = WAL")
    head_path(path).write_bytes((HERE / "record-0002.head").read_bytes())
    path.chmod(0o600)
    return path


def test_an_earlier_record_is_read_as_it_is(old: Path) -> None:
    before = old.read_bytes()
    records = Records(old)

    found = records.verify()
    rows = records.tail(Filters(), 10)

    assert (found.ok, found.rows, found.writers, found.checkpoints) == (True, 14, 2, ())
    assert len(rows) == 6
    assert records.get(str(rows[0]["id"])) == rows[0]
    assert old.read_bytes() == before


def test_a_writer_brings_it_up_to_date_and_goes_on(old: Path) -> None:
    writer = AuditWriter(old, time.time)
    writer.append_now(decision())
    writer.close()

    found = Records(old).verify()
    with sqlite3.connect(old) as db:
        steps = [name for (name,) in db.execute("SELECT name FROM _sqlite_migrations ORDER BY id")]
        (claim,) = db.execute("SELECT claim FROM claims WHERE workspace = 'acme' AND access = 'read'").fetchone()
    assert (found.ok, found.rows, found.writers) == (True, 15, 3)
    assert set(steps) == schema.KNOWN
    assert claim == "verified"


def test_the_first_schema_is_brought_up_to_date(old: Path) -> None:
    with sqlite3.connect(old) as db:
        db.execute("DROP VIEW claims")
        db.execute("CREATE VIEW claims AS SELECT 'of the first schema' AS claim")
        db.execute("DELETE FROM _sqlite_migrations WHERE name <> ?", [schema.RECORD])

    schema.open_for_writing(old, 5.0).close()

    with sqlite3.connect(old) as db:
        assert "of the first schema" not in {claim for (claim,) in db.execute("SELECT claim FROM claims")}


def test_after_it_nothing_can_be_deleted_but_what_a_checkpoint_covers(old: Path) -> None:
    schema.open_for_writing(old, 5.0).close()
    with sqlite3.connect(old) as db:
        writer, digest = db.execute("SELECT writer, hash FROM events WHERE seq = 2 LIMIT 1").fetchone()
        db.execute("INSERT INTO checkpoints VALUES (1, '', '', '', ?, 1, 2, ?, 2, '', '')", [writer, digest])
        db.execute("DELETE FROM events WHERE writer = ? AND seq <= 2", [writer])
        for statement in ("DELETE FROM decisions", "DELETE FROM events", "DELETE FROM outcomes", "DELETE FROM checkpoints"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(statement)
        for statement in ("UPDATE checkpoints SET to_seq = 9", "REPLACE INTO checkpoints SELECT * FROM checkpoints"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(statement)
        with pytest.raises(sqlite3.IntegrityError, match="that is on record"):
            db.execute("INSERT INTO checkpoints VALUES (2, '', '', '', ?, 3, 4, ?, 2, '', '')", [writer, FIRST_HASH])
