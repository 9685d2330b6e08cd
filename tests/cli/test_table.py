"""Tables on terminals of every width: what fits, what folds, and what goes under its line."""

from __future__ import annotations

import io
import time
from collections import Counter
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from harness.operators import Operator
from harness.rows import decision, outcome
from harness.stage import add_agent, store_keys
from harness.terminal import on_terminal, widest
from outloop.cli.table import GAP, LEAST_FOLDED, drawn, short_time, standing_within, widths_within
from outloop.core.approvals import Asked
from outloop.store.approvals import ApprovalStore
from outloop.store.audit import AuditWriter

LONG = "globex-international-holdings-of-the-north"
WIDTHS = st.lists(st.integers(1, 200), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("natural", "room", "expected"),
    [
        pytest.param([4, 8], 14, [4, 8], id="fits"),
        pytest.param([4, 80], 60, [4, 54], id="one-folds"),
        pytest.param([4, 80, 60], 60, [4, 26, 26], id="two-fold"),
        pytest.param([4, 80, 20], 60, [4, 32, 20], id="one-of-two-wants-little"),
        pytest.param([4, 80, 60, 50], 60, None, id="three-do-not"),
        pytest.param([30, 80], 36, None, id="too-little-is-left"),
    ],
)
def test_what_folds(natural: list[int], room: int, expected: list[int] | None) -> None:
    assert widths_within(natural, room) == expected


@given(WIDTHS, st.integers(1, 300))
def test_what_folds_fits_and_can_be_read(natural: list[int], room: int) -> None:
    widths = widths_within(natural, room)
    if widths is not None:
        assert sum(widths) + GAP * (len(widths) - 1) <= room
        assert all(width == wanted or width >= LEAST_FOLDED for width, wanted in zip(widths, natural, strict=True))


@given(WIDTHS, st.integers(1, 300))
def test_what_stands_in_the_line_fits_in_it_and_begins_with_the_first(natural: list[int], room: int) -> None:
    standing = standing_within(natural, room)
    assert standing[0] == 0
    assert standing == sorted(standing)
    assert len(standing) == 1 or sum(natural[index] for index in standing) + GAP * (len(standing) - 1) <= room


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["C", "Z", "M"]), min_size=1, max_size=60), min_size=4, max_size=4),
        min_size=1,
        max_size=5,
    ),
    st.integers(20, 140),
)
def test_nothing_is_wider_than_the_terminal_and_nothing_is_lost(cells: list[list[str]], room: int) -> None:
    printed = io.StringIO()
    columns = ["id", "runtime_access", "request", "body"]

    Console(width=room, force_terminal=True, color_system=None, file=printed).print(drawn(columns, cells, room, {}))

    assert max(map(cell_len, printed.getvalue().splitlines())) <= room
    shown = Counter("".join(printed.getvalue().split()))
    assert Counter("".join(cell for line in cells for cell in line if cell != "-")) <= shown + Counter("-" * 1000)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("2026-01-31T12:00:01.123Z", "12:00:01"), ("2026-01-30T12:00:01Z", "2026-01-30 12:00"), ("12:00", "12:00"), ("-", "-"),
        ("see 2026-01-31T12:00:01Z", "see 2026-01-31T12:00:01Z"),
    ],
)  # fmt: skip
def test_times_in_short(text: str, short: str) -> None:
    assert short_time(text, "2026-01-31") == short


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """A home with long names, long paths and hostile text in everything that is listed."""
    operator = Operator(tmp_path_factory.mktemp("operator"))
    for name in ("acme", LONG):
        operator.write_policy(name, f"workspace: {name}\nservices: {{calendly: {{rules: [{{allow: GET /**}}]}}}}\n")
        store_keys(operator, {"calendly": f"cal_pat_FAKE_{name}"}, name)
        add_agent(operator, f"agent-of-{name}"[:60], f"token-of-{name}", name)
    with closing(AuditWriter(operator.home / "audit.db", time.time)) as audit:
        for path in ("/users/me", "/" + "x" * 300, "/\x1b[2J[bold]"):
            for name in ("acme", LONG):
                row = decision(workspace=name, path=path, key=f"{name}-calendly")
                audit.append_now(row)
                audit.append_now(outcome(row))
    with closing(ApprovalStore(operator.home / "state.db")) as approvals:
        for number in range(3):
            asked = Asked(
                LONG, "claude", "calendly", "POST", "api.calendly.com", 443, f"/{number}/" + "y" * 200, "a: b", "{}" * 100, 200,
                "acme.yaml:9", "ask: POST /**", "mark", f"binding-{number}",
            )  # fmt: skip
            approvals.ask(asked, f"01J8Z3K9ABCDEFGHJK7Q2M0AA{number}", time.time())
    return operator


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize(
    "command",
    [
        "status", "approvals", "audit tail", "key list", "agent list", "workspace list", "service list", "policy explain GET"
        " https://api.calendly.com/x -w acme", "ca show", "init", "doctor -w acme",
    ],
)  # fmt: skip
def test_every_screen_fits_its_terminal(settled: Operator, command: str, columns: int) -> None:
    drawn = on_terminal(settled, *command.split(), columns=columns)

    assert drawn
    assert widest(drawn.partition("\nNext: ")[0]) <= columns  # a command to paste is never folded
    assert "Traceback" not in drawn
    assert "\x1b[2J" not in drawn


@pytest.mark.parametrize(
    ("variables", "has_styles"),
    [
        pytest.param({"NO_COLOR": ""}, True, id="colours"),
        pytest.param({"NO_COLOR": "1"}, False, id="no-colour"),
        pytest.param({"NO_COLOR": "", "TERM": "dumb"}, False, id="a-dumb-terminal"),
    ],
)
def test_colours_are_for_those_who_want_them(settled: Operator, variables: dict[str, str], has_styles: bool) -> None:
    drawn = on_terminal(settled, "status", **variables)

    assert ("\x1b[3" in drawn) is has_styles


@pytest.mark.parametrize("command", ["status", "approvals", "audit tail", "doctor -w acme", "service show calendly"])
def test_a_terminal_that_cannot_say_everything_is_told_what_it_can(settled: Operator, command: str) -> None:
    poor = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}

    drawn = on_terminal(settled, *command.split(), **poor)

    assert drawn.isascii()
    assert "Traceback" not in drawn
