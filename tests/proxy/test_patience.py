"""How long connections may wait, and how many."""

from __future__ import annotations

import pytest

from outloop.proxy import patience
from outloop.proxy.patience import BODY_S, WAIT_S, Patience


class Agents:
    def __init__(self) -> None:
        self.busy: set[str] = set()
        self.bodies: dict[str, float] = {}
        self.patience = Patience(self.busy.__contains__, self.bodies.get)


@pytest.fixture
def agents() -> Agents:
    return Agents()


def test_a_connection_that_waits_too_long_is_overdue(agents: Agents) -> None:
    agents.patience.touch("a", 0.0)
    agents.patience.touch("b", 10.0)

    assert agents.patience.overdue(WAIT_S) == []
    assert agents.patience.overdue(WAIT_S + 1) == ["a"]
    agents.patience.left("a")
    assert agents.patience.overdue(WAIT_S + 11) == ["b"]


def test_one_that_is_busy_is_not_and_waits_anew_afterwards(agents: Agents) -> None:
    agents.patience.touch("a", 0.0)
    agents.busy.add("a")
    assert agents.patience.overdue(1000.0) == []

    agents.busy.clear()
    assert agents.patience.overdue(1000.0 + WAIT_S) == []
    assert agents.patience.overdue(1001.0 + WAIT_S) == ["a"]


def test_one_whose_body_does_not_come_is_overdue_however_busy(agents: Agents) -> None:
    agents.patience.touch("a", 0.0)
    agents.busy.add("a")
    agents.bodies["a"] = 100.0

    assert agents.patience.overdue(100.0 + BODY_S) == []
    assert agents.patience.overdue(101.0 + BODY_S) == ["a"]


def test_where_too_many_wait_the_one_that_waited_longest_gives_way(agents: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MAX_WAITING", 2)
    for number, client in enumerate("abc"):
        assert agents.patience.surplus() is None
        agents.patience.touch(client, float(number))

    assert agents.patience.surplus() == "a"
    agents.patience.touch("a", 5.0)  # it asked for something meanwhile
    assert agents.patience.surplus() == "b"
    agents.busy.add("b")
    assert agents.patience.surplus() is None
