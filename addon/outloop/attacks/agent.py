"""The agent of a case: it says what the case says, byte for byte, and listens."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from hpack import Decoder
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

from outloop.attacks.case import CLOSED, HTTP2, Heard, Talk
from outloop.attacks.frames import PREFACE

PATIENCE_S = 20.0  # how long a proxy may take, also on a slow machine
LEAVING_S = 1.0  # how long an agent that has left still listens: a proxy owes it no answer
_LEFT = (ConnectionError, ssl.SSLError, http.client.HTTPException, EOFError)


def listen(talk: Talk, address: tuple[str, int], certificate: Path, patience_s: float = PATIENCE_S) -> list[Heard]:
    """Do what *talk* says, through the proxy at *address*; return the answer to each step, up to one that was not answered.

    ``{proxy}`` in a step stands for that address. *certificate* is the authority that agents trust. Raises
    TimeoutError where the proxy neither answers nor closes within *patience_s*, ConnectionError where it does not listen.
    """
    talk = _addressed(talk, address)
    with socket.create_connection(address, timeout=patience_s) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if talk.connect:
                opened = _Http1(raw).ask(talk.connect)
                if opened.status != 200:
                    return [opened]
            with _secured(raw, talk, certificate) as connection:
                return _heard(talk, connection)
        except _LEFT:
            return [Heard(CLOSED)]


def _addressed(talk: Talk, address: tuple[str, int]) -> Talk:
    place = f"{address[0]}:{address[1]}".encode()
    return replace(talk, steps=tuple(step.replace(b"{proxy}", place) for step in talk.steps))


@contextlib.contextmanager
def _secured(raw: socket.socket, talk: Talk, certificate: Path) -> Iterator[socket.socket]:
    if talk.sni is None:
        yield raw
        return
    with _context(certificate, talk.protocol).wrap_socket(raw, server_hostname=talk.sni or None) as wrapped:
        yield wrapped


@cache
def _context(certificate: Path, protocol: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols([protocol])
    # The chain is checked, the name is not: some cases ask for another name than they dial.
    context.check_hostname = False
    return context


def _heard(talk: Talk, connection: socket.socket) -> list[Heard]:
    side = _Http2(connection) if talk.protocol == HTTP2 else _Http1(connection)
    answers: list[Heard] = []
    for number, step in enumerate(talk.steps, start=1):
        is_last = number == len(talk.steps)
        stream = talk.stream if is_last and talk.stream is not None else 2 * number - 1
        answers.append(side.ask(step, stream=stream, piece_bytes=talk.piece_bytes, leaves=talk.leaves and is_last))
        if answers[-1].status == CLOSED:
            break
    return answers


def _write(connection: socket.socket, data: bytes, piece_bytes: int, *, leaves: bool) -> None:
    with contextlib.suppress(*_LEFT):  # a proxy that has heard enough may leave first
        for start in range(0, len(data), piece_bytes or len(data) or 1):
            connection.sendall(data[start : start + (piece_bytes or len(data))])
    if leaves:
        connection.settimeout(LEAVING_S)
        with contextlib.suppress(OSError):
            # Of TCP alone: TLS 1.3 lets one side close, but Python's unwrap waits for the other.
            socket.socket.shutdown(connection, socket.SHUT_WR)


class _Http1:
    """HTTP/1.1 in the words of the case."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._ear = _Ear(connection)
        self._received = _Kept(self._ear)

    def ask(self, step: bytes, *, stream: int = 1, piece_bytes: int = 0, leaves: bool = False) -> Heard:
        """Say *step* and return the answer."""
        _write(self._connection, step, piece_bytes, leaves=leaves)
        method = step.split(b" ", 1)[0].decode("latin-1")
        try:
            response = http.client.HTTPResponse(self._received, method=method)  # type: ignore[arg-type]
            response.begin()
            opens_tunnel = method == "CONNECT" and response.status == 200  # RFC 9110 §9.3.6: such an answer has no body
            body = b"" if opens_tunnel else response.read()
            if response.status == 101:  # what comes over the socket, until it ends
                body = self._received.read()
        except _LEFT:
            return Heard(CLOSED, everything=bytes(self._ear.heard))
        return Heard(response.status, tuple(response.getheaders()), body, bytes(self._ear.heard))


class _Http2:
    """HTTP/2 in the frames of the case."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._ear = _Ear(connection)
        self._received = io.BufferedReader(self._ear)
        self._decoder = Decoder()
        self._greeting = PREFACE + SettingsFrame(0).serialize()

    def ask(self, step: bytes, *, stream: int, piece_bytes: int = 0, leaves: bool = False) -> Heard:
        """Say *step* and return the answer on *stream*."""
        _write(self._connection, self._greeting + step, piece_bytes, leaves=leaves)
        self._greeting = b""
        status, body = CLOSED, b""
        fields: list[tuple[str, str]] = []
        with contextlib.suppress(*_LEFT):
            while True:
                frame = self._frame()
                if isinstance(frame, GoAwayFrame) or (isinstance(frame, RstStreamFrame) and frame.stream_id == stream):
                    status, fields, body = CLOSED, [], b""
                    break
                if isinstance(frame, HeadersFrame | ContinuationFrame):
                    pairs = [(_text(name), _text(value)) for name, value in self._decoder.decode(frame.data, raw=True)]
                    if frame.stream_id == stream:
                        fields += pairs
                        status = int(dict(fields).get(":status", CLOSED))
                if isinstance(frame, DataFrame) and frame.stream_id == stream:
                    body += frame.data
                if frame.stream_id == stream and "END_STREAM" in frame.flags:
                    break
        return Heard(status, tuple(fields), body, bytes(self._ear.heard))

    def _frame(self) -> Frame:
        start = self._received.read(9)
        if not start or len(start) < 9:
            raise EOFError
        frame, length = Frame.parse_frame_header(memoryview(start))
        frame.parse_body(memoryview(self._received.read(length) if length else b""))
        return frame


class _Ear(io.RawIOBase):
    """Everything that was received, as it was."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.heard = bytearray()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            count = self._connection.recv_into(buffer)
        except ssl.SSLEOFError:
            return 0
        except TimeoutError:
            if self._connection.gettimeout() == LEAVING_S:
                return 0
            raise
        self.heard += memoryview(buffer)[:count]
        return count


class _Kept(io.BufferedReader):
    """What was received and not yet read; it stays for the next answer."""

    def makefile(self, mode: str) -> _Kept:
        return self

    def close(self) -> None:
        pass


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
