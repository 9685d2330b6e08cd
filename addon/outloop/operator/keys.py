"""What an operator does with keys: add, switch, rotate, remove, list.

A value goes from the operator's hands into the keychain and is never shown again. Every change is an audit event first and
takes effect second, so that no switch is ever on without a row that says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from outloop.core.auth import Part
from outloop.core.errors import KeychainError, KeyMissing, OutloopError, UsageError
from outloop.core.ledger import timestamp
from outloop.core.secret import Secret
from outloop.operator.likeness import refuse_decoys, refuse_other_workspaces
from outloop.store.keychain import Keychain
from outloop.store.keylock import held
from outloop.store.state import KeyRecord, StateStore, key_taken

Clock = Callable[[], float]
# Stages of a rotation, in the detail of its events: a proof made between `begun` and one of the others counts for nothing.
BEGUN, DONE, GIVEN_UP = "begun", "done", "given up"
TICK_S = 0.002  # longer than the millisecond that ids and events are told apart by
MASK = "••••••••"
LOCK_LIMIT_S = 20.0  # longer than a proxy may take at a token endpoint
DECOY = "decoy"  # in place of a switch


class EventSink(Protocol):
    """Writes an event row and returns when it is on disk; raises AuditError when it is not."""

    def __call__(
        self,
        kind: str,
        *,
        workspace: str,
        agent: str | None = None,
        service: str | None = None,
        key: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Write a row of that kind."""
        ...


@dataclass(frozen=True, slots=True)
class KeyPlan:
    """A key about to be stored: for which service, under which name, of which parts."""

    workspace: str
    service: str
    title: str
    name: str
    parts: tuple[Part, ...]

    @property
    def provider_name(self) -> str:
        """What to call the token at the provider, so that both sides show which is which."""
        return f"outloop-{self.name}"


class Keys:
    """The keys of a home. *open_keychain* is called only by what needs values; *now* returns seconds since the epoch."""

    def __init__(self, state: StateStore, open_keychain: Callable[[], Keychain], record_event: EventSink, now: Clock) -> None:
        self._state = state
        self._open_keychain = open_keychain
        self._record_event = record_event
        self._now = now

    def find(self, workspace: str, named: str) -> KeyRecord:
        """Return the key called *named*, or the only key of the service called so. Raises UsageError, also for a decoy."""
        state = self._state.snapshot()
        if (workspace, named) in state.decoys:
            raise UsageError(
                f"{named} is a decoy: it opens nothing, and is never switched on or given another value",
                f"`outloop key remove {named} -w {workspace}` takes it away",
            )
        records = [record for record in state.keys.values() if record.workspace == workspace]
        exact = [record for record in records if record.name == named]
        found = exact or [record for record in records if record.service == named]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(record.name for record in found)
            raise UsageError(f"workspace {workspace} has several keys for {named}", f"say which: {names}")
        if not records:
            raise UsageError(f"workspace {workspace} has no key", f"`outloop key add SERVICE -w {workspace}` stores one")
        names = ", ".join(record.name for record in records)
        raise UsageError(f"workspace {workspace} has no key {named}", f"it has {names}")

    def refuse_taken(self, plan: KeyPlan) -> None:
        """Raise UsageError when the workspace has a key of that name with a value: before its operator is asked for one."""
        state = self._state.snapshot()
        record = state.keys.get((plan.workspace, plan.name))
        if record is None and (plan.workspace, plan.name) not in state.decoys:
            return
        if record is not None and record.service == plan.service:
            try:
                self._open_keychain().get(plan.workspace, plan.name)
            except KeyMissing:
                return  # its value was lost: adding it again is the way to mend that
        raise key_taken(plan.workspace, plan.name)

    def add(self, plan: KeyPlan, parts: Mapping[str, Secret], *, shared_ok: bool = False) -> str:
        """Store a new key with runtime access off; return the keychain's label.

        Raises UsageError when the name is taken, or when another workspace has the value and not *shared_ok*; KeyLocked when
        it could not be stored, and then nothing was added.
        """
        self.refuse_taken(plan)
        keychain = self._open_keychain()
        self._end_graces(keychain)
        self._refuse_likeness(keychain, plan, parts, shared_ok)
        stored = self._state.snapshot().keys.get((plan.workspace, plan.name))
        if stored is not None:  # its value was lost; nobody uses what a proxy may still remember of it, once this is on record
            self.switch(stored, False)
        self._record_event("key_added", workspace=plan.workspace, service=plan.service, key=plan.name)
        # The record first: of two commands that add one name, one stops here, before it overwrites the other's value.
        if (plan.workspace, plan.name) in self._state.snapshot().keys:
            self._state.set_runtime_access(plan.workspace, plan.name, False)
            self._state.rotate_key(plan.workspace, plan.name, None)
        else:
            self._state.add_key(plan.workspace, plan.name, plan.service, timestamp(int(self._now() * 1000)))
        try:
            keychain.set(plan.workspace, plan.name, parts)
        except KeychainError:
            self._record_event("key_removed", workspace=plan.workspace, service=plan.service, key=plan.name)
            self._state.remove_key(plan.workspace, plan.name)
            raise
        return keychain.label

    def switch(self, record: KeyRecord, on: bool) -> bool:
        """Turn a key's runtime access on or off, from the very next request in every running proxy. False if it was so."""
        if record.runtime_access == on:
            return False
        kind = "key_enabled" if on else "key_disabled"
        self._record_event(kind, workspace=record.workspace, service=record.service, key=record.name)
        self._state.set_runtime_access(record.workspace, record.name, on)
        return True

    def rotate(self, plan: KeyPlan, parts: Mapping[str, Secret], grace_s: float, *, shared_ok: bool = False) -> str:
        """Give a key a new value; return the keychain's label. For *grace_s* seconds the old one is still scrubbed.

        Raises UsageError as `add` does, and when the value is the one that is stored; KeyLocked.
        """
        with held(self._state.folder, plan.workspace, plan.name, LOCK_LIMIT_S):  # not while a proxy exchanges the one before
            return self._rotated(plan, parts, grace_s, shared_ok=shared_ok)

    def _rotated(self, plan: KeyPlan, parts: Mapping[str, Secret], grace_s: float, *, shared_ok: bool) -> str:
        keychain = self._open_keychain()
        self._end_graces(keychain)
        self._refuse_likeness(keychain, plan, parts, shared_ok)
        try:
            before = keychain.get(plan.workspace, plan.name)
        except KeyMissing:
            before = {}
        if before.keys() == parts.keys() and all(before[name] == parts[name] for name in parts):
            raise UsageError("this is the value that is already stored", f"make a new one where {plan.title} gives out tokens")
        self._record_stage(plan, BEGUN)
        try:
            self._replace(keychain, plan, parts, grace_s)
            self._state.rotate_key(plan.workspace, plan.name, self._now() + grace_s if before and grace_s > 0 else None)
        except OutloopError:
            self._record_stage(plan, GIVEN_UP)
            raise
        # Whoever was decided upon before the state changed has an id of an earlier millisecond than the event that ends this.
        time.sleep(TICK_S)
        self._record_stage(plan, DONE)
        return keychain.label

    def remove(self, record: KeyRecord) -> None:
        """Turn a key off, delete its values, then its record. Raises KeyLocked with the key off and still listed."""
        self.switch(record, False)
        self._record_event("key_removed", workspace=record.workspace, service=record.service, key=record.name)
        try:
            self._open_keychain().delete(record.workspace, record.name)
        except KeychainError:
            self._record_event("key_disabled", workspace=record.workspace, service=record.service, key=record.name)
            raise
        self._state.remove_key(record.workspace, record.name)

    def listed(
        self, workspace: str | None, uses: Sequence[Mapping[str, object]], decoy_uses: Sequence[Mapping[str, object]] = ()
    ) -> list[dict[str, object]]:
        """Return a row for each key and decoy, of all workspaces when *workspace* is None.

        *uses* is what `Records.key_uses` returns, *decoy_uses* what `Overview.decoy_uses` does. The keychain is not read: a
        list is not worth a prompt, and of a value nothing is shown, not even how long it is.
        """
        state = self._state.snapshot()
        last = {(use["workspace"], use["key"]): use for use in uses}
        tried = {use["decoy"]: use["last_used"] for use in reversed(decoy_uses)}
        rows = [
            {
                "workspace": record.workspace,
                "key": record.name,
                "service": record.service,
                "value": MASK,
                "runtime_access": "on" if record.runtime_access else "off",
                "added_at": record.added_at,
                "last_used": last.get(key, {}).get("last_used"),
                "last_status": last.get(key, {}).get("last_status"),
            }
            for key, record in state.keys.items()
        ]
        rows += [
            {
                "workspace": record.workspace,
                "key": record.name,
                "service": record.service,
                "value": MASK,
                "runtime_access": DECOY,
                "added_at": record.added_at,
                "last_used": tried.get(f"{record.workspace}/{record.name}"),
                "last_status": None,
            }
            for record in state.decoys.values()
        ]
        return [row for row in rows if workspace in (None, row["workspace"])]

    def _record_stage(self, plan: KeyPlan, stage: str) -> None:
        self._record_event("key_rotated", workspace=plan.workspace, service=plan.service, key=plan.name, detail=stage)

    def _replace(self, keychain: Keychain, plan: KeyPlan, parts: Mapping[str, Secret], grace_s: float) -> None:
        if grace_s > 0:
            keychain.rotate(plan.workspace, plan.name, parts)
        else:
            keychain.delete_previous(plan.workspace, plan.name)
            keychain.set(plan.workspace, plan.name, parts)

    def _refuse_likeness(self, keychain: Keychain, plan: KeyPlan, parts: Mapping[str, Secret], shared_ok: bool) -> None:
        values = [parts[part.name] for part in plan.parts if part.is_secret and part.name in parts]
        state = self._state.snapshot()
        refuse_decoys(keychain, state, values)
        if not shared_ok:
            refuse_other_workspaces(keychain, state, plan.workspace, values)

    def _end_graces(self, keychain: Keychain) -> None:
        """Delete the values before a rotation whose grace is over: nothing old stays in the keychain for good."""
        for record in self._state.snapshot().keys.values():
            if record.previous_until is not None and record.previous_until <= self._now():
                keychain.delete_previous(record.workspace, record.name)
                self._state.end_grace(record.workspace, record.name)
