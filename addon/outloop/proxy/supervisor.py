"""`outloop up --workers N`: several processes behind one address, each a proxy of its own, and one that keeps them running.

What decides is in the home, which all of them read at every request: switches, tokens, limits, approvals. Each has its own
chain in the record and its own values in memory, so that a keychain which asks its owner does so once for each.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from contextlib import suppress

from outloop.core.errors import AuditError, OutloopError
from outloop.proxy.chorus import Chorus
from outloop.proxy.crew import Worker, how_it_ended, relay
from outloop.proxy.listening import announce, bound
from outloop.store.audit import AuditWriter
from outloop.store.home import Home

PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # before a worker is started again, by how often in a row it died
STEADY_S = 60.0  # one that lived so long begins anew with the shortest


def run(home: Home, port: int, workers: int) -> int:
    """Run *workers* proxies on loopback at *port* until SIGINT or SIGTERM, and return the exit code.

    That of a worker which cannot start where no other answers; it has said why. Raises UsageError when *port* cannot be had.
    """
    with bound(port) as listening:
        return asyncio.run(Supervisor(home, listening, workers).run())


class Supervisor:
    """Starts workers on *listening*, starts those again that die, and ends all of them."""

    def __init__(self, home: Home, listening: socket.socket, workers: int) -> None:
        self._home = home
        self._listening = listening
        self._workers = workers
        self._running: set[Worker] = set()
        self._relays: set[asyncio.Task[None]] = set()
        self._chorus = Chorus()
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self._writer: AuditWriter | None = None

    async def run(self) -> int:
        """Return the exit code, once all have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        work = loop.create_task(self._work(), name="outloop workers")
        told = loop.create_task(self._stopping.wait(), name="outloop stop")
        try:
            await asyncio.wait((work, told), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            return self._exit_code
        finally:
            work.cancel()
            told.cancel()
            with suppress(asyncio.CancelledError):
                await work
            await asyncio.gather(*(worker.end() for worker in self._running))
            await asyncio.gather(*self._relays)
            if self._writer is not None:
                with suppress(AuditError):
                    await asyncio.to_thread(self._writer.close)

    async def _work(self) -> None:
        # The first alone: what keeps it from starting would be said by each of the others too.
        first = await self._start(0)
        if not await first.got_ready():
            self._exit_code = await first.ended() or 1
            return
        others = await asyncio.gather(*(self._start(number) for number in range(1, self._workers)))
        await asyncio.gather(*(other.got_ready() for other in others))
        announce(self._listening.getsockname()[1], self._workers)
        async with asyncio.TaskGroup() as group:
            for worker in (first, *others):
                group.create_task(self._keep(worker), name=f"outloop worker {worker.number}")

    async def _keep(self, worker: Worker) -> None:
        """Start *worker* again whenever it dies, as long as there is one that answers."""
        deaths = 0
        while True:
            code = await worker.ended()
            self._running.discard(worker)
            if not worker.is_ready and not any(other.is_ready for other in self._running):
                self._exit_code = abs(code) or 1
                self._stopping.set()
                return
            deaths = 0 if time.monotonic() - worker.since_s > STEADY_S else deaths
            pause_s = PAUSES_S[min(deaths, len(PAUSES_S) - 1)]
            deaths += 1
            what = f"process {worker.pid} {how_it_ended(code)}; the next starts in {pause_s:g} s"
            _say(f"outloop: a worker died: {what}")
            await asyncio.to_thread(self._record, what)
            await asyncio.sleep(pause_s)
            worker = await self._start(worker.number)
            await worker.got_ready()

    async def _start(self, number: int) -> Worker:
        worker = await Worker.start(number, self._listening)
        self._running.add(worker)
        relaying = asyncio.get_running_loop().create_task(relay(worker, self._hand_on), name=f"outloop relay {number}")
        self._relays.add(relaying)
        relaying.add_done_callback(self._relays.discard)
        return worker

    def _hand_on(self, number: int, line: str) -> None:
        if self._chorus.is_news(number, line, time.monotonic()):
            _say(line)

    def _record(self, what: str) -> None:
        try:
            if self._writer is None:
                self._writer = AuditWriter(self._home.audit_db, time.time)
            self._writer.append_now(self._writer.event("worker_died", detail=what))
        except OutloopError as error:  # the workers refuse by themselves where no row can be written
            _say(f"outloop: {error.message}")

    def _pass_on(self, number: signal.Signals) -> None:
        for worker in self._running:
            worker.tell(number)


def _say(line: str) -> None:
    with suppress(OSError):  # nobody listens any more, which is no reason to stop answering
        print(line, file=sys.stderr, flush=True)
