"""Agents of whom every byte they receive is kept: the answer to a CONNECT, the handshake's outcome, heads, framing, bodies."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from dataclasses import dataclass, field

from harness.operators import PATIENCE_S
from harness.proxy import Proxy
from harness.raw_agent import RawAgent, connect_request


@dataclass(frozen=True)
class Heard:
    """What an agent got for one request: a status (0 where the connection was cut), headers, body, and all bytes as they came."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    raw: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the header's first value."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def refusal(self) -> str | None:
        """The reason code of a refusal, None for an upstream's answer."""
        reason = self.header("outloop-reason")
        assert reason is None or not self.body or json.loads(self.body)["reason"] == reason, self
        return reason


class Tap:
    """A socket that remembers what it received, inside TLS where it is wrapped."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = bytearray()

    def recv_into(self, buffer: memoryview) -> int:
        """Read, and remember."""
        count = self.connection.recv_into(buffer)
        self.received += buffer[:count]
        return count

    def sendall(self, data: bytes) -> None:
        """Send *data*."""
        self.connection.sendall(data)

    def _decref_socketios(self) -> None:
        """What socket.SocketIO calls when it is closed."""


@dataclass
class Line:
    """An open connection of an agent's to one authority, inside TLS where that was asked for."""

    authority: str
    tap: Tap
    raw: RawAgent

    def close(self) -> None:
        """Leave."""
        self.tap.connection.close()


@dataclass
class AgentProgram:
    """One agent: who it says it is, (workspace, token) or None, and the connection it keeps."""

    proxy: Proxy
    trust: ssl.SSLContext
    credentials: tuple[str, str] | None = None
    line: Line | None = field(default=None, repr=False)

    def ask(self, authority: str, request: bytes, *, keep: bool) -> Heard:
        """Send *request* through a CONNECT to *authority*; on the connection kept from before, if that leads there and *keep*."""
        kept = self.line if keep and self.line is not None and self.line.authority == authority else None
        heard = _exchange(kept, request) if kept is not None else Heard()
        if not heard.raw:  # there is none, or it was closed meanwhile: a client opens another (RFC 9112 §9.3.1)
            self.leave()
            opened = self._open(authority)
            if isinstance(opened, Heard):
                return opened
            self.line = opened
            heard = _exchange(opened, request)
        if not keep or heard.status == 0 or (heard.header("connection") or "").lower() == "close":
            self.leave()
        return heard

    def ask_in_cleartext(self, request: bytes) -> Heard:
        """Send *request*, in absolute form, to the proxy itself."""
        with socket.create_connection(("127.0.0.1", self.proxy.port), timeout=PATIENCE_S) as connection:
            tap = Tap(connection)
            return _exchange(Line("", tap, RawAgent(tap)), request)  # type: ignore[arg-type]

    def leave(self) -> None:
        """Close what is kept."""
        if self.line is not None:
            self.line.close()
        self.line = None

    def _open(self, authority: str) -> Line | Heard:
        connection = socket.create_connection(("127.0.0.1", self.proxy.port), timeout=PATIENCE_S)
        tap = Tap(connection)
        answer = _exchange(Line(authority, tap, RawAgent(tap)), connect_request(authority, self.credentials))  # type: ignore[arg-type]
        if answer.status != 200:
            connection.close()
            return answer
        wrapped = Tap(self.trust.wrap_socket(connection, server_hostname=authority.rpartition(":")[0]))
        return Line(authority, wrapped, RawAgent(wrapped))  # type: ignore[arg-type]


def _exchange(line: Line, request: bytes) -> Heard:
    begun = len(line.tap.received)
    status, headers, body = 0, tuple[tuple[str, str], ...](), b""
    with contextlib.suppress(http.client.HTTPException, ConnectionError, ssl.SSLError):
        line.raw.send(request)
        method = request.split(b" ", 1)[0].decode("latin-1")
        response = line.raw.head(method)
        status, headers = response.status, tuple(response.getheaders())
        body = b"" if method == "CONNECT" and status == 200 else response.read()
    return Heard(status, headers, body, bytes(line.tap.received[begun:]))
