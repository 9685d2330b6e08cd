"""Whether the mitmproxy at hand is shaped like the ones Outloop was built on; where it is not, the proxy must not start.

The names and parameters that are wrapped are compared, and the wire is tried: a request without a release must not be sent,
and a released one must gain its credential on the wire and nowhere else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from mitmproxy import addonmanager, version
from mitmproxy.addons import script
from mitmproxy.net.http import http1
from mitmproxy.proxy import server
from mitmproxy.proxy.layers.http import HttpStream, _base, _http1, _http2

from outloop.core.errors import HardeningError

_WRAPPED: tuple[tuple[str, Callable[..., Any], tuple[str, ...]], ...] = (
    ("HttpStream.make_server_connection", HttpStream.make_server_connection, ("self",)),
    ("HttpStream.handle_event", HttpStream.handle_event, ("self", "event")),
    ("HttpStream._handle_event", HttpStream._handle_event, ("self", "event")),
    ("HttpStream.handle_protocol_error", HttpStream.handle_protocol_error, ("self", "event")),
    ("HttpStream.state_wait_for_request_headers", HttpStream.state_wait_for_request_headers, ("self", "event")),
    ("HttpStream.state_consume_request_body", HttpStream.state_consume_request_body, ("self", "event")),
    ("HttpStream.state_wait_for_response_headers", HttpStream.state_wait_for_response_headers, ("self", "event")),
    ("HttpStream.handle_connect_regular", HttpStream.handle_connect_regular, ("self",)),
    ("HttpStream.start_response_stream", HttpStream.start_response_stream, ("self",)),
    ("HttpStream.state_stream_request_body", HttpStream.state_stream_request_body, ("self", "event")),
    ("HttpStream.state_stream_response_body", HttpStream.state_stream_response_body, ("self", "event")),
    ("Http1Client.send", _http1.Http1Client.send, ("self", "event")),
    ("Http1Client.read_headers", _http1.Http1Client.read_headers, ("self", "event")),
    ("Http1Server.read_headers", _http1.Http1Server.read_headers, ("self", "event")),
    ("Http2Client._handle_event2", _http2.Http2Client._handle_event2, ("self", "event")),
    ("Http2Server._handle_event", _http2.Http2Server._handle_event, ("self", "event")),
    ("Http2Server.handle_h2_event", _http2.Http2Server.handle_h2_event, ("self", "event")),
    ("Http2Connection.protocol_error", _http2.Http2Connection.protocol_error, ("self", "message", "error_code")),
    ("ConnectionHandler.handle_client", server.ConnectionHandler.handle_client, ("self",)),
    ("ConnectionHandler.handle_connection", server.ConnectionHandler.handle_connection, ("self", "connection")),
    ("ConnectionHandler.drain_writers", server.ConnectionHandler.drain_writers, ("self",)),
    ("http1.read_request_head", http1.read_request_head, ("lines",)),
    ("_http1.make_body_reader", _http1.make_body_reader, ("expected_size",)),
    ("_http1.make_error_response", _http1.make_error_response, ("status_code", "message")),
    ("_base.format_error", _base.format_error, ("status_code", "message")),
    ("AddonManager.trigger_event", addonmanager.AddonManager.trigger_event, ("self", "event")),
    ("Script.watcher", script.Script.watcher, ("self",)),
)


def check() -> None:
    """Raise HardeningError when a wrapped function is not the known one."""
    for name, function, parameters in _WRAPPED:
        found = tuple(inspect.signature(inspect.unwrap(function)).parameters)
        if found != parameters:
            raise HardeningError(
                f"mitmproxy {version.VERSION} is not shaped as expected at {name}",
                "install a version that Outloop names: 11.0.2, or 12.2 and later",
            )
