"""A tunnel: bytes relayed unopened, and counted, from the moment it is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mitmproxy.proxy import context, events
from mitmproxy.proxy.layers import TCPLayer

from outloop.proxy import desk
from outloop.proxy.exchange import Exchange
from outloop.proxy.patching import Steps


def opened_at_once(original: Callable[[Any], Steps]) -> Callable[[Any], Steps]:
    """mitmproxy dials for a tunnel only when the agent has spoken, and some servers speak first."""

    def handle_connect_regular(self: Any) -> Steps:
        answering = desk.current()
        exchange = answering.tunnel_of(self.context.client.id) if answering is not None and not self.flow.response else None
        if exchange is None:
            yield from original(self)
            return
        self.child_layer = Tunnel(self.context, exchange)
        yield from self.handle_connect_finish()

    return handle_connect_regular


class Tunnel(TCPLayer):
    """mitmproxy's relay without a flow, so that no addon sees a byte of it."""

    def __init__(self, found: context.Context, exchange: Exchange) -> None:
        super().__init__(found, ignore=True)
        self._exchange = exchange

    def relay_messages(self, event: events.Event) -> Steps:
        """Relay *event* and count its bytes."""
        if isinstance(event, events.DataReceived):
            if event.connection is self.context.client:
                self._exchange.request_bytes += len(event.data)
            else:
                self._exchange.response_bytes += len(event.data)
        yield from super().relay_messages(event)
