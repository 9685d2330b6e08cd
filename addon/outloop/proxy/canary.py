"""The wire, tried at every start: names and parameters may match where behaviour does not.

mitmproxy's own upstream classes are driven without a network: a request without a release must not come out of them, and a
released one must come out with its credential, which its flow never holds.
"""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
from mitmproxy import connection, http, optmanager
from mitmproxy.proxy import commands, context, events
from mitmproxy.proxy.layers.http import _http1, _http2
from mitmproxy.proxy.layers.http._events import RequestHeaders

from outloop.core.auth import Edits
from outloop.core.errors import HardeningError
from outloop.core.model import Agent, Request
from outloop.core.paths import canonical_path
from outloop.core.secret import Secret
from outloop.proxy import wire
from outloop.proxy.exchange import Exchange, Phase, Release, Said

_HOST = "canary.invalid"
_CANARY = b"canary-credential"


def try_wire(options: optmanager.OptManager) -> None:
    """Raise HardeningError unless the wrapped classes hold back and let pass as they must. Leaves the gate closed."""
    try:
        for upstream in (_http1.Http1Client, _http2.Http2Client):
            refused, _ = _sent(upstream, options, is_released=False)
            sent, request = _sent(upstream, options, is_released=True)
            if b"/canary" in refused or _CANARY not in sent or _CANARY in repr(request.get_state()).encode():
                raise HardeningError(
                    f"mitmproxy's {upstream.__name__} does not behave as expected",
                    "install a version that Outloop names: 11.0.2, or 12.2 and later",
                )
    finally:
        wire.close_gate()


def _sent(upstream: Any, options: optmanager.OptManager, *, is_released: bool) -> tuple[bytes, http.Request]:
    """Return what *upstream* puts on the network for a request, in plain text, and the request as the flow holds it."""
    layer = upstream(_context(options))
    output = _data(layer, events.Start())
    request = http.Request.make("GET", f"https://{_HOST}/canary", headers=http.Headers(((b"Host", _HOST.encode()),)))
    if upstream is _http2.Http2Client:
        request.http_version = "HTTP/2.0"
    wire.open_gate(_OneExchange(request, is_released=is_released))
    output += _data(layer, RequestHeaders(1, request, True))
    return (_plain_h2(output) if upstream is _http2.Http2Client else output), request


def _context(options: optmanager.OptManager) -> context.Context:
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0.0)
    found = context.Context(client, options)  # type: ignore[arg-type]
    server = connection.Server(address=(_HOST, 443))
    server.state = connection.ConnectionState.OPEN
    server.sni = _HOST
    server.timestamp_tls_setup = 1.0
    server.certificate_list = [object()]  # type: ignore[list-item]
    found.server = server
    return found


def _data(layer: Any, event: events.Event) -> bytes:
    return b"".join(command.data for command in layer.handle_event(event) if isinstance(command, commands.SendData))


def _plain_h2(data: bytes) -> bytes:
    peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=False))
    heads = [event.headers for event in peer.receive_data(data) if isinstance(event, h2.events.RequestReceived)]
    return b"\n".join(b"%s: %s" % (name, value) for head in heads for name, value in head)


class _OneExchange:
    """A gate that knows one request."""

    def __init__(self, request: http.Request, *, is_released: bool) -> None:
        self._request = request
        self._exchange = Exchange("", Agent(""), Said("GET", "https", _HOST, 443, "/canary"), 0.0)
        if is_released:
            decided = Request("GET", "https", _HOST, 443, canonical_path("/canary"))
            self._exchange.release = Release(decided, (), "", Edits(headers=(("Authorization", Secret(_CANARY)),)), ())
            self._exchange.phase = Phase.RELEASED

    def exchange_of(self, request: http.Request) -> Exchange | None:
        return self._exchange if request is self._request else None
