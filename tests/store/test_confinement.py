"""What a connection can do that runs somebody's own SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.rows import decision
from outloop.core.ledger import timestamp
from outloop.store.appender import Appender
from outloop.store.confinement import confine

NOW_S = 1_790_000_000.0
DAY_S = 86_400


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    appender = Appender(tmp_path / "audit.db", "01KDVDVDVDVDVDVDVDVDVDVDVD", 5.0)
    appender.append([decision()])
    appender.close()
    with closing(sqlite3.connect(tmp_path / "audit.db")) as connection:  # writable: the bounds are not the file's
        confine(connection, lambda: NOW_S)
        yield connection


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x (y)",
        "INSERT INTO events SELECT * FROM events",
        "DROP TRIGGER decisions_no_update",
        "ATTACH ':memory:' AS x",
        "ATTACH '/tmp/x.db' AS x",
        "VACUUM INTO '/tmp/x.db'",
        "SELECT load_extension('x')",
        "SELECT zeroblob(1000000000) || ''",
        "SELECT length(randomblob(100000000))",
        "WITH RECURSIVE n(t) AS (SELECT 'x' UNION ALL SELECT t || t FROM n WHERE length(t) < 1e9) SELECT max(length(t)) FROM n",
    ],
)
def test_it_writes_nothing_reaches_nothing_and_holds_nothing_large(db: sqlite3.Connection, sql: str) -> None:
    with pytest.raises(sqlite3.DatabaseError):
        db.execute(sql).fetchall()


def test_days_ago_is_the_lowest_id_of_that_moment(db: sqlite3.Connection) -> None:
    (week,) = db.execute("SELECT days_ago(7)").fetchone()
    (half,) = db.execute("SELECT days_ago(0.5)").fetchone()

    assert len(week) == 26
    assert week[10:] == "0" * 16
    assert week < half
    assert timestamp(int((NOW_S - 7 * DAY_S) * 1000)).startswith("20")
    plan = " ".join(str(row) for row in db.execute("EXPLAIN QUERY PLAN SELECT * FROM audit WHERE id >= days_ago(7)"))
    assert "SEARCH d USING PRIMARY KEY (id>?)" in plan


def test_text_that_was_edited_in_is_printable_and_lines_stay_lines(db: sqlite3.Connection) -> None:
    (text,) = db.execute("SELECT '\u202ea' || char(27) || char(10) || 'b' || CAST(x'ff' AS TEXT)").fetchone()

    assert text == "\\u202ea\\x1b\nb\\xff"
