"""A benchmark must not flatter: only whole answers of 200 are counted, and a missed target is said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.caller import Job, do
from bench.processes import cpu_s, rss_mb
from bench.report import Line, Spread, Target, at_least, at_most, held_to, table
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import End, Reply, chunked, raw, reply


@dataclass(frozen=True)
class Upstream:
    recorder: Recorder
    authority: Path

    def job(self, kind: str, connections: int = 1, requests: int = 1) -> Job:
        return Job(kind, self.recorder.port, None, str(self.authority), connections=connections, requests=requests)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    authority = Authority()
    with Recorder(authority.server_context("localhost"), reply(b"{}")) as recorder:
        yield Upstream(recorder, authority.write_bundle(tmp_path))


def test_on_kept_connections_each_request_is_timed_but_the_first(upstream: Upstream) -> None:
    result = do(upstream.job("keep-alive", connections=2, requests=6))

    assert len(result.latencies_ms) == 6
    assert len(upstream.recorder.requests) == 8
    assert upstream.recorder.connections == 2


def test_one_shot_opens_a_connection_for_each_request(upstream: Upstream) -> None:
    result = do(upstream.job("one-shot", connections=2, requests=6))

    assert len(result.latencies_ms) == 6
    assert upstream.recorder.connections == 6


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(reply(b"{}", status=403), id="refused"),
        pytest.param(reply(b"{}", status=502), id="upstream-failed"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", End.CLOSE), id="cut-short"),
        pytest.param(chunked(b"{}"), id="length-unknown"),
    ],
)
def test_anything_but_a_whole_answer_of_200_ends_the_job(upstream: Upstream, answer: Reply) -> None:
    upstream.recorder.on("GET /json", reply(b"{}"), answer)

    with pytest.raises(AssertionError):
        do(upstream.job("keep-alive"))


@pytest.mark.parametrize(
    ("target", "figure", "is_missed"),
    [
        pytest.param(at_least(0.85, "×"), 0.85, False, id="just-enough"),
        pytest.param(at_least(0.85, "×"), 0.849, True, id="too-little"),
        pytest.param(at_most(20, " MB"), 20.0, False, id="just-within"),
        pytest.param(at_most(20, " MB"), 20.1, True, id="too-much"),
        pytest.param(at_most(20, " MB"), float("nan"), True, id="not-a-number"),
        pytest.param(None, 1000.0, False, id="no-target"),
    ],
)
def test_a_line_is_held_to_its_target(target: Target | None, figure: float, is_missed: bool) -> None:
    assert held_to(target, "a figure", Spread(figure, figure, figure), "").is_missed is is_missed


def test_one_bad_round_does_not_move_the_figure_but_shows() -> None:
    spread = Spread.of([1.0, 0.9, 0.1, 0.95, 1.05])

    assert spread.text("×") == "0.95× (0.10–1.05)"


def test_the_table_says_what_is_missed() -> None:
    lines = [
        Line("one", result="1", target=at_most(2, ""), figure=1.0),
        Line("two", result="3", target=at_most(2, ""), figure=3.0),
    ]

    rows = table(lines).splitlines()

    assert len({len(row) for row in rows}) == 1
    assert [row.split("|")[-2].strip() for row in rows[2:]] == ["met", "missed"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_processor_time_and_memory_are_those_of_the_process() -> None:
    before_s, before_mb = cpu_s(os.getpid()), rss_mb(os.getpid())
    held = b"\1" * 50_000_000

    assert len(held) == 50_000_000
    assert cpu_s(os.getpid()) > before_s
    assert rss_mb(os.getpid()) > before_mb + 40
