"""The recorder's side of an HTTP/1.1 connection (RFC 9112), simple and forgiving: what arrives is written down, not judged."""

from __future__ import annotations

import asyncio
import socket
import struct

from outloop.attacks.upstream.journal import Journal, RecordedRequest
from outloop.attacks.upstream.replies import End, Gate, Reply, http1_pieces


async def converse(
    journal: Journal, connection: int, sni: str | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer requests until either side leaves. Raises IncompleteReadError or ConnectionError when that is the other side."""
    while await _Exchange(journal, RecordedRequest(connection, sni), reader, writer).run():
        pass


class _Exchange:
    def __init__(
        self, journal: Journal, request: RecordedRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.journal = journal
        self.request = request
        self.reader = reader
        self.writer = writer

    async def run(self) -> bool:
        """Read one request and answer it; tell whether another may follow."""
        try:
            return await self.serve()
        except (asyncio.IncompleteReadError, ConnectionError) as end:
            if not self.request.complete:
                self.journal.ended(self.request, getattr(end, "partial", b""))
            raise

    async def serve(self) -> bool:
        """As `run`, for a connection that lives."""
        await self.read_head()
        answer = self.journal.answer_to(self.request)
        is_early = isinstance(answer, Reply) and answer.before_body
        if not is_early:
            await self.read_body()
        stays = await self.send(answer if isinstance(answer, Reply) else answer(self.request))
        if stays and is_early:
            await self.read_body()
        return stays

    async def read_head(self) -> None:
        request = self.request
        head = self._framing(await self.reader.readuntil(b"\r\n\r\n"))
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        request.method, request.target, request.version = [*first.decode("latin-1").split(" ", 2), "", ""][:3]
        for line in lines:
            name, _, value = line.partition(b":")
            request.headers.append((name, value.strip(b" \t")))
        self.journal.arrived(request)

    async def read_body(self) -> None:
        if self.request.all("expect") == [b"100-continue"]:
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if any(b"chunked" in value.lower() for value in self.request.all("transfer-encoding")):
            while size := int(self._framing(await self.reader.readuntil(b"\r\n")).partition(b";")[0], 16):
                await self._read_exactly(size)
                self._framing(await self.reader.readexactly(2))
            while self._framing(await self.reader.readuntil(b"\r\n")) != b"\r\n":
                pass  # trailer fields
        elif lengths := self.request.all("content-length"):
            await self._read_exactly(int(lengths[0]))
        self.journal.completed(self.request)

    async def send(self, answer: Reply) -> bool:
        """Send *answer*; tell whether the connection stays."""
        for piece in http1_pieces(answer, self.request.method):
            if isinstance(piece, bytes):
                self.writer.write(piece)
                await self.writer.drain()
            elif isinstance(piece, Gate):
                await asyncio.to_thread(piece.pass_through)
            else:
                if piece is End.ABORT:
                    _reset(self.writer)
                return False
        return True

    def _framing(self, data: bytes) -> bytes:
        return self.journal.received(self.request, data, is_body=False)

    async def _read_exactly(self, size: int) -> None:
        while size:
            part = await self.reader.read(min(size, 65536))
            if not part:
                raise asyncio.IncompleteReadError(b"", size)
            self.journal.received(self.request, part, is_body=True)
            size -= len(part)


def _reset(writer: asyncio.StreamWriter) -> None:
    no_linger = struct.pack("ii", 1, 0)  # closing then sends RST
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
    writer.transport.abort()
