"""The sockets under mitmproxy's layers, where it forgets one. Each wrapper names the behaviour it mends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mitmproxy import connection
from mitmproxy.proxy import events

HandleConnection = Callable[[Any, connection.Connection], Awaitable[None]]


def closed_when_cancelled(original: HandleConnection) -> HandleConnection:
    """A connection that is to be closed while it waits for its turn is forgotten: its socket stays open, no layer hears of it.

    Whoever sends on after what closes its connection would have the proxy hold one more socket each time.
    """

    async def handle_connection(self: Any, found: connection.Connection) -> None:
        try:
            await original(self, found)
        except asyncio.CancelledError:
            forgotten = self.transports.pop(found, None)
            if forgotten is not None:
                found.state = connection.ConnectionState.CLOSED
                if forgotten.writer is not None:
                    forgotten.writer.close()
                await self.server_event(events.ConnectionClosed(found))
            raise

    return handle_connection


def closed_at_the_end(original: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """A connection that is to be closed before its task has begun is forgotten just so, and there is no task to mend it in."""

    async def handle_client(self: Any) -> None:
        try:
            await original(self)
        finally:
            for forgotten in self.transports.values():
                if forgotten.writer is not None:
                    forgotten.writer.close()

    return handle_client
