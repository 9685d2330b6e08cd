from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outloop.core.ledger import Value
from outloop.core.spreadsheet import csv_line


@pytest.mark.parametrize(
    ("cells", "line"),
    [
        pytest.param([], "", id="none"),
        pytest.param(["a", 1, 2.5, None, ""], '"a",1,2.5,,""', id="kinds"),
        pytest.param(['say "hi", then\r\nleave'], '"say ""hi"", then\r\nleave"', id="separators-and-quotes"),
        pytest.param(["=1+1", "+1", "-1", "@SUM(1)"], '"\'=1+1","\'+1","\'-1","\'@SUM(1)"', id="formulas"),
        pytest.param(["\t=1", "\r=1", "\n=1"], '"\'\t=1","\'\r=1","\'\n=1"', id="formulas-behind-a-control"),
        pytest.param(["＝1", "＋1", "－1", "＠1"], '"\'＝1","\'＋1","\'－1","\'＠1"', id="full-width"),
        pytest.param(["'quoted'"], "\"''quoted'\"", id="an-apostrophe-of-its-own"),
        pytest.param(["a;=cmd|' /C calc'!A0"], "\"a;=cmd|' /C calc'!A0\"", id="another-separator-inside"),
        pytest.param([-1, -2.5], "-1,-2.5", id="numbers-below-zero-are-numbers"),
    ],
)
def test_a_line(cells: list[Value], line: str) -> None:
    assert csv_line(cells) == line + "\r\n"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_what_was_put_before_a_text_can_be_taken_off_again(texts: list[str]) -> None:
    (read,) = csv.reader(io.StringIO(csv_line(texts), newline=""))

    assert [cell.removeprefix("'") for cell in read] == texts
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in read)
