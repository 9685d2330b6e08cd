"""What an upstream was asked, and what it is to answer: the part of a recorder that test and server threads share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from outloop.attacks.upstream.replies import PATIENCE_S, Gate, Reply

KEEP_LIMIT = 16 * 1024 * 1024


@dataclass
class RecordedRequest:
    """One request as it arrived. `raw` is everything, framing included (HTTP/1 only); `body` is without chunk framing.

    Of both the first 16 MiB are kept; `body_bytes` counts all. `complete` tells that all of it arrived, `cut` that the
    connection ended before; `raw` then is what there was, be it a part of a head. `connection` counts from 1. HTTP/2's
    pseudo-headers are method, target and ``host``; the other headers are as sent.
    """

    connection: int
    sni: str | None
    raw: bytearray = field(default_factory=bytearray)
    method: str = ""
    target: str = ""
    version: str = ""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    body_bytes: int = 0
    complete: bool = False
    cut: bool = False

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def all(self, name: str) -> list[bytes]:
        """Return the value of every header called *name*, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower().encode()]

    def header(self, name: str) -> bytes | None:
        """Return the one value of the header *name*; None where there is none. Two are a failure."""
        values = self.all(name)
        if len(values) > 1:
            raise AssertionError(f"{name} was sent {len(values)} times: {values}")
        return values[0] if values else None


Answer = Reply | Callable[[RecordedRequest], Reply]


class Journal:
    """Requests in the order of their heads, and the table of answers. Every method may be called from any thread."""

    def __init__(self, default: Answer) -> None:
        self._default = default
        self._table: dict[str, list[Answer]] = {}
        self._changed = threading.Condition()
        self._requests: list[RecordedRequest] = []
        self._bytes = 0
        self._connections = 0

    def on(self, operation: str, answers: tuple[Answer, ...]) -> None:
        """Answer ``METHOD /path`` with *answers* in turn, the last one for good."""
        with self._changed:
            self._table[operation] = list(answers)

    def answer_to(self, request: RecordedRequest) -> Answer:
        """Return what *request* is to be answered."""
        with self._changed:
            answers = self._table.get(f"{request.method} {request.path}") or [self._default]
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def open_gates(self) -> None:
        """Let every reply that waits go on."""
        for answers in self._table.values():
            for answer in answers:
                for piece in answer.pieces if isinstance(answer, Reply) else ():
                    if isinstance(piece, Gate):
                        piece.open()

    # What the server tells

    def connected(self) -> int:
        """Count a connection and return its number."""
        with self._changed:
            self._connections += 1
            return self._connections

    def arrived(self, request: RecordedRequest) -> None:
        """Note a request whose head is known."""
        with self._changed:
            self._requests.append(request)

    def received(self, request: RecordedRequest, data: bytes, *, is_body: bool) -> bytes:
        """Note bytes of a request (of its body, of its framing) and return them."""
        with self._changed:
            for kept in (request.raw, request.body) if is_body else (request.raw,):
                kept += data[: max(0, KEEP_LIMIT - len(kept))]
            request.body_bytes += len(data) if is_body else 0
            self._bytes += len(data)
            self._changed.notify_all()
        return data

    def completed(self, request: RecordedRequest) -> None:
        """Note that a request is whole."""
        with self._changed:
            request.complete = True
            self._changed.notify_all()

    def ended(self, request: RecordedRequest, partial: bytes) -> None:
        """Note that the connection ended inside a request, after *partial* bytes that belong to no whole line."""
        with self._changed:
            request.raw += partial
            request.cut = bool(request.raw)
            if request.cut and not any(request is known for known in self._requests):
                self._requests.append(request)
            self._changed.notify_all()

    # What a test asks

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request whose head has arrived."""
        with self._changed:
            return list(self._requests)

    @property
    def connections(self) -> int:
        """How many connections there were."""
        with self._changed:
            return self._connections

    def wait_for(self, count: int, timeout_s: float = PATIENCE_S) -> list[RecordedRequest]:
        """Return the requests once *count* of them are complete. Raises TimeoutError."""
        self._wait(lambda: sum(request.complete for request in self._requests) >= count, f"{count} requests", timeout_s)
        return self.requests

    def wait_for_bytes(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Return once *count* bytes of requests have arrived. Raises TimeoutError."""
        self._wait(lambda: self._bytes >= count, f"{count} bytes", timeout_s)

    def _wait(self, is_so: Callable[[], bool], what: str, timeout_s: float) -> None:
        with self._changed:
            if not self._changed.wait_for(is_so, timeout_s):
                raise TimeoutError(f"the upstream did not get {what}; it has {len(self._requests)} requests, {self._bytes} bytes")
