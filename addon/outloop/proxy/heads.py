"""Message heads: what mitmproxy reads without a bound, takes for the answer, or refuses past every hook.

Each wrapper names the behaviour it mends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import RequestEndOfMessage, RequestHeaders, ResponseProtocolError

from outloop.proxy.patching import Handler, Steps

MAX_HEAD_BYTES = 64 * 1024
MAX_HEAD_LINES = 256
MAX_INFORMATIONAL = 32
MAX_LENGTH_DIGITS = 15  # far below 2**63, where servers begin to disagree

_INFORMATIONAL = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r\n]")
# RFC 9112 §3, without its leniency about white space. mitmproxy would also believe an agent that says HTTP/2.0 here, and frame
# the request so.
_REQUEST_LINE = re.compile(rb"[!-~]+ [!-~\x80-\xff]+ HTTP/1\.[01]")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 §5.5: a tab is none of them
_OVERSIZED_HEAD = b"OVERSIZED\r\n\r\n"


class UnreadableRequest(http.Request):
    """Stands for a request whose head has no single safe reading; `why` says so in words fit for the agent.

    `said` are the lines of that head: they go nowhere, but what an agent tries is looked at all the same.
    """

    why = "the request line or a header is not valid HTTP"
    said: tuple[bytes, ...] = ()


def unreadable(why: str = UnreadableRequest.why, target: http.Request | None = None) -> UnreadableRequest:
    """Return the stand-in for a request that cannot be read; the connection closes after its answer."""
    request = UnreadableRequest(
        host="malformed.invalid",
        port=80,
        method=b"GET",
        scheme=b"http",
        authority=b"",
        path=b"/",
        http_version=b"HTTP/2.0" if target is not None and target.is_http2 else b"HTTP/1.1",
        headers=http.Headers(((b"Host", b"malformed.invalid"), (b"Connection", b"close"))),
        content=None,
        trailers=None,
        timestamp_start=0.0,
        timestamp_end=None,
    )
    request.why = why
    if target is not None:
        data = target.data
        request.said = (data.method, data.path, data.authority, *(b"%s: %s" % field for field in data.headers.fields))
    return request


def strict_head(original: Callable[[list[bytes]], http.Request]) -> Callable[[list[bytes]], http.Request]:
    """A head that fails to parse fires no hook, and one that fails validation is answered with mitmproxy's own page."""

    def read_request_head(lines: list[bytes]) -> http.Request:
        request = read(lines)
        if isinstance(request, UnreadableRequest):
            request.said = tuple(map(bytes, lines))
        return request

    def read(lines: list[bytes]) -> http.Request:
        if len(lines) > MAX_HEAD_LINES:
            return unreadable("the request has too many headers")
        if not lines or not _REQUEST_LINE.fullmatch(lines[0]):
            return unreadable("the request line is not a method, a target and HTTP/1.1 or HTTP/1.0 with one space between them")
        if any(line[:1] in (b" ", b"\t") for line in lines):
            return unreadable("a header is folded over lines")
        if any(map(_CONTROL.search, lines)):
            return unreadable("the request line or a header holds a control character")
        try:
            request = original(lines)
            validate_headers(request)
            http1.expected_http_body_size(request)
        except ValueError:
            return unreadable()
        if len(request.headers.get("content-length", "")) > MAX_LENGTH_DIGITS:
            return unreadable("the declared length is beyond any use")
        if request.headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
            return unreadable("a transfer coding other than chunked")
        return request

    return read_request_head


class _TrailerDropper:
    """A body reader that drops trailer fields, which mitmproxy's HTTP/1 cannot carry (it stops; RFC 9110 §6.5.1 allows it).

    Between chunks mitmproxy collects without a bound.
    """

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.read_eof = reader.read_eof

    def __call__(self, buffer: ReceiveBuffer) -> Any:
        event = self._reader(buffer)
        if event is None and len(buffer) > MAX_HEAD_BYTES:
            raise h11.RemoteProtocolError("a chunk's head or the trailer is too long")
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) and event.headers else event


def without_trailers(original: Callable[[int | None], Any]) -> Callable[[int | None], Any]:
    """Trailer fields stop mitmproxy's HTTP/1 for good."""

    def make_body_reader(expected_size: int | None) -> Any:
        reader = original(expected_size)
        return _TrailerDropper(reader) if expected_size is None else reader

    return make_body_reader


def _is_oversized(buffer: ReceiveBuffer) -> bool:
    if len(buffer) <= MAX_HEAD_BYTES:
        return False
    head = bytes(buffer)[:MAX_HEAD_BYTES]
    return b"\r\n\r\n" not in head and b"\n\n" not in head


def bounded_request_head(original: Handler) -> Handler:
    """mitmproxy collects a head of any size, and waits for more after an empty line (RFC 9112 §2.2: to be ignored)."""

    def read_headers(self: Any, event: Any) -> Steps:
        while bytes(self.buf)[:2] == b"\r\n":
            self.buf.maybe_extract_at_most(2)
        if isinstance(event, events.DataReceived) and _is_oversized(self.buf):
            self.buf = ReceiveBuffer()
            self.buf += _OVERSIZED_HEAD
        yield from original(self, event)

    return read_headers


def final_response_head(original: Handler) -> Handler:
    """mitmproxy takes any 1xx for the answer; RFC 9110 §15.2 lets a proxy that asked for none drop it."""

    def read_headers(self: Any, event: Any) -> Steps:
        if isinstance(event, events.DataReceived) and self.request:
            dropped = 0
            while _INFORMATIONAL.match(bytes(self.buf)[:16]):
                if self.buf.maybe_extract_lines() is None:
                    break
                dropped += 1
            if dropped > MAX_INFORMATIONAL or _is_oversized(self.buf):
                yield commands.CloseConnection(self.conn)
                yield ReceiveHttp(ResponseProtocolError(self.stream_id, "response head is too large", ResponseProtocolError.code))
                return
        yield from original(self, event)

    return read_headers


def known_target(original: Handler) -> Handler:
    """An origin-form request to the proxy itself would be sent wherever its Host header says.

    An HTTP/2 request that ends with its head may announce a body (RFC 9113 §8.1.1): over HTTP/1.1 the upstream would wait for it.
    """

    def state_wait_for_request_headers(self: Any, event: RequestHeaders) -> Steps:
        request = event.request
        if isinstance(request, UnreadableRequest):
            pass
        elif request.is_http2 and event.end_stream and request.headers.get("content-length", "0").strip("0"):
            event.request = unreadable("a body is announced, and none follows", request)
        elif self.mode is HTTPMode.regular and not request.host:
            event.request = unreadable("a request to a proxy must name its target in absolute form", request)
        elif self.mode is HTTPMode.transparent and request.method.upper() == "CONNECT":
            event.request = unreadable("a CONNECT inside a tunnel", request)
            yield from original(self, event)
            # mitmproxy never says that a CONNECT has ended.
            yield from self.handle_event(RequestEndOfMessage(self.stream_id))
            return
        elif self.mode is HTTPMode.transparent and not request.is_http2 and request.authority:
            event.request = unreadable("an absolute-form target inside a tunnel", request)
        yield from original(self, event)

    return state_wait_for_request_headers
