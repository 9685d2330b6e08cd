"""The keys of a workspace as the proxy uses them: read in one go, and compiled into what its responses are scrubbed of."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outloop.core.auth import Parts
from outloop.core.errors import KeychainError, KeyLocked, KeyMissing
from outloop.core.exposure import Needles
from outloop.core.model import Service, Workspace
from outloop.core.scrub import MARK, ScrubSet, without
from outloop.core.secret import Secret
from outloop.proxy.minted import MintedTokens, Tokens
from outloop.store.keycache import KeyCache, LoadedKey
from outloop.store.state import KeyRecord, State

SIGNATURES_REMEMBERED = 256
SECRET_BYTES = 8  # the shortest that `outloop key add` takes


@dataclass(frozen=True, slots=True)
class Opened:
    """A workspace's keys in memory: parts and tokens by key name, and what responses are scrubbed and measured by."""

    parts: Mapping[str, Parts]
    tokens: Mapping[str, Tokens]
    scrub_set: ScrubSet
    needles: Needles

    def with_signatures(self, signatures: Sequence[Secret]) -> Opened:
        """Return the same for one exchange whose request bears *signatures*."""
        if not signatures:
            return self
        return Opened(
            self.parts, self.tokens, self.scrub_set.with_signatures(signatures), self.needles.with_signatures(signatures)
        )


NOTHING_OPENED = Opened({}, {}, ScrubSet.compile(()), Needles.compile(()))


@dataclass(frozen=True, slots=True)
class _Kept:
    digest: str
    loaded: Mapping[str, LoadedKey]
    in_grace: frozenset[str]
    opened: Opened

    def stands_for(
        self, digest: str, loaded: Mapping[str, LoadedKey], in_grace: frozenset[str], tokens: Mapping[str, Tokens]
    ) -> bool:
        same_keys = self.loaded.keys() == loaded.keys() and all(self.loaded[name] is key for name, key in loaded.items())
        return same_keys and self.digest == digest and self.in_grace == in_grace and self.opened.tokens == tokens


class Vault:
    """Opens workspaces' keys through the cache, and compiles each set of values once."""

    def __init__(self, cache: KeyCache) -> None:
        self.tokens = MintedTokens()
        self._signatures: deque[Secret] = deque(maxlen=SIGNATURES_REMEMBERED)
        self._cache = cache
        self._kept: dict[str, _Kept] = {}

    async def open(self, workspace: Workspace, service: Service, state: State, now: float) -> Opened:
        """Return the workspace's keys with runtime access on; that of *service* is among them.

        *now* is in seconds since the epoch: until a rotation's grace ends, the value before it is scrubbed too. Raises
        KeyMissing or KeyLocked. A key that is missing elsewhere in the workspace has nothing to scrub; one that cannot be
        read may have, so it refuses.
        """
        records = _usable(workspace, state)
        if not any(record.name == service.key for record in records):
            raise KeyMissing(f"key {service.key} is not stored")
        loaded: dict[str, LoadedKey] = {}
        for (_, name), found in (await self._cache.load(records)).items():
            if isinstance(found, KeyLocked) or (name == service.key and isinstance(found, KeychainError)):
                raise found
            if isinstance(found, LoadedKey):
                loaded[name] = found
        return await self._compiled(workspace, records, loaded, now)

    async def parts_of(self, workspace: Workspace, key: str, state: State) -> Parts:
        """Return the parts of *key* as of *state*. Raises KeyMissing or KeyLocked."""
        found = (await self._cache.load(_usable(workspace, state))).get((workspace.name, key))
        if isinstance(found, LoadedKey):
            return found.parts
        raise found or KeyMissing(f"key {key} is not stored")

    async def renew(self, record: KeyRecord, before: Parts, parts: Parts) -> None:
        """Store *parts* for *before* in the keychain. Raises KeyMissing, KeyLocked and KeyReplaced."""
        await self._cache.renew(record, before, parts)

    def peek(self, workspace: str) -> Opened | None:
        """Return what was opened last, without touching the keychain."""
        kept = self._kept.get(workspace)
        return kept.opened if kept else None

    def others(self, workspace: str) -> list[tuple[str, Needles]]:
        """Return what is in memory of other workspaces than *workspace*."""
        return [(name, kept.opened.needles) for name, kept in self._kept.items() if name != workspace]

    def scrub_sets(self) -> list[ScrubSet]:
        """Return what is in memory of every workspace."""
        return [kept.opened.scrub_set for kept in self._kept.values()]

    def clean(self, text: str) -> str:
        """Return *text*, a log line, without any value now in memory."""
        data = text.encode("utf-8", "surrogateescape")
        for signature in self._signatures:
            data = data.replace(signature.reveal(), MARK)
        text = data.decode("utf-8", "surrogateescape")
        return without(self.scrub_sets(), text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def remember(self, signatures: Sequence[Secret]) -> None:
        """Have log lines cleaned of *signatures*, for as long as few others were made since."""
        self._signatures.extend(signatures)

    def forget(self, workspace: str, key: str) -> None:
        """Have *key* read anew: its value was not taken, or another process may have exchanged it."""
        self._cache.forget(workspace, key)

    async def _compiled(
        self, workspace: Workspace, records: list[KeyRecord], loaded: Mapping[str, LoadedKey], now: float
    ) -> Opened:
        in_grace = frozenset(
            record.name for record in records if record.previous_until is not None and record.previous_until > now
        )
        tokens: dict[str, Tokens] = {}
        if not self.tokens.is_empty:
            tokens = {record.name: found for record in records if (found := self.tokens.of(record, now)) is not None}
        kept = self._kept.get(workspace.name)
        if kept and kept.stands_for(workspace.digest, loaded, in_grace, tokens):
            return kept.opened
        services = {service.key: service for service in workspace.services}
        secrets = [token for found in tokens.values() for token in found.remembered]
        for name, key in loaded.items():
            secrets += secret_values(services.get(name), key.parts)
            if key.previous and name in in_grace:
                secrets += secret_values(services.get(name), key.previous)
        parts = {name: key.parts for name, key in loaded.items()}
        # Some 30 ms for 20 keys: once per change of keys, and not while every other request waits.
        scrub_set, needles = await asyncio.to_thread(lambda: (ScrubSet.compile(secrets), Needles.compile(secrets)))
        opened = Opened(parts, tokens, scrub_set, needles)
        self._kept[workspace.name] = _Kept(workspace.digest, loaded, in_grace, opened)
        return opened


def _usable(workspace: Workspace, state: State) -> list[KeyRecord]:
    return [record for record in state.keys.values() if record.workspace == workspace.name and record.runtime_access]


def secret_values(service: Service | None, parts: Parts) -> list[Secret]:
    """Return what of a key must never come back: its secret parts and what is derived.

    Where no service tells which parts are secret, all are that are long enough to be: a secret part has 8 bytes or more.
    """
    unknown = [value for value in parts.values() if len(value.reveal()) >= SECRET_BYTES]
    if service is None:
        return unknown
    try:
        derived = service.auth.derived(parts)
    except KeyError:
        return unknown
    return [parts[part.name] for part in service.auth.parts if part.is_secret and part.name in parts] + list(derived)
