"""Pruning: what goes, what stays, and that the record can be verified at every moment."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from harness.children import child
from harness.operators import Operator
from harness.rows import decision, event, outcome
from harness.stage import store_keys, stores
from harness.tampering import rewrite_head, tamper
from outloop.core.errors import AuditError, KeyLocked, NoError, UsageError
from outloop.core.ledger import DecisionRow, Row
from outloop.operator.attestation import Standing, Witnesses, attest
from outloop.operator.pruning import DAY_S, Pruning
from outloop.store import pruning as steps
from outloop.store.appender import head_path
from outloop.store.audit import AuditWriter
from outloop.store.checkpoints import gaps_by_writer, read_checkpoints
from outloop.store.heads import read_heads
from outloop.store.keychain import Keychain
from outloop.store.prune_plan import Plan
from outloop.store.pruning import Pruner
from outloop.store.records import Records
from outloop.store.schema import open_for_reading
from outloop.store.seal import Seal
from outloop.store.spelling import Whole, read_whole

OLD = "2026-01-01T00:00:00.000Z"
YOUNG = "2026-11-01T00:00:00.000Z"
NOW = 1_796_000_000.0  # 2026-11-30
VIEWS = ("keys", "agents", "claims")
HIDDEN = {"requests", "denied"}  # counts are of what is on record


class House:
    """A home whose record is to be pruned."""

    def __init__(self, operator: Operator) -> None:
        self.path = operator.home / "audit.db"
        store_keys(operator, {"calendly": "not-a-real-token-0123456789"})
        with stores(operator) as (_, keychain):
            self.keychain = keychain
        self.events: list[tuple[str, str]] = []
        self.is_running = False

    def write(self, *rows: Row) -> str:
        """Write *rows* as one writer, and return it."""
        writer = AuditWriter(self.path, time.time)
        for row in rows:
            writer.append_now(row)
        writer.close()
        return writer.writer

    @property
    def pruning(self) -> Pruning:
        return Pruning(
            path=self.path,
            witnesses=Witnesses(lambda: self.keychain, tuple),
            keychain=lambda: self.keychain,
            record_event=lambda kind, detail: self.events.append((kind, detail)),
            made_by="me@here",
            is_running=self.is_running,
            now=NOW,
        )

    def plan(self, days: int = 90) -> Plan:
        return self.pruning.plan(days * DAY_S)

    def prune(self, days: int = 90) -> Plan:
        plan = self.plan(days)
        for _ in self.pruning.carry_out(plan):
            pass
        return plan

    def ids(self, table: str = "decisions") -> list[str]:
        with sqlite3.connect(self.path) as db:
            return [row[0] for row in db.execute(f"SELECT * FROM {table} ORDER BY seq")]

    def view(self, name: str) -> list[dict[str, object]]:
        with sqlite3.connect(self.path) as db:
            db.row_factory = sqlite3.Row
            rows = [dict(row) for row in db.execute(f"SELECT * FROM {name}")]
        return [{column: value for column, value in row.items() if column not in HIDDEN} for row in rows]

    def verified(self) -> bool:
        return attest(self.path, Witnesses(lambda: self.keychain, tuple)).ok


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "SHORTEST_PAUSE_S", 0.0)


@pytest.fixture
def house(operator: Operator) -> House:
    return House(operator)


def request(at: str = OLD, **changes: object) -> list[Row]:
    row = decision(at=at, **changes)
    return [row, replace(outcome(row), at=at)]


def flat(*groups: list[Row]) -> list[Row]:
    return [row for group in groups for row in group]


def first(rows: list[Row]) -> str:
    assert isinstance(rows[0], DecisionRow)
    return rows[0].id


def test_old_requests_go_and_young_ones_stay(house: House) -> None:
    old, young = [request() for _ in range(5)], [request(YOUNG) for _ in range(3)]
    house.write(*flat(*old, *young))

    plan = house.prune()

    assert house.ids() == [first(rows) for rows in young]
    assert (plan.appends, plan.taken, plan.kept) == (10, {"decisions": 5, "outcomes": 5}, 0)
    assert house.verified()
    assert house.events == [("record_pruned", f"10 appends before {plan.cutoff}, by me@here")]


def test_a_checkpoint_says_what_went_until_when_and_by_whom_and_is_signed(house: House) -> None:
    writer = house.write(*flat(*(request() for _ in range(5)), request(YOUNG)))
    with sqlite3.connect(house.path) as db:
        (digest,) = db.execute("SELECT hash FROM outcomes WHERE seq = 10").fetchone()
    plan = house.prune()

    (checkpoint,) = Records(house.path).verify().checkpoints

    assert (checkpoint.number, checkpoint.writer, checkpoint.from_seq, checkpoint.to_seq) == (1, writer, 1, 10)
    assert (checkpoint.hash, checkpoint.removed, checkpoint.made_by) == (digest, 10, "me@here")
    assert (checkpoint.cutoff, checkpoint.at) == (plan.cutoff, "2026-11-30T00:53:20.000Z")
    assert checkpoint.is_signed
    seal = Seal.read(house.keychain)
    assert seal is not None
    assert checkpoint.signer == seal.signer


def test_a_prune_goes_on_where_an_earlier_one_ended(house: House) -> None:
    writer = house.write(
        *flat(*(request() for _ in range(3)), *(request("2026-06-01T00:00:00.000Z") for _ in range(3)), request(YOUNG))
    )
    house.prune(300)
    house.prune(90)

    found = Records(house.path).verify()

    assert [(each.from_seq, each.to_seq, each.removed) for each in found.checkpoints] == [(1, 6, 6), (1, 12, 6)]
    assert (found.ok, found.rows, found.ends[writer].seq) == (True, 2, 14)
    assert house.verified()


def test_a_writer_of_whom_nothing_is_left_is_still_accounted_for(house: House) -> None:
    house.write(*flat(*(request() for _ in range(3))))
    house.write(*request(YOUNG))
    house.prune()

    assert len(house.ids()) == 1
    assert house.verified()
    assert house.plan().appends == 0


def test_the_record_goes_on_after_a_prune(house: House) -> None:
    writer = AuditWriter(house.path, time.time)
    rows = flat(*(request() for _ in range(4)))
    for row in rows:
        writer.append_now(row)
    house.write(*request(YOUNG))  # the newest of each kind
    house.prune()
    later = request(YOUNG)
    for row in later:
        writer.append_now(row)
    writer.close()

    assert first(later) in house.ids()
    assert len(house.ids()) == 2
    assert house.verified()


# What stays


def proof(**changes: object) -> list[Row]:
    return request(proof=1, **changes)


NEEDED: dict[str, Callable[[], list[Row]]] = {
    "a-standing-proof": lambda: proof(),
    "a-proof-with-its-key-replaced-since": lambda: [
        *proof(), event("key_rotated", service="calendly", key="acme-calendly", at=OLD),
    ],
    "a-denied-proof": lambda: proof(decision="deny", reason="rate_limited"),
    "a-policy-of-which-nothing-is-known-besides": lambda: [*proof(), event("policy_loaded", detail="fedcba9876543210", at=OLD)],
    "a-switch": lambda: [event(kind, service="calendly", key="acme-calendly", at=OLD) for kind in ("key_added", "key_enabled")],
    "a-removed-key": lambda: [
        event(kind, service="calendly", key="acme-calendly", at=OLD) for kind in ("key_added", "key_disabled", "key_removed")
    ],
    "a-keys-last-use": lambda: request(),
    "an-agent": lambda: [event("agent_added", agent="claude", at=OLD), event("agent_revoked", agent="claude", at=OLD)],
    "an-agents-last-request": lambda: request(decision="deny", reason="path_not_allowed", key=None, service=None),
}  # fmt: skip


@pytest.mark.parametrize("needed", NEEDED.values(), ids=NEEDED)
def test_what_keys_agents_and_claims_say_is_the_same_before_and_after(house: House, needed: Callable[[], list[Row]]) -> None:
    house.write(*flat(*(request() for _ in range(4))), *needed(), *flat(*(request(service="other", key="k") for _ in range(4))))
    house.write(*request(YOUNG, workspace="globex"))
    before = {name: house.view(name) for name in VIEWS}

    plan = house.prune()

    assert {name: house.view(name) for name in VIEWS} == before
    assert plan.appends
    assert house.verified()


def test_what_stays_in_the_midst_splits_the_gap(house: House) -> None:
    writer = house.write(*flat(*(request() for _ in range(3))), *proof(), *flat(*(request() for _ in range(3)), request(YOUNG)))
    plan = house.prune()

    found = Records(house.path).verify()

    assert [(each.from_seq, each.to_seq) for each in found.checkpoints] == [(1, 6), (9, 14)]
    assert (plan.kept, found.ok, found.ends[writer].seq) == (2, True, 16)


def test_two_gaps_that_meet_later_become_one(house: House) -> None:
    house.write(*flat(*(request() for _ in range(2))), *proof(), *flat(*(request() for _ in range(2)), request(YOUNG)))
    house.prune()
    house.write(*request(YOUNG, proof=1))
    house.prune()

    found = Records(house.path).verify()

    assert [(each.from_seq, each.to_seq, each.removed) for each in found.checkpoints] == [(1, 4, 4), (7, 10, 4), (1, 10, 2)]
    assert house.verified()


def test_a_request_without_an_outcome_is_undecided_and_stays(house: House) -> None:
    undecided = decision(at=OLD)
    house.write(*request(), undecided, *flat(*(request() for _ in range(3)), request(YOUNG)))
    house.prune()

    assert undecided.id in house.ids()
    assert house.verified()


def test_a_request_whose_outcome_is_young_stays(house: House) -> None:
    long = decision(at=OLD)
    house.write(*request(), long, *request(), replace(outcome(long), at=YOUNG), *request(YOUNG))
    house.prune()

    assert long.id in house.ids()
    assert house.verified()


def test_what_a_clock_set_back_dates_old_is_not_taken_for_old(house: House) -> None:
    house.write(*request(YOUNG), *request(OLD, workspace="globex", agent="other"), *request(YOUNG))

    assert house.plan().appends == 0


def test_while_a_proxy_runs_nothing_goes_that_no_anchor_attests(house: House) -> None:
    house.write(*flat(*(request() for _ in range(3)), request(YOUNG)))
    house.is_running = True
    assert house.plan().appends == 0

    assert house.prune().appends == 0  # takes nothing, but anchors what is there
    assert house.plan().appends == 6


# Who must not prune


def test_less_than_a_week_is_refused(house: House) -> None:
    house.write(*request())

    with pytest.raises(UsageError, match="at least 7d"):
        house.plan(6)


def test_a_record_that_is_not_whole_is_evidence_and_is_not_pruned(house: House) -> None:
    house.write(*flat(*(request() for _ in range(3)), request(YOUNG)))
    tamper(house.path, "UPDATE decisions SET path = '/innocent' WHERE seq = 1")

    with pytest.raises(NoError, match="not proved whole"):
        house.plan()


def test_with_a_locked_keychain_nothing_is_pruned(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write(*flat(*(request() for _ in range(3)), request(YOUNG)))
    plan = house.plan()

    def refuse(*_: object) -> None:
        raise KeyLocked("it was locked")

    monkeypatch.setattr(Keychain, "own", refuse)
    with pytest.raises(KeyLocked):
        list(house.pruning.carry_out(plan))
    assert (len(house.ids()), house.events) == (4, [])


def test_two_prunes_at_once_do_not_take_the_same(house: House) -> None:
    house.write(*flat(*(request() for _ in range(3)), request(YOUNG)))
    plan = house.plan()
    house.prune()

    with pytest.raises(AuditError, match="not as it was when the prune was planned"):
        list(house.pruning.carry_out(plan))
    assert house.verified()


# Who tampers with checkpoints


@pytest.fixture
def pruned(house: House) -> House:
    house.write(*flat(*(request() for _ in range(5)), *(request(YOUNG) for _ in range(3))))
    house.prune()
    return house


def forge(house: House) -> None:
    """Take two young appends away as a prune would, but without the key."""
    with sqlite3.connect(house.path) as db:
        writer, digest = db.execute("SELECT writer, hash FROM outcomes WHERE seq = 12").fetchone()
        db.execute(
            "INSERT INTO checkpoints SELECT 2, at, made_by, cutoff, ?, 1, 12, ?, 2, signer, signature FROM checkpoints",
            [writer, digest],
        )
        for table in ("decisions", "outcomes"):
            db.execute(f"DELETE FROM {table} WHERE writer = ? AND seq <= 12", [writer])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(forge, "checkpoint 2 is forged", id="forged"),
        pytest.param(
            lambda house: tamper(house.path, "UPDATE checkpoints SET made_by = 'nobody'"), "checkpoint 1 is forged", id="edited"
        ),
        pytest.param(
            lambda house: tamper(house.path, "UPDATE checkpoints SET signature = 'x'"), "checkpoint 1 is forged", id="unsigned"
        ),
        pytest.param(
            lambda house: house.keychain._delete("#record"), "the keychain no longer holds the key", id="key-gone"
        ),
    ],
)  # fmt: skip
def test_a_checkpoint_that_the_keychain_did_not_sign_is_named(pruned: House, spoil: Callable[[House], None], said: str) -> None:
    spoil(pruned)

    found = attest(pruned.path, Witnesses(lambda: pruned.keychain, tuple))

    assert (found.verification.ok, found.standing) == (True, Standing.CONTRADICTED)
    assert said in found.note


@pytest.mark.parametrize(
    ("statements", "fault"),
    [
        pytest.param(["DELETE FROM checkpoints"], "no checkpoint explains", id="missing"),
        pytest.param(["UPDATE checkpoints SET number = 2"], "checkpoint 1 is gone", id="number-missing"),
        pytest.param(["UPDATE checkpoints SET to_seq = 9"], "no checkpoint explains", id="shorter"),
        pytest.param([f"UPDATE checkpoints SET hash = '{'0' * 64}'"], "edited or moved", id="another-hash"),
        pytest.param(
            ["INSERT INTO events SELECT 'X', at, 'k', '', '', '', '', '', '', writer, 5, hash FROM decisions WHERE seq = 11"],
            "removed", id="added-where-was-pruned",
        ),
    ],
)  # fmt: skip
def test_a_chain_that_its_checkpoints_do_not_carry_is_named(pruned: House, statements: list[str], fault: str) -> None:
    tamper(pruned.path, *statements)

    bad = Records(pruned.path).verify().first_bad

    assert bad is not None
    assert fault in bad.fault


def test_a_pruned_chain_is_read_the_fast_way(house: House) -> None:
    writer = house.write(*flat(*(request() for _ in range(3))), *proof(), *flat(*(request() for _ in range(3)), request(YOUNG)))
    gone = house.write(*flat(*(request() for _ in range(3))))
    house.write(*request(YOUNG))
    house.prune()
    heads = read_heads(head_path(house.path))

    with closing(open_for_reading(house.path)) as db:
        gaps = gaps_by_writer(read_checkpoints(db))
        read = [read_whole(db, each, heads[each], gaps[each], lambda _: None) for each in (writer, gone)]

    assert read == [Whole(4, heads[writer]), Whole(0, heads[gone])]


@pytest.mark.parametrize(
    ("seq", "fault"),
    [
        pytest.param(16, "rewritten", id="the-end"),
        pytest.param(10, "rewritten", id="the-end-of-what-was-pruned"),
        pytest.param(17, "gone", id="beyond-the-end"),
        pytest.param(11, "rewritten", id="the-first-that-is-left"),
        pytest.param(9, None, id="inside-of-what-was-pruned"),
    ],
)
def test_a_head_that_does_not_fit_what_is_left_is_named(pruned: House, seq: int, fault: str | None) -> None:
    (writer,) = read_heads(head_path(pruned.path))
    rewrite_head(pruned.path, writer, seq, "ab" * 32)

    bad = Records(pruned.path).verify().first_bad

    assert fault in bad.fault if bad and fault else bad is None and fault is None


def test_a_writer_whose_checkpoint_is_gone_with_its_rows_is_missed(house: House) -> None:
    house.write(*flat(*(request() for _ in range(3))))
    house.write(*request(YOUNG))
    house.prune()
    tamper(house.path, "DELETE FROM checkpoints")

    bad = Records(house.path).verify().first_bad

    assert bad is not None
    assert bad.fault == "appends 1 to 6 are gone"


# Space, and sudden death


@pytest.fixture
def large(house: House) -> House:
    """A record of some hundred requests with long paths, all old but the last."""
    house.write(*flat(*(request(path="/" + "x" * 4000) for _ in range(200)), request(YOUNG)))
    return house


def size(house: House) -> int:
    return sum(file.stat().st_size for file in house.path.parent.glob("audit.db*") if file.suffix != ".db-shm")


def test_the_space_of_what_went_is_given_back(large: House) -> None:
    before = size(large)
    large.prune()

    done = large.pruning.give_back()

    assert done.freed_bytes > 400_000
    assert (size(large), done.free_bytes) == (before - done.freed_bytes, 0)
    assert large.verified()


def test_many_pages_are_given_back_at_once(large: House) -> None:
    large.prune()
    pauses: list[float] = []

    Pruner(large.path, "me@here", pauses.append).give_back(may_stop_writers=False)

    assert len(pauses) == 1


def test_a_file_of_an_earlier_version_is_given_back_only_where_nobody_has_to_wait(large: House) -> None:
    with sqlite3.connect(large.path, isolation_level=None) as db:
        db.execute("PRAGMA auto_vacuum = NONE")
        db.execute("VACUUM")
    large.prune(320)
    large.is_running = True
    before = size(large)
    assert large.pruning.give_back().free_bytes > 400_000

    large.is_running = False
    done = large.pruning.give_back()

    assert (size(large) < before - 400_000, done.free_bytes) == (True, 0)
    assert large.verified()


def test_killed_at_any_step_the_record_is_whole_and_the_next_prune_goes_on(large: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen prunes, each killed a little later than the one before."""
    script = """
        import sys
        from dataclasses import replace
        from pathlib import Path
        from outloop.store import pruning
        from outloop.store.home import Home
        from outloop.store.keychain import Keychain
        from outloop.operator.attestation import Witnesses
        from outloop.operator.pruning import Pruning
        from outloop.store.state import StateStore

        pruning.STEP_APPENDS, pruning.SHORTEST_PAUSE_S = 3, 0.0
        home = Home(Path(sys.argv[1]))
        keychain = Keychain.open(home, StateStore(home.state_db), {"OUTLOOP_KEYRING": "file"})
        witnesses = Witnesses(lambda: keychain, tuple)
        pruning = Pruning(home.audit_db, witnesses, lambda: keychain, lambda *_: None, "me", False, float(sys.argv[2]))
        plan = pruning.plan(90 * 86400)
        print("planned", flush=True)
        for taken in pruning.carry_out(plan):
            print(taken, flush=True)
        pruning.give_back()
    """
    left = [len(large.ids()) + len(large.ids("outcomes"))]
    for steps_before_the_end in range(12):
        process = child(script, str(large.path.parent), str(NOW))
        assert process.stdout is not None
        for _ in range(steps_before_the_end + 1):
            process.stdout.readline()
        process.kill()
        process.communicate()
        assert large.verified()
        left.append(len(large.ids()) + len(large.ids("outcomes")))
    large.prune()

    assert left == sorted(left, reverse=True)
    assert left[-1] < left[0]
    assert (len(large.ids()), large.verified()) == (1, True)


def test_a_prune_that_stops_between_two_steps_is_a_shorter_one(large: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEP_APPENDS", 7)  # cuts requests in two
    plan = large.plan()
    underway = large.pruning.carry_out(plan)
    done = [next(underway) for _ in range(5)]
    underway.close()

    assert done == [7] * 5
    assert large.verified()
    assert large.plan().appends == plan.appends - 35
    large.prune()
    assert len(large.ids()) == len(large.ids("outcomes")) == 1
    assert large.verified()
