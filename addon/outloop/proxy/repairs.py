"""Where mitmproxy's protocol layers would answer past the addon, hang or fail open, and what is put in place.

The wrappers sit in the process for good and act through the desk (proxy/desk.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import wsproto.events
from mitmproxy.net.http import http1
from mitmproxy.proxy import server
from mitmproxy.proxy.layers import websocket
from mitmproxy.proxy.layers.http import HttpStream, _base, _http1, _http2
from mitmproxy.proxy.layers.http._events import RequestProtocolError

from outloop.proxy import bodies, desk, heads, http2, pages, transports, tunnel
from outloop.proxy.patching import Handler, Steps, wrap


def install() -> None:
    """Wrap mitmproxy's protocol layers. Their shape was checked before (proxy/shape.py)."""
    wrap(http1, "read_request_head", heads.strict_head)
    wrap(_http1, "make_body_reader", heads.without_trailers)
    wrap(_http1.Http1Server, "read_headers", heads.bounded_request_head)
    wrap(_http1.Http1Client, "read_headers", heads.final_response_head)
    wrap(HttpStream, "handle_event", _noting_departure)
    wrap(HttpStream, "_handle_event", bodies.bounded_patience)
    wrap(HttpStream, "state_wait_for_request_headers", _request_head)
    wrap(HttpStream, "handle_connect_regular", tunnel.opened_at_once)
    wrap(HttpStream, "state_consume_request_body", bodies.bounded_body)
    wrap(HttpStream, "state_stream_request_body", lambda original: bodies.without_empty(bodies.cut_upload(original)))
    wrap(HttpStream, "state_wait_for_response_headers", lambda original: pages.refused_at_once(pages.own_error_page(original)))
    wrap(HttpStream, "start_response_stream", bodies.own_stream_start)
    wrap(HttpStream, "state_stream_response_body", lambda original: bodies.without_empty(bodies.own_stream(original)))
    wrap(HttpStream, "handle_protocol_error", pages.own_error_page)
    wrap(_http2.Http2Server, "_handle_event", http2.told_to_stop)
    wrap(_http2.Http2Server, "handle_h2_event", http2.within_measure)
    wrap(_http2.Http2Connection, "protocol_error", http2.broken_rules)
    wrap(server.ConnectionHandler, "handle_client", transports.closed_at_the_end)
    wrap(server.ConnectionHandler, "handle_connection", transports.closed_when_cancelled)
    wrap(server.ConnectionHandler, "drain_writers", http2.unread_bound)
    for module in (_base, _http1, _http2):
        wrap(module, "format_error", lambda _: pages.plain_error)
    wrap(_http1, "make_error_response", lambda _: pages.plain_error_response)
    wrap(websocket.WebsocketConnection, "events", _clean_control_frames)


def _noting_departure(original: Handler) -> Handler:
    """While a hook is at work mitmproxy puts an agent's leaving aside: what was held would go out with nobody to answer."""

    def handle_event(self: Any, event: Any) -> Steps:
        answering, flow = desk.current(), getattr(self, "flow", None)
        if isinstance(event, RequestProtocolError) and answering is not None and flow is not None:
            answering.leaving(flow)
        return original(self, event)

    return handle_event


def _request_head(original: Handler) -> Handler:
    return heads.known_target(bodies.refused_at_its_head(pages.own_error_page(original)))


def _clean_control_frames(original: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    """Ping, pong and close frames carry up to 125 bytes either way, and no hook sees them."""

    def events(self: Any) -> Iterator[Any]:
        for event in original(self):
            if isinstance(event, (wsproto.events.Ping, wsproto.events.Pong)):
                yield replace(event, payload=_control(self, bytes(event.payload)))
            elif isinstance(event, wsproto.events.CloseConnection):
                yield replace(event, reason=_control(self, (event.reason or "").encode()).decode("utf-8", "replace"))
            else:
                yield event

    return events


def _control(socket: Any, payload: bytes) -> bytes:
    answering = desk.current()
    if answering is None or not payload:
        return b""
    ours = answering.clean_control if socket.client else answering.search_control  # from the upstream, or from the agent
    return ours(socket.conn.id, payload)
