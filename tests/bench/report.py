"""Figures, the targets they are held to, and the table they are printed as (Markdown, so that it can be pasted)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

_COLUMNS = ("", "direct", "bare mitmdump", "Outloop", "result (min–max of rounds)", "target", "")


@dataclass(frozen=True, slots=True)
class Spread:
    """Figures of several rounds: the one that counts, and the ends, which tell how far to trust it."""

    figure: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Iterable[float]) -> Self:
        """Return the spread of one figure or more; the median counts."""
        found = sorted(figures)
        return cls(statistics.median(found), found[0], found[-1])

    @classmethod
    def best_of(cls, figures: Iterable[float], best: Callable[[list[float]], float]) -> Self:
        """Return the spread of work that waits for nothing: other programs only ever slow it down, so the *best* round counts."""
        found = sorted(figures)
        return cls(best(found), found[0], found[-1])

    def text(self, unit: str, digits: int = 2) -> str:
        """Return figure and ends, in *unit*."""
        return f"{self.figure:.{digits}f}{unit} ({self.low:.{digits}f}–{self.high:.{digits}f})"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that a figure must not pass."""

    text: str
    is_met: Callable[[float], bool]


def at_least(bound: float, unit: str) -> Target:
    """Return the target of *bound* or more."""
    return Target(f"≥ {bound:g}{unit}", lambda figure: figure >= bound)


def at_most(bound: float, unit: str) -> Target:
    """Return the target of *bound* or less."""
    return Target(f"≤ {bound:g}{unit}", lambda figure: figure <= bound)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. A line without a target is there to be read."""

    what: str
    direct: str = ""
    bare: str = ""
    outloop: str = ""
    result: str = ""
    target: Target | None = None
    figure: float = 0.0

    @property
    def is_missed(self) -> bool:
        """Tell whether its target is missed."""
        return self.target is not None and not self.target.is_met(self.figure)

    def cells(self) -> tuple[str, ...]:
        """Return its texts in the order of the columns."""
        mark = "" if self.target is None else "missed" if self.is_missed else "met"
        return self.what, self.direct, self.bare, self.outloop, self.result, self.target.text if self.target else "", mark


def held_to(
    target: Target | None,
    what: str,
    spread: Spread,
    unit: str,
    digits: int = 2,
    *,
    direct: str = "",
    bare: str = "",
    outloop: str = "",
) -> Line:
    """Return the line of a figure, in *unit*, that *target* bounds."""
    return Line(what, direct, bare, outloop, spread.text(unit, digits), target, spread.figure)


def table(lines: Sequence[Line]) -> str:
    """Return *lines* as a Markdown table whose columns line up."""
    rows = [_COLUMNS, *(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    printed = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows]
    printed.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    return "\n".join(printed)


def percentile(figures: Sequence[float], share: float) -> float:
    """Return the figure that *share* (0 to 1) of *figures* stay under."""
    ordered = sorted(figures)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
