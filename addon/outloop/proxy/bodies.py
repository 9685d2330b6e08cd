"""Request bodies: what mitmproxy collects without a bound, and the sign by which it ends a streamed one.

Each wrapper names the behaviour it mends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import DropStream, SendHttp
from mitmproxy.proxy.layers.http._events import RequestData, RequestEndOfMessage, RequestProtocolError, ResponseData
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook, HttpResponseHook

from outloop.proxy import desk
from outloop.proxy.http2 import UploadUnwanted
from outloop.proxy.pages import send_whole
from outloop.proxy.patching import Handler, Steps

# Of the body of a request that is answered already.
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_ROUND_S = 2.0  # in which something has to come
DRAIN_ROUNDS = 5


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


def refused_at_its_head(original: Handler) -> Handler:
    """A refusal waits for a body that was announced and may never come, and asks for it (RFC 9110 §10.1.1)."""

    def state_wait_for_request_headers(self: Any, event: Any) -> Steps:
        yield from original(self, event)
        if self.client_state == self.state_consume_request_body and not event.end_stream:
            yield from _answer_unless_whole(self)

    return state_wait_for_request_headers


def bounded_body(original: Handler) -> Handler:
    """mitmproxy collects the whole upload, also of a request that is refused already."""

    def state_consume_request_body(self: Any, event: Any) -> Steps:
        answering = desk.current()
        if answering is None:
            yield from original(self, event)
        elif getattr(self, "outloop_answered", False):
            if isinstance(event, RequestData):
                answering.drop(self.flow, event.data)
            yield from _dropped(self, event)
        elif isinstance(event, RequestData) and answering.is_refused(self.flow):
            answering.drop(self.flow, event.data)  # its end is here already
        elif isinstance(event, RequestData) and _is_over(answering.body_limit(self.flow), self.request_body_buf, event.data):
            answering.drop(self.flow, bytes(self.request_body_buf) + event.data)
            self.request_body_buf.clear()
            answering.overflow(self.flow)
            yield HttpRequestHook(self.flow)
            yield from _answer_unless_whole(self)
        else:
            yield from original(self, event)

    return state_consume_request_body


def bounded_patience(original: Handler) -> Handler:
    """mitmproxy's streams know no time."""

    def _handle_event(self: Any, event: Any) -> Steps:
        if isinstance(event, events.Wakeup):
            yield from _waited(self)
        elif isinstance(event, RequestProtocolError) and getattr(self, "outloop_answered", False):
            if self.client_state == self.state_consume_request_body:
                yield from _over(self)
        else:
            yield from original(self, event)

    return _handle_event


def _is_over(limit: int | None, buffer: Any, data: bytes) -> bool:
    return limit is not None and len(buffer) + len(data) > limit


def _answer_unless_whole(stream: Any) -> Steps:
    """Answer a refused request at once, unless its body is here by now: then the connection is kept.

    What still comes of the body is dropped, for a time and up to a bound: with it unread, the agent's side would be reset before
    it has read the answer (RFC 9112 §9.6).
    """
    answering = desk.current()
    response = stream.flow.response
    is_whole = any(isinstance(event, RequestEndOfMessage) for event in stream._paused_event_queue)
    if is_whole or answering is None or response is None or not answering.is_refused(stream.flow):
        return
    stream.outloop_answered = True
    stream.outloop_dropped_bytes = stream.outloop_dropped_before = stream.outloop_rounds = 0
    if not stream.flow.request.is_http2:
        response.headers["Connection"] = "close"
    stream.server_state = stream.state_done
    yield from send_whole(stream, response)
    yield commands.RequestWakeup(DRAIN_ROUND_S)


def _waited(stream: Any) -> Steps:
    is_idle = stream.outloop_dropped_bytes == stream.outloop_dropped_before
    stream.outloop_dropped_before = stream.outloop_dropped_bytes
    stream.outloop_rounds += 1
    if is_idle or stream.outloop_rounds >= DRAIN_ROUNDS:
        yield from _stop_upload(stream)
    else:
        yield commands.RequestWakeup(DRAIN_ROUND_S)


def _dropped(stream: Any, event: Any) -> Steps:
    if isinstance(event, RequestEndOfMessage):
        yield from _over(stream)
    elif isinstance(event, RequestData):
        stream.outloop_dropped_bytes += len(event.data)
        if stream.outloop_dropped_bytes > DRAIN_BYTES:
            yield from _stop_upload(stream)


def _stop_upload(stream: Any) -> Steps:
    """End what is left of a body whose request was answered, where its end has not come."""
    if stream.client_state == stream.state_consume_request_body:
        if stream.flow.request.is_http2:
            yield SendHttp(UploadUnwanted(stream.stream_id), stream.context.client)
        else:
            yield commands.CloseConnection(stream.context.client)
        yield from _over(stream)


def _over(stream: Any) -> Steps:
    stream.client_state = stream.state_done
    yield HttpResponseHook(stream.flow)
    yield DropStream(stream.stream_id)
