"""Whether a value is stored already: as a key of another workspace, as a key at all, or as a decoy.

One value must not stand for two things: a token of two workspaces cannot be revoked for one, and a decoy that is a key opens
something.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from outloop.core.errors import KeyMissing, UsageError
from outloop.core.secret import Secret
from outloop.store.keychain import Keychain
from outloop.store.state import KeyRecord, State

TELLING_BYTES = 8  # a stored part shorter than a secret may be is no text to look for inside another


def refuse_other_workspaces(keychain: Keychain, state: State, workspace: str, values: Sequence[Secret]) -> None:
    """Raise UsageError when one of *values* is a key of another workspace than *workspace*."""
    for record, stored in _stored(keychain, state.keys.values()):
        if record.workspace != workspace and any(value == theirs for value in values for theirs in stored):
            raise UsageError(
                f"this value is already stored as {record.name} of workspace {record.workspace}",
                "make a token for each workspace, so that each can be revoked alone; --shared-ok stores it all the same",
            )


def refuse_decoys(keychain: Keychain, state: State, values: Sequence[Secret]) -> None:
    """Raise UsageError when one of *values* is a decoy, or one holds the other."""
    if found := _like(keychain, state.decoys.values(), values):
        raise UsageError(
            f"this value is planted as the decoy {found.name} of workspace {found.workspace}, or one holds the other",
            f"look where it came from; `outloop key remove {found.name} -w {found.workspace}` takes the decoy away",
        )


def refuse_keys(keychain: Keychain, state: State, values: Sequence[Secret]) -> None:
    """Raise UsageError when one of *values* is a stored key, also one before a rotation, or one holds the other."""
    if found := _like(keychain, state.keys.values(), values):
        raise UsageError(
            f"this value is stored as the key {found.name} of workspace {found.workspace}, or one holds the other",
            "a decoy opens nothing: leave --stdin away, and one is made up",
        )


def _like(keychain: Keychain, records: Iterable[KeyRecord], values: Sequence[Secret]) -> KeyRecord | None:
    for record, stored in _stored(keychain, records):
        if any(_is_like(value, theirs) for value in values for theirs in stored):
            return record
    return None


def _is_like(one: Secret, other: Secret) -> bool:
    if len(one.reveal()) < TELLING_BYTES or len(other.reveal()) < TELLING_BYTES:
        return one == other
    return one.reveal() in other.reveal() or other.reveal() in one.reveal()


def _stored(keychain: Keychain, records: Iterable[KeyRecord]) -> Iterator[tuple[KeyRecord, Sequence[Secret]]]:
    for record in records:
        try:
            parts: Mapping[str, Secret] = keychain.get(record.workspace, record.name)
        except KeyMissing:
            continue
        before = keychain.previous(record.workspace, record.name) if record.previous_until is not None else None
        yield record, [*parts.values(), *(before or {}).values()]
