"""What the commands share: the home and the stores in it, each opened when first asked for."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING

import click

from outloop.core.errors import UsageError
from outloop.store.home import Home

if TYPE_CHECKING:
    from outloop.core.model import Service, Workspace
    from outloop.core.policy.catalogue import CatalogueEntry
    from outloop.operator.attestation import Witnesses
    from outloop.store.approvals import ApprovalStore
    from outloop.store.audit import AuditWriter
    from outloop.store.keychain import Keychain
    from outloop.store.policies import PolicyStore
    from outloop.store.records import Records
    from outloop.store.state import StateStore


class Context:
    """Made once per command. No store is opened, and no module of one imported, before it is used.

    Whatever is asked for raises UsageError when what it opens is broken or not the operator's.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.environ = environ

    @cached_property
    def home(self) -> Home:
        """The home that OUTLOOP_HOME names (default ~/.outloop), made where there is none."""
        home = Home.locate(self.environ)
        home.ensure()
        return home

    @cache  # noqa: B019  (one Context per process)
    def state(self) -> StateStore:
        """What changes: switches, agents, generations, running proxies."""
        from outloop.store.state import StateStore

        return StateStore(self.home.state_db)

    @cache  # noqa: B019
    def approvals(self) -> ApprovalStore:
        """What waits for the operator, and what was approved."""
        from outloop.store.approvals import ApprovalStore

        return ApprovalStore(self.home.state_db)

    @cache  # noqa: B019
    def keychain(self) -> Keychain:
        """The keychain that this home was given at `outloop init`."""
        from outloop.store.keychain import Keychain

        return Keychain.open(self.home, self.state(), self.environ)

    def witnesses(self) -> Witnesses:
        """Whom the record can be held against. Nothing is chosen where the home was given no keychain."""
        from outloop.operator.attestation import witnesses
        from outloop.store.keychain import BACKEND_META, Keychain

        def open_keychain() -> Keychain:
            return Keychain.open(self.home, self.state(), self.environ, may_choose=False)

        return witnesses(self.home, self.state().snapshot().meta.get(BACKEND_META), open_keychain, self.environ)

    @cache  # noqa: B019
    def audit(self) -> AuditWriter:
        """The record, for `append_now`."""
        from outloop.store.audit import AuditWriter

        writer = AuditWriter(self.home.audit_db, time.time)
        click.get_current_context().call_on_close(writer.close)
        return writer

    def record_event(
        self,
        kind: str,
        *,
        workspace: str,
        agent: str | None = None,
        service: str | None = None,
        key: str | None = None,
        host: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Write an event row and return when it is on disk. Raises AuditError when it could not be written."""
        audit = self.audit()
        audit.append_now(audit.event(kind, workspace=workspace, agent=agent, service=service, key=key, host=host, detail=detail))

    @cache  # noqa: B019
    def records(self) -> Records:
        """The record, for reading."""
        from outloop.store.records import Records

        return Records(self.home.audit_db)

    @cache  # noqa: B019
    def catalogue(self) -> Mapping[str, CatalogueEntry]:
        """The services that can be bridged: the shipped ones and the operator's own."""
        from outloop.store.catalogue import load_catalogue

        return load_catalogue(self.home.services)

    @cache  # noqa: B019
    def policies(self) -> PolicyStore:
        """The workspaces' policies, loaded. Raises PolicyError with every problem."""
        from outloop.store.policies import PolicyStore

        store = PolicyStore(self.home.policies, self.catalogue, services=self.home.services)
        store.load()
        return store

    def entry(self, name: str) -> CatalogueEntry:
        """The catalogue's entry for the service *name*. Raises UsageError with the nearest name."""
        found = self.catalogue().get(name)
        if found is None:
            raise UsageError(f"the catalogue has no service {name!r}", _nearest(name, self.catalogue(), "outloop service list"))
        return found

    def workspace(self, name: str) -> Workspace:
        """The policy of the workspace *name*. Raises UsageError with the nearest name."""
        known = self.policies().workspaces
        if name not in known:
            raise no_workspace(name, known)
        return known[name]

    def service(self, name: str, workspace: str) -> Service:
        """The service *name* as *workspace* uses it. Raises UsageError with the nearest name."""
        known = {service.name: service for service in self.workspace(workspace).services}
        if name not in known:
            block = f"`outloop service show {name}` prints what to add to {self.home.policies / workspace}.yaml"
            raise UsageError(
                f"the workspace {workspace} does not use the service {name!r}",
                _nearest(name, known, block if name in self.catalogue() else "outloop service list"),
            )
        return known[name]


def no_workspace(name: str, known: Iterable[str]) -> UsageError:
    """Return what is said of the workspace *name*, which is not among those *known*."""
    return UsageError(f"there is no workspace {name!r}", _nearest(name, known, f"outloop workspace add {name}"))


def _nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    guesses = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean `{guesses[0]}`?" if guesses else otherwise


pass_context = click.make_pass_decorator(Context, ensure=True)
