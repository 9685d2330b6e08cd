"""HTTP/2 with an agent: what mitmproxy puts up with without a bound, and what it closes without a trace.

Each wrapper names the behaviour it mends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import h2.events
from h2.errors import ErrorCodes
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import _http2
from mitmproxy.proxy.layers.http._base import HttpEvent

from outloop.core.allowance import Allowance
from outloop.proxy import desk
from outloop.proxy.patching import Handler, Steps

UNREAD_BYTES = 4 * 1024 * 1024  # of answers that an agent asked for and does not let in
RESETS_AT_ONCE, RESETS_PER_S = 100, 20
IDLE_FRAMES_AT_ONCE, IDLE_FRAMES_PER_S = 1000, 100

_agents: WeakValueDictionary[str, Any] = WeakValueDictionary()


@dataclass
class UploadUnwanted(HttpEvent):
    """The request is answered, and the rest of its body is not wanted (RFC 9113 §8.1)."""


def told_to_stop(original: Handler) -> Handler:
    """mitmproxy ends a stream with an error or not at all; one whose answer was whole was no error."""

    def _handle_event(self: Any, event: Any) -> Steps:
        if isinstance(event, UploadUnwanted):
            if not self.is_closed(event.stream_id):
                self.streams.pop(event.stream_id, None)
                self.h2_conn.reset_stream(event.stream_id, ErrorCodes.NO_ERROR)
                yield commands.SendData(self.conn, self.h2_conn.data_to_send())
            return
        if isinstance(event, events.Start):
            _agents[self.conn.id] = self
        yield from original(self, event)
        if moved := getattr(self, "outloop_moved", None):
            moved.set()

    return _handle_event


def broken_rules(original: Callable[..., Steps]) -> Callable[..., Steps]:
    """What breaks the rules of HTTP/2 closes the connection before any hook has seen a request."""

    def protocol_error(self: Any, message: str, error_code: int = ErrorCodes.PROTOCOL_ERROR) -> Steps:
        answering = desk.current()
        if isinstance(self, _http2.Http2Server) and answering is not None:
            message = answering.breach(self.conn.id, message)
        yield from original(self, message, error_code)

    return protocol_error


def within_measure(original: Handler) -> Handler:
    """mitmproxy goes along with any number of resets (CVE-2023-44487) and of frames that ask for nothing (CVE-2019-9512, …)."""

    def handle_h2_event(self: Any, event: Any) -> Steps:
        if problem := _excess(self, event):
            yield from self.protocol_error(problem, ErrorCodes.ENHANCE_YOUR_CALM)
            return True
        return (yield from original(self, event))

    return handle_h2_event


def _excess(server: Any, event: Any) -> str:
    if isinstance(event, h2.events.StreamReset):
        name, burst, per_s = "resets", RESETS_AT_ONCE, RESETS_PER_S
    elif isinstance(event, _IDLE) or (isinstance(event, h2.events.DataReceived) and not event.data and not event.stream_ended):
        name, burst, per_s = "frames that ask for nothing", IDLE_FRAMES_AT_ONCE, IDLE_FRAMES_PER_S
    else:
        return ""
    allowances: dict[str, Allowance] = vars(server).setdefault("outloop_allowances", {})
    allowance = allowances.setdefault(name, Allowance(burst, per_s))
    return "" if allowance.take(time.monotonic()) else f"HTTP/2: too many {name}"


_IDLE = (
    h2.events.PingReceived,
    h2.events.PingAckReceived,
    h2.events.RemoteSettingsChanged,
    h2.events.SettingsAcknowledged,
    h2.events.PriorityUpdated,
    h2.events.UnknownFrameReceived,
)


def unread_bound(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """An answer that an agent's window does not let in is read from the upstream all the same, and kept."""

    async def drain_writers(self: Any) -> None:
        await original(self)
        server = _agents.get(self.client.id)
        found = self.transports.get(self.client)
        if server is None or found is None or found.handler is asyncio.current_task():
            return
        while _unread_bytes(server) > UNREAD_BYTES:
            server.outloop_moved = moved = getattr(server, "outloop_moved", None) or asyncio.Event()
            moved.clear()
            await moved.wait()

    return drain_writers


def _unread_bytes(server: Any) -> int:
    return sum(len(piece.data) for pieces in server.h2_conn.stream_buffers.values() for piece in pieces)
