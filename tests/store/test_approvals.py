"""Approvals in state.db: deduplicated, capped, used once, over in time; in one process and in several."""

from __future__ import annotations

import itertools
import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outloop.core.approvals import CLOCK_STEP_S, LIFE_S, MOST_PENDING, Approval, Asked, Status
from outloop.core.errors import UsageError
from outloop.store.approvals import ApprovalStore
from outloop.store.state import StateStore
from outloop.store.state_file import MIGRATIONS, connect

NOW = 1_000_000.0
SPAWN = multiprocessing.get_context("spawn")
_numbers = itertools.count()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[ApprovalStore]:
    opened = ApprovalStore(path)
    yield opened
    opened.close()


def asked(binding: str = "b", agent: str = "claude", workspace: str = "acme", mark: str = "m") -> Asked:
    return Asked(
        workspace,
        agent,
        "calendly",
        "POST",
        "api.calendly.com",
        443,
        "/x",
        "",
        "{}",
        2,
        "acme.yaml:7",
        "ask: POST /x",
        mark,
        binding,
    )


def pending(store: ApprovalStore, what: Asked | None = None, now: float = NOW) -> Approval:
    answer = store.ask(what or asked(), f"01ID{next(_numbers):04d}", now)
    assert answer.approval is not None
    assert answer.is_new
    return answer.approval


def status(store: ApprovalStore, approval: Approval) -> Status | None:
    found = store.find(approval.id)
    return found.status if found else None


def test_what_waits_already_is_not_asked_for_again(store: ApprovalStore) -> None:
    first = pending(store)
    again = store.ask(asked(), "other", NOW + 1)
    assert (again.approval, again.is_new) == (first, False)
    assert store.listed(NOW + 1) == (first,)


def test_a_yes_is_used_once(store: ApprovalStore) -> None:
    first = pending(store)
    assert not store.use(first, NOW), "it waits still"
    approved = store.approve(first.id, NOW)
    assert approved is not None
    assert store.ask(asked(), "other", NOW + 1).approval == approved
    assert [store.use(approved, NOW + 1) for _ in range(2)] == [True, False]
    assert store.ask(asked(), "next", NOW + 2).is_new


def test_what_did_not_reach_the_wire_is_given_back(store: ApprovalStore) -> None:
    first = pending(store)
    store.approve(first.id, NOW)
    store.use(replace_status(first, Status.APPROVED), NOW)
    store.give_back(first.id)
    assert status(store, first) is Status.APPROVED
    assert store.use(replace_status(first, Status.APPROVED), NOW)


def test_nothing_is_given_back_beside_the_same_question_asked_anew(store: ApprovalStore) -> None:
    first = pending(store)
    store.approve(first.id, NOW)
    store.use(replace_status(first, Status.APPROVED), NOW)
    second = pending(store)
    store.give_back(first.id)
    assert (status(store, first), status(store, second)) == (Status.CONSUMED, Status.PENDING)


@pytest.mark.parametrize(
    "decide", [lambda s, i, n: s.approve(i, n), lambda s, i, n: s.refuse(i, n, ""), lambda s, i, n: s.grant(i, n, n + 60)]
)
@pytest.mark.parametrize("now", [NOW + LIFE_S, NOW - CLOCK_STEP_S - 1], ids=["too-late", "clock-set-back"])
def test_what_ran_out_cannot_be_decided(
    store: ApprovalStore, decide: Callable[[ApprovalStore, str, float], object], now: float
) -> None:
    first = pending(store)
    assert decide(store, first.id, now) is None
    assert store.listed(now) == ()


def test_a_yes_runs_out_and_the_agent_is_told_so_once(store: ApprovalStore) -> None:
    first = pending(store)
    approved = store.approve(first.id, NOW + 100)
    assert approved is not None
    over = NOW + 100 + LIFE_S
    assert not store.use(approved, over)
    late = store.ask(asked(), "x", over)
    assert late.approval is not None
    assert (late.approval.id, late.approval.status, [each.id for each in late.expired]) == (first.id, Status.EXPIRED, [first.id])
    assert store.ask(asked(), "new", over).is_new


def test_what_expired_is_told_to_one_sweeper_and_forgotten_in_time(store: ApprovalStore) -> None:
    first = pending(store)
    assert not store.has_ended(NOW + LIFE_S - 1)
    assert store.has_ended(NOW + LIFE_S)
    assert [[each.id for each in store.sweep(NOW + LIFE_S)] for _ in range(2)] == [[first.id], []]
    assert not store.has_ended(NOW + LIFE_S + 1)
    assert store.sweep(NOW + 2 * LIFE_S) == ()
    assert store.find(first.id) is None


def test_a_no_holds_for_a_while_and_then_the_question_may_be_asked_again(store: ApprovalStore) -> None:
    first = pending(store)
    refused = store.refuse(first.id, NOW, "not now")
    assert refused is not None
    assert refused.because == "not now"
    assert store.ask(asked(), "x", NOW + LIFE_S - 1).approval == refused
    assert store.ask(asked(), "y", NOW + LIFE_S).is_new


def test_a_yes_can_be_taken_back_until_it_is_used(store: ApprovalStore) -> None:
    first = pending(store)
    approved = store.approve(first.id, NOW)
    assert approved is not None
    store.refuse(first.id, NOW, "")
    assert not store.use(approved, NOW)
    second = pending(store, asked("c"))
    other = store.approve(second.id, NOW)
    assert other is not None
    store.use(other, NOW)
    assert store.refuse(second.id, NOW, "") is None


def test_a_grant_covers_one_rule_for_one_agent_for_a_time(store: ApprovalStore) -> None:
    first = pending(store)
    waiting = pending(store, asked("c"))
    elsewhere = [pending(store, each) for each in (asked("d", mark="n"), asked("e", agent="x"), asked("f", workspace="y"))]
    granted = store.grant(first.id, NOW, NOW + 60)
    assert granted is not None
    assert status(store, waiting) is Status.CONSUMED
    assert [status(store, each) for each in elsewhere] == [Status.PENDING] * 3
    assert store.ask(asked("new"), "x", NOW + 59).approval == granted
    assert [store.use(granted, NOW + 59) for _ in range(3)] == [True] * 3
    assert store.grant_for(asked("new"), NOW + 60) is None
    assert not store.use(granted, NOW + 60)
    assert store.ask(asked("new"), "x", NOW + 60).is_new


def test_a_grant_that_was_ended_covers_nothing(store: ApprovalStore) -> None:
    granted = store.grant(pending(store).id, NOW, NOW + 60)
    assert granted is not None
    assert store.refuse(granted.id, NOW, "") is None, "a grant is ended by its own word"
    assert store.revoke(granted.id, NOW, "enough") is not None
    assert not store.use(granted, NOW)
    assert store.ask(asked(), "x", NOW).is_new


def test_only_so_many_of_one_agent_wait(store: ApprovalStore) -> None:
    first, *_ = (pending(store, asked(f"b{number}")) for number in range(MOST_PENDING))
    assert store.ask(asked("more"), "x", NOW).approval is None
    assert store.ask(asked("b0"), "x", NOW).approval == first
    pending(store, asked("other", agent="other"))
    store.refuse(first.id, NOW, "")
    pending(store, asked("more"))


def test_approvals_end_with_their_agent(store: ApprovalStore, path: Path) -> None:
    state = StateStore(path)
    state.add_agent("acme", "claude", "a" * 64, "2026-01-01T00:00:00.000Z")
    mine = [pending(store, asked(f"b{number}")) for number in range(2)]
    others = [pending(store, asked("c", agent="other")), pending(store, asked("d", workspace="other"))]
    store.grant(mine[0].id, NOW, NOW + 60)
    state.revoke_agent("acme", "claude", "2026-01-02T00:00:00.000Z")
    state.close()
    assert [status(store, each) for each in (*mine, *others)] == [None, None, Status.PENDING, Status.PENDING]


def test_a_request_is_named_by_enough_of_its_id(store: ApprovalStore) -> None:
    first = store.ask(asked("a"), "01AAAA0001", NOW).approval
    store.ask(asked("b"), "01AABB0002", NOW)
    assert [store.named(text) for text in ("0001", "01aaaa", " 01AAAA0001 ")] == [first] * 3
    for text, message in [
        ("01AA", "more than one"),
        ("9", "no approval"),
        ("", "no approval"),
        ("%", "no approval"),
        ("_", "no approval"),
    ]:
        with pytest.raises(UsageError, match=message):
            store.named(text)


def test_the_version_changes_with_what_another_process_decides_and_not_by_itself(store: ApprovalStore, path: Path) -> None:
    first = pending(store)
    before = store.version()
    assert store.version() == before
    other = ApprovalStore(path)
    other.approve(first.id, NOW)
    other.close()
    assert store.version() != before


def test_a_snapshot_of_the_state_is_not_read_anew_for_approvals(store: ApprovalStore, path: Path) -> None:
    state = StateStore(path)
    before = state.snapshot()
    pending(store)
    assert state.snapshot() is before
    state.close()


def test_a_file_of_the_first_version_is_brought_up_to_date(path: Path) -> None:
    old = sqlite3.connect(path)
    old.executescript(MIGRATIONS[0] + "PRAGMA user_version = 1;")
    old.execute("INSERT INTO keys VALUES ('acme', 'k', 'calendly', 1, 7, '2026', NULL)")
    old.commit()
    old.close()
    store = ApprovalStore(path)
    pending(store)
    store.close()
    connection = connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert connection.execute("SELECT runtime_access, renewals FROM keys").fetchone() == (1, 0)
    connection.close()


def test_of_many_that_use_one_yes_in_several_processes_one_gets_it(store: ApprovalStore, path: Path) -> None:
    approvals = [pending(store, asked(f"b{number}")) for number in range(15)]
    for each in approvals:
        store.approve(each.id, NOW)
    with SPAWN.Pool(3) as pool:
        used = pool.starmap(_use_all, [(path, [each.id for each in approvals])] * 3)
    assert sorted(itertools.chain.from_iterable(used)) == sorted(each.id for each in approvals)


def test_of_many_that_ask_the_same_in_several_processes_one_is_new(store: ApprovalStore, path: Path) -> None:
    pending(store, asked("made"))
    with SPAWN.Pool(3) as pool:
        new = pool.starmap(_ask_all, [(path, number) for number in range(3)])
    assert sum(new) == MOST_PENDING - 1
    assert len(store.listed(NOW)) == MOST_PENDING


def _use_all(path: Path, ids: list[str]) -> list[str]:
    store = ApprovalStore(path)
    used = [each for each in ids if (found := store.find(each)) and store.use(replace_status(found, Status.APPROVED), NOW)]
    store.close()
    return used


def _ask_all(path: Path, process: int) -> int:
    store = ApprovalStore(path)
    new = sum(store.ask(asked(f"b{number}"), f"{process}-{number}", NOW).is_new for number in range(MOST_PENDING + 5))
    store.close()
    return new


def replace_status(approval: Approval, after: Status) -> Approval:
    """Return *approval* as a proxy has it that saw it in that status."""
    return Approval(approval.id, approval.asked, after, approval.asked_at, approval.since, approval.until)
