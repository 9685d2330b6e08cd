"""The live screen without a terminal: what is chosen, and what a key does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outloop.cli.screen import BACKSPACE, DOWN, ENTER, ESCAPE, LONGEST_BECAUSE, SETTLE_S, UP, Deed, Screen, age
from outloop.core.approvals import Approval, Asked, Status

ASKED = Asked("acme", "", "calendly", "POST", "api.calendly.com", 443, "/x", "", "", 0, "acme.yaml:7", "ask: POST /x", "m", "b")
LATER = SETTLE_S + 1


def waiting(name: str, status: Status = Status.PENDING) -> Approval:
    return Approval(name, ASKED, status, 0, 0, 600)


A, B, C = (waiting(name) for name in "ABC")


def pressed(screen: Screen, *keys: str, now: float = LATER) -> tuple[Screen, list[Deed]]:
    deeds = []
    for key in keys:
        screen, deed = screen.pressed(key, now)
        deeds += [deed] if deed else []
    return screen, deeds


def test_the_oldest_that_waits_is_chosen_first() -> None:
    assert Screen().shows([waiting("G", Status.GRANTED), A, B], 0).choice == A
    assert Screen().shows([waiting("G", Status.GRANTED)], 0).chosen == "G"
    assert Screen().shows([], 0).choice is None


def test_the_choice_stays_with_its_request_when_the_list_moves() -> None:
    screen, _ = pressed(Screen().shows([A, B], 0), DOWN)
    assert screen.shows([C, A, B], 0).choice == B


def test_a_key_meant_for_a_request_that_is_gone_decides_on_no_other() -> None:
    screen = Screen().shows([A, B], 0).shows([B], 10)
    assert pressed(screen, "a", now=10 + SETTLE_S / 2)[1] == []
    assert pressed(screen, "a", now=10 + LATER)[1] == [Deed(B, is_yes=True)]


def test_a_reason_that_is_being_typed_is_dropped_with_its_request() -> None:
    screen, _ = pressed(Screen().shows([A, B], 0), "r", "x")
    assert screen.because == "x"
    moved = screen.shows([B], 10)
    assert moved.because is None
    assert pressed(moved, ENTER, now=20)[1] == []


@pytest.mark.parametrize(
    ("keys", "deeds"),
    [
        pytest.param(("a",), [Deed(A, is_yes=True)], id="yes"),
        pytest.param((DOWN, "a"), [Deed(B, is_yes=True)], id="the-next"),
        pytest.param(("j", "j", "j", "k", "a"), [Deed(B, is_yes=True)], id="letters-and-the-end-of-the-list"),
        pytest.param((UP, "a"), [Deed(A, is_yes=True)], id="the-top"),
        pytest.param(("r", ENTER), [Deed(A, is_yes=False)], id="no"),
        pytest.param(("r", *"not q a", ENTER), [Deed(A, is_yes=False, because="not q a")], id="letters-are-text"),
        pytest.param(("r", "x", "y", BACKSPACE, ENTER), [Deed(A, is_yes=False, because="x")], id="backspace"),
        pytest.param(("r", "x", ESCAPE, "a"), [Deed(A, is_yes=True)], id="thought-better-of"),
        pytest.param(("x", "", ENTER, ESCAPE, "A"), [], id="other-keys"),
        pytest.param(("r", "\x1b", "\x00", ENTER), [Deed(A, is_yes=False)], id="control-characters"),
    ],
)
def test_keys_decide(keys: tuple[str, ...], deeds: list[Deed]) -> None:
    assert pressed(Screen().shows([A, B, C], 0), *keys)[1] == deeds


def test_q_ends_it() -> None:
    assert pressed(Screen(), "q")[0].is_over


@pytest.mark.parametrize("status", [Status.APPROVED, Status.GRANTED])
def test_what_is_approved_can_only_be_ended(status: Status) -> None:
    screen = Screen().shows([waiting("G", status)], 0)
    noted, deeds = pressed(screen, "a")
    assert (deeds, "already" in noted.note) == ([], True)
    assert pressed(screen, "r", ENTER)[1] == [Deed(waiting("G", status), is_yes=False)]


def test_a_reason_has_an_end() -> None:
    screen, _ = pressed(Screen().shows([A], 0), "r", *("x" * (LONGEST_BECAUSE + 9)))
    assert screen.because == "x" * LONGEST_BECAUSE


@given(st.integers(1, 30), st.integers(0, 29), st.integers(1, 30))
def test_the_chosen_line_is_always_among_those_drawn(count: int, chosen: int, most: int) -> None:
    approvals = [waiting(f"{number:02}") for number in range(count)]
    screen = Screen(chosen=f"{min(chosen, count - 1):02}").shows(approvals, 0)
    drawn = screen.around_choice(most)
    assert screen.choice in drawn
    assert len(drawn) == min(most, count)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0s"), (0.9, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (100_000, "27h")],
    ids=str,
)
def test_an_age_is_short(seconds: float, shown: str) -> None:
    assert age(seconds) == shown
