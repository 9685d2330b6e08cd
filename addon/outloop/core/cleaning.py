"""What comes back, on its way to the agent: decoded, scrubbed, and measured piece by piece before it leaves."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from outloop.core.coding import Decoder, ExpansionError, coding_by_magic, decoder, may_become_magic
from outloop.core.errors import ScrubError
from outloop.core.exposure import ExposureCheck
from outloop.core.scrub import Scrubber, ScrubSet, scrub

WAITING_LIMIT_BYTES = 4 * 1024 * 1024


def clean_value(scrub_set: ScrubSet, value: bytes) -> tuple[bytes, int]:
    """Scrub a header name, header value or reason phrase; return it and how often something was taken out."""
    return scrub(scrub_set, value)


class _Shadow:
    """Reads a compressed body that no header announces, beside the body itself, which must arrive byte for byte.

    A piece of the body leaves once everything it decodes to is known to be clean.
    """

    def __init__(self, scrub_set: ScrubSet, decoder: Decoder) -> None:
        self._scrubber = Scrubber(scrub_set)
        self._decoder = decoder
        self._decoded_bytes = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._is_readable = True

    def feed(self, data: bytes) -> None:
        """Read the next *data* of the body. Raises ScrubError for a secret in it, or when it grows beyond all proportion."""
        if not self._is_readable:
            return
        try:
            for piece in self._decoder.feed(data):
                self._decoded_bytes += len(piece)
                self._scrubber.feed(piece)
                self._refuse_hits()
        except ExpansionError:
            raise
        except ScrubError:
            if self._scrubber.hits:
                raise
            self.finish()  # from here on nobody can decompress it, and it is searched as it stands

    def hold(self, piece: bytes) -> None:
        """Take a *piece* that may leave once everything read so far is decided. Raises ScrubError when too much waits."""
        self._waiting.append((self._decoded_bytes, piece))
        self._waiting_bytes += len(piece)
        if self._waiting_bytes > WAITING_LIMIT_BYTES:
            raise ScrubError("the response is compressed without saying so, and too long without content")

    def released(self) -> Iterator[bytes]:
        """Yield the pieces that may leave now."""
        decided = self._decoded_bytes - self._scrubber.held_bytes
        while self._waiting and (not self._is_readable or self._waiting[0][0] <= decided):
            piece = self._waiting.popleft()[1]
            self._waiting_bytes -= len(piece)
            yield piece

    def finish(self) -> None:
        """Decide the rest: a body that ends early has been read as far as anybody can."""
        self._scrubber.finish()
        self._refuse_hits()
        self._is_readable = False

    def _refuse_hits(self) -> None:
        if self._scrubber.hits:
            raise ScrubError("the response is compressed without saying so, and holds a secret")


class BodyCleaner:
    """Cleans one response body: undoes its codings, scrubs it, and has each piece checked before it leaves.

    `hits` counts what was taken out. `exposed` tells, after the check has hit, whether part of what it found had already left.
    A body without a Content-Encoding that is compressed all the same arrives byte for byte, unless a secret is found in it.
    Every failure raises ScrubError, and so does every later call.
    """

    __slots__ = ("_check", "_decoder", "_failure", "_head", "_scrub_set", "_scrubber", "_shadow", "exposed")

    def __init__(self, scrub_set: ScrubSet, check: ExposureCheck, content_encoding: str = "") -> None:
        """Raises ScrubError for a *content_encoding* that cannot be undone."""
        self._scrub_set = scrub_set
        self._scrubber = Scrubber(scrub_set)
        self._check = check
        self._decoder = decoder(content_encoding)
        self._head: bytes | None = b""  # the first bytes, until they are enough to know compressed data by
        self._shadow: _Shadow | None = None
        self._failure: ScrubError | None = None
        self.exposed = False

    @property
    def hits(self) -> int:
        """How often something was taken out."""
        return self._scrubber.hits

    def feed(self, data: bytes) -> list[bytes]:
        """Return what of the body may leave, in pieces, none of them empty; an empty list while everything is held back."""
        return list(self.pieces(data))

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what `feed` returns, each piece as soon as it is clean: a few kilobytes may decode to many megabytes."""
        return self._guarded(self._fed(data))

    def finish(self) -> list[bytes]:
        """Return the rest. Raises ScrubError when the coded body ended early."""
        return list(self._guarded(self._finished()))

    def _guarded(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        if self._failure is not None:
            raise self._failure
        try:
            yield from pieces
        except ScrubError as failure:
            self._failure = failure
            raise

    def _fed(self, data: bytes) -> Iterator[bytes]:
        for decoded in self._decoder.feed(data):
            yield from self._cleaned(decoded)

    def _finished(self) -> Iterator[bytes]:
        self._decoder.finish()
        if self._head:
            head, self._head = self._head, None
            yield from self._checked(self._scrubber.feed(head))
        rest = self._checked(self._scrubber.finish())
        if self._shadow is None:
            yield from rest
            return
        for piece in rest:
            self._shadow.hold(piece)
        self._shadow.finish()
        yield from self._shadow.released()

    def _cleaned(self, decoded: bytes) -> Iterator[bytes]:
        if self._head is not None:
            decoded = self._head + decoded
            if may_become_magic(decoded):
                self._head = decoded
                return
            self._head = None
            coding = None if self._scrub_set.is_empty else coding_by_magic(decoded)
            if coding is not None:
                self._shadow = _Shadow(self._scrub_set, decoder(coding))
        if self._shadow is None:
            yield from self._checked(self._scrubber.feed(decoded))
            return
        self._shadow.feed(decoded)
        for piece in self._checked(self._scrubber.feed(decoded)):
            self._shadow.hold(piece)
        yield from self._shadow.released()

    def _checked(self, piece: bytes) -> Iterator[bytes]:
        """Yield *piece*, unless it is empty, once the check has found nothing in it. Raises ScrubError when it has."""
        if not piece:
            return
        if self._check.feed(piece):
            self.exposed = self._check.reached_back
            raise ScrubError("the check found a secret in a response that had been scrubbed")
        yield piece
