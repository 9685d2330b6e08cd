"""The addon's side of the repairs: what the wrapped protocol layers ask it. Without one at the desk they refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from mitmproxy import http

from outloop.proxy.exchange import Exchange


class Desk(Protocol):
    """Who answers."""

    def answer_for(self, flow: http.HTTPFlow) -> http.Response | None:
        """Return the refusal to send in place of mitmproxy's own error page."""
        ...

    def is_refused(self, flow: http.HTTPFlow) -> bool:
        """Tell whether the request is answered already, so that the rest of its body is not wanted."""
        ...

    def body_limit(self, flow: http.HTTPFlow) -> int | None:
        """Return how many bytes a rule may read of the body being collected, or None."""
        ...

    def drop(self, flow: http.HTTPFlow, data: bytes) -> None:
        """Take note of *data* of the request's body, which goes nowhere."""
        ...

    def overflow(self, flow: http.HTTPFlow) -> None:
        """Take note that the body went over the limit."""
        ...

    def leaving(self, flow: http.HTTPFlow) -> None:
        """Take note that the agent gave the request up, while a hook may still be at work on it."""
        ...

    def breach(self, client_id: str, what: str) -> str:
        """Take note that an agent's connection broke the rules of its protocol; return *what* without the agent's bytes."""
        ...

    def tunnel_of(self, client_id: str) -> Exchange | None:
        """Return the exchange of the tunnel that an agent's connection was opened for, None where it was for something else."""
        ...

    def stream_of(self, flow: http.HTTPFlow) -> Callable[[bytes], Iterator[bytes]] | None:
        """Return what the response's body streams through, None where it is collected."""
        ...

    def is_cut(self, flow: http.HTTPFlow) -> bool:
        """Tell whether an upload under way was cut off."""
        ...

    def search_control(self, client_id: str, payload: bytes) -> bytes:
        """Return what may leave of the payload of a WebSocket control frame from the agent's connection *client_id*."""
        ...

    def clean_control(self, server_id: str, payload: bytes) -> bytes:
        """Return what may leave of the payload of a WebSocket control frame from the upstream connection *server_id*."""
        ...


_desk: Desk | None = None


def take(desk: Desk) -> None:
    """Put *desk* in place for the whole process."""
    global _desk
    _desk = desk


def current() -> Desk | None:
    """Return who answers now."""
    return _desk
