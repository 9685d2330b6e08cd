"""Looks for values in what an agent sends, as it stands and as a server would decode it.

What goes out is only read: it leaves byte for byte, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from outloop.core.coding import Decoder, coding_by_magic, decoder, may_become_magic
from outloop.core.errors import ScrubError
from outloop.core.exposure import ExposureCheck, Needles

_AS_IT_STANDS, _DECODED = 0, 1


class Search:
    """Searches one body or message for several sets of needles at once.

    *content_encoding* is what the agent says of it. Where it says nothing, a body that begins like compressed data is read so
    as far as it can be. `is_unreadable` tells that data is not in the coding it is said to be in; a coding that nobody here
    knows makes nothing unreadable: what is said to be in it is searched as it stands.
    """

    def __init__(self, wanted: Sequence[Needles], content_encoding: str = "") -> None:
        self._checks = [(ExposureCheck(needles), ExposureCheck(needles)) for needles in wanted]
        self._head: bytes | None = b""  # the first bytes, until they are enough to know compressed data by
        self._decoder: Decoder | None = None
        self._is_declared = False
        self.is_unreadable = False
        if content_encoding.strip():
            self._head = None
            with suppress(ScrubError):
                self._decoder = decoder(content_encoding)
                self._is_declared = True

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield, for the needles that stand in what has come so far, their place in the list and the text they stand in."""
        yield from self._found(data, _AS_IT_STANDS)
        try:
            for piece in self._decoded(data):
                yield from self._found(piece, _DECODED)
        except ScrubError:  # it ends here, or grows beyond all proportion
            self._decoder = None
            self.is_unreadable = self._is_declared

    def _found(self, text: bytes, reading: int) -> Iterator[tuple[int, bytes]]:
        for place, checks in enumerate(self._checks):
            if checks[reading].feed(text):
                yield place, checks[reading].seen

    def _decoded(self, data: bytes) -> Iterator[bytes]:
        if self._head is not None:
            data = self._head + data
            if may_become_magic(data):
                self._head = data
                return
            self._head = None
            if coding := coding_by_magic(data):
                self._decoder = decoder(coding)
        if self._decoder is not None:
            yield from self._decoder.feed(data)
