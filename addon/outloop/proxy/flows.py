"""Between mitmproxy's flows and the core's facts: reading a request, and turning a refusal or an answer into a response."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from mitmproxy import http

from outloop.core.errors import MalformedRequest
from outloop.core.model import Refusal
from outloop.core.refusal import document, headers, status
from outloop.core.target import Names
from outloop.proxy.heads import MAX_HEAD_LINES, UnreadableRequest

# TRACE answers with the request it got, credential and all (RFC 9110 §9.3.8); CONNECT belongs to proxies; WEBSOCKET is
# policy's word for an upgrade.
REFUSED_METHODS = frozenset({"TRACE", "TRACK", "CONNECT", "WEBSOCKET"})


def field_values(request: http.Request | http.Response, name: bytes) -> list[str]:
    """Return every value of the header *name* (lower case), undecodable bytes as surrogates."""
    return [value.decode("utf-8", "surrogateescape") for field, value in request.data.headers.fields if field.lower() == name]


def refuse_unreadable(flow: http.HTTPFlow) -> None:
    """Raise MalformedRequest for a request that has no single safe reading, or that is not an agent's own."""
    request = flow.request
    if isinstance(request, UnreadableRequest):
        raise MalformedRequest(request.why)
    if flow.error:
        raise MalformedRequest("the request is not valid HTTP")
    if flow.is_replay:
        raise MalformedRequest("a replayed request is not an agent's own")
    method = request.data.method
    if not method.isalpha() or not method.isupper():
        raise MalformedRequest("the method is not an upper-case word")
    if request.method in REFUSED_METHODS:
        raise MalformedRequest(f"{request.method} is never forwarded")
    if is_websocket(request) and request.method != "GET":
        raise MalformedRequest("a WebSocket is asked for with GET")
    if len(request.data.headers.fields) > MAX_HEAD_LINES:
        raise MalformedRequest("the request has too many headers")
    for _, value in request.data.headers.fields:
        if b"\r" in value or b"\n" in value or b"\0" in value:
            raise MalformedRequest("a header value holds a line break or NUL")


def names_of(flow: http.HTTPFlow, *, in_tunnel: bool) -> Names:
    """Return what the request says about its host; the SNI counts only inside a tunnel, where it is the request's own."""
    request = flow.request
    sni = (flow.client_conn.sni or "") if in_tunnel and flow.client_conn.tls_established else None
    # Not `request.authority`: that turns xn-- labels into what they stand for.
    authority = request.data.authority.decode("utf-8", "surrogateescape")
    return Names(tuple(field_values(request, b"host")), authority, sni)


def is_websocket(request: http.Request) -> bool:
    """Tell whether the request asks for a WebSocket (RFC 6455 §4.1)."""
    return any(value.strip().lower() == "websocket" for value in field_values(request, b"upgrade"))


def raw_target(request: http.Request) -> str:
    """Return the origin-form target as sent. Raises MalformedRequest for bytes that no target may hold."""
    try:
        return request.data.path.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedRequest("the request target is not ASCII") from None


def proxy_credentials(request: http.Request) -> tuple[str, str] | None:
    """Return user and token of Proxy-Authorization (RFC 7617), None where there is none, ("", "") where it is unreadable."""
    values = field_values(request, b"proxy-authorization")
    if not values:
        return None
    scheme, _, encoded = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "basic":
        return "", ""
    try:
        user, _, token = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return user, token


def refusal_response(refusal: Refusal) -> http.Response:
    """Return the response that carries *refusal*."""
    return plain_response(status(refusal.reason), document(refusal), headers(refusal))


def plain_response(code: int, body: bytes, fields: Iterable[tuple[str, str]]) -> http.Response:
    """Return a response of our own with a declared length."""
    encoded = [(name.encode("ascii"), value.encode("ascii", "backslashreplace")) for name, value in fields]
    return http.Response.make(code, body, encoded)


def answering(request: http.Request, response: http.Response) -> http.Response:
    """Return *response*, one of our own, as it answers *request*: a HEAD gets the length alone (RFC 9110 §9.3.2).

    With the body sent, it would be read as the beginning of the next response.
    """
    if request.method == "HEAD":
        response.data.content = b""
    return response
