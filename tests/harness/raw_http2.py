"""An agent that speaks HTTP/2 and keeps to none of its rules but framing.

Used so:

    with tunnel(proxy, "api.example.com:443", protocols=["h2"]) as raw:
        answer = Http2Agent(raw).ask(head("GET", "/a", "api.example.com"))
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from harness.raw_agent import RawAgent, RawAnswer

Fields = Sequence[tuple[str, str]]


def head(method: str, path: str, authority: str, *fields: tuple[str, str]) -> Fields:
    """Return the header block of a request."""
    return [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path), *fields]


class Http2Agent:
    """One HTTP/2 connection over *raw*."""

    def __init__(self, raw: RawAgent) -> None:
        self._raw = raw
        self._h2 = H2Connection(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="latin-1")
        )
        self._heads: dict[int, tuple[tuple[str, str], ...]] = {}
        self._bodies: defaultdict[int, bytes] = defaultdict(bytes)
        self._ended: set[int] = set()
        self.reset: dict[int, int] = {}
        self._h2.initiate_connection()
        self._flush()

    def ask(self, fields: Fields, *pieces: bytes) -> RawAnswer:
        """Send a request, its body in *pieces* of one DATA frame each, and return the response."""
        return self.answer(self.begin(fields, *pieces))

    def begin(self, fields: Fields, *pieces: bytes, end: bool = True) -> int:
        """Send a request, or with *end* False only its beginning; return its stream."""
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, fields, end_stream=end and not pieces)
        self.go_on(stream, *pieces, end=end)
        return stream

    def go_on(self, stream: int, *pieces: bytes, end: bool = True) -> None:
        """Send more of a body."""
        for number, piece in enumerate(pieces, 1):
            while self._h2.local_flow_control_window(stream) < len(piece):
                self._take()
            self._h2.send_data(stream, piece, end_stream=end and number == len(pieces))
            self._flush()
        self._flush()

    def some(self, stream: int) -> bytes:
        """Return what has come of a response's body, once anything has."""
        while not self._bodies[stream] and stream not in self._ended:
            self._take()
        return self._bodies[stream]

    def reset_code(self, stream: int) -> int:
        """Return the code with which *stream* was reset, once it is (RFC 9113 §7)."""
        while stream not in self.reset:
            self._take()
        return self.reset[stream]

    def fails(self, stream: int) -> bool:
        """Tell whether *stream*, or its connection, ends without a whole response."""
        try:
            self.answer(stream)
        except (OSError, ProtocolError):
            return True
        return False

    def answer(self, stream: int) -> RawAnswer:
        """Return the response on *stream*, once it is whole. Raises ConnectionError when it never will be."""
        while stream not in self._ended:
            self._take()
        if self.reset.get(stream):
            raise ConnectionResetError("the stream was reset")
        status = next(value for name, value in self._heads[stream] if name == ":status")
        return RawAnswer(int(status), "", self._heads[stream], self._bodies[stream])

    def _take(self) -> None:
        data = self._raw.connection.recv(65536)
        if not data:
            raise ConnectionError("the proxy left")
        self._note(self._h2.receive_data(data))
        self._flush()

    def _note(self, events: Iterable[object]) -> None:
        for event in events:
            match event:
                case ResponseReceived():
                    self._heads[event.stream_id] = tuple((str(name), str(value)) for name, value in event.headers)
                case DataReceived():
                    self._bodies[event.stream_id] += event.data
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case StreamReset():
                    self.reset[event.stream_id] = int(event.error_code or 0)
                    self._ended.add(event.stream_id)
                case StreamEnded():
                    self._ended.add(event.stream_id)

    def _flush(self) -> None:
        self._raw.send(self._h2.data_to_send())
