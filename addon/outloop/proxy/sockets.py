"""The hooks of WebSockets: what the upstream sends is scrubbed and measured; what the agent sends is searched for known keys.

Compression is not negotiated (the offer is stripped), and a message is cleaned whole, however it was fragmented.
"""

from __future__ import annotations

from collections.abc import Callable

from mitmproxy import http

from outloop.core.errors import ScrubError
from outloop.core.exposure import ExposureCheck
from outloop.core.model import Reason
from outloop.core.scrub import scrub
from outloop.proxy.admission import Refused
from outloop.proxy.bridge import Bridge
from outloop.proxy.exchange import Exchange
from outloop.proxy.watch import Watch


class Sockets:
    """Answers for WebSocket messages. *abort* cuts an agent's connection, by its id, and says why."""

    name = "outloop-sockets"

    def __init__(self, abort: Callable[[str, str], None]) -> None:
        self._abort = abort
        self._bridge: Bridge | None = None

    def serve(self, bridge: Bridge) -> None:
        """Answer from now on, for *bridge*."""
        self._bridge = bridge

    def websocket_start(self, flow: http.HTTPFlow) -> None:
        """Remember whose control frames come over this connection (proxy/repairs.py)."""
        assert self._bridge is not None, "outloop is not running"
        exchange = self._bridge.traffic.of(flow)
        if exchange is not None:
            self._bridge.traffic.sockets[flow.server_conn.id] = exchange

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """Clean the newest message, or drop it and cut the connection."""
        assert flow.websocket is not None
        message = flow.websocket.messages[-1]
        # mitmproxy keeps every message for the life of the connection.
        del flow.websocket.messages[:-1]
        try:
            assert self._bridge is not None, "outloop is not running"
            exchange = self._bridge.traffic.of(flow)
            if exchange is None:
                raise ScrubError("Outloop does not know this connection")
            if message.from_client:
                Watch(self._bridge.runtime, exchange).refuse_known(message.content)
                exchange.request_bytes += len(message.content)
            else:
                message.content = cleaned(exchange, message.content)
                exchange.response_bytes += len(message.content)
        except Exception as error:  # noqa: BLE001  (cuts off)
            message.drop()
            found = self._bridge.traffic.of(flow) if self._bridge else None
            if found is not None:
                found.reason = error.reason if isinstance(error, Refused) else Reason.SCRUB_FAILED
                found.error = str(error)
            self._abort(flow.client_conn.id, str(error))

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Record the outcome."""
        assert self._bridge is not None, "outloop is not running"
        self._bridge.traffic.sockets.pop(flow.server_conn.id, None)
        exchange = self._bridge.traffic.of(flow)
        if exchange is not None:
            self._bridge.recorder.outcome(exchange, exchange.status, exchange.reason, exchange.error)
            self._bridge.traffic.end(flow)


def cleaned(exchange: Exchange, content: bytes) -> bytes:
    """Return *content* without any secret. Raises ScrubError when the check still finds one."""
    if exchange.opened is None:
        raise ScrubError("nothing is known of what to scrub")
    clean, hits = scrub(exchange.opened.scrub_set, content)
    exchange.scrubbed += hits
    if ExposureCheck(exchange.opened.needles).feed(clean):
        raise ScrubError("a WebSocket message still holds a secret")
    return clean
