"""The recorder's side of an HTTP/2 connection (RFC 9113). Replies are those of HTTP/1.1, less their framing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset, WindowUpdated

from outloop.attacks.upstream.journal import Journal, RecordedRequest
from outloop.attacks.upstream.replies import End, Gate, Reply


async def converse(
    journal: Journal, connection: int, sni: str | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer requests, side by side, until either side leaves."""
    await _Connection(journal, connection, sni, reader, writer).run()


class _Connection:
    def __init__(
        self, journal: Journal, number: int, sni: str | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.journal = journal
        self.number = number
        self.sni = sni
        self.reader = reader
        self.writer = writer
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.window = asyncio.Condition()
        self.requests: dict[int, RecordedRequest] = {}
        self.replies: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self.h2.initiate_connection()
        self.flush()
        try:
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(data):
                    await self.take(event)
                self.flush()
        finally:
            for task in self.replies:
                task.cancel()

    async def take(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self.begin(event.stream_id, event.headers)
            case DataReceived():
                self.journal.received(self.requests[event.stream_id], event.data, is_body=True)
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                self.journal.completed(self.requests[event.stream_id])
                self.start_reply(event.stream_id)
            case WindowUpdated() | StreamReset():
                async with self.window:
                    self.window.notify_all()

    def begin(self, stream: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        request = RecordedRequest(self.number, self.sni, version="HTTP/2")
        for name, value in headers:
            if name == b":method":
                request.method = value.decode("latin-1")
            elif name == b":path":
                request.target = value.decode("latin-1")
            elif name == b":authority":
                request.headers.append((b"host", value))
            elif name != b":scheme":
                request.headers.append((name, value))
        self.requests[stream] = request
        self.journal.arrived(request)

    def start_reply(self, stream: int) -> None:
        task = asyncio.create_task(self.send(stream, self.requests[stream]))
        self.replies.add(task)
        task.add_done_callback(self.replies.discard)

    async def send(self, stream: int, request: RecordedRequest) -> None:
        answer = self.journal.answer_to(request)
        answer = answer if isinstance(answer, Reply) else answer(request)
        headers = [(name.lower(), value) for name, value in answer.headers]
        self.h2.send_headers(stream, [(":status", str(answer.status)), *headers])
        for piece in answer.pieces if request.method != "HEAD" else ():
            if isinstance(piece, bytes):
                await self.send_data(stream, piece)
            elif isinstance(piece, Gate):
                self.flush()
                await asyncio.to_thread(piece.pass_through)
            elif piece is End.ABORT:
                self.h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
                self.flush()
                return
            else:
                self.h2.close_connection()
                self.flush()
                self.writer.close()
                return
        self.h2.end_stream(stream)
        self.flush()

    async def send_data(self, stream: int, data: bytes) -> None:
        if not data:  # an empty frame is one, too
            self.h2.send_data(stream, data)
            self.flush()
        while data:
            async with self.window:
                await self.window.wait_for(lambda: self.h2.local_flow_control_window(stream) > 0)
            size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            self.h2.send_data(stream, data[:size])
            data = data[size:]
            self.flush()
            await self.writer.drain()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
