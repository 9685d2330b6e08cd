"""How long a server-sent event is under way, from the upstream's hand to the caller's."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench.report import Line, Spread, at_most, held_to
from bench.stand import Stand

EVENTS = 10
TARGET = at_most(5, " ms")


def streaming(stand: Stand, rounds: int) -> Iterator[Line]:
    """Compare the first event of a stream, which waits for the head, and those after it, with the direct way."""
    first: dict[str, list[float]] = {}
    later: dict[str, list[float]] = {}
    with stand.outloop() as outloop:
        stand.run(outloop, "events", EVENTS)
        for _ in range(rounds):
            for side in (stand.direct, outloop):
                delays_ms = stand.run(side, "events", EVENTS).latencies_ms
                first.setdefault(side.name, []).append(delays_ms[0])
                later.setdefault(side.name, []).append(statistics.median(delays_ms[1:]))
    for what, delays in (("first event of a stream", first), ("events after it", later)):
        direct_ms, outloop_ms = delays.values()
        more = Spread.of(after - before for before, after in zip(direct_ms, outloop_ms, strict=True))
        direct, bridged = (f"{statistics.median(side):.2f} ms" for side in (direct_ms, outloop_ms))
        yield held_to(TARGET, f"{what}, delay over direct", more, " ms", direct=direct, outloop=bridged)
