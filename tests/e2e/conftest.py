"""What the end-to-end tests share: a proxy is started once for a module, and each test sees its own requests alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bridge import running_bridge
from harness.operators import Operator
from harness.single import POLICY
from harness.stage import HOST, TOKEN, Stage, store_keys
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder


@pytest.fixture(scope="module")
def module_operator(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """An operator with an empty home, for a whole module."""
    return Operator(tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="module")
def bridge(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    """A proxy with the workspace of `harness/bridge.py`, for a whole module."""
    with running_bridge(module_operator, authority, upstream_ca) as stage:
        yield stage


@pytest.fixture
def upstream(authority: Authority) -> Iterator[Recorder]:
    """An upstream for one test."""
    with Recorder(authority.server_context(HOST)) as recorder:
        yield recorder


@pytest.fixture
def ready(operator: Operator) -> Operator:
    """An operator with a policy and a key."""
    operator.write_policy("acme", POLICY)
    store_keys(operator, {"example": TOKEN})
    return operator
