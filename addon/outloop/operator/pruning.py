"""`outloop audit prune`: what goes, what stays, and what vouches for the record afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from outloop.core.errors import NoError, UsageError
from outloop.core.ledger import timestamp
from outloop.operator.attestation import Standing, Witnesses, attest
from outloop.store.anchor import renew
from outloop.store.keychain import Keychain
from outloop.store.prune_plan import Plan, plan_prune
from outloop.store.pruning import Pruner
from outloop.store.seal import Seal

DAY_S = 86_400
# `status` counts today, doctor looks back a day, and a record shorter than a week answers few questions.
LEAST_KEEP_S = 7 * DAY_S


@dataclass(frozen=True, slots=True)
class Pruned:
    """By how much the file became smaller, and how much is free inside it."""

    freed_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Pruning:
    """The record at `path`, and who prunes it. `is_running` tells whether a proxy is; `now` is in seconds since the epoch.

    `witnesses` are asked whether the record is whole; `keychain` opens the home's, or gives it one.
    """

    path: Path
    witnesses: Witnesses
    keychain: Callable[[], Keychain]
    record_event: Callable[[str, str], None]
    made_by: str
    is_running: bool
    now: float

    def plan(self, keep_s: int, passed: Callable[[int], None] = lambda _: None) -> Plan:
        """Return what goes when *keep_s* seconds are kept; *passed* is called as by `Records.verify`.

        Raises UsageError when that is too little; NoError when the record is not whole or its anchor cannot be asked: what would
        be evidence is not pruned.
        """
        if keep_s < LEAST_KEEP_S:
            raise UsageError(
                f"--keep takes at least {LEAST_KEEP_S // DAY_S}d", "a year is 365d; what is kept costs about 1 KB a request"
            )
        found = attest(self.path, self.witnesses, passed)
        if not found.ok:
            raise NoError("nothing was pruned: the record is not proved whole", "outloop audit verify")
        attested = found.anchor.heads if found.anchor and found.standing is Standing.ATTESTED else {}
        cutoff = timestamp(int((self.now - keep_s) * 1000))
        return plan_prune(self.path, cutoff, found.verification.ends, attested if self.is_running else None)

    def carry_out(self, plan: Plan) -> Iterator[int]:
        """Prune as planned, be it nothing, and anchor the record; yield after each step how many appends it took.

        Raises KeychainError before anything is pruned, AuditError as `Pruner.prune` does, NoError as `renew` does.
        """
        keychain = self.keychain()
        seal = Seal.settle(keychain)
        at = timestamp(int(self.now * 1000))
        if plan.appends:
            self.record_event("record_pruned", f"{plan.appends} appends before {plan.cutoff}, by {self.made_by}")
        yield from Pruner(self.path, self.made_by).prune(plan, seal, at)
        renew(self.path, keychain, at)

    def give_back(self) -> Pruned:
        """Give the space of what was pruned back to the file system, as far as that stops no proxy. Raises AuditError."""
        before = self._size()
        free_bytes = Pruner(self.path, self.made_by).give_back(may_stop_writers=not self.is_running)
        return Pruned(before - self._size(), free_bytes)

    def _size(self) -> int:
        return sum(file.stat().st_size for file in (self.path, self.path.with_name(f"{self.path.name}-wal")) if file.exists())
