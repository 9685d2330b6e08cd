"""The upstream, a process of its own: a TLS server that does as little as one can.

``python -m bench.upstream CERTIFICATE-AND-KEY`` prints its port, and ends when its standard input does. ``GET /json`` answers
552 bytes, ``/download/MIB`` that many MiB of JSON, ``/events/COUNT`` server-sent events, each of which says when it left.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time

EVENT_INTERVAL_S = 0.02
MIB = 1024 * 1024

SMALL = json.dumps({"items": [{"id": number, "name": f"name {number}", "ok": True} for number in range(14)]}).encode()[:552]
_LINES = (b'{"id": %08d, "name": "a name", "email": "someone@example.com", "ok": true}\n' % number for number in range(900))
BLOCK = b"".join(_LINES)[: MIB // 16]
_SMALL_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(SMALL), SMALL)
_DOWNLOAD_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_EVENTS_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Conversation(asyncio.Protocol):
    """One connection; its requests have no bodies."""

    def __init__(self) -> None:
        self._received = b""
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            match head.split(b" ", 2)[1].split(b"/"):
                case [_, b"json"]:
                    self._transport.write(_SMALL_REPLY)
                case [_, b"download", mib]:
                    self._task = asyncio.create_task(self._download(int(mib)))
                case [_, b"events", count]:
                    self._task = asyncio.create_task(self._events(int(count)))
                case _:
                    self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    async def _download(self, mib: int) -> None:
        self._transport.write(_DOWNLOAD_HEAD % (mib * MIB))
        for _ in range(mib * MIB // len(BLOCK)):
            await self._may_write.wait()
            self._transport.write(BLOCK)
        self._transport.close()

    async def _events(self, count: int) -> None:
        self._transport.write(_EVENTS_HEAD)
        for _ in range(count):
            event = b"data: %d\n\n" % time.monotonic_ns()
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.sleep(EVENT_INTERVAL_S)
        self._transport.write(b"0\r\n\r\n")


async def serve(certificate: str) -> None:
    """Answer on a free port of 127.0.0.1 until standard input ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Conversation, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
