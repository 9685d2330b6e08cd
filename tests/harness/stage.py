"""A proxy with its operator and its upstreams, seen by one test at a time.

Used so, once for a module:

    with running_stage(folder, upstreams, POLICY, {"example": TOKEN}) as stage: …

and in each test through `stage.view()`, which sees only the requests that arrived since.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.operators import PATIENCE_S, Operator, Row
from harness.proxy import Answer, Proxy, running_proxy
from outloop.attacks.upstream.journal import RecordedRequest
from outloop.attacks.upstream.recorder import Recorder
from outloop.core.scrub import MARK as MARK_BYTES
from outloop.core.secret import Secret
from outloop.core.tokens import token_hash
from outloop.store.home import Home
from outloop.store.keychain import Keychain
from outloop.store.state import StateStore

HOST = "api.example.com"
TOKEN = "not-a-real-token-0123456789"
WORKSPACE = "acme"
MARK = MARK_BYTES.decode()
AT = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Stage:
    """A running proxy and the upstream behind `HOST`; `since` is how many requests the view does not see."""

    operator: Operator
    proxy: Proxy
    upstream: Recorder
    since: int = 0

    def view(self) -> Stage:
        """Return a stage that sees only what arrives from now on."""
        return Stage(self.operator, self.proxy, self.upstream, len(self.upstream.requests))

    def curl(self, path: str, *arguments: str, host: str = HOST, agent: tuple[str, str] | None = None) -> Answer:
        """Run a real curl for *path* of *host*, as an agent would."""
        return self.proxy.curl(f"https://{host}{path}", *arguments, agent=agent)

    @property
    def arrived(self) -> list[RecordedRequest]:
        """The requests that arrived upstream."""
        return self.upstream.requests[self.since :]

    def wait_for(self, count: int) -> list[RecordedRequest]:
        """Return the requests once *count* of them are complete. Raises TimeoutError."""
        return self.upstream.wait_for(self.since + count)[self.since :]

    def wait_for_body(self, count: int) -> None:
        """Return once *count* bytes of bodies have arrived. Raises TimeoutError."""
        end = time.monotonic() + PATIENCE_S
        while sum(request.body_bytes for request in self.arrived) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"the upstream did not get {count} bytes of bodies: {self.arrived}")
            time.sleep(0.005)

    def row(self, audit_id: str | None) -> Row:
        """Return the one row of *audit_id* once its outcome is there. Raises TimeoutError."""
        assert audit_id, "the answer names no audit id"
        return self.wait_for_row(id=audit_id)

    def wait_for_row(self, **fields: object) -> Row:
        """Return the one row with these *fields* once its outcome is there. Raises TimeoutError."""
        end = time.monotonic() + PATIENCE_S
        while True:
            found = [row for row in self.operator.rows() if all(row[name] == value for name, value in fields.items())]
            if found and found[-1]["duration_ms"] is not None:
                assert len(found) == 1, found
                return found[0]
            if time.monotonic() > end:
                raise TimeoutError(f"the record has no finished row with {fields}: {found}\n{self.proxy.log}")
            time.sleep(0.02)

    def wait_for_event(self, kind: str, *, count: int = 1) -> list[Row]:
        """Return the events of *kind* once there are *count* of them. Raises TimeoutError."""
        end = time.monotonic() + PATIENCE_S
        while True:
            found = [row for row in self.operator.rows("events") if row["kind"] == kind]
            if len(found) >= count:
                return found
            if time.monotonic() > end:
                raise TimeoutError(f"the record has not {count} events {kind}: {found}\n{self.proxy.log}")
            time.sleep(0.02)

    def switch(self, key: str, on: bool, workspace: str = WORKSPACE) -> None:
        """Switch the runtime access of *key*, as `outloop key enable` and `disable` do, but without their start-up time."""
        with stores(self.operator) as (state, _):
            state.set_runtime_access(workspace, key, on)


@contextlib.contextmanager
def stores(operator: Operator) -> Iterator[tuple[StateStore, Keychain]]:
    """Open the stores of *operator*'s home in this process."""
    home = Home(operator.home)
    home.ensure()
    state = StateStore(home.state_db)
    try:
        yield state, Keychain.open(home, state, operator.variables)
    finally:
        state.close()


def store_keys(operator: Operator, tokens: Mapping[str, str], workspace: str = WORKSPACE) -> None:
    """Store the value of each service's key, by service name, and switch its runtime access on."""
    for service, token in tokens.items():
        store_parts(operator, service, {"token": token}, workspace)


def store_parts(operator: Operator, service: str, parts: Mapping[str, str], workspace: str = WORKSPACE) -> None:
    """Store a service's key of several parts, and switch its runtime access on."""
    name = f"{workspace}-{service}"
    with stores(operator) as (state, keychain):
        keychain.set(workspace, name, {part: Secret(value.encode()) for part, value in parts.items()})
        state.add_key(workspace, name, service, AT)
        state.set_runtime_access(workspace, name, True)


def add_agent(operator: Operator, name: str, token: str, workspace: str = WORKSPACE) -> tuple[str, str]:
    """Make an agent that shows *token*; return what a client is given: workspace and token."""
    with stores(operator) as (state, _):
        state.add_agent(workspace, name, token_hash(token), AT)
    return workspace, token


@contextlib.contextmanager
def running_stage(
    operator: Operator,
    upstream: Recorder,
    routes: Sequence[str] | Mapping[str, int],
    *,
    upstream_ca: Path,
    tool: str = "mitmdump",
    options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Iterator[Stage]:
    """Run a proxy for *operator*. *routes* are the hosts that *upstream* stands for, or ports by host."""
    ports = routes if isinstance(routes, Mapping) else dict.fromkeys(routes, upstream.port)
    with running_proxy(operator, ports, upstream_ca=upstream_ca, tool=tool, options=options, environ=environ) as proxy:
        yield Stage(operator, proxy, upstream)
