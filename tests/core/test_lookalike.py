"""Made-up values have the shape that was asked for, and enough randomness never to be met by chance."""

from __future__ import annotations

import re
import secrets

import pytest

from outloop.core.lookalike import DEFAULT_SHAPE, lookalike, shape_fault


@pytest.mark.parametrize(
    ("shape", "pattern"),
    [
        pytest.param("ghp_{alnum:36}", r"ghp_[A-Za-z0-9]{36}", id="a-prefix"),
        pytest.param("{hex:32}-{upper:16}", r"[0-9a-f]{32}-[A-Z0-9]{16}", id="two-stretches"),
        pytest.param("a.{base64url:43}.{digits:9}", r"a\.[A-Za-z0-9_-]{43}\.[0-9]{9}", id="three-parts"),
        pytest.param(DEFAULT_SHAPE, r"[A-Za-z0-9]{40}", id="default"),
    ],
)
def test_a_value_has_its_shape_and_is_another_each_time(shape: str, pattern: str) -> None:
    made = {lookalike(shape, secrets.choice) for _ in range(5)}
    assert len(made) == 5
    assert all(re.fullmatch(pattern, value) for value in made)
    assert shape_fault(shape) == ""


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        pytest.param("always-the-same", "these are 0", id="no-randomness"),
        pytest.param("{hex:31}", "these are 124", id="too-little"),
        pytest.param("{alnum}", "{KIND:LENGTH}", id="no-length"),
        pytest.param("{any:40}", "{KIND:LENGTH}", id="an-unknown-kind"),
        pytest.param("{alnum:40}}", "{KIND:LENGTH}", id="a-brace-too-many"),
        pytest.param("{alnum:0}", "{KIND:LENGTH}", id="of-no-length"),
        pytest.param("{alnum:99999}", "{KIND:LENGTH}", id="of-any-length"),
    ],
)
def test_a_shape_that_makes_no_decoys_is_said_to(shape: str, said: str) -> None:
    assert said in shape_fault(shape)
