"""Request bodies: what mitmproxy collects without a bound, and the sign by which it ends a streamed one.

Each wrapper names the behaviour it mends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mitmproxy import http
from mitmproxy.proxy import commands
from mitmproxy.proxy.layers.http import SendHttp
from mitmproxy.proxy.layers.http._events import RequestData, RequestProtocolError, ResponseData
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook

from outloop.proxy import desk
from outloop.proxy.pages import send_whole
from outloop.proxy.patching import Handler, Steps

DRAIN_BYTES = 1024 * 1024
DISCARD_BYTES = 64 * 1024 * 1024


def without_empty(original: Handler) -> Handler:
    """An empty HTTP/2 DATA frame reaches a stream callable as ``b""``, its sign for the end: what it held back would go."""

    def state_stream_body(self: Any, event: Any) -> Steps:
        if not (isinstance(event, (RequestData, ResponseData)) and not event.data):
            yield from original(self, event)

    return state_stream_body


def own_stream_start(original: Callable[[Any], Steps]) -> Callable[[Any], Steps]:
    """Whichever addon comes last decides whether and through what a response streams."""

    def start_response_stream(self: Any) -> Steps:
        answering = desk.current()
        own = answering.stream_of(self.flow) if answering is not None else None
        self.flow.response.stream = own or False
        if own is None:
            self.server_state = self.state_consume_response_body
        else:
            yield from original(self)

    return start_response_stream


def own_stream(original: Handler) -> Handler:
    """A response that streams could be given another callable on the way."""

    def state_stream_response_body(self: Any, event: Any) -> Steps:
        answering = desk.current()
        self.flow.response.stream = (answering.stream_of(self.flow) if answering is not None else None) or _nothing
        yield from original(self, event)

    return state_stream_response_body


def _nothing(data: bytes) -> list[bytes]:
    return []


def cut_upload(original: Handler) -> Handler:
    """An upload that was cut off goes on to its end, and the upstream takes it for whole."""

    def state_stream_request_body(self: Any, event: Any) -> Steps:
        yield from original(self, event)
        answering = desk.current()
        if answering is not None and isinstance(event, RequestData) and answering.is_cut(self.flow):
            stop = RequestProtocolError(self.stream_id, "outloop: the upload was cut off", RequestProtocolError.code)
            yield SendHttp(stop, self.context.server)
            self.client_state = self.state_errored

    return state_stream_request_body


def refused_expectation(original: Handler) -> Handler:
    """An agent that asked first is told to send its body (RFC 9110 §10.1.1) also where the answer is no already."""

    def state_wait_for_request_headers(self: Any, event: Any) -> Steps:
        is_asking = "expect" in event.request.headers
        yield from original(self, event)
        answering = desk.current()
        is_waiting = self.client_state == self.state_consume_request_body and self.flow.response is not None
        if is_asking and is_waiting and answering is not None and answering.is_refused(self.flow):
            yield from _answer_early(self, self.flow.response)

    return state_wait_for_request_headers


def bounded_body(original: Handler) -> Handler:
    """mitmproxy collects the whole upload, also of a request that is refused already."""

    def state_consume_request_body(self: Any, event: Any) -> Steps:
        answering = desk.current()
        if answering is None:
            yield from original(self, event)
        elif answering.is_refused(self.flow) and (isinstance(event, RequestData) or getattr(self, "outloop_answered", False)):
            if isinstance(event, RequestData):
                answering.drop(self.flow, event.data)
            yield from _drained(self, event)
        elif isinstance(event, RequestData) and _is_over(answering.body_limit(self.flow), self.request_body_buf, event.data):
            answering.drop(self.flow, bytes(self.request_body_buf) + event.data)
            self.request_body_buf.clear()
            answering.overflow(self.flow)
            yield HttpRequestHook(self.flow)
        else:
            yield from original(self, event)

    return state_consume_request_body


def _is_over(limit: int | None, buffer: Any, data: bytes) -> bool:
    return limit is not None and len(buffer) + len(data) > limit


def _drained(stream: Any, event: Any) -> Steps:
    """Drop what comes; past the bound, answer at once, then drop on until the agent has read the answer and left."""
    if not isinstance(event, RequestData):
        return
    stream.outloop_drained = getattr(stream, "outloop_drained", 0) + len(event.data)
    is_answered = getattr(stream, "outloop_answered", False)
    if is_answered and stream.outloop_drained > DISCARD_BYTES and not stream.flow.request.is_http2:
        yield commands.CloseConnection(stream.context.client)
    elif not is_answered and stream.outloop_drained > DRAIN_BYTES and stream.flow.response is not None:
        yield from _answer_early(stream, stream.flow.response)


def _answer_early(stream: Any, response: http.Response) -> Steps:
    stream.outloop_answered = True
    if not stream.flow.request.is_http2:
        response.headers["Connection"] = "close"
    yield from send_whole(stream, response)
