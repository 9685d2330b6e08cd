"""One worker, seen by its supervisor: a process that shares the socket, says when it is ready, and ends when it is let go."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Sequence

PATIENCE_S = 10.0  # for a worker that was told to end
LINE_LIMIT_BYTES = 1024 * 1024

# The very path of modules that this process has: with `-m`, Python would look into the working directory first, where an agent
# may have put what it likes.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[3:]; from outloop.proxy.worker import main; sys.exit(main(*map(int, sys.argv[1:3])))"
)


class Worker:
    """A started worker. `number` is its place, which one that is started in its stead takes over."""

    def __init__(self, number: int, process: Process, lifeline: socket.socket) -> None:
        self.number = number
        self.since_s = time.monotonic()
        self.is_ready = False
        self._process = process
        self._lifeline = lifeline

    @classmethod
    async def start(cls, number: int, listening: socket.socket) -> Worker:
        """Start a process that answers on *listening*. Raises OSError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        descriptors = (listening.fileno(), theirs.fileno())
        isolation = "-I" if sys.flags.isolated else "-P"
        with theirs:
            # In a session of its own: Ctrl-C on a terminal is for the supervisor, which tells the workers.
            process = await asyncio.create_subprocess_exec(
                sys.executable, isolation, "-c", _PROGRAM, *map(str, descriptors), *sys.path,
                stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, pass_fds=descriptors, start_new_session=True, limit=LINE_LIMIT_BYTES,
            )  # fmt: skip
        return cls(number, process, ours)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Tell whether it has not ended yet."""
        return self._process.returncode is None

    async def got_ready(self) -> bool:
        """Wait until it answers; False where it ended instead."""
        with contextlib.suppress(ConnectionError):
            self.is_ready = bool(await asyncio.get_running_loop().sock_recv(self._lifeline, 1))
        return self.is_ready

    async def lines(self) -> Sequence[str]:
        """Return the next lines that it printed; none once it prints no more."""
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
        except ValueError:  # longer than the limit, which asyncio has dropped
            return ["a line that was too long to be shown"]
        return [line.decode(errors="replace").rstrip("\r\n")] if line else []

    async def ended(self) -> int:
        """Wait until it has ended; return its exit code, or the number of the signal that ended it, negated."""
        code = await self._process.wait()
        self._lifeline.close()
        return code

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def end(self) -> None:
        """Tell it to end and wait; it is killed where that takes too long."""
        self.tell(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.ended(), PATIENCE_S)
        except TimeoutError:
            self.tell(signal.SIGKILL)
            await self.ended()


async def relay(worker: Worker, say: Callable[[int, str], None]) -> None:
    """Hand on each line that *worker* prints, until it prints no more: an unread pipe would stop it once that is full."""
    while lines := await worker.lines():
        for line in lines:
            say(worker.number, line)


def how_it_ended(code: int) -> str:
    """Return an exit code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
