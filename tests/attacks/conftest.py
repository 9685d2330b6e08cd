"""A house to attack, for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.operators import Operator
from outloop.attacks.attacked import attacked_house
from outloop.attacks.runner import Runner


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Who holds the proxy against cases; after the last one nothing may be left over."""
    folder = tmp_path_factory.mktemp("attacked")
    with attacked_house(folder, Operator(folder).variables) as house, house.runner() as runner:
        yield runner
        assert runner.leftovers() == []
