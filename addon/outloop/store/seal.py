"""The seal: the key that signs for the record, and what it last signed. Both live in the keychain alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from outloop.core.errors import KeyMissing
from outloop.core.secret import Secret
from outloop.store.backends import ALIKE, label, load, viable
from outloop.store.keychain import Keychain

ENTRY = "record"


@dataclass(frozen=True, slots=True)
class Seal:
    """An Ed25519 key (RFC 8032), and number and signature of the newest anchor that was made with it.

    Ed25519 rather than a shared secret: whoever is given the record to check needs nothing with which it could be forged.
    """

    key: Ed25519PrivateKey
    number: int = 0
    signature: str = ""

    @classmethod
    def read(cls, keychain: Keychain) -> Seal | None:
        """Return the home's seal, or None where there is none yet. Raises KeyLocked, and KeyMissing for what is not a seal."""
        kept = keychain.own(ENTRY)
        if kept is None:
            return None
        try:
            found = json.loads(kept.reveal())
            key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(found["key"]))
            return cls(key, int(found["number"]), str(found["signature"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise KeyMissing(
                f"the entry #{ENTRY} in {keychain.label} is not one that outloop wrote",
                "find out who changed it; deleting it makes the next stop of a proxy begin anew",
            ) from None

    @classmethod
    def settle(cls, keychain: Keychain) -> Seal:
        """Return the home's seal, made and kept where there is none yet. Raises as `read` does."""
        found = cls.read(keychain)
        if found is None:
            found = cls(Ed25519PrivateKey.generate())
            found.keep(keychain)
        return found

    @property
    def signer(self) -> str:
        """The public half, in hex."""
        return self.key.public_key().public_bytes_raw().hex()

    def sign(self, content: bytes) -> str:
        """Return the signature of *content*, in hex."""
        return self.key.sign(content).hex()

    def keep(self, keychain: Keychain, number: int | None = None, signature: str | None = None) -> None:
        """Put the seal into the keychain, with the newest anchor where one is given."""
        now = self if number is None or signature is None else replace(self, number=number, signature=signature)
        fields = {"key": now.key.private_bytes_raw().hex(), "number": now.number, "signature": now.signature}
        keychain.keep_own(ENTRY, Secret(json.dumps(fields).encode()))


def strays(service: str, folder: Path, recorded: str | None) -> list[str]:
    """Return what people call the OS keychains, other than the *recorded* one, that hold a seal under *service*.

    Which keychain a home has stands in its state.db: whoever can write there could name one of his own. Raises KeyLocked.
    """
    same = ALIKE if recorded in ALIKE else {recorded}
    others = [Keychain(load(name, folder), service, label(name, folder)) for name in viable() if name not in same]
    return [keychain.label for keychain in others if keychain.own(ENTRY) is not None]


def is_signed(signer: str, content: bytes, signature: str) -> bool:
    """Tell whether *signature* is that of *content* by the key with the public half *signer*, both in hex."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True
