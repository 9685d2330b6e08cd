"""A worker as its supervisor sees it, with other programs in the place of the proxy."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, STDOUT

import pytest

from outloop.proxy import crew
from outloop.proxy.crew import LINE_LIMIT_BYTES, Worker, how_it_ended, relay

LOUD = "for number in range(20_000): print('x' * 100, number)"
LONG = f"print('x' * {LINE_LIMIT_BYTES * 2}); print('after')"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


async def started(program: str) -> Worker:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=PIPE, stderr=STDOUT, limit=LINE_LIMIT_BYTES
    )
    ours, theirs = socket.socketpair()
    theirs.close()
    ours.setblocking(False)
    return Worker(3, process, ours)


def test_one_that_prints_more_than_a_pipe_holds_is_read_to_its_end() -> None:
    async def heard() -> tuple[list[tuple[int, str]], int]:
        worker, said = await started(LOUD), []
        await relay(worker, lambda *each: said.append(each))
        return said, await worker.ended()

    said, code = asyncio.run(heard())

    assert code == 0
    assert len(said) == 20_000
    assert said[-1] == (3, f"{'x' * 100} 19999")


def test_a_line_without_end_does_not_stop_the_reading() -> None:
    async def heard() -> list[str]:
        worker, said = await started(LONG), []
        await relay(worker, lambda _, line: said.append(line))
        await worker.ended()
        return said

    said = asyncio.run(heard())

    assert said[0] == "a line that was too long to be shown"
    assert said[-1] == "after"


def test_one_that_does_not_end_when_told_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PATIENCE_S", 0.2)

    async def ended() -> int:
        worker = await started(DEAF)
        await worker.lines()
        await worker.end()
        return await worker.ended()

    assert asyncio.run(ended()) == -signal.SIGKILL


def test_one_that_ends_before_it_is_ready_is_not() -> None:
    async def ready() -> bool:
        worker = await started("pass")
        answer = await worker.got_ready()
        await worker.ended()
        return answer

    before = time.monotonic()
    assert asyncio.run(ready()) is False
    assert time.monotonic() - before < 30


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "ended with exit code 0"), (2, "ended with exit code 2"), (-9, "was ended by SIGKILL"), (-99, "was ended by signal 99")],
)
def test_how_it_ended_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words
