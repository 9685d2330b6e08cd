"""Throughput, latency and processor time of requests, on kept connections and on one for each request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.caller import Result
from bench.report import Line, Spread, at_least, held_to, percentile
from bench.stand import Side, Stand


@dataclass(frozen=True, slots=True)
class Workload:
    """`requests` in each round, over `connections` at once."""

    kind: str
    connections: int
    requests: int

    @property
    def name(self) -> str:
        """How the table calls it."""
        kind = "keep-alive" if self.kind == "keep-alive" else "one connection per request"
        return f"{kind}, {self.connections} at once"


WORKLOADS = (
    Workload("keep-alive", 1, 240),
    Workload("keep-alive", 8, 480),
    Workload("one-shot", 1, 32),
    Workload("one-shot", 8, 64),
)
TARGET = at_least(0.85, "×")


def traffic(stand: Stand, rounds: int) -> Iterator[Line]:
    """Measure every workload on every side, which take turns."""
    with stand.bare() as bare, stand.outloop() as outloop:
        sides = (stand.direct, bare, outloop)
        for side in sides:
            stand.run(side, "one-shot", 16, 8)
            stand.run(side, "keep-alive", 160, 8)
        for workload in WORKLOADS:
            yield from _lines(workload, _measured(stand, workload, sides, rounds))


def _measured(stand: Stand, workload: Workload, sides: Sequence[Side], rounds: int) -> Mapping[str, list[Result]]:
    results: dict[str, list[Result]] = {side.name: [] for side in sides}
    for number in range(rounds):
        # There and back, so that whatever drifts helps neither side.
        for side in sides if number % 2 == 0 else reversed(sides):
            results[side.name].append(stand.run(side, workload.kind, workload.requests, workload.connections))
    return results


def _lines(workload: Workload, results: Mapping[str, list[Result]]) -> Iterator[Line]:
    direct, bare, outloop = results.values()
    pairs = list(zip(bare, outloop, strict=True))
    yield held_to(
        TARGET,
        f"{workload.name}: requests/s",
        Spread.of(before.wall_s / after.wall_s for before, after in pairs),
        "×",
        direct=_rate(workload, direct),
        bare=_rate(workload, bare),
        outloop=_rate(workload, outloop),
    )
    latency = Spread.of(_percentile([after], 0.5) / _percentile([before], 0.5) for before, after in pairs)
    yield Line("… p50 / p99, ms", _latency(direct), _latency(bare), _latency(outloop), latency.text("×"))
    cpu = Spread.of(after.cpu_s / before.cpu_s for before, after in pairs)
    yield Line("… CPU of the proxy per request, ms", "", _cpu(workload, bare), _cpu(workload, outloop), cpu.text("×"))


def _rate(workload: Workload, results: Sequence[Result]) -> str:
    return f"{Spread.of(workload.requests / result.wall_s for result in results).figure:.0f}"


def _latency(results: Sequence[Result]) -> str:
    return f"{_percentile(results, 0.5):.2f} / {_percentile(results, 0.99):.2f}"


def _percentile(results: Sequence[Result], share: float) -> float:
    return percentile([latency_ms for result in results for latency_ms in result.latencies_ms], share)


def _cpu(workload: Workload, results: Sequence[Result]) -> str:
    return f"{Spread.of(result.cpu_s for result in results).figure / workload.requests * 1000:.2f}"
