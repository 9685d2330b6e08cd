"""What an agent gets where mitmproxy would send a page of its own, which may quote what the upstream sent.

Each wrapper names the behaviour it mends.
"""

from __future__ import annotations

from typing import Any

from mitmproxy import flow as mitm_flow
from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands
from mitmproxy.proxy.layers.http import SendHttp
from mitmproxy.proxy.layers.http._events import (
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpRequestHeadersHook

from outloop.core.model import Reason, Refusal
from outloop.core.refusal import document, headers, next_step
from outloop.proxy import desk
from outloop.proxy.patching import Handler, Steps


def own_error_page(original: Handler) -> Handler:
    """mitmproxy's error pages carry raw upstream bytes and no reason code; the agent gets a problem document instead."""

    def handled(self: Any, event: Any) -> Steps:
        steps = original(self, event)
        reply: Any = None
        while True:
            try:
                command = steps.send(reply)
            except StopIteration as stop:
                return stop.value
            if _is_error_page(self, command):
                reply = yield from _answer(self, command)
            else:
                reply = yield command

    return handled


def refused_at_once(original: Handler) -> Handler:
    """A response refused at its head is still collected, of any size, and its body written into the refusal."""

    def state_wait_for_response_headers(self: Any, event: Any) -> Steps:
        yield from original(self, event)
        answering = desk.current()
        if answering is None or not answering.is_refused(self.flow) or self.server_state != self.state_consume_response_body:
            return
        stop = RequestProtocolError(self.stream_id, "outloop: the response was refused", RequestProtocolError.code)
        yield SendHttp(stop, self.context.server)
        yield from self.send_response()
        if self.client_state != self.state_done:
            yield from self.flow_done()
        self.server_state = self.state_errored

    return state_wait_for_response_headers


def _is_error_page(stream: Any, command: Any) -> bool:
    return (
        isinstance(getattr(command, "event", None), ResponseProtocolError)
        and getattr(command, "connection", None) is stream.context.client
        and desk.current() is not None
    )


def _answer(stream: Any, command: Any) -> Steps:
    answering = desk.current()
    assert answering is not None
    if stream.server_state in (stream.state_stream_response_body, stream.state_done):
        yield command  # the head has gone: the transfer is cut, which no client takes for whole
        return
    response = answering.answer_for(stream.flow)
    if response is None and stream.client_state == stream.state_wait_for_request_headers and not stream.flow.error:
        # No hook has fired for this request yet: let the addon refuse and record it.
        stream.flow.error = mitm_flow.Error(command.event.message)
        yield HttpRequestHeadersHook(stream.flow)
        response = answering.answer_for(stream.flow)
    if response is None:
        yield command
        return
    yield from send_whole(stream, response)
    if not stream.flow.request.is_http2:
        yield commands.CloseConnection(stream.context.client)


def send_whole(stream: Any, response: http.Response) -> Steps:
    """Send *response* to the agent at once."""
    client = stream.context.client
    yield SendHttp(ResponseHeaders(stream.stream_id, response, False), client)
    yield SendHttp(ResponseData(stream.stream_id, response.raw_content or b""), client)
    yield SendHttp(ResponseEndOfMessage(stream.stream_id), client)


def plain_error(status_code: int, message: str) -> bytes:
    """Return a problem document without *message*, which may quote what the upstream sent."""
    return document(_plain_refusal(status_code))


def plain_error_response(status_code: int, message: str = "") -> bytes:
    """Return a whole response with `plain_error`'s document, after which the connection closes."""
    refusal = _plain_refusal(status_code)
    fields = [(name.encode(), value.encode()) for name, value in headers(refusal)]
    response = http.Response.make(status_code, document(refusal), [*fields, (b"Connection", b"close")])
    assembled: bytes = http1.assemble_response(response)
    return assembled


def _plain_refusal(status_code: int) -> Refusal:
    reason = {400: Reason.MALFORMED_REQUEST, 502: Reason.UPSTREAM_FAILED}.get(status_code, Reason.INTERNAL_ERROR)
    return Refusal(reason, "", next_step(reason), audit_id="")
