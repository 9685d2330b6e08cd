"""New rows of a record, as they come."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.rows import decision, outcome
from outloop.core.errors import AuditError, UsageError
from outloop.store.arrivals import Arrivals
from outloop.store.audit import AuditWriter


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AuditWriter]:
    with closing(AuditWriter(tmp_path / "audit.db", time.time)) as writer:
        writer.append_now(decision())
        yield writer


@pytest.fixture
def arrivals(writer: AuditWriter, tmp_path: Path) -> Iterator[Arrivals]:
    with closing(Arrivals(tmp_path / "audit.db")) as arrivals:
        arrivals.settle(arrivals.rows())
        yield arrivals


def test_a_row_is_new_until_it_is_settled(writer: AuditWriter, arrivals: Arrivals) -> None:
    first, second = decision(), decision()
    for row in (first, second):
        writer.append_now(row)

    rows = arrivals.rows()

    assert [row["id"] for row in rows] == [first.id, second.id] == [row["id"] for row in arrivals.rows()]
    arrivals.settle(rows)
    assert arrivals.rows() == []


def test_an_outcome_shows_in_its_row(writer: AuditWriter, arrivals: Arrivals) -> None:
    row = decision()
    writer.append_now(row)
    assert [each["status"] for each in arrivals.rows()] == [None]

    writer.append_now(outcome(row, status=204))

    assert [each["status"] for each in arrivals.rows()] == [204]


def test_a_row_that_comes_late_is_new_whatever_its_id(writer: AuditWriter, arrivals: Arrivals) -> None:
    early, late = decision(), decision()
    writer.append_now(late)
    arrivals.settle(arrivals.rows())

    writer.append_now(early)

    assert [row["id"] for row in arrivals.rows()] == [early.id]


def test_a_row_of_another_writer_is_always_new(writer: AuditWriter, arrivals: Arrivals, tmp_path: Path) -> None:
    stranger = decision()

    with closing(AuditWriter(tmp_path / "audit.db", time.time)) as other:
        other.append_now(stranger)

    assert [row["id"] for row in arrivals.rows()] == [stranger.id]


def test_where_there_is_no_record_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no audit record"):
        Arrivals(tmp_path / "audit.db")


def test_a_record_that_is_broken_meanwhile_is_said(arrivals: Arrivals, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "audit.db")) as meddler:
        meddler.execute("DROP VIEW audit")

    with pytest.raises(AuditError):
        arrivals.rows()
