"""The way to a token endpoint: one POST over verified TLS, bounded in time and size, through no proxy and along no redirect."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import h11

from outloop.core.auth.oauth2 import TokenRequest
from outloop.core.errors import MintError

LIMIT_S = 15.0
ANSWER_BYTES = 64 * 1024


class EndpointUntrusted(MintError):
    """The token endpoint's certificate could not be verified."""


class TokenEndpoint:
    """Asks token endpoints. *trust_file* returns the file of the certificates that upstreams are verified by."""

    def __init__(self, trust_file: Callable[[], str], limit_s: float = LIMIT_S) -> None:
        self._trust_file = trust_file
        self._limit_s = limit_s
        self._context: tuple[str, ssl.SSLContext] | None = None

    async def ask(self, request: TokenRequest) -> tuple[int, bytes]:
        """Return the status and body of the answer to *request*. Raises MintError."""
        host = request.endpoint.host
        try:
            async with asyncio.timeout(self._limit_s):
                return await self._asked(request)
        except TimeoutError:
            raise MintError(f"the token endpoint {host} did not answer within {self._limit_s:.0f} s") from None
        except ssl.SSLCertVerificationError:
            raise EndpointUntrusted(f"the certificate of the token endpoint {host} could not be verified") from None
        except (OSError, h11.RemoteProtocolError) as error:
            raise MintError(f"the token endpoint {host} gave no usable answer: {type(error).__name__}") from None

    async def _asked(self, request: TokenRequest) -> tuple[int, bytes]:
        endpoint = request.endpoint
        context = await self._trusting()
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context, server_hostname=endpoint.host)
        try:
            exchange = h11.Connection(h11.CLIENT, max_incomplete_event_size=ANSWER_BYTES)
            authority = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
            authority += "" if endpoint.port == 443 else f":{endpoint.port}"
            fields = [
                (b"Host", authority.encode()),
                (b"Connection", b"close"),
                (b"Accept-Encoding", b"identity"),
                *request.fields,
            ]
            fields.append((b"Content-Length", b"%d" % len(request.body)))
            head = h11.Request(method="POST", target=endpoint.target, headers=fields)
            for event in (head, h11.Data(data=request.body), h11.EndOfMessage()):
                writer.write(exchange.send(event) or b"")
            await writer.drain()
            return await _answer(exchange, reader)
        finally:
            writer.transport.abort()  # what it still has to say is of no interest

    async def _trusting(self) -> ssl.SSLContext:
        path = self._trust_file()
        if self._context is None or self._context[0] != path:
            self._context = path, await asyncio.to_thread(_context, path)
        return self._context[1]


def _context(trust_file: str) -> ssl.SSLContext:
    # Not ssl.create_default_context: that one writes the keys of connections where SSLKEYLOGFILE says.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(trust_file)
    return context


async def _answer(exchange: h11.Connection, reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status, body = 0, b""
    while True:
        event = exchange.next_event()
        if event is h11.NEED_DATA:
            exchange.receive_data(await reader.read(ANSWER_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > ANSWER_BYTES:
                raise MintError("the token endpoint's answer is too long")
        elif isinstance(event, h11.EndOfMessage):
            return status, body
        elif isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("the connection ended before the answer")
