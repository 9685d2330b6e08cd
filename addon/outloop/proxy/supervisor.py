"""`outloop up --workers N`: several processes behind one address, each a proxy of its own, and one that keeps them running.

What decides is in the home, which all of them read at every request: switches, tokens, limits, approvals. Each has its own
chain in the record and its own values in memory, so that a keychain which asks its owner does so once for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process

from outloop.core.errors import AuditError
from outloop.proxy.launcher import announce, bound
from outloop.store.audit import AuditWriter
from outloop.store.home import Home

PATIENCE_S = 10.0  # for a worker that was told to end
PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # before a worker is started again, by how often in a row it died
STEADY_S = 60.0  # one that lived so long begins anew with the shortest


def run(home: Home, port: int, workers: int) -> int:
    """Run *workers* proxies on loopback at *port* until SIGINT or SIGTERM, and return the exit code.

    That of a worker which cannot start at all; it has said why. Raises UsageError when *port* cannot be had.
    """
    with bound(port) as listening:
        return asyncio.run(Supervisor(home, listening, workers).run())


class Supervisor:
    """Starts workers on *listening*, starts those again that die, and ends all of them."""

    def __init__(self, home: Home, listening: socket.socket, workers: int) -> None:
        self._home = home
        self._listening = listening
        self._workers = workers
        self._running: set[Process] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Return the exit code, once all have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._signal, signal.SIGHUP)
        try:
            # The first alone: what keeps it from starting would be said by each of the others too.
            first = await self._start()
            if not await _is_ready(first):
                return 0 if self._stopping.is_set() else await first.wait() or 1
            others = [await self._start() for _ in range(1, self._workers)]
            for other in others:
                await _is_ready(other)
            announce(self._listening.getsockname()[1], self._workers)
            keepers = [loop.create_task(self._keep(worker)) for worker in (first, *others)]
            await self._stopping.wait()
            for keeper in keepers:
                keeper.cancel()
            return 0
        finally:
            await self._end()

    async def _keep(self, worker: Process) -> None:
        """Start *worker* again whenever it dies."""
        deaths = 0
        while True:
            since = time.monotonic()
            code = await worker.wait()
            self._running.discard(worker)
            deaths = 0 if time.monotonic() - since > STEADY_S else deaths
            pause_s = PAUSES_S[min(deaths, len(PAUSES_S) - 1)]
            deaths += 1
            await asyncio.to_thread(
                self._record, f"process {worker.pid} ended with exit code {code}; the next starts in {pause_s:g} s"
            )
            await asyncio.sleep(pause_s)
            worker = await self._start()

    async def _start(self) -> Process:
        descriptor = self._listening.fileno()
        # In a session of its own: Ctrl-C on a terminal is for the supervisor, which tells the workers.
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "outloop.proxy.worker", str(descriptor),
            stdin=PIPE, stdout=PIPE, pass_fds=(descriptor,), start_new_session=True,
        )  # fmt: skip
        self._running.add(worker)
        return worker

    def _record(self, what: str) -> None:
        print(f"outloop: a worker died: {what}", file=sys.stderr, flush=True)
        writer = AuditWriter(self._home.audit_db, time.time)
        try:
            writer.append_now(writer.event("worker_died", detail=what))
        except AuditError as error:
            print(f"outloop: {error.message}", file=sys.stderr, flush=True)
        finally:
            with contextlib.suppress(AuditError):
                writer.close()

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._running:
            with contextlib.suppress(ProcessLookupError):
                worker.send_signal(number)

    async def _end(self) -> None:
        self._signal(signal.SIGTERM)
        for worker in list(self._running):
            try:
                await asyncio.wait_for(worker.wait(), PATIENCE_S)
            except TimeoutError:
                worker.kill()
                await worker.wait()


async def _is_ready(worker: Process) -> bool:
    """Tell whether *worker* came so far as to answer."""
    assert worker.stdout is not None
    return bool(await worker.stdout.readline())
