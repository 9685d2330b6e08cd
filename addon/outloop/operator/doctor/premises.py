"""What the checks look at: one home, one shell, one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from outloop.core.model import RequestLimit, Service, Workspace
from outloop.operator.attestation import Witnesses, witnesses
from outloop.operator.call import Listener
from outloop.operator.policy_files import PolicyFiles
from outloop.operator.route import find_listener
from outloop.store.home import Home
from outloop.store.keychain import BACKEND_META, Keychain
from outloop.store.overview import Overview
from outloop.store.records import Records
from outloop.store.state import KeyRecord, ProxyRecord, State

PROBE_LIMIT_S = 5.0


@dataclass(frozen=True)
class Premises:
    """Read once, before the checks run beside each other. `environ` is the shell's; `policies` are those of `workspace`.

    `now` is aware; `open_keychain` raises KeychainError or UsageError; `limit_wait_s` is `StateStore.wait_s`.
    """

    home: Home
    environ: Mapping[str, str]
    now: datetime
    workspace: str | None
    policies: PolicyFiles
    state: State
    proxies: tuple[ProxyRecord, ...]
    listener: Listener
    open_keychain: Callable[[], Keychain]
    limit_wait_s: Callable[[str, str, RequestLimit, float], int | None]

    @property
    def has_record(self) -> bool:
        """Tell whether anything was ever recorded."""
        return self.home.audit_db.exists()

    @property
    def overview(self) -> Overview:
        """The record as a whole."""
        return Overview(self.home.audit_db)

    @property
    def records(self) -> Records:
        """The record, row by row."""
        return Records(self.home.audit_db)

    @property
    def witnesses(self) -> Witnesses:
        """Whom the record can be held against."""
        return witnesses(self.home, self.state.meta.get(BACKEND_META), self.open_keychain, self.environ)

    @property
    def services(self) -> Iterator[tuple[Workspace, Service]]:
        """Every service that is looked at, with its workspace."""
        return ((workspace, service) for workspace in self.policies.workspaces for service in workspace.services)

    @property
    def someone(self) -> str:
        """A workspace to name in a command: the one that is looked at, else the first there is."""
        return self.workspace or next((workspace.name for workspace in self.policies.workspaces), "WS")

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Every place at which a proxy of this home is known, or looked for."""
        return (self.listener, *(find_listener((proxy,), None) for proxy in self.proxies))

    @property
    def where(self) -> str:
        """Where the proxy is looked for."""
        return f"{self.listener.host}:{self.listener.port}"

    def key(self, workspace: Workspace, service: Service) -> KeyRecord | None:
        """Return the record of the key that *service* uses."""
        return self.state.keys.get((workspace.name, service.key))

    def wait_s(self, workspace: Workspace, service: Service) -> int | None:
        """Return how long the policy's own limit keeps *service* waiting; None where it does not."""
        return self.limit_wait_s(workspace.name, service.name, service.limit, self.now.timestamp()) if service.limit else None
