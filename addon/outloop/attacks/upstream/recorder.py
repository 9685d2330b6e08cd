"""An upstream over real TLS that keeps every request byte for byte and answers from a table.

Used so:

    with Recorder(authority.server_context("api.example.com")) as upstream:
        upstream.on("GET /users/me", json_reply({"name": "Ada"}))
        …
        [request] = upstream.wait_for(1)
        assert request.header("authorization") == b"Bearer …"

It speaks HTTP/2 with whoever chooses it where its context offers it: `server_context(name, protocols=HTTP2)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from types import TracebackType

from outloop.attacks.upstream import http1, http2
from outloop.attacks.upstream.journal import Answer, Journal, RecordedRequest
from outloop.attacks.upstream.replies import PATIENCE_S, reply

HEAD_LIMIT = 1024 * 1024


class Recorder:
    """A server on 127.0.0.1, on a thread of its own. `context` None is cleartext; `default` answers what no entry names."""

    def __init__(self, context: ssl.SSLContext | None, default: Answer | None = None) -> None:
        self._context = context
        self._journal = Journal(default or reply(b"ok", headers=[("Content-Type", "text/plain")]))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="recorder", daemon=True)
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()
        self.port = 0
        if context is not None:
            context.sni_callback = _remember_sni

    def on(self, operation: str, *answers: Answer) -> None:
        """Answer ``METHOD /path`` (without its query) with *answers* in turn, the last one for good."""
        self._journal.on(operation, answers)

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request whose head has arrived, in order."""
        return self._journal.requests

    @property
    def connections(self) -> int:
        """How many connections got through their TLS handshake."""
        return self._journal.connections

    def wait_for(self, count: int, timeout_s: float = PATIENCE_S) -> list[RecordedRequest]:
        """Return the requests once *count* of them are complete. Raises TimeoutError."""
        return self._journal.wait_for(count, timeout_s)

    def wait_for_bytes(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Return once *count* bytes of requests have arrived in all: part of an upload, say. Raises TimeoutError."""
        self._journal.wait_for_bytes(count, timeout_s)

    def __enter__(self) -> Recorder:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(PATIENCE_S)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._journal.open_gates()
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context, limit=HEAD_LIMIT)

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._conversations:
            task.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._converse(reader, writer))
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        http = http2 if tls is not None and tls.selected_alpn_protocol() == "h2" else http1
        try:
            await http.converse(self._journal, self._journal.connected(), getattr(tls, "outloop_sni", None), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # they left
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()


def _remember_sni(tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
    tls.outloop_sni = name  # type: ignore[attr-defined]
