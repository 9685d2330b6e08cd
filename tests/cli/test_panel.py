"""The live screen of approvals at every size: nothing that an agent sends pushes the rule or the keys off it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from outloop.cli.panel import MORE, panel
from outloop.cli.screen import Screen
from outloop.core.approvals import Approval, Asked, Status

IDS = [f"01J8Z3K9ABCDEFGHJK7Q2{number:05}" for number in range(60)]
HOSTILE = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["/" + "x" * 3000, "\x1b[2J\x1b]0;owned\x07", "[bold red]x[/]", "漢" * 700, "\u202e" * 50, "a\nb\r\n" * 40]),
)


def approval(number: int = 0, *, status: Status = Status.PENDING, **texts: str) -> Approval:
    asked = {"workspace": "acme", "agent": "claude", "path": "/scheduling_links", "body": "{}", "headers": "a: b"} | texts
    what = Asked(
        asked["workspace"], asked["agent"], "calendly", "POST", "api.calendly.com", 443, asked["path"], asked["headers"],
        asked["body"], 2, "acme.yaml:9", "ask: POST /scheduling_links", "mark", f"binding-{number}",
    )  # fmt: skip
    return Approval(IDS[number], what, status, 0, 0, 600)


def drawn(screen: Screen, width: int = 80, height: int = 24, encoding: str = "utf-8") -> list[str]:
    return [line.plain for line in panel(screen, 10, width, height, encoding)]


@given(
    st.lists(
        st.tuples(HOSTILE, HOSTILE, HOSTILE, HOSTILE, st.sampled_from([Status.PENDING, Status.APPROVED, Status.GRANTED])),
        max_size=30,
    ),
    st.integers(20, 140),
    st.integers(8, 50),
    st.one_of(st.none(), HOSTILE),
    HOSTILE,
    st.sampled_from(["utf-8", "ascii", "latin-1"]),
)
def test_it_fits_and_the_keys_are_always_in_sight(
    found: list[tuple[str, str, str, str, Status]], width: int, height: int, because: str | None, note: str, encoding: str
) -> None:
    shown = [
        approval(number, agent=agent, path=path, body=body, headers=headers, status=status)
        for number, (agent, path, body, headers, status) in enumerate(found)
    ]
    screen = Screen(because=because, note=note).shows(shown, 0)

    lines = drawn(screen, width, height, encoding)

    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert all(line.isprintable() for line in lines)
    "\n".join(lines).encode(encoding)
    keys = " ".join(lines)
    assert ("refuse because:" in keys) if screen.because is not None else ("q leave" in keys)
    if screen.choice:
        assert sum(line.startswith(">") for line in lines) == 1


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 20)])
def test_whoever_asks_for_what_by_which_rule_is_seen_however_long_the_body(width: int, height: int) -> None:
    screen = Screen().shows([approval(body="y" * 5000, path="/" + "x" * 5000, headers="z" * 5000)], 0)

    text = "\n".join(drawn(screen, width, height))

    assert "claude of acme, for calendly" in text
    assert "ask: POST /scheduling_links (acme.yaml:9)" in text
    assert MORE in text


def test_many_are_drawn_around_the_chosen_one() -> None:
    screen = Screen().shows([approval(number) for number in range(60)], 0)
    for _ in range(40):
        screen, _ = screen.pressed("j", 5)

    lines = drawn(screen)

    assert lines[0] == "Approvals: 60 wait for you (41 of 60 chosen)"
    assert next(line for line in lines if line.startswith("> ")).split()[1] == IDS[40][-8:]


def test_what_is_typed_is_seen_at_its_end() -> None:
    screen = Screen(because="x" * 190 + "the end").shows([approval()], 0)
    screen = Screen(screen.approvals, screen.chosen, because="x" * 190 + "the end")

    assert drawn(screen)[-2].endswith("the end_")
