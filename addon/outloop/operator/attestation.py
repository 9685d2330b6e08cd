"""What vouches for the record: its own chains, the file of heads, and the anchor in the keychain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from outloop.core.errors import KeychainError
from outloop.store.anchor import Anchor, anchor_path, examine
from outloop.store.backends import PROBE_LIMIT_S, Refusing, within
from outloop.store.checkpoints import forged
from outloop.store.keychain import Keychain
from outloop.store.records import Records
from outloop.store.seal import Seal
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


def attest(path: Path, open_keychain: Callable[[], Keychain] | None, *, ask: bool = True) -> Attestation:
    """Verify the record at *path* and, with *ask*, ask the keychain; *open_keychain* is None where the home never had one.

    Raises UsageError when there is no record, AuditError when it cannot be read.
    """
    found = Records(path).verify()
    if not ask:
        return Attestation(found, Standing.UNASKED, note="the keychain was not asked")
    is_sealed = bool(found.checkpoints) or anchor_path(path).exists()
    if open_keychain is None and not is_sealed:
        return Attestation(found, Standing.NONE, note="no key was ever stored here, so there is no keychain to anchor it in")
    try:
        seal = _seal(open_keychain) if open_keychain else None
    except KeychainError as error:
        return Attestation(found, Standing.UNCHECKED, note=error.message, hint=error.hint)
    anchor, fault = examine(path, seal)
    if not fault and seal is not None and (false := forged(found.checkpoints, seal.signer)):
        fault = f"checkpoint {false.number} is forged: the key in the keychain did not sign it"
    if not fault and seal is None and found.checkpoints:
        fault = "the keychain no longer holds the key that signed the checkpoints"
    if fault:
        return Attestation(found, Standing.CONTRADICTED, anchor, fault)
    if anchor is None:
        return Attestation(found, Standing.NONE, note="a proxy anchors it when it stops")
    return Attestation(found, Standing.ATTESTED, anchor)


def _seal(open_keychain: Callable[[], Keychain]) -> Seal | None:
    def read() -> Seal | None:
        with Refusing("the keychain"):
            return Seal.read(open_keychain())

    return within(PROBE_LIMIT_S, read, "the keychain")
