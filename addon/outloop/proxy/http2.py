"""HTTP/2 with an agent: what mitmproxy would put up with, and what it would do without a trace.

Each wrapper names the behaviour it mends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from h2.errors import ErrorCodes
from mitmproxy.proxy import commands
from mitmproxy.proxy.layers.http._base import HttpEvent

from outloop.proxy.patching import Handler, Steps


@dataclass
class UploadUnwanted(HttpEvent):
    """The request is answered, and the rest of its body is not wanted (RFC 9113 §8.1)."""


def told_to_stop(original: Handler) -> Handler:
    """mitmproxy ends a stream with an error or not at all; one whose answer was whole was no error."""

    def _handle_event(self: Any, event: Any) -> Steps:
        if not isinstance(event, UploadUnwanted):
            yield from original(self, event)
        elif not self.is_closed(event.stream_id):
            self.streams.pop(event.stream_id, None)
            self.h2_conn.reset_stream(event.stream_id, ErrorCodes.NO_ERROR)
            yield commands.SendData(self.conn, self.h2_conn.data_to_send())

    return _handle_event
