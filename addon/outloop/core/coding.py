"""Undoes content codings (RFC 9110 §8.4) in bounded pieces, so that what was coded can be scrubbed.

Everything that a client might read differently is refused: unknown codings, corrupt or cut data, bytes behind the end.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import brotli
import zstandard

from outloop.core.errors import ScrubError

PIECE_BYTES = 64 * 1024
CODINGS_MAXIMUM = 3
# A body may grow without question up to the floor; beyond it, by no more than the ratio over what has come in. DEFLATE's own
# ceiling is 1032, and real text stays under 200.
EXPANSION_FLOOR_BYTES = 32 * 1024 * 1024
EXPANSION_RATIO = 400
# Starting a member or frame costs far more than its bytes: after the first so many, they must hold something.
PARTS_FLOOR = 1000
PART_BYTES = 256
ZSTD_WINDOW_BYTES = 8 * 1024 * 1024  # RFC 9659 §3
# An engine without an output limit is fed so little at a time that what it may return at once stays in single megabytes; zlib
# copies what is behind the end of each gzip member, of which there may be thousands.
_ZLIB_SLICE_BYTES = 4096
_BROTLI_SLICE_BYTES = 8
_ZSTD_SLICE_BYTES = 128
_ZSTD_HEAD_BYTES = 18  # the longest frame header with its magic (RFC 8878 §3.1.1)
_ZLIB_WRAPPED, _ZLIB_RAW, _ZLIB_GZIP = zlib.MAX_WBITS, -zlib.MAX_WBITS, zlib.MAX_WBITS | 16


class ExpansionError(ScrubError):
    """The body can be decoded, but it would take more than a response should."""


class Coding(Protocol):
    """One content coding, incrementally."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what *data* decodes to. Raises ScrubError."""
        ...

    def finish(self) -> None:
        """Raise ScrubError when the coded data ended early. No data at all is an empty body."""
        ...


class _Deflate:
    """zlib (RFC 1950), raw deflate (RFC 1951) or gzip (RFC 1952), the last with any number of members."""

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._engine = zlib.decompressobj(window_bits)
        self._began = False
        self._members = 1
        self._came_out = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZLIB_SLICE_BYTES):
            yield from self._inflated(data[start : start + _ZLIB_SLICE_BYTES])

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        piece = b""
        while data or len(piece) == PIECE_BYTES:
            if self._engine.eof:
                if self._window_bits != _ZLIB_GZIP or not data:
                    break
                self._engine = zlib.decompressobj(self._window_bits)
                self._members += 1
                _refuse_crumbs(self._members, self._came_out)
            self._began = True
            try:
                piece = self._engine.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise ScrubError("the response is not the compressed data that it is labelled as") from None
            if piece:
                self._came_out += len(piece)
                yield piece
            data = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail
        if data:
            raise ScrubError("the response goes on behind the end of its compressed data")

    def finish(self) -> None:
        if self._began and not self._engine.eof:
            raise ScrubError("the compressed response ended early")


class _DeflateOfEitherKind:
    """The coding ``deflate``: zlib by RFC 9110 §8.4.1.2, raw deflate from servers that never read it. Two bytes tell."""

    def __init__(self) -> None:
        self._head = b""
        self._coding: _Deflate | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._coding is None:
            self._head += data
            if len(self._head) < 2:
                return
            data = self._head
            self._coding = _Deflate(_ZLIB_WRAPPED if is_zlib_header(data) else _ZLIB_RAW)
        yield from self._coding.feed(data)

    def finish(self) -> None:
        if self._coding is not None:
            self._coding.finish()
        elif self._head:
            raise ScrubError("the compressed response ended early")


class _Brotli:
    """Brotli (RFC 7932)."""

    def __init__(self) -> None:
        self._engine = brotli.Decompressor()
        self._is_limited = hasattr(self._engine, "can_accept_more_data")  # from brotli 1.2 on
        self._began = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._began = self._began or bool(data)
        try:
            if not self._is_limited:
                for start in range(0, len(data), _BROTLI_SLICE_BYTES):
                    yield self._engine.process(data[start : start + _BROTLI_SLICE_BYTES])
                return
            piece = self._engine.process(data, output_buffer_limit=PIECE_BYTES)
            while piece:  # `can_accept_more_data` speaks of input alone: only an empty answer tells that no output is left
                yield piece
                piece = b"" if self._engine.is_finished() else self._engine.process(b"", output_buffer_limit=PIECE_BYTES)
        except brotli.error:
            raise ScrubError("the response is not the brotli data that it is labelled as") from None

    def finish(self) -> None:
        if self._began and not self._engine.is_finished():
            raise ScrubError("the compressed response ended early")


class _ZstdFrame:
    """One frame, held to the content size in its header: libzstd compares that in every case only where it sees it in one go."""

    def __init__(self, decompressor: zstandard.ZstdDecompressor) -> None:
        self._engine = decompressor.decompressobj()
        self._head = b""
        self._came_out = 0

    @property
    def eof(self) -> bool:
        """Tell whether the frame has ended."""
        return self._engine.eof

    @property
    def unused_data(self) -> bytes:
        """What was fed beyond its end."""
        return self._engine.unused_data

    def decompress(self, data: bytes) -> bytes:
        """Return what *data* decodes to. Raises ZstdError."""
        if len(self._head) < _ZSTD_HEAD_BYTES:
            self._head = (self._head + data)[:_ZSTD_HEAD_BYTES]
        piece = self._engine.decompress(data)
        self._came_out += len(piece)
        if self._engine.eof and zstandard.frame_content_size(self._head) not in (-1, self._came_out):
            raise zstandard.ZstdError("the frame does not hold what its header says")
        return piece


class _Zstd:
    """Zstandard (RFC 8878), any number of frames."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
        self._frame = _ZstdFrame(self._decompressor)
        self._began = False
        self._frames = 1
        self._came_out = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE_BYTES):
            rest = data[start : start + _ZSTD_SLICE_BYTES]
            while rest:
                if self._frame.eof:
                    self._frame = _ZstdFrame(self._decompressor)
                    self._frames += 1
                    _refuse_crumbs(self._frames, self._came_out)
                self._began = True
                try:
                    piece = self._frame.decompress(rest)
                except zstandard.ZstdError as error:
                    if "memory" in str(error):  # intact, but with a window that only its author's machine may have room for
                        raise ExpansionError("the compressed response needs too large a window") from None
                    raise ScrubError("the response is not the zstd data that it is labelled as") from None
                self._came_out += len(piece)
                yield piece
                rest = self._frame.unused_data if self._frame.eof else b""

    def finish(self) -> None:
        if self._began and not self._frame.eof:
            raise ScrubError("the compressed response ended early")


def _refuse_crumbs(parts: int, decoded_bytes: int) -> None:
    if parts > PARTS_FLOOR and decoded_bytes < parts * PART_BYTES:
        raise ExpansionError("the compressed response is made of too many all but empty parts")


_CODINGS: dict[str, Callable[[], Coding]] = {
    "gzip": lambda: _Deflate(_ZLIB_GZIP),
    "x-gzip": lambda: _Deflate(_ZLIB_GZIP),
    "deflate": _DeflateOfEitherKind,
    "br": _Brotli,
    "zstd": _Zstd,
}
# Brotli and raw deflate begin with no magic. A zstd stream may begin with one of sixteen kinds of skippable frame.
_MAGICS = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd"} | {
    bytes([first]) + b"\x2a\x4d\x18": "zstd" for first in range(0x50, 0x60)
}


class Decoder:
    """Undoes a stack of codings; with none it only cuts into pieces. No piece is empty or longer than `PIECE_BYTES`."""

    def __init__(self, codings: tuple[Coding, ...]) -> None:
        self._codings = codings
        self._came_in = 0
        self._came_out = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what *data* decodes to. Raises ScrubError, ExpansionError among them."""
        self._came_in += len(data)
        yield from self._decoded(data, 0)

    def finish(self) -> None:
        """Raise ScrubError when the coded data ended early."""
        for coding in self._codings:
            coding.finish()

    def _decoded(self, data: bytes, depth: int) -> Iterator[bytes]:
        if depth == len(self._codings):
            for start in range(0, len(data), PIECE_BYTES):
                yield data[start : start + PIECE_BYTES]
            return
        for piece in self._codings[depth].feed(data):
            self._came_out += len(piece)
            if self._came_out > max(EXPANSION_FLOOR_BYTES, EXPANSION_RATIO * self._came_in):
                raise ExpansionError("the compressed response grows beyond all proportion")
            yield from self._decoded(piece, depth + 1)


def decoder(content_encoding: str) -> Decoder:
    """Return the decoder for the value of a Content-Encoding header, several lines joined by commas; empty for none.

    Raises ScrubError for a coding that cannot be read, and for more than three.
    """
    names = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if len(names) > CODINGS_MAXIMUM:
        raise ScrubError("the response is coded too many times over")
    unknown = [name for name in names if name not in _CODINGS]
    if unknown:
        raise ScrubError(f"the response has a content coding that cannot be read: {unknown[0][:40]!r}")
    return Decoder(tuple(_CODINGS[name]() for name in reversed(names)))


def coding_by_magic(head: bytes) -> str | None:
    """Return the coding that a body beginning with *head* seems to be in although no header says so, or None."""
    if is_zlib_header(head):
        return "deflate"
    return next((coding for magic, coding in _MAGICS.items() if head.startswith(magic)), None)


def may_become_magic(head: bytes) -> bool:
    """Tell whether *head* is too short to know whether a body is compressed."""
    return any(magic != head and magic.startswith(head) for magic in _MAGICS) or (len(head) == 1 and _is_zlib_method(head[0]))


def is_zlib_header(head: bytes) -> bool:
    """Tell whether *head* begins with a zlib header without a preset dictionary (RFC 1950 §2.2)."""
    return len(head) >= 2 and _is_zlib_method(head[0]) and not head[1] & 0x20 and (head[0] << 8 | head[1]) % 31 == 0


def _is_zlib_method(first: int) -> bool:
    return first & 0x0F == 8 and first >> 4 <= 7
