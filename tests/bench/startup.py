"""How long it takes until the proxy answers a CONNECT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from bench.processes import cpu_s
from bench.report import Line, Spread, Target, at_most, held_to
from bench.stand import Side, Stand

TARGET = at_most(0.6, " s")


def startup(stand: Stand, rounds: int) -> Iterator[Line]:
    """Start both sides in turn; the first start of each, which makes its certificate authority, is not counted."""
    starts = [(_started(stand.bare), _started(stand.outloop)) for _ in range(rounds + 1)][1:]
    yield _line("start-up until a CONNECT is answered, over bare", [(bare[0], outloop[0]) for bare, outloop in starts], TARGET)
    yield _line("… CPU until then, over bare", [(bare[1], outloop[1]) for bare, outloop in starts])


def _line(what: str, pairs_s: list[tuple[float, float]], target: Target | None = None) -> Line:
    bare, outloop = (f"{Spread.of(side).figure:.2f} s" for side in zip(*pairs_s, strict=True))
    more = Spread.of(after - before for before, after in pairs_s)
    return held_to(target, what, more, " s", bare=bare, outloop=outloop)


def _started(start: Callable[[], AbstractContextManager[Side]]) -> tuple[float, float]:
    """Return seconds and seconds of processor time."""
    with start() as side:
        assert side.pid is not None
        return side.started_in_s, cpu_s(side.pid)
