"""The last step before the network: a request passes only with an exchange that was released, and gains its credential here.

Both of mitmproxy's upstream protocol classes get one event that carries the request just before it is serialised
(`Http1Client.send`, `Http2Client._handle_event2`). They are wrapped so that

* a request that no decision released, or that differs from the one that was decided, is not sent, whatever hook failed,
  whichever addon changed it, and whether or not the script is still loaded;
* the credential joins a copy that lives for the length of one serialisation, so that no flow ever holds it.

The wrapped classes belong to the process, not to the addon: without a gate they send nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, Protocol

from mitmproxy import connection, http
from mitmproxy.proxy import commands
from mitmproxy.proxy.layers.http import HttpStream, _http1, _http2
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import RequestHeaders, RequestTrailers, ResponseProtocolError

from outloop.core.outgoing import edits_applied
from outloop.proxy.exchange import Exchange, Phase, Release
from outloop.proxy.patching import Handler, Steps, wrap

NOT_RELEASED = "outloop: this request was not released"


class Gate(Protocol):
    """What the wire asks the addon."""

    def exchange_of(self, request: http.Request) -> Exchange | None:
        """Return the exchange of *request*, by identity."""
        ...


class _ClosedGate:
    def exchange_of(self, request: http.Request) -> None:
        return None


_gate: Gate = _ClosedGate()


def open_gate(gate: Gate) -> None:
    """Let requests pass that *gate* knows an exchange for. The last addon to load holds the gate."""
    global _gate
    _gate = gate


def close_gate() -> None:
    """Let nothing pass any more."""
    open_gate(_ClosedGate())


def install() -> None:
    """Wrap mitmproxy's upstream classes. Their shape was checked before (proxy/shape.py)."""
    wrap(HttpStream, "make_server_connection", _guarded_connection)
    wrap(_http1.Http1Client, "send", _guarded_send)
    wrap(_http2.Http2Client, "_handle_event2", _guarded_h2)


def objection(request: http.Request) -> str | None:
    """Return why *request* may not go upstream, or None: it is exactly the one that was decided and released."""
    exchange = _gate.exchange_of(request)
    if exchange is None or exchange.release is None or exchange.phase is not Phase.RELEASED:
        return NOT_RELEASED
    decided = exchange.release.request
    is_same = (
        request.data.scheme == b"https"
        and request.data.host == decided.host
        and request.data.port == decided.port
        and request.data.method.decode("ascii", "replace") == wire_method(decided.method)
        and (decided.body is None or (request.data.content or b"") == decided.body)
    )
    return None if is_same else "outloop: the request was changed after it was decided"


def distrust(server: connection.Connection, release: Release) -> str | None:
    """Return why a credential may not be put on *server*, or None: TLS stands and names the decided host.

    The peer's address is not compared: what counts is the name its certificate was verified for.
    """
    if server.timestamp_tls_setup is None or not server.certificate_list:
        return "outloop: the upstream connection is not verified TLS"
    if server.sni != release.request.host:
        return "outloop: the upstream was verified for another name"
    return None


def wire_method(method: str) -> str:
    """Return the method on the wire: a WebSocket upgrade is a GET (RFC 6455 §4.1)."""
    return "GET" if method == "WEBSOCKET" else method


def wire_requests(event: RequestHeaders, release: Release, *, is_http1: bool) -> tuple[http.Request, http.Request]:
    """Return the request with the credential, framed for the upstream's protocol, and what mitmproxy may keep of it.

    It keeps a request until its answer has come, for its method and framing: that one holds nothing else of ours.
    """
    fields, query = edits_applied(release.fields, release.query, release.edits, release.static)
    framing = _framing(event, is_http1=is_http1)
    with_credential = _request(event, release, fields + framing, query, is_http1=is_http1)
    kept = copy(with_credential)
    kept.data = copy(with_credential.data)
    kept.data.path = event.request.data.path
    kept.data.headers = http.Headers(framing)
    return with_credential, kept


def _framing(event: RequestHeaders, *, is_http1: bool) -> tuple[tuple[bytes, bytes], ...]:
    # A body that came over HTTP/2 without a length has no framing in HTTP/1.1 unless it is given one (RFC 9113 §8.1.1,
    # RFC 9112 §6.3): without it the body would be read as the next request.
    agent_headers = event.request.headers
    if content := event.request.data.content:
        return ((b"Content-Length", b"%d" % len(content)),)
    if "content-length" in agent_headers:
        return ((b"Content-Length", agent_headers["content-length"].encode()),)
    if event.end_stream or not is_http1:
        return ()
    return ((b"Transfer-Encoding", b"chunked"),)


def _request(
    event: RequestHeaders, release: Release, fields: tuple[tuple[bytes, bytes], ...], query: str, *, is_http1: bool
) -> http.Request:
    decided = release.request
    is_h2 = event.request.is_http2
    if is_http1 or not is_h2:
        # Also for what came over HTTP/2: left to itself, mitmproxy writes the authority with its xn-- labels decoded.
        fields = ((b"Host", decided.authority.encode()), *fields)
        if decided.method == "WEBSOCKET":
            fields += ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
    # Copies, for the constructor checks the type of every field: a tenth of a request's whole cost.
    request = copy(event.request)
    request.stream = False
    request.data = data = copy(event.request.data)
    data.host, data.port, data.scheme = decided.host, decided.port, b"https"
    data.method = wire_method(decided.method).encode()
    data.authority = decided.authority.encode() if is_h2 else b""
    data.path = (decided.path.text + (f"?{query}" if query else "")).encode()
    data.http_version = b"HTTP/2.0" if is_h2 else b"HTTP/1.1"
    data.headers = http.Headers([(name.lower(), value) for name, value in fields] if not is_http1 else fields)
    data.content = data.trailers = data.timestamp_end = None
    return request


def _guarded_connection(original: Callable[[Any], Steps]) -> Callable[[Any], Steps]:
    def make_server_connection(self: Any) -> Steps:
        problem = _objection_or_bug(self.flow.request)
        if not problem:
            if not (yield from original(self)):
                return False
            problem = _objection_or_bug(self.flow.request, self.context.server)
        if problem:
            error = ResponseProtocolError(self.stream_id, problem, ResponseProtocolError.code)
            yield from self.handle_protocol_error(error)
            return False
        return True

    return make_server_connection


def _objection_or_bug(request: http.Request, server: connection.Connection | None = None) -> str | None:
    try:
        problem = objection(request)
        exchange = _gate.exchange_of(request)
        if problem is None and server is not None and exchange is not None and exchange.release is not None:
            problem = distrust(server, exchange.release)
    except Exception as error:  # noqa: BLE001  (not sent)
        return f"outloop: a bug at the wire: {type(error).__name__}"
    return problem


def _passed(event: RequestHeaders, server: connection.Connection, *, is_http1: bool) -> tuple[http.Request, http.Request] | str:
    """Return what goes out, as `wire_requests` does, with the exchange marked as sent; or why nothing does."""
    try:
        exchange = _gate.exchange_of(event.request)
        problem = objection(event.request)
        if problem is not None or exchange is None or exchange.release is None:
            return problem or NOT_RELEASED
        if (doubt := distrust(server, exchange.release)) is not None:
            return doubt
        requests = wire_requests(event, exchange.release, is_http1=is_http1)
    except Exception as error:  # noqa: BLE001  (not sent)
        return f"outloop: a bug at the wire: {type(error).__name__}"
    exchange.phase = Phase.SENT
    return requests


def _guarded_send(original: Handler) -> Handler:
    def send(self: Any, event: Any) -> Steps:
        # Trailers were dropped, for no rule has seen them; HTTP/1 stops at any that come from somewhere else.
        if getattr(self, "outloop_refused", False) or isinstance(event, RequestTrailers):
            return
        if not isinstance(event, RequestHeaders):
            yield from original(self, event)
            return
        passed = _passed(event, self.conn, is_http1=True)
        if isinstance(passed, str):
            self.outloop_refused = True
            yield commands.CloseConnection(self.conn)
            yield ReceiveHttp(ResponseProtocolError(event.stream_id, passed, ResponseProtocolError.code))
            return
        with_credential, self.request = passed
        self.stream_id = event.stream_id
        yield from original(self, RequestHeaders(event.stream_id, with_credential, event.end_stream))

    return send


def _guarded_h2(original: Handler) -> Handler:
    def _handle_event2(self: Any, event: Any) -> Steps:
        if isinstance(event, RequestTrailers):
            return
        if not isinstance(event, RequestHeaders):
            yield from original(self, event)
            return
        passed = _passed(event, self.conn, is_http1=False)
        if isinstance(passed, str):
            yield ReceiveHttp(ResponseProtocolError(event.stream_id, passed, ResponseProtocolError.code))
            return
        yield from original(self, RequestHeaders(event.stream_id, passed[0], event.end_stream))

    return _handle_event2
