"""A house to attack, for each module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.house import attacked_house
from attacks.runner import Runner
from harness.certs import Authority
from harness.operators import Operator


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, authority: Authority, upstream_ca: Path) -> Iterator[Runner]:
    """Who holds the proxy against cases; after the last one nothing may be left over."""
    with attacked_house(Operator(tmp_path_factory.mktemp("operator")), authority, upstream_ca) as runner:
        yield runner
        assert runner.leftovers() == []
