"""What a recorder answers: piece by piece, with places to wait and ways to end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus

PATIENCE_S = 30.0


class Gate:
    """A place in a reply at which the upstream waits until the test opens it."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._reached = threading.Event()

    def open(self) -> None:
        """Let the reply go on."""
        self._opened.set()

    def wait_reached(self, timeout_s: float = PATIENCE_S) -> None:
        """Return once everything before the gate was sent. Raises TimeoutError."""
        if not self._reached.wait(timeout_s):
            raise TimeoutError("the upstream did not come to this place of its reply")

    def pass_through(self) -> None:
        """Used by the upstream: wait to be opened. A test that forgets does not hang for ever."""
        self._reached.set()
        self._opened.wait(PATIENCE_S)


class End(Enum):
    """How the upstream leaves before its reply is whole."""

    CLOSE = auto()  # close_notify and FIN (HTTP/2: GOAWAY and FIN), as a polite server
    ABORT = auto()  # RST (HTTP/2: RST_STREAM), as one that died


class Framing(Enum):
    """What tells where a reply ends, in HTTP/1.1."""

    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()
    RAW = auto()  # the pieces are all there is: no status line, no headers but what they hold


Piece = bytes | Gate | End
Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply; `pieces` are its body (of a RAW one, everything).

    With `before_body` it goes out before the body of the request is read.
    """

    pieces: tuple[Piece, ...]
    framing: Framing
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    before_body: bool = False


def raw(*pieces: Piece, before_body: bool = False) -> Reply:
    """Return a reply of exactly these bytes, for HTTP/1.1 only: broken framing is welcome."""
    return Reply(pieces, Framing.RAW, before_body=before_body)


def reply(body: bytes = b"", *, status: int = 200, headers: Headers = (), before_body: bool = False) -> Reply:
    """Return a whole reply with a Content-Length (none of its body goes to a HEAD)."""
    return Reply((body,), Framing.LENGTH, status, tuple(headers), before_body)


def json_reply(value: object, *, status: int = 200, headers: Headers = ()) -> Reply:
    """Return *value* as JSON."""
    return reply(json.dumps(value).encode(), status=status, headers=[("Content-Type", "application/json"), *headers])


def chunked(*pieces: Piece, status: int = 200, headers: Headers = (), before_body: bool = False) -> Reply:
    """Return a reply with one chunk for each bytes piece (RFC 9112, 7.1), whole unless the last piece is an End."""
    return Reply(pieces, Framing.CHUNKED, status, tuple(headers), before_body)


def until_close(*pieces: Piece, status: int = 200, headers: Headers = ()) -> Reply:
    """Return a reply without a length, that ends where the connection does."""
    return Reply(pieces, Framing.CLOSE, status, tuple(headers))


def http1_pieces(answer: Reply, method: str) -> Iterator[Piece]:
    """Yield *answer* as it goes onto the wire in HTTP/1.1."""
    match answer.framing:
        case Framing.RAW:
            yield from answer.pieces
        case Framing.LENGTH:
            body = b"".join(piece for piece in answer.pieces if isinstance(piece, bytes))
            yield _head(answer, ("Content-Length", str(len(body)))) + (b"" if method == "HEAD" else body)
        case Framing.CHUNKED:
            yield _head(answer, ("Transfer-Encoding", "chunked"))
            for piece in answer.pieces:
                yield b"%x\r\n%b\r\n" % (len(piece), piece) if isinstance(piece, bytes) else piece
            yield b"0\r\n\r\n"
        case Framing.CLOSE:
            yield _head(answer, ("Connection", "close"))
            yield from answer.pieces
            yield End.CLOSE


def _head(answer: Reply, framing: tuple[str, str]) -> bytes:
    first = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"
    lines = [first, *(f"{name}: {value}" for name, value in (*answer.headers, framing)), "", ""]
    return "\r\n".join(lines).encode("latin-1")
