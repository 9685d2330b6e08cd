"""What a running proxy holds open, and what it does beside the requests: reload policy, watch its script, listen to SIGHUP."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from outloop.core.approvals import Approval
from outloop.core.errors import AuditError, KeyMissing, OutloopError, UsageError
from outloop.core.ledger import timestamp
from outloop.core.model import Workspace
from outloop.proxy.decoys import Alarm, Decoys
from outloop.proxy.notification import Notifier
from outloop.proxy.vault import Vault
from outloop.store.anchor import renew
from outloop.store.approvals import ApprovalStore
from outloop.store.audit import AuditWriter
from outloop.store.authority import Authority, ensure_authority
from outloop.store.backends import EMBEDDED, Refusing, within
from outloop.store.catalogue import load_catalogue
from outloop.store.home import Home
from outloop.store.keycache import READ_LIMIT_S, KeyCache
from outloop.store.keychain import BACKEND_META, Keychain
from outloop.store.policies import PolicyStore
from outloop.store.state import StateStore

RELOAD_INTERVAL_S = 0.5
SWEEP_INTERVAL_S = 5.0

logger = logging.getLogger("mitmproxy.outloop")


def clock_ms() -> int:
    """Return milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Runtime:
    """The stores of one home, open. Made before the proxy listens; every failure to make it refuses to start."""

    home: Home
    state: StateStore
    approvals: ApprovalStore
    policies: PolicyStore
    audit: AuditWriter
    vault: Vault
    authority: Authority
    open_keychain: Callable[[], Keychain]
    notifier: Notifier
    decoys: Decoys = field(init=False)
    alarm: Alarm = field(init=False)
    background: list[asyncio.Task[None]] = field(default_factory=list)
    reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    loaded: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, home: Home, policies: Path, environ: Mapping[str, str]) -> Runtime:
        """Open everything under *home*. Raises UsageError, PolicyError or AuditError."""
        home.ensure()
        authority = ensure_authority(home, datetime.now(UTC))
        state = StateStore(home.state_db)
        state.snapshot()
        policy_store = PolicyStore(policies, lambda: load_catalogue(home.services), services=home.services)
        policy_store.load()
        audit = AuditWriter(home.audit_db, time.time)
        audit.start()

        def open_keychain() -> Keychain:
            return Keychain.open(home, state, environ, may_choose=False)

        cache = KeyCache(open_keychain)
        notifier = Notifier.find(environ)
        approvals = ApprovalStore(home.state_db)
        runtime = cls(home, state, approvals, policy_store, audit, Vault(cache), authority, open_keychain, notifier)
        runtime.decoys = Decoys(cache, state, runtime.event)
        runtime.alarm = Alarm(runtime.event, notifier)
        runtime.decoys.refresh()  # before anything is listened to: there is no moment in which a decoy may be used unseen
        return runtime

    @property
    def workspaces(self) -> Mapping[str, Workspace]:
        """The policies in force."""
        return self.policies.workspaces

    def event(self, kind: str, **fields: str | None) -> None:
        """Record something other than a request."""
        self.audit.append(self.audit.event(kind, **fields))

    def approval_event(self, kind: str, approval: Approval) -> None:
        """Record what became of *approval*."""
        asked = approval.asked
        self.event(
            kind,
            workspace=asked.workspace,
            agent=asked.agent or None,
            service=asked.service,
            host=asked.host,
            detail=approval.line(),
        )

    def watch(self, script: Path | None) -> None:
        """Start what goes on beside the requests; needs the running event loop."""
        self._record_policies()
        loop = asyncio.get_running_loop()
        self.background.append(loop.create_task(self._reloading(), name="outloop policy reload"))
        self.background.append(loop.create_task(self._sweeping(), name="outloop approvals"))
        self.background.append(loop.create_task(self.decoys.follow(), name="outloop decoys"))
        if script is not None:
            self.background.append(loop.create_task(self._watching(script), name="outloop script watch"))
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(self._reload(), name="outloop SIGHUP"))

    def close(self) -> None:
        """Stop what `watch` started, write what is still to be written, and anchor the record."""
        for task in self.background:
            task.cancel()
        self.state.unregister_proxy(os.getpid())
        self.approvals.close()
        try:
            self.audit.close()
        except AuditError as error:
            logger.error("outloop: %s", error.message)
        try:
            self._anchor()
        except OutloopError as error:
            logger.error("outloop: %s (%s)", error.message, error.hint)
        self.state.close()

    def _anchor(self) -> None:
        """Anchor the record in the keychain; what keeps it from that is an event. Waits no longer than a request would."""
        state = self.state.snapshot()
        if BACKEND_META not in state.meta:
            return  # no key was ever stored here, and so there is no keychain
        own = (self.audit.writer, self.audit.head)

        def renewed() -> None:
            with Refusing("the keychain"):
                if state.meta[BACKEND_META] == EMBEDDED and state.keys and not self.home.keyring.exists():
                    raise KeyMissing(f"{self.home.keyring} is gone", "restore it: it held the keys")  # and is not begun anew here
                renew(self.home.audit_db, self.open_keychain(), timestamp(clock_ms()), own)

        try:
            within(READ_LIMIT_S, renewed, "the keychain")
        except OutloopError as error:
            logger.error("outloop: the record was not anchored in the keychain: %s (%s)", error.message, error.hint)
            if self.home.audit_db.exists():  # one that was deleted is not to be begun anew for that
                with closing(AuditWriter(self.home.audit_db, time.time)) as audit:
                    audit.append_now(audit.event("record_not_anchored", detail=error.message))

    async def _reloading(self) -> None:
        while True:
            await asyncio.sleep(RELOAD_INTERVAL_S)
            try:
                await self._reload()
                if not self.vault.tokens.is_empty:
                    self.vault.tokens.drop_disabled(self.state.snapshot().keys)
            except Exception as error:  # noqa: BLE001  (the last good policy stays, and it is tried again)
                logger.error("outloop: policies could not be read again: %s", error)
                self.event("policy_refused", detail=f"policies could not be read again: {type(error).__name__}")

    async def _reload(self) -> None:
        async with self.reloading:  # SIGHUP may come while the clock's own reload is under way
            found = await asyncio.to_thread(self.policies.reload, time.monotonic())
        for line in found.changes:
            logger.warning("outloop: policy: %s", line)
        for problem in found.problems:
            logger.warning("outloop: policy refused, the last good one stays in force: %s", problem)
        if found.changes:
            self.event("policy_reloaded", detail="; ".join(found.changes))
        if found.problems:
            self.event("policy_refused", detail="; ".join(map(str, found.problems)))
        self._record_policies()

    def _record_policies(self) -> None:
        """Record the digest of each policy that is in force from now on: what was proved under another is claimed no longer."""
        now = {name: workspace.digest for name, workspace in self.workspaces.items()}
        for name in sorted(now.keys() | self.loaded.keys()):
            if now.get(name) != self.loaded.get(name):
                self.event("policy_loaded", workspace=name, detail=now.get(name))
        self.loaded = now

    async def _sweeping(self) -> None:
        """Expire approvals in time, so that what they show of a request does not stay."""
        while True:
            try:
                if self.approvals.has_ended(time.time()):
                    for expired in await asyncio.to_thread(self.approvals.sweep, time.time()):
                        self.approval_event("approval_expired", expired)
            except UsageError as error:
                logger.warning("outloop: approvals cannot be tidied: %s", error.message)
            await asyncio.sleep(SWEEP_INTERVAL_S)

    async def _watching(self, script: Path) -> None:
        seen = _signature(script)
        while True:
            await asyncio.sleep(RELOAD_INTERVAL_S)
            now = _signature(script)
            if now != seen:
                seen = now
                what = "deleted" if now is None else "edited"
                logger.warning("outloop: the script was %s; the running proxy is unchanged, restart it to load another", what)
                self.event("script_changed", detail=what)


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
