"""The fast way of reading a chain says of every chain what the ledger says, and never that a changed one is whole."""

from __future__ import annotations

import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.rows import decision, event, outcome
from outloop.core.ledger import Row
from outloop.store.appender import Appender, head_path
from outloop.store.checkpoints import Gaps
from outloop.store.heads import read_heads
from outloop.store.records import Records
from outloop.store.schema import open_for_reading
from outloop.store.spelling import read_whole
from outloop.store.verifiers import processes_for

WRITER = "01KDVDVDVDVDVDVDVDVDVDVDVD"
TEXTS = st.one_of(
    st.sampled_from(
        ["", "null", ",null]", '"', "\\", "\\u00e9", "é", "日本", "\U0001f600", "a/b", "'", "]", "\x7f", "\x1b[2J", "\u202e"]
    ),
    st.text(max_size=20),
)
# SQLite has no negative zero, and no time is one.
TIMES = st.none() | st.floats(min_value=0, allow_infinity=False).map(abs) | st.sampled_from([0.0, 1e22, 1e-9, 12.345678901234567])
ROWS = st.lists(
    st.one_of(
        st.builds(lambda text, agent: [decision(path=text, agent=agent, session=None, policy=None)], TEXTS, st.none() | TEXTS),
        st.builds(
            lambda first, second, error, size: [
                row := decision(),
                outcome(row, duration_ms=first, upstream_ms=second, error=error, request_bytes=size, response_bytes=None),
            ],
            TIMES, TIMES, st.none() | TEXTS, st.none() | st.integers(-(2**63), 2**63 - 1),
        ),
        st.builds(lambda detail, host: [event("key_added", detail=detail, host=host)], st.none() | TEXTS, st.none() | TEXTS),
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


def written(path: Path, rows: list[Row]) -> Path:
    appender = Appender(path, WRITER, 5.0)
    appender.append(rows)
    appender.close()
    return path


def whole(path: Path) -> int | None:
    anchor = read_heads(head_path(path))[WRITER]
    with closing(open_for_reading(path)) as db:
        found = read_whole(db, WRITER, anchor, Gaps(), lambda _: None)
    assert found is None or found.last == anchor
    return found and found.rows


@settings(max_examples=80, deadline=None)
@given(ROWS)
def test_whatever_was_appended_is_read_as_whole(tmp_path_factory: pytest.TempPathFactory, parts: list[list[Row]]) -> None:
    rows = [row for part in parts for row in part]

    assert whole(written(tmp_path_factory.mktemp("record") / "audit.db", rows)) == len(rows)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    row = decision(path="/1", session=None, policy=None)
    result = outcome(row, duration_ms=12.5, upstream_ms=None, error=None, request_bytes=1)
    return written(tmp_path / "audit.db", [row, result, event("key_added", detail=None)])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("UPDATE outcomes SET duration_ms = 12.500000000000002", id="the-last-digit-of-a-time"),
        pytest.param("UPDATE outcomes SET duration_ms = 12", id="another-time"),
        pytest.param("UPDATE outcomes SET duration_ms = '12.5x'", id="a-time-that-is-a-text"),
        pytest.param("UPDATE outcomes SET duration_ms = x'00'", id="a-time-that-is-bytes"),
        pytest.param("UPDATE outcomes SET request_bytes = '1x'", id="a-number-that-is-a-text"),
        pytest.param("UPDATE outcomes SET request_bytes = 1.5", id="a-number-with-a-fraction"),
        pytest.param("UPDATE outcomes SET error = ''", id="nothing-that-is-an-empty-text"),
        pytest.param("UPDATE outcomes SET error = 'null'", id="nothing-that-is-the-text-null"),
        pytest.param("UPDATE decisions SET session = ''", id="nothing-at-the-end-that-is-an-empty-text"),
        pytest.param("UPDATE decisions SET path = x'2f31'", id="a-text-that-is-bytes"),
        pytest.param("UPDATE decisions SET path = '/1' || char(0)", id="a-text-with-a-nul"),
        pytest.param("UPDATE decisions SET path = CAST(x'2f31ff' AS TEXT)", id="a-text-that-is-no-utf-8"),
        pytest.param("UPDATE decisions SET port = '443x'", id="a-port-that-is-a-text"),
        pytest.param("UPDATE events SET detail = 1", id="a-text-where-nothing-was"),
        pytest.param("UPDATE events SET hash = upper(hash)", id="a-hash-in-capitals"),
        pytest.param("UPDATE events SET hash = CAST(hash AS BLOB)", id="a-hash-that-is-bytes"),
        pytest.param("UPDATE events SET seq = 4", id="a-place-further-on"),
        pytest.param("UPDATE events SET seq = 2", id="a-place-that-is-taken"),
        pytest.param("UPDATE events SET seq = '3x'", id="a-place-that-is-a-text"),
        pytest.param("UPDATE events SET writer = '01KDVDVDVDVDVDVDVDVDVDVDVE'", id="another-writer"),
        pytest.param("UPDATE events SET writer = CAST(writer AS BLOB)", id="a-writer-that-is-bytes"),
        pytest.param("DELETE FROM events", id="the-last-row-gone"),
        pytest.param("DELETE FROM outcomes", id="a-row-in-between-gone"),
    ],
)
def test_no_edit_passes_for_whole(path: Path, change: str) -> None:
    assert whole(path) == 3
    with closing(sqlite3.connect(path)) as db, db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute("PRAGMA foreign_keys = 0")
        db.execute(change)

    assert whole(path) is None
    assert not Records(path).verify().ok


def test_progress_adds_up_to_the_appends(path: Path) -> None:
    done: list[int] = []
    rows = [decision() for _ in range(12_000)]
    written(path.with_name("other.db"), list(rows))

    assert Records(path.with_name("other.db")).verify(done.append).rows == sum(done) == 12_000
    assert len(done) > 2


def test_several_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.db"
    for number in range(9):
        appender = Appender(path, f"01KDVDVDVDVDVDVDVDVDVDVDV{number}", 5.0)
        appender.append([decision(path=f"/{number}") for _ in range(20)])
        appender.close()
    done: list[int] = []
    monkeypatch.setattr("outloop.store.records.processes_for", lambda *_: 2)

    found = Records(path).verify(done.append)
    assert (found.ok, found.rows, found.writers, sum(done)) == (True, 180, 9, 180)

    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TRIGGER decisions_no_update")
        db.execute("UPDATE decisions SET agent = 'x' WHERE seq = 7 AND path IN ('/3', '/5')")
    bad = Records(path).verify().first_bad
    assert bad is not None
    assert (bad.writer[-1], bad.seq, bad.table) == ("3", 7, "decisions")


def test_a_few_rows_and_a_single_chain_are_not_shared_out() -> None:
    assert processes_for(10_000, 50) == 1
    assert processes_for(10**6, 1) == 1
    assert processes_for(10**6, 0) <= 1


def test_verify_reads_at_a_steady_size(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.db", [decision() for _ in range(20_000)])
    tracemalloc.start()
    try:
        assert Records(path).verify().ok
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
