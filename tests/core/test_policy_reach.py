"""Whether one path pattern covers another, against the obvious answer: trying every short path."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outloop.core.paths import PathPattern, compile_pattern
from outloop.core.policy.reach import Reach

# Beyond six segments no path tells two patterns of three steps apart; "z" stands for all that neither names.
PATHS = [path for length in range(7) for path in product("abz", repeat=length)]

patterns = st.lists(st.sampled_from(["a", "b", "*", "**"]), max_size=3).map(lambda steps: compile_pattern("/" + "/".join(steps)))


@given(patterns, patterns)
def test_covers_is_what_trying_every_path_says(outer: PathPattern, inner: PathPattern) -> None:
    expected = all(outer.match(path) is not None for path in PATHS if inner.match(path) is not None)

    assert Reach().covers(outer, inner, fold_case=False) is expected


@given(patterns, patterns)
def test_meet_is_what_trying_every_path_says(one: PathPattern, other: PathPattern) -> None:
    expected = any(one.match(path) is not None and other.match(path) is not None for path in PATHS)

    assert Reach().meet(one, other) is expected


@pytest.mark.parametrize(
    ("outer", "inner", "fold_case", "expected"),
    [
        pytest.param("/A/b", "/a/B", True, True, id="case-folded"),
        pytest.param("/A/b", "/a/B", False, False, id="case-kept"),
        pytest.param("/{x}/b", "/{y}/b", False, True, id="names-are-wildcards"),
        pytest.param("/%41", "/A", False, True, id="escapes-are-decoded"),
        pytest.param("/a/", "/a", False, True, id="trailing-slash-ignored"),
    ],
)
def test_covers(outer: str, inner: str, fold_case: bool, expected: bool) -> None:
    assert Reach().covers(compile_pattern(outer), compile_pattern(inner), fold_case=fold_case) is expected


def test_a_spent_budget_finds_nothing_more() -> None:
    reach, pattern = Reach(), compile_pattern("/**/a" * 12)
    answers = [reach.covers(pattern, pattern, fold_case=False) for _ in range(2000)]

    assert answers == sorted(answers, reverse=True)
    assert set(answers) == {True, False}
