"""An agent that sends any bytes: to the proxy, through a CONNECT, and inside TLS under any name.

Used so:

    with tunnel(proxy, "api.example.com:443") as agent:
        answer = agent.ask(b"GET /a HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.operators import PATIENCE_S
from harness.proxy import Proxy


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A response as it arrived, less its framing."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the header's first value."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class RawAgent:
    """One connection of an agent's, cleartext or inside TLS."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._received = _Kept(socket.SocketIO(connection, "rb"))

    def send(self, data: bytes) -> None:
        """Send *data* as it is."""
        self.connection.sendall(data)

    def answer(self, method: str = "GET") -> RawAnswer:
        """Return the next response, whole. *method* tells whether it has a body."""
        response = self.head(method)
        is_opened = method == "CONNECT" and response.status < 300  # what follows is no body (RFC 9112 §6.3)
        body = b"" if is_opened else response.read()
        return RawAnswer(response.status, response.reason, tuple(response.getheaders()), body)

    def head(self, method: str = "GET") -> http.client.HTTPResponse:
        """Return the next response as soon as its head is there; its body can be read piece by piece."""
        response = http.client.HTTPResponse(self._received, method=method)  # type: ignore[arg-type]
        response.begin()
        return response

    def ask(self, data: bytes) -> RawAnswer:
        """Send *data*, a request, and return the response to it."""
        self.send(data)
        return self.answer(data.split(b" ", 1)[0].decode("latin-1"))

    def everything(self) -> bytes:
        """Return all that comes until the other side leaves, however it does."""
        received = b""
        with contextlib.suppress(ConnectionResetError, ssl.SSLError):
            while piece := self._received.read1(65536):
                received += piece
        return received


@contextlib.contextmanager
def cleartext(proxy: Proxy) -> Iterator[RawAgent]:
    """Open a connection to the proxy itself."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_S) as connection:
        yield RawAgent(connection)


@contextlib.contextmanager
def connected(proxy: Proxy, authority: str, *, agent: tuple[str, str] | None = None) -> Iterator[RawAgent]:
    """Open a CONNECT to *authority*, as *agent* (workspace, token). Raises AssertionError unless it is opened."""
    with cleartext(proxy) as raw:
        answer = raw.ask(connect_request(authority, agent))
        assert answer.status == 200, answer
        yield raw


@contextlib.contextmanager
def tunnel(
    proxy: Proxy,
    authority: str,
    *,
    sni: str | None = None,
    protocols: Sequence[str] = ("http/1.1",),
    agent: tuple[str, str] | None = None,
) -> Iterator[RawAgent]:
    """Open a CONNECT to *authority* and TLS in it, trusting the operator's authority. *sni* "" names no host."""
    context = ssl.create_default_context(cafile=str(proxy.operator.certificate))
    context.set_alpn_protocols(list(protocols))
    host = authority.rpartition(":")[0]
    name = host if sni is None else sni
    context.check_hostname = name == host
    with (
        connected(proxy, authority, agent=agent) as raw,
        context.wrap_socket(raw.connection, server_hostname=name or None) as wrapped,
    ):
        yield RawAgent(wrapped)


def connect_request(authority: str, agent: tuple[str, str] | None = None) -> bytes:
    """Return a CONNECT for *authority*, with Basic credentials (RFC 7617) where *agent* is given."""
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if agent:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(':'.join(agent).encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode()


class _Kept(io.BufferedReader):
    """What was received and not yet read; it stays for the next response."""

    def makefile(self, mode: str) -> _Kept:
        return self

    def close(self) -> None:
        pass
