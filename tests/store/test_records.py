from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.rows import NOW_MS, decision, event, outcome
from harness.tampering import rechain, tamper
from outloop.core.errors import AuditError, UsageError
from outloop.core.ledger import DecisionRow, Row
from outloop.store.audit import AuditWriter
from outloop.store.heads import Head, read_heads
from outloop.store.records import Filters, Record, Records

VIEW = (
    "id at workspace agent service key method scheme host port path decision reason rule runtime_mode proof approval status "
    "stripped scrubbed secret_exposed request_bytes response_bytes duration_ms upstream_ms error policy session hash"
).split()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
def writer(path: Path) -> Iterator[AuditWriter]:
    writer = AuditWriter(path, lambda: NOW_MS / 1000)
    writer.start()
    yield writer
    writer.close()


@pytest.fixture
def write(writer: AuditWriter) -> Callable[..., None]:
    def write_all(*rows: Row) -> None:
        for row in rows:
            writer.append_now(row)

    return write_all


def ids(records: list[Record]) -> list[object]:
    return [record["id"] for record in records]


# The view


def test_the_view_has_one_row_a_request_with_exactly_these_columns(path: Path, write: Callable[..., None]) -> None:
    done, under_way = decision(stripped=1, session="S"), decision(decision="deny", reason="path_not_allowed", key=None)
    write(done, outcome(done, scrubbed=2, error="cut", reason="scrub_failed", status=502), under_way, event("ca_distrusted"))

    records = Records(path)
    first, second = records.tail(Filters(), 10)

    assert list(first) == VIEW
    assert {name: first[name] for name in ("status", "decision", "reason", "scrubbed", "stripped", "error", "session")} == {
        "status": 502,
        "decision": "allow",
        "reason": "scrub_failed",
        "scrubbed": 2,
        "stripped": 1,
        "error": "cut",
        "session": "S",
    }
    assert second["reason"] == "path_not_allowed"
    assert [second[name] for name in ("status", "scrubbed", "secret_exposed", "duration_ms")] == [None] * 4


# tail, get, follow, wait_outcome


def test_tail_shows_the_last_rows_oldest_first(path: Path, write: Callable[..., None]) -> None:
    rows = [decision() for _ in range(5)]
    write(*rows)

    assert ids(Records(path).tail(Filters(), 3)) == [row.id for row in rows[2:]]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        pytest.param(Filters(), [0, 1, 2, 3], id="all"),
        pytest.param(Filters(workspace="acme"), [0, 2, 3], id="workspace"),
        pytest.param(Filters(service="posthog"), [2], id="service"),
        pytest.param(Filters(denied=True), [1, 3], id="denied"),
        pytest.param(Filters(workspace="acme", denied=True), [3], id="both"),
        pytest.param(Filters(since="2030-06-01T00:00:00.000Z"), [2, 3], id="since"),
        pytest.param(Filters(workspace="' OR 1 --"), [], id="an-injection-is-a-name"),
    ],
)
def test_filters_choose_rows(path: Path, write: Callable[..., None], filters: Filters, expected: list[int]) -> None:
    rows = [
        decision(at="2030-01-01T00:00:00.000Z"),
        decision(at="2030-05-31T23:59:59.999Z", workspace="globex", decision="deny", reason="path_not_allowed"),
        decision(at="2030-06-01T00:00:00.000Z", service="posthog"),
        decision(at="2030-07-01T00:00:00.000Z", decision="deny", reason="denied_by_rule"),
    ]
    write(*rows)

    assert ids(Records(path).tail(filters, 10)) == [rows[index].id for index in expected]


@pytest.mark.parametrize(
    "short",
    [
        pytest.param(lambda audit_id: audit_id, id="whole"),
        pytest.param(lambda audit_id: audit_id[-8:], id="last-8"),
        pytest.param(lambda audit_id: audit_id[-8:].lower(), id="lower-case"),
        pytest.param(lambda audit_id: audit_id[:25], id="unique-prefix"),
        pytest.param(lambda audit_id: f" {audit_id[-4:]} ", id="unique-suffix-with-spaces"),
    ],
)
def test_a_row_is_found_by_its_short_id(path: Path, write: Callable[..., None], short: Callable[[str], str]) -> None:
    rows = [decision(id=f"01KDVDVDVDVDVDVDVDVDVDV{end}") for end in ("A1B", "A2C", "A3D")]
    write(*rows)

    assert Records(path).get(short(rows[1].id))["id"] == rows[1].id


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        pytest.param("01KDV", "more than one", id="ambiguous"),
        pytest.param("ZZZZ", "no audit row", id="unknown"),
        pytest.param("01KDVDVDVDVDVDVDVDVDVDVZZZ", "no audit row", id="unknown-whole"),
        pytest.param("", "no audit row", id="empty"),
        pytest.param("%", "no audit row", id="wildcard"),
        pytest.param("_______A", "no audit row", id="like-wildcards"),
        pytest.param("' OR 1=1 --", "no audit row", id="injection"),
        pytest.param("01KDVDVDVDVDVDVDVDVDVDVA1BX", "no audit row", id="too-long"),
        pytest.param("\x1b[2J\ud800", "no audit row", id="hostile"),
    ],
)
def test_what_names_no_single_row_is_wrong_usage(path: Path, write: Callable[..., None], wanted: str, message: str) -> None:
    write(*(decision(id=f"01KDVDVDVDVDVDVDVDVDVDV{end}") for end in ("A1B", "A2C")))

    with pytest.raises(UsageError, match=message) as wrong:
        Records(path).get(wanted)
    assert wrong.value.hint


def test_follow_shows_each_row_once_with_its_outcome_of_any_writer(path: Path, write: Callable[..., None]) -> None:
    write(before := decision())
    first, second, slow, other = decision(), decision(workspace="globex"), decision(), decision(id="00000000000000000000000001")
    behind = AuditWriter(path, lambda: 0.0)  # a proxy whose clock was set back
    script: list[Callable[[], None]] = [
        lambda: write(first, second, slow),
        lambda: write(outcome(first), outcome(second)),
        lambda: behind.append_now(other),
        lambda: behind.append_now(outcome(other)),
    ]
    looks = 0

    def pause(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if script:
            script.pop(0)()
        if looks > 20:
            raise EOFError

    records = Records(path)
    shown: list[Record] = []
    with pytest.raises(EOFError):
        shown.extend(records.follow(Filters(workspace="acme"), records.ends(), pause))
    behind.close()

    assert before.id not in ids(shown)
    assert [(row["id"], row["status"]) for row in shown] == [(first.id, 200), (other.id, 200), (slow.id, None)]


def test_waiting_for_an_outcome_ends_when_it_comes_or_the_time_is_up(path: Path, writer: AuditWriter) -> None:
    row = decision()
    writer.append_now(row)
    records = Records(path)

    assert records.wait_outcome(row.id, timeout_s=0) is None
    assert records.wait_outcome("01KDVDVDVDVDVDVDVDVDVDVDVD", timeout_s=0) is None

    writer.append(outcome(row, status=None, error="the agent went away"))
    seen = records.wait_outcome(row.id, timeout_s=30)
    assert seen is not None
    assert seen["error"] == "the agent went away"


@pytest.mark.parametrize("read", [lambda records: records.tail(Filters(), 1), Records.verify, Records.ends, lambda r: r.get("A")])
def test_without_a_record_every_reader_says_so_and_makes_none(path: Path, read: Callable[[Records], object]) -> None:
    with pytest.raises(UsageError, match="no audit record"):
        read(Records(path))
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + b"\xff" * 5000, b"text"], ids=["empty", "torn", "text"])
def test_a_file_that_is_no_record_is_explained(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises((UsageError, AuditError)) as refused:
        Records(path).tail(Filters(), 1)
    assert str(path) in refused.value.message
    assert refused.value.hint


def test_reading_does_not_need_a_writer_nor_keep_one_from_writing(path: Path, writer: AuditWriter) -> None:
    row = decision()
    writer.append_now(row)
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM decisions").fetchone()

    writer.append_now(decision())
    reader.close()
    writer.close()

    assert len(Records(path).tail(Filters(), 10)) == 2


# verify


@pytest.fixture
def chained(path: Path) -> Path:
    """Eight appends of one writer, all kinds, and two of another; no proxy runs any more."""
    for count in (2, 1):
        writer = AuditWriter(path, time.time)
        for _ in range(count):
            row = decision(id=writer.ids.next())
            for append in (
                row,
                outcome(row),
                writer.event("key_enabled", workspace="acme", key="k"),
                decision(id=writer.ids.next()),
            ):
                writer.append_now(append)
        writer.close()
    return path


FIRST = "(SELECT min(writer) FROM decisions)"
LAST = "(SELECT max(writer) FROM decisions)"


def test_an_untouched_record_is_whole(chained: Path) -> None:
    found = Records(chained).verify()

    assert (found.ok, found.rows, found.writers, found.first_bad) == (True, 12, 2, None)


@pytest.mark.parametrize(
    ("statements", "seq", "fault"),
    [
        pytest.param([f"UPDATE decisions SET workspace = 'globex' WHERE writer = {FIRST} AND seq = 5"], 5, "edited", id="value"),
        pytest.param([f"UPDATE decisions SET rule = NULL WHERE writer = {FIRST} AND seq = 4"], 4, "edited", id="value-to-null"),
        pytest.param([f"UPDATE decisions SET session = 'S' WHERE writer = {FIRST} AND seq = 4"], 4, "edited", id="null-to-value"),
        pytest.param([f"UPDATE outcomes SET secret_exposed = 1 WHERE writer = {FIRST} AND seq = 2"], 2, "edited", id="outcome"),
        pytest.param([f"UPDATE events SET detail = 'x' WHERE writer = {FIRST} AND seq = 3"], 3, "edited", id="event"),
        pytest.param([f"UPDATE decisions SET hash = '{'0' * 64}' WHERE writer = {FIRST} AND seq = 5"], 5, "edited", id="hash"),
        pytest.param([f"UPDATE decisions SET hash = 'x' WHERE writer = {FIRST} AND seq = 5"], 5, "edited", id="hash-no-hash"),
        pytest.param([f"UPDATE decisions SET path = x'ff00' WHERE writer = {FIRST} AND seq = 5"], 5, "edited", id="blob"),
        pytest.param(
            [f"UPDATE decisions SET path = CAST(x'2fff' AS TEXT) WHERE writer = {FIRST} AND seq = 5"], 5, "edited", id="not-utf-8"
        ),
        pytest.param([f"DELETE FROM outcomes WHERE writer = {FIRST} AND seq = 2"], 2, "removed", id="removed"),
        pytest.param([f"DELETE FROM decisions WHERE writer = {FIRST} AND seq = 1"], 1, "removed", id="first-removed"),
        pytest.param([f"DELETE FROM decisions WHERE writer = {FIRST} AND seq = 8"], 8, "gone", id="cut-from-the-end"),
        pytest.param(
            [f"DELETE FROM {t} WHERE writer = {FIRST}" for t in ("events", "outcomes", "decisions")], 1, "gone", id="whole-writer"
        ),
        pytest.param(
            [
                f"UPDATE decisions SET seq = -1 WHERE writer = {FIRST} AND seq = 4",
                f"UPDATE decisions SET seq = 4 WHERE writer = {FIRST} AND seq = 5",
                f"UPDATE decisions SET seq = 5 WHERE writer = {FIRST} AND seq = -1",
            ],
            4,
            "edited or moved",
            id="two-swapped",
        ),
        pytest.param(
            [
                "INSERT INTO events SELECT 'X', at, 'k', '', '', '', '', '', '', writer, seq, hash FROM decisions"
                f" WHERE writer = {FIRST} AND seq = 1"
            ],
            1,
            "added",
            id="added-in-a-taken-place",
        ),
        pytest.param(
            [f"UPDATE decisions SET writer = {LAST}, seq = 5 WHERE writer = {FIRST} AND seq = 8"],
            8,
            "gone",
            id="moved-to-another-writer",
        ),
    ],
)
def test_verify_names_the_first_append_that_is_not_as_written(chained: Path, statements: list[str], seq: int, fault: str) -> None:
    with sqlite3.connect(chained) as db:
        first_writer = db.execute(f"SELECT {FIRST}").fetchone()[0]
    tamper(chained, *statements)

    bad = Records(chained).verify().first_bad

    assert bad is not None
    assert (bad.writer, bad.seq) == (first_writer, seq)
    assert fault in bad.fault


def test_verify_names_the_row_that_was_edited(chained: Path) -> None:
    tamper(chained, f"UPDATE decisions SET path = '/x' WHERE writer = {LAST} AND seq = 4")
    with sqlite3.connect(chained) as db:
        edited = db.execute(f"SELECT id FROM decisions WHERE writer = {LAST} AND seq = 4").fetchone()[0]

    bad = Records(chained).verify().first_bad

    assert bad is not None
    assert (bad.table, bad.id) == ("decisions", edited)


def test_a_chain_rewritten_from_an_edit_to_its_end_does_not_match_its_head(chained: Path) -> None:
    tamper(chained, f"UPDATE decisions SET path = '/rewritten' WHERE writer = {LAST} AND seq = 1")
    with sqlite3.connect(chained) as db:
        writer = db.execute(f"SELECT {LAST}").fetchone()[0]
    rechain(chained, writer)

    bad = Records(chained).verify().first_bad

    assert bad is not None
    assert (bad.writer, bad.seq) == (writer, 4)
    assert "rewritten" in bad.fault


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda head: head.unlink(), id="no-file"),
        pytest.param(lambda head: head.write_bytes(b""), id="emptied"),
        pytest.param(lambda head: head.write_bytes(head.read_bytes()[128:]), id="first-slot-gone"),
        pytest.param(lambda head: head.write_bytes(b"\xff" * 128 + head.read_bytes()[128:]), id="garbage"),
    ],
)
def test_a_record_whose_ends_are_not_known_is_not_called_whole(chained: Path, spoil: Callable[[Path], object]) -> None:
    spoil(chained.with_suffix(".head"))

    bad = Records(chained).verify().first_bad

    assert bad is not None
    assert "file of heads" in bad.fault


def test_a_database_ahead_of_its_heads_is_whole(chained: Path) -> None:
    head = chained.with_suffix(".head")
    earlier = head.read_bytes()
    writer = AuditWriter(chained, time.time)
    writer.append_now(decision(id=writer.ids.next()))
    slot = head.read_bytes()[len(earlier) :]
    writer.append_now(decision(id=writer.ids.next()))
    writer.close()
    head.write_bytes(earlier + slot)  # as a process leaves it that dies between commit and head

    assert Records(chained).verify().ok


def test_verify_reads_one_moment_while_a_proxy_writes(path: Path, writer: AuditWriter) -> None:
    for _ in range(20):
        for _ in range(5):
            writer.append(decision(id=writer.ids.next()))
        found = Records(path).verify()
        assert found.ok, found.first_bad


def test_a_proxy_that_starts_while_the_record_is_verified_is_no_fault(chained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_then_start(path: Path) -> dict[str, Head]:
        heads = read_heads(path)
        writer = AuditWriter(chained, time.time)
        writer.append_now(decision(id=writer.ids.next()))
        writer.close()
        return heads

    monkeypatch.setattr("outloop.store.records.read_heads", read_then_start)
    found = Records(chained).verify()

    assert found.ok, found.first_bad
    assert found.rows == 13


# The views beside `audit`


def view(path: Path, name: str) -> list[dict[str, object]]:
    with sqlite3.connect(path) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(f"SELECT * FROM {name}")]


def proof(**changes: object) -> DecisionRow:
    return decision(proof=1, **changes)


def test_claims_are_verified_by_the_newest_row_that_proves_them(path: Path, write: Callable[..., None]) -> None:
    older, newest, denied = proof(), proof(), proof(decision="deny", reason="runtime_access_off")
    created = proof(method="POST", runtime_mode="write")
    write(
        older, outcome(older), newest, outcome(newest), denied, outcome(denied, status=403), created, outcome(created, status=201)
    )

    assert view(path, "claims") == [
        {
            "workspace": "acme",
            "service": "calendly",
            "access": access,
            "claim": "verified",
            "audit_id": row.id,
            "at": row.at,
            "agent": row.agent,
            "why": None,
        }
        for access, row in (("read", newest), ("write", created))
    ]


@pytest.mark.parametrize(
    ("row", "result", "why"),
    [
        pytest.param({"proof": 0}, {}, "no proof has run", id="not-the-proof-request"),
        pytest.param(
            {"decision": "deny", "reason": "runtime_access_off"}, {"status": 403}, "denied: runtime_access_off", id="denied"
        ),
        pytest.param({}, {"status": 401, "reason": "key_rejected"}, "answered 401: key_rejected", id="rejected"),
        pytest.param({}, {"status": 302}, "answered 302", id="redirected"),
        pytest.param({}, {"status": 502, "reason": "scrub_failed"}, "answered 502: scrub_failed", id="not-proved-clean"),
        pytest.param({}, None, "no answer on record", id="under-way"),
        pytest.param({}, {"status": None}, "no answer on record", id="the-agent-left"),
        pytest.param({}, {"secret_exposed": 1}, "exposed a secret", id="exposed"),
        pytest.param({}, {"secret_exposed": None}, "could not be measured", id="not-measured"),
    ],
)
def test_access_is_not_claimed_without_a_clean_proof(
    path: Path, write: Callable[..., None], row: dict[str, object], result: dict[str, object] | None, why: str
) -> None:
    asked = decision(**({"proof": 1} | row))
    write(asked, *([] if result is None else [outcome(asked, **result)]))

    read, writing = view(path, "claims")

    assert (read["claim"], read["audit_id"]) == ("not claimed", None)
    assert why in str(read["why"])
    assert (writing["claim"], writing["why"]) == ("not claimed", "no proof has run")


def test_one_workspaces_proof_claims_nothing_for_another(path: Path, write: Callable[..., None]) -> None:
    row = proof()
    write(row, outcome(row), event("key_added", workspace="globex", service="calendly", key="globex-calendly"))

    assert [(claim["workspace"], claim["access"], claim["claim"]) for claim in view(path, "claims")] == [
        ("acme", "read", "verified"),
        ("acme", "write", "not claimed"),
        ("globex", "read", "not claimed"),
        ("globex", "write", "not claimed"),
    ]


def test_keys_show_switch_age_and_use(path: Path, write: Callable[..., None]) -> None:
    def happened(kind: str, key: str) -> Row:
        return event(kind, key=key, service="calendly")

    on, removed, unused, used = "on", "removed", "unused", decision(key="on")
    write(
        added := happened("key_added", on),
        happened("key_enabled", on),
        rotated := happened("key_rotated", on),
        happened("key_added", removed),
        happened("key_enabled", removed),
        gone := happened("key_removed", removed),
        happened("key_added", unused),
        used,
        outcome(used, status=401),
        decision(key="on", decision="deny", reason="rate_limited"),
    )

    shown = {row["key"]: row for row in view(path, "keys")}

    assert shown[on] == {
        "workspace": "acme",
        "service": "calendly",
        "key": on,
        "runtime_access": "on",
        "added_at": added.at,
        "rotated_at": rotated.at,
        "removed_at": None,
        "requests": 1,
        "last_used": used.at,
        "last_status": 401,
    }
    assert (shown[removed]["runtime_access"], shown[removed]["removed_at"]) == ("removed", gone.at)
    assert (shown[unused]["runtime_access"], shown[unused]["requests"], shown[unused]["last_used"]) == ("off", 0, None)


def test_the_last_use_of_every_key_is_found_idle_ones_too(path: Path, write: Callable[..., None]) -> None:
    idle, other = decision(key="idle"), decision(key="é", workspace='"globex')
    newer = [decision() for _ in range(3)]
    denied = decision(key="never", decision="deny", reason="runtime_access_off")
    write(idle, outcome(idle, status=401), other, *newer, denied, outcome(newer[2]))

    uses = {(row["workspace"], row["key"]): (row["last_used"], row["last_status"]) for row in Records(path).key_uses()}

    assert uses == {
        ("acme", "idle"): (idle.at, 401),
        ('"globex', "é"): (other.at, None),
        ("acme", "acme-calendly"): (newer[2].at, 200),
    }


def test_agents_show_what_each_asked(path: Path, write: Callable[..., None]) -> None:
    write(
        added := event("agent_added", agent="claude"),
        decision(),
        last := decision(decision="deny", reason="path_not_allowed"),
        tokenless := decision(agent=None),
        decision(workspace=None, agent=None, decision="deny", reason="agent_unknown"),
    )

    assert view(path, "agents") == [
        {
            "workspace": "acme",
            "agent": "",
            "added_at": None,
            "revoked_at": None,
            "requests": 1,
            "denied": 0,
            "last_seen": tokenless.at,
        },
        {
            "workspace": "acme",
            "agent": "claude",
            "added_at": added.at,
            "revoked_at": None,
            "requests": 2,
            "denied": 1,
            "last_seen": last.at,
        },
    ]


def test_approvals_show_what_waited(path: Path, write: Callable[..., None]) -> None:
    write(
        decision(),
        pending := decision(decision="deny", reason="approval_pending"),
        granted := decision(approval="01KDVDVDVDVDVDVDVDVDVDVDVD"),
    )

    assert [row["id"] for row in view(path, "approvals")] == [pending.id, granted.id]
