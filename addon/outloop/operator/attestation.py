"""What vouches for the record: its own chains, the file of heads, and the anchor in the keychain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from outloop.core.errors import KeychainError
from outloop.store.anchor import Anchor, examine
from outloop.store.backends import PROBE_LIMIT_S, Refusing, within
from outloop.store.checkpoints import forged
from outloop.store.home import Home
from outloop.store.keychain import Keychain
from outloop.store.records import Records
from outloop.store.seal import Seal, strays
from outloop.store.verification import Verification


class Standing(Enum):
    """What the anchor says of the record. UNCHECKED: the keychain was asked in vain; UNASKED: it was not asked."""

    ATTESTED = "attested"
    NONE = "none yet"
    UNCHECKED = "unchecked"
    UNASKED = "not asked"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True)
class Attestation:
    """The record as it was read, and what its anchor says. `note` says why it is not attested; `hint` what to do."""

    verification: Verification
    standing: Standing
    anchor: Anchor | None = None
    note: str = ""
    hint: str | None = None

    @property
    def ok(self) -> bool:
        """Tell whether the record is whole, and nothing that could contradict it failed to be heard."""
        return self.verification.ok and self.standing in (Standing.ATTESTED, Standing.NONE, Standing.UNASKED)

    @property
    def newer(self) -> int:
        """How many appends came after the anchor."""
        if self.anchor is None:
            return 0
        pruned = sum(each.removed for each in self.verification.checkpoints)
        return max(0, self.verification.rows + pruned - self.anchor.appends)


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Whom `attest` asks: `open_keychain`, None where the home never had one, and `strays`, what names other keychains that
    hold a seal of this home."""

    open_keychain: Callable[[], Keychain] | None
    strays: Callable[[], Sequence[str]]


def witnesses(home: Home, recorded: str | None, open_keychain: Callable[[], Keychain], environ: Mapping[str, str]) -> Witnesses:
    """Return whom the record of *home* can be held against; *recorded* names the keychain that its state says it was given.

    ``OUTLOOP_KEYRING=file`` says that there are no OS keychains here.
    """

    def elsewhere() -> Sequence[str]:
        return () if environ.get("OUTLOOP_KEYRING") == "file" else strays(home.keychain_service, home.keyring, recorded)

    return Witnesses(open_keychain if recorded else None, elsewhere)


def attest(path: Path, witnesses: Witnesses | None, passed: Callable[[int], None] = lambda _: None) -> Attestation:
    """Verify the record at *path* and, unless *witnesses* is None, ask them; *passed* is called as by `Records.verify`.

    Raises UsageError when there is no record, AuditError when it cannot be read.
    """
    found = Records(path).verify(passed)
    if witnesses is None:
        return Attestation(found, Standing.UNASKED, note="the keychain was not asked")
    try:
        seal, elsewhere = _heard(witnesses)
    except KeychainError as error:
        return Attestation(found, Standing.UNCHECKED, note=error.message, hint=error.hint)
    anchor, fault = examine(path, seal)
    if fault or (fault := _fault_of_seal(found, seal, elsewhere)):
        return Attestation(found, Standing.CONTRADICTED, anchor, fault)
    if anchor is None:
        return Attestation(found, Standing.NONE, note=_NOT_YET if witnesses.open_keychain else _NO_KEYCHAIN)
    return Attestation(found, Standing.ATTESTED, anchor)


_NOT_YET = "a proxy anchors it when it stops"
_NO_KEYCHAIN = "no key was ever stored here, so there is no keychain to anchor it in"


def _fault_of_seal(found: Verification, seal: Seal | None, elsewhere: Sequence[str]) -> str:
    if elsewhere:
        return f"{elsewhere[0]} holds its seal, but state.db names another keychain"
    if seal is None:
        return "the keychain no longer holds the key that signed the checkpoints" if found.checkpoints else ""
    false = forged(found.checkpoints, seal.signer)
    return f"checkpoint {false.number} is forged: the key in the keychain did not sign it" if false else ""


def _heard(witnesses: Witnesses) -> tuple[Seal | None, Sequence[str]]:
    def ask() -> tuple[Seal | None, Sequence[str]]:
        with Refusing("the keychain"):
            seal = Seal.read(witnesses.open_keychain()) if witnesses.open_keychain else None
            return seal, witnesses.strays()

    return within(PROBE_LIMIT_S, ask, "the keychain")
