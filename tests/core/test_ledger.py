from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.rows import decision, event, outcome
from outloop.core.ledger import (
    COLUMNS,
    FIRST_HASH,
    TEXT_LIMIT,
    OutcomeRow,
    Row,
    UlidFactory,
    canonical_bytes,
    chain,
    inert,
    timestamp,
    values,
)

ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
WRITER = "01KDVDVDVDVDVDVDVDVDVDVDVD"


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        pytest.param("/users/me?a=b c", "/users/me?a=b c", id="harmless"),
        pytest.param("/\x1b[2J\x07", "/\\x1b[2J\\x07", id="terminal-escape"),
        pytest.param("/a\r\nb\tc\0d", "/a\\r\\nb\\tc\\x00d", id="line-breaks-and-nul"),
        pytest.param("/\x9b31m", "/\\x9b31m", id="c1-control"),
        pytest.param("/\u202egnp.exe", "/\\u202egnp.exe", id="bidi-override"),
        pytest.param("/a\u200bb", "/a\\u200bb", id="zero-width"),
        pytest.param("/a\u2028b", "/a\\u2028b", id="line-separator"),
        pytest.param(b"/\xff".decode("utf-8", "surrogateescape"), "/\\xff", id="undecodable-byte"),
        pytest.param("/\ud800", "/\\ud800", id="lone-surrogate"),
        pytest.param("/\U000e0041", "/\\U000e0041", id="tag-character"),
        pytest.param("/straße/日本", "/straße/日本", id="letters-of-any-script"),
        pytest.param("/<script>", "/<script>", id="markup-is-the-page's-business"),
    ],
)
def test_hostile_text_becomes_printable(hostile: str, shown: str) -> None:
    assert inert(hostile) == shown


@given(st.text(alphabet=st.characters()))
def test_inert_text_is_printable_and_stays_as_it_is(text: str) -> None:
    once = inert(text)

    assert once.isprintable()
    assert inert(once) == once
    once.encode()


def test_a_long_text_is_cut_and_says_by_how_much() -> None:
    stored = values(decision(path="/" + "a" * (TEXT_LIMIT + 9)))[COLUMNS["decisions"].index("path")]

    assert stored == "/" + "a" * (TEXT_LIMIT - 1) + "…[+10]"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_sqlite_would_drop_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="duration_ms"):
        values(outcome(decision(), duration_ms=number))


def test_a_secret_or_bytes_cannot_be_put_into_a_row() -> None:
    with pytest.raises(TypeError, match="path"):
        values(decision(path=b"/raw"))


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(decision(path="/\x1b\udc80é", proof=True), id="decision"),
        pytest.param(outcome(decision(), duration_ms=3, upstream_ms=0.1 + 0.2, secret_exposed=None), id="outcome"),
        pytest.param(event("key_enabled", key="acme-calendly", detail="by hand"), id="event"),
    ],
)
def test_a_row_read_back_from_sqlite_has_the_bytes_it_was_hashed_with(row: Row) -> None:
    table = {20: "decisions", 11: "outcomes", 9: "events"}[len(dataclasses.fields(row))]
    integers = dict.fromkeys(("proof", "port", "stripped", "status", "scrubbed", "request_bytes", "response_bytes"), "INTEGER")
    kinds = integers | {"duration_ms": "REAL", "upstream_ms": "REAL"}
    db = sqlite3.connect(":memory:")
    columns = [name + " " + kinds.get(name, "TEXT") for name in COLUMNS[table]]
    db.execute(f"CREATE TABLE t ({', '.join(columns)})")
    db.execute(f"INSERT INTO t VALUES ({', '.join('?' * len(COLUMNS[table]))})", values(row))
    (back,) = db.execute("SELECT * FROM t")

    assert canonical_bytes(table, WRITER, 1, back) == canonical_bytes(table, WRITER, 1, values(row))


def test_every_value_and_its_place_is_in_the_canonical_bytes() -> None:
    row = decision(approval="a", session="s")
    variants = {canonical_bytes("decisions", WRITER, 1, values(row))}
    for field in dataclasses.fields(row):
        value = 7 if isinstance(getattr(row, field.name), int) else "changed"
        changed = dataclasses.replace(row, **{field.name: value})  # type: ignore[arg-type]
        variants.add(canonical_bytes("decisions", WRITER, 1, values(changed)))
    variants.add(canonical_bytes("decisions", WRITER, 2, values(row)))
    variants.add(canonical_bytes("decisions", WRITER[:-1] + "0", 1, values(row)))

    assert len(variants) == len(dataclasses.fields(row)) + 3


@given(st.lists(st.text() | st.none(), min_size=9, max_size=9), st.lists(st.text() | st.none(), min_size=9, max_size=9))
def test_two_different_rows_never_share_their_bytes(one: list[str | None], other: list[str | None]) -> None:
    same = canonical_bytes("events", WRITER, 1, one) == canonical_bytes("events", WRITER, 1, other)

    assert same == (one == other)


def test_a_column_added_later_leaves_the_bytes_of_older_rows_alone() -> None:
    stored = values(outcome(decision()))

    assert canonical_bytes("outcomes", WRITER, 1, (*stored, None)) == canonical_bytes("outcomes", WRITER, 1, stored)


def test_the_chain_is_sha256_of_the_hash_before_and_the_bytes() -> None:
    assert chain(FIRST_HASH, b"row") == hashlib.sha256(bytes(32) + b"row").hexdigest()
    assert chain("ab" * 32, b"row") == hashlib.sha256(b"\xab" * 32 + b"row").hexdigest()


@pytest.mark.parametrize(
    ("clock_ms", "text"),
    [
        pytest.param(0, "1970-01-01T00:00:00.000Z", id="epoch"),
        pytest.param(1_767_225_599_999, "2025-12-31T23:59:59.999Z", id="last-millisecond"),
        pytest.param(1_709_164_800_007, "2024-02-29T00:00:00.007Z", id="leap-day"),
    ],
)
def test_times_are_utc_and_of_one_length(clock_ms: int, text: str) -> None:
    assert timestamp(clock_ms) == text


@pytest.mark.parametrize(
    ("clock_ms", "randomness", "ulid"),
    [
        pytest.param(0, b"\0" * 10, "0" * 26, id="zero"),
        pytest.param(1469918176385, b"\0" * 10, "01ARYZ6S41" + "0" * 16, id="the-specification's-time"),
        pytest.param(2**48 - 1, b"\xff" * 10, "7" + "Z" * 25, id="greatest"),
    ],
)
def test_an_id_is_spelled_as_the_ulid_specification_says(clock_ms: int, randomness: bytes, ulid: str) -> None:
    assert UlidFactory(lambda: clock_ms, lambda count: randomness[:count]).next() == ulid


@given(st.lists(st.integers(-1000, 2**41), min_size=1, max_size=50), st.binary(min_size=14, max_size=14))
def test_ids_rise_whatever_the_clock_does(clock: list[int], randomness: bytes) -> None:
    ticks = iter(clock)
    factory = UlidFactory(lambda: next(ticks), lambda count: randomness[:count])

    ids = [factory.next() for _ in clock]

    assert all(ULID.fullmatch(audit_id) for audit_id in ids)
    assert all(one < next_one for one, next_one in itertools.pairwise(ids))


def test_ids_within_one_millisecond_differ_in_their_last_characters() -> None:
    randomness = (bytes([step]) * 16 for step in itertools.count(1))
    factory = UlidFactory(lambda: 1_767_225_600_000, lambda count: next(randomness)[:count])

    assert len({factory.next()[-8:-4] for _ in range(50)}) == 50


def test_threads_never_get_the_same_id() -> None:
    factory = UlidFactory(lambda: 1_767_225_600_000, bytes)
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: factory.next(), range(4000)))

    assert len(set(ids)) == 4000


def test_an_outcome_says_nothing_that_was_not_measured() -> None:
    row = OutcomeRow(decision_id="x", at="y")

    assert (row.status, row.secret_exposed, row.duration_ms) == (None, None, None)
