"""After each step of any history no agent has received a secret, no workspace was touched from another, nothing was opened or
read for a refused request, and the record agrees with what upstream saw.

`OUTLOOP_HISTORIES` sets how many histories are tried; with it they are other ones each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test

from harness.operators import Operator
from outloop.attacks.upstream.certs import Authority
from stateful.house import House, built_house
from stateful.machine import Histories

HISTORIES = int(os.environ.get("OUTLOOP_HISTORIES", "12"))
STEPS = 30


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, authority: Authority, upstream_ca: Path) -> Iterator[House]:
    with built_house(Operator(tmp_path_factory.mktemp("house")), authority, upstream_ca) as built:
        yield built


def test_what_is_promised_holds_after_each_step_of_any_history(house: House) -> None:
    machine = type("HistoriesOfThisHouse", (Histories,), {"house": house})
    settings = hypothesis.settings(
        max_examples=HISTORIES,
        stateful_step_count=STEPS,
        derandomize="OUTLOOP_HISTORIES" not in os.environ,
        database=None,
        # A history takes seconds: where one fails, all of its steps are printed, and not five minutes spent on fewer of them.
        phases=[hypothesis.Phase.generate],
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    run_state_machine_as_test(machine, settings=settings)
