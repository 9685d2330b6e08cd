"""HTTP/2 frames as an attacker writes them: any field in any block, any flag, any length (RFC 9113 §4, RFC 7541)."""

from __future__ import annotations

from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Field = tuple[str | bytes, str | bytes]


def block(*fields: Field) -> bytes:
    """Return a header block that leaves no trace in the peer's table, so that blocks can be made apart from each other."""
    literals = [NeverIndexedHeaderTuple(_bytes(name), _bytes(value)) for name, value in fields]
    return bytes(Encoder().encode(literals, huffman=False))


def head(
    *fields: Field, method: str = "GET", path: str = "/", authority: str | None = "api.example.com", scheme: str | None = "https"
) -> tuple[Field, ...]:
    """Return the fields of a request: the pseudo-headers (a None is left out), then *fields*."""
    pseudo: list[Field] = [(":method", method)]
    pseudo += [(":scheme", scheme)] if scheme is not None else []
    pseudo += [(":authority", authority)] if authority is not None else []
    return (*pseudo, (":path", path), *fields)


def headers(*fields: Field, stream: int = 1, flags: tuple[str, ...] = ("END_STREAM", "END_HEADERS")) -> bytes:
    """Return a HEADERS frame."""
    return bytes(HeadersFrame(stream, block(*fields), flags=flags).serialize())


def open_headers(*fields: Field, stream: int = 1) -> bytes:
    """Return a HEADERS frame after which DATA follows."""
    return headers(*fields, stream=stream, flags=("END_HEADERS",))


def continuation(data: bytes, *, stream: int = 1, flags: tuple[str, ...] = ("END_HEADERS",)) -> bytes:
    """Return a CONTINUATION frame."""
    return bytes(ContinuationFrame(stream, data, flags=flags).serialize())


def data(body: bytes, *, stream: int = 1, flags: tuple[str, ...] = ("END_STREAM",)) -> bytes:
    """Return a DATA frame."""
    return bytes(DataFrame(stream, body, flags=flags).serialize())


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0, length: int | None = None) -> bytes:
    """Return a frame of any kind, with any *length* said of it."""
    said = len(payload) if length is None else length
    return said.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
