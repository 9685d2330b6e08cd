"""What several workers say, told once."""

from __future__ import annotations

import pytest

from outloop.proxy.chorus import TOGETHER_S, Chorus

STAMPED = "[03:46:12.{:03}] outloop: policy: acme: a rule was added"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        pytest.param([(0, "a", 0.0), (1, "a", 0.5), (2, "a", 1.0)], [True, False, False], id="by-all"),
        pytest.param([(0, "a", 0.0), (0, "a", 0.1)], [True, True], id="twice-by-one"),
        pytest.param([(0, "a", 0.0), (1, "a", 0.1), (0, "a", 0.2), (1, "a", 0.3)], [True, False, True, False], id="twice-by-all"),
        pytest.param([(0, "a", 0.0), (1, "b", 0.0)], [True, True], id="different-things"),
        pytest.param([(0, "a", 0.0), (1, "a", TOGETHER_S + 0.1)], [True, True], id="long-after"),
        pytest.param([(0, STAMPED.format(1), 0.0), (1, STAMPED.format(2), 0.0)], [True, False], id="time-stamps-aside"),
        pytest.param([(0, f"{number}", 0.0) for number in range(1000)] + [(1, "0", 0.0)], [True] * 1001, id="bounded"),
    ],
)
def test_what_is_news(said: list[tuple[int, str, float]], told: list[bool]) -> None:
    chorus = Chorus()

    assert [chorus.is_news(*each) for each in said] == told
