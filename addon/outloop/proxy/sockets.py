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
        traffic = self._bridge.traffic
        exchange = traffic.of(flow)
        if exchange is not None:
            traffic.sockets[flow.server_conn.id] = exchange
            traffic.controls[flow.client_conn.id] = lambda payload: self._searched_control(flow, exchange, payload)

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
            if exchange.is_cut:  # what came in one piece with the frame that cut it
                message.drop()
                return
            if message.from_client:
                Watch(self._bridge.runtime, exchange).refuse_known(message.content)
                exchange.request_bytes += len(message.content)
            else:
                message.content = cleaned(exchange, message.content)
                exchange.response_bytes += len(message.content)
        except Exception as error:  # noqa: BLE001  (cuts off)
            message.drop()
            self._cut(flow, self._bridge.traffic.of(flow) if self._bridge else None, error)

    def _searched_control(self, flow: http.HTTPFlow, exchange: Exchange, payload: bytes) -> bytes:
        """Return what may leave of the *payload* of an agent's control frame: all of it, or nothing and the connection is cut."""
        try:
            assert self._bridge is not None, "outloop is not running"
            if exchange.is_cut:
                return b""
            Watch(self._bridge.runtime, exchange).refuse_known(payload)
            return payload
        except Exception as error:  # noqa: BLE001  (cuts off)
            self._cut(flow, exchange, error)
            return b""

    def _cut(self, flow: http.HTTPFlow, exchange: Exchange | None, error: Exception) -> None:
        if exchange is not None:
            exchange.is_cut = True
            exchange.reason = error.reason if isinstance(error, Refused) else Reason.SCRUB_FAILED
            exchange.error = str(error)
        self._abort(flow.client_conn.id, str(error))

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Record the outcome."""
        assert self._bridge is not None, "outloop is not running"
        self._bridge.traffic.sockets.pop(flow.server_conn.id, None)
        self._bridge.traffic.controls.pop(flow.client_conn.id, None)
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
