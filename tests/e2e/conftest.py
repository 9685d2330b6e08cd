"""What the end-to-end tests share: a proxy is started once for a module, and each test sees its own requests alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bridge import running_bridge
from harness.certs import Authority
from harness.operators import Operator
from harness.stage import Stage


@pytest.fixture(scope="module")
def module_operator(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """An operator with an empty home, for a whole module."""
    return Operator(tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="module")
def bridge(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    """A proxy with the workspace of `harness/bridge.py`, for a whole module."""
    with running_bridge(module_operator, authority, upstream_ca) as stage:
        yield stage
