"""Decoys: values planted where an agent might find them, which open nothing and whose use is an alarm.

A decoy that has been found may be tried by an agent of any workspace, so all decoys of a home are one set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from outloop.core.exposure import Needles
from outloop.core.scrub import ScrubSet
from outloop.core.secret import Secret


@dataclass(frozen=True, slots=True, repr=False)
class Decoy:
    """What was planted under one name in one workspace; each of `values` is the decoy."""

    workspace: str
    name: str
    values: tuple[Secret, ...]
    needles: Needles

    @classmethod
    def of(cls, workspace: str, name: str, values: Iterable[Secret]) -> Decoy:
        """Prepare *values* for looking."""
        kept = tuple(values)
        return cls(workspace, name, kept, Needles.compile(kept))

    @property
    def label(self) -> str:
        """What an operator calls it: ``workspace/name``."""
        return f"{self.workspace}/{self.name}"


@dataclass(frozen=True, slots=True, repr=False)
class DecoySet:
    """All decoys in memory, compiled. Immutable: made once per change of them."""

    decoys: tuple[Decoy, ...]
    needles: Needles
    scrub_set: ScrubSet

    @classmethod
    def compile(cls, decoys: Iterable[Decoy]) -> DecoySet:
        """Compile *decoys*, perhaps none."""
        kept = tuple(decoys)
        values = [value for decoy in kept for value in decoy.values]
        return cls(kept, Needles.compile(values), ScrubSet.compile(values))

    def __bool__(self) -> bool:
        return bool(self.decoys)

    def found_in(self, text: bytes) -> tuple[Decoy, ...]:
        """Return the decoys that stand in *text*."""
        return tuple(decoy for decoy in self.decoys if decoy.needles.stand_in(text))
