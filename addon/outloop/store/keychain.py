"""The keychain of a home: where keys' values live, and the one room that asks for them by name.

An entry's service is `Home.keychain_service`; its user is ``<workspace>/<key>``, with ``#previous`` for the value before the
last rotation. A key of the single part ``token`` is stored as its text, every other key as one JSON object. What Outloop keeps
for itself has a user that begins with ``#``, which no workspace does.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from outloop.core.errors import KeyLocked, KeyMissing, KeyReplaced, UsageError
from outloop.core.secret import Secret
from outloop.store.backends import EMBEDDED, Refusing, choose, label, load
from outloop.store.home import Home
from outloop.store.state import StateStore

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

BACKEND_META = "keychain"
SINGLE_PART = "token"
PREVIOUS = "#previous"


class Keychain:
    """A keychain backend under one service name. `label` is what people call it.

    Every method raises KeyLocked when the backend cannot be used, and never tries another.
    """

    def __init__(self, backend: KeyringBackend, service: str, label: str) -> None:
        self._backend = backend
        self._service = service
        self.label = label

    @classmethod
    def open(cls, home: Home, state: StateStore, environ: Mapping[str, str], *, may_choose: bool = True) -> Keychain:
        """Open the keychain that this home was given; with *may_choose*, give it one when it has none.

        Operators' commands choose; a proxy does not, because what it can reach may not be what its operator can. Raises
        KeyMissing when there is none to open, UsageError for environment variables that name no keychain.
        """
        folder = home.keyring
        recorded = state.snapshot().meta.get(BACKEND_META)
        if recorded is None:
            if not may_choose:
                raise KeyMissing("no key was ever stored in this home", "`outloop key add` stores one")
            recorded = state.settle_meta(BACKEND_META, choose(home.keychain_service, environ, folder))
        elif environ.get("OUTLOOP_KEYRING") == "file" and recorded != EMBEDDED:
            if state.snapshot().keys or state.snapshot().decoys or not may_choose:
                raise KeyLocked(
                    f"OUTLOOP_KEYRING asks for the encrypted file, but this home keeps its keys in {label(recorded, folder)}",
                    "unset OUTLOOP_KEYRING, or set OUTLOOP_HOME to another folder",
                )
            state.set_meta(BACKEND_META, EMBEDDED)  # no key is stored yet: nothing is left behind
            recorded = EMBEDDED
        return cls(load(recorded, folder), home.keychain_service, label(recorded, folder))

    def get(self, workspace: str, key: str) -> dict[str, Secret]:
        """Return the parts of a key by name. Raises KeyMissing when there is no entry, or not one of ours."""
        user = _user(workspace, key)
        text = self._text(user)
        if text is None:
            raise KeyMissing(
                f"key {user} is not in {self.label}", f"`outloop key rotate {key} -w {workspace}` stores its value again"
            )
        return _parts(text, user, self.label)

    def previous(self, workspace: str, key: str) -> dict[str, Secret] | None:
        """Return the parts from before the last rotation, or None."""
        user = _user(workspace, key) + PREVIOUS
        text = self._text(user)
        return None if text is None else _parts(text, user, self.label)

    def set(self, workspace: str, key: str, parts: Mapping[str, Secret]) -> None:
        """Store a key's parts, and make sure that they were kept."""
        self._store(_user(workspace, key), _text_of(parts))

    def rotate(self, workspace: str, key: str, parts: Mapping[str, Secret]) -> None:
        """Store a key's new parts; those before, if there are any, become the previous ones."""
        user = _user(workspace, key)
        before = self._text(user)
        if before is not None:
            self._store(user + PREVIOUS, before)
        self._store(user, _text_of(parts))

    def renew(self, workspace: str, key: str, before: Mapping[str, Secret], parts: Mapping[str, Secret]) -> None:
        """Store *parts* in the place of *before*, which become the previous ones. Nothing changes where *parts* stand already.

        Raises KeyReplaced when neither stands there: somebody else has given the key a value meanwhile, and that one stays.
        """
        stored = self.get(workspace, key)
        if stored == dict(parts):
            return
        if stored != dict(before):
            raise KeyReplaced(f"the key {_user(workspace, key)} got another value meanwhile", "send the request again")
        # The new one first: those before are of no use any more, and these cannot be had again.
        user = _user(workspace, key)
        self._store(user, _text_of(parts))
        self._store(user + PREVIOUS, _text_of(before))

    def delete(self, workspace: str, key: str) -> None:
        """Delete a key's parts, previous ones too. Entries that are not there are no error."""
        self._delete(_user(workspace, key))
        self.delete_previous(workspace, key)

    def delete_previous(self, workspace: str, key: str) -> None:
        """Delete the parts from before the last rotation, if there are any."""
        self._delete(_user(workspace, key) + PREVIOUS)

    def own(self, name: str) -> Secret | None:
        """Return what Outloop keeps for itself under *name*, or None."""
        text = self._text(f"#{name}")
        return None if text is None else Secret(text.encode())

    def keep_own(self, name: str, value: Secret) -> None:
        """Keep something of Outloop's own under *name*, outside the space of keys."""
        self._store(f"#{name}", value.reveal().decode())

    def _text(self, user: str) -> str | None:
        with Refusing(self.label):
            return self._backend.get_password(self._service, user)

    def _store(self, user: str, text: str) -> None:
        with Refusing(self.label):
            self._backend.set_password(self._service, user, text)
        kept = self._text(user)
        if kept is None or not hmac.compare_digest(kept.encode(), text.encode()):
            raise KeyLocked(f"{self.label} did not keep the value of {user}", "look whether it takes values of this length")

    def _delete(self, user: str) -> None:
        if self._text(user) is not None:
            with Refusing(self.label):
                self._backend.delete_password(self._service, user)


def _user(workspace: str, key: str) -> str:
    for name in (workspace, key):
        if not name or not name.isascii() or not name.isprintable() or set(name) & set("/# "):
            raise UsageError(f"{name!r} cannot name a keychain entry", "use letters, digits, `-` and `_`")
    return f"{workspace}/{key}"


def _text_of(parts: Mapping[str, Secret]) -> str:
    if parts.keys() == {SINGLE_PART}:
        text = parts[SINGLE_PART].reveal().decode()
        if not text.startswith("{"):  # else it would be read back as an object
            return text
    return json.dumps({name: part.reveal().decode() for name, part in parts.items()}, ensure_ascii=False)


def _parts(text: str, user: str, label: str) -> dict[str, Secret]:
    if not text.startswith("{"):
        return {SINGLE_PART: Secret(text.encode())}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found or not all(isinstance(value, str) for value in found.values()):
        raise KeyMissing(
            f"the entry {user} in {label} is not one that outloop wrote", "store the value again with `outloop key rotate`"
        )
    return {name: Secret(value.encode()) for name, value in found.items()}
