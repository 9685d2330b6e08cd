"""What `outloop approvals --watch` has on the screen, and what a key does: no terminal, no clock, no store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from outloop.core.approvals import Approval, Status

# A key that is pressed as the list changes was meant for what stood there before.
SETTLE_S = 0.7
UP, DOWN, ENTER, ESCAPE, BACKSPACE = "up", "down", "enter", "escape", "backspace"
LONGEST_BECAUSE = 200


@dataclass(frozen=True, slots=True)
class Deed:
    """What the operator decided: approve, or refuse with a reason ("" for none)."""

    approval: Approval
    is_yes: bool
    because: str = ""


@dataclass(frozen=True, slots=True)
class Screen:
    """The list, the chosen one by its id, and what is being typed.

    `chosen_at` is when the choice moved by itself, in seconds; `because` is None unless a reason is being typed; `note` is one
    line about what happened last.
    """

    approvals: tuple[Approval, ...] = ()
    chosen: str = ""
    chosen_at: float = float("-inf")
    because: str | None = None
    note: str = ""
    is_over: bool = False

    def shows(self, approvals: Sequence[Approval], now: float) -> Screen:
        """Return the screen with *approvals* as they are at *now*. The choice stays with its request, not with its line."""
        ids = [approval.id for approval in approvals]
        if self.chosen in ids or not ids:
            return replace(
                self, approvals=tuple(approvals), chosen=self.chosen if ids else "", because=self.because if ids else None
            )
        first = next((approval.id for approval in approvals if approval.status is Status.PENDING), ids[0])
        return replace(self, approvals=tuple(approvals), chosen=first, chosen_at=now, because=None)

    @property
    def choice(self) -> Approval | None:
        """The chosen approval."""
        return next((approval for approval in self.approvals if approval.id == self.chosen), None)

    def around_choice(self, most: int) -> tuple[Approval, ...]:
        """Return at most *most* lines of the list, the chosen one among them."""
        ids = [approval.id for approval in self.approvals]
        place = ids.index(self.chosen) if self.chosen in ids else 0
        first = max(0, min(place - most // 2, len(ids) - most))
        return self.approvals[first : first + most]

    def pressed(self, key: str, now: float) -> tuple[Screen, Deed | None]:
        """Return the screen after *key* was pressed at *now*, and what is to be done."""
        if self.because is not None:
            return self._typed(key)
        if key == "q":
            return replace(self, is_over=True), None
        if key in (UP, DOWN, "k", "j"):
            return self._moved(-1 if key in (UP, "k") else 1), None
        choice = self.choice
        if key not in ("a", "r") or choice is None:
            return self, None
        if now - self.chosen_at < SETTLE_S:
            return replace(self, note="the list has just changed: look again, then press the key again"), None
        if key == "r":
            return replace(self, because="", note=""), None
        if choice.status is not Status.PENDING:
            return replace(self, note=f"{choice.short_id} is {choice.status.value} already; r ends it"), None
        return self, Deed(choice, is_yes=True)

    def _typed(self, key: str) -> tuple[Screen, Deed | None]:
        assert self.because is not None
        choice = self.choice
        if key == ENTER and choice is not None:
            return replace(self, because=None), Deed(choice, is_yes=False, because=self.because)
        if key in (ENTER, ESCAPE):
            return replace(self, because=None), None
        if key == BACKSPACE:
            return replace(self, because=self.because[:-1]), None
        is_text = len(key) == 1 and key.isprintable()
        return (replace(self, because=(self.because + key)[:LONGEST_BECAUSE]) if is_text else self), None

    def _moved(self, step: int) -> Screen:
        ids = [approval.id for approval in self.approvals]
        if self.chosen not in ids:
            return self
        place = min(max(ids.index(self.chosen) + step, 0), len(ids) - 1)
        return replace(self, chosen=ids[place], chosen_at=float("-inf"), note="")


def age(seconds: float) -> str:
    """Return a length of time in its largest whole unit: ``42s``, ``7m``, ``3h``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m" if whole < 3600 else f"{whole // 3600}h"
