"""A door in front of upstreams that counts who knocks, before any TLS: "no connection was opened" is more than "no request"."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

PATIENCE_S = 20.0


class Gate:
    """Passes connections on to *port* of 127.0.0.1, byte for byte, on a thread of its own; `knocks` counts them."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gate", daemon=True)
        self._server: asyncio.Server | None = None
        self._visits: set[asyncio.Task[None]] = set()
        self.port = 0
        self.knocks = 0

    def __enter__(self) -> Gate:
        self._thread.start()
        starting = asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(PATIENCE_S)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def counted(self) -> int:
        """Return `knocks`, those included that were made by now and that the thread has not come to."""
        asyncio.run_coroutine_threadsafe(_turns(), self._loop).result(PATIENCE_S)
        return self.knocks

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.knocks += 1
        visit = self._loop.create_task(self._pass_on(reader, writer))
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            for each in (writer, inner_writer):
                each.transport.abort()


async def _turns() -> None:
    for _ in range(5):  # a connection is accepted in one, and its visitor let in a few later
        await asyncio.sleep(0)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
    except ConnectionError:
        writer.transport.abort()
