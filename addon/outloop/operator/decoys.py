"""What an operator does with decoys: plant them, and take them away.

A decoy is stored as a key is, but for the parts that are no secret: a user name that others have too must not ring an alarm.
Its record is none of the keys', so nothing that switches, rotates, proves or injects a key can come upon one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from outloop.core.auth import Part
from outloop.core.errors import KeychainError, UsageError
from outloop.core.ledger import timestamp
from outloop.core.lookalike import DEFAULT_NAME_SHAPE, DEFAULT_SHAPE, lookalike
from outloop.core.policy import CatalogueEntry
from outloop.core.secret import Secret
from outloop.operator.keys import Clock, EventSink, KeyPlan
from outloop.operator.likeness import refuse_decoys, refuse_keys
from outloop.store.keychain import Keychain
from outloop.store.state import KeyRecord, StateStore, key_taken

MIN_LENGTH = 16  # shorter ones are met by chance, and every one of them would be an alarm
SUFFIX = "-decoy"

Values = Mapping[str, Secret]


@dataclass(frozen=True, slots=True)
class DecoyPlan:
    """A decoy about to be planted, and what its values look like.

    `policy_keys` are the names by which the workspace's policy calls keys, `placeholders` what tools are given in place of one.
    """

    key: KeyPlan
    shape: str
    policy_keys: frozenset[str]
    placeholders: tuple[str, ...]


def decoy_plan(
    plan: KeyPlan, name: str | None, entry: CatalogueEntry | None, policy_keys: Iterable[str], placeholders: Iterable[str]
) -> DecoyPlan:
    """Return the plan for a decoy of *plan*'s service, called *name* or else after the key that it resembles."""
    named = replace(plan, name=name or f"{plan.name}{SUFFIX}")
    shape = entry.token_shape if entry is not None and entry.token_shape else DEFAULT_SHAPE
    return DecoyPlan(named, shape, frozenset(policy_keys), tuple(placeholders))


def made_up(plan: DecoyPlan, choose: Callable[[str], str]) -> dict[str, Secret]:
    """Return values for every part of the key that look like the service's own; *choose* picks a character at random."""
    return {part.name: Secret(lookalike(_shape(plan, part), choose).encode()) for part in plan.key.parts}


def _shape(plan: DecoyPlan, part: Part) -> str:
    return plan.shape if part.is_secret else DEFAULT_NAME_SHAPE


class DecoyKeeper:
    """The decoys of a home. *now* returns seconds since the epoch."""

    def __init__(self, state: StateStore, open_keychain: Callable[[], Keychain], record_event: EventSink, now: Clock) -> None:
        self._state = state
        self._open_keychain = open_keychain
        self._record_event = record_event
        self._now = now

    def refuse_taken(self, plan: DecoyPlan) -> None:
        """Raise UsageError when the name is taken, or meant for a key: before a value is made up or asked for."""
        workspace, name = plan.key.workspace, plan.key.name
        if name in plan.policy_keys:
            raise UsageError(f"{name} is what the policy of {workspace} calls a key", "--name calls the decoy something else")
        state = self._state.snapshot()
        if (workspace, name) in {**state.keys, **state.decoys}:
            raise key_taken(workspace, name)

    def plant(self, plan: DecoyPlan, values: Values) -> str:
        """Store *values* as a decoy; return the keychain's label.

        Raises UsageError when the name is taken, or a value is too short, a placeholder, or like a stored key or decoy;
        KeyLocked when it could not be stored, and then nothing was planted.
        """
        self.refuse_taken(plan)
        workspace, name, label = plan.key.workspace, plan.key.name, f"{plan.key.workspace}/{plan.key.name}"
        counting = {part.name: values[part.name] for part in plan.key.parts if part.is_secret}
        _refuse_common(list(counting.values()), plan.placeholders)
        keychain, state = self._open_keychain(), self._state.snapshot()
        refuse_keys(keychain, state, list(counting.values()))
        refuse_decoys(keychain, state, list(counting.values()))
        self._record_event("decoy_planted", workspace=workspace, detail=label)
        self._state.add_decoy(workspace, name, plan.key.service, timestamp(int(self._now() * 1000)))
        try:
            keychain.set(workspace, name, counting)
        except KeychainError:
            self._record_event("decoy_removed", workspace=workspace, detail=label)
            self._state.remove_key(workspace, name)
            raise
        return keychain.label

    def find(self, workspace: str, name: str) -> KeyRecord | None:
        """Return the decoy of exactly that name."""
        return self._state.snapshot().decoys.get((workspace, name))

    def remove(self, record: KeyRecord) -> None:
        """Delete a decoy's value, then its record. Raises KeyLocked with the decoy still listed, and still watched for."""
        label = f"{record.workspace}/{record.name}"
        self._record_event("decoy_removed", workspace=record.workspace, detail=label)
        try:
            self._open_keychain().delete(record.workspace, record.name)
        except KeychainError:
            self._record_event("decoy_planted", workspace=record.workspace, detail=label)
            raise
        self._state.remove_key(record.workspace, record.name)


def _refuse_common(values: Sequence[Secret], placeholders: Sequence[str]) -> None:
    for text in (value.reveal().decode() for value in values):
        if len(text) < MIN_LENGTH:
            raise UsageError(
                f"a decoy has {MIN_LENGTH} characters or more: a shorter text is met by chance",
                "leave --stdin away, and one is made up",
            )
        if any(text in placeholder for placeholder in placeholders):
            raise UsageError("this is what tools are given in place of a key, and no decoy", "leave --stdin away")
