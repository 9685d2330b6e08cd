"""Looks for values in what an agent sends, as it stands and as a server would decode it.

What goes out is only read: it leaves byte for byte, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from outloop.core.coding import Decoder, ExpansionError, coding_by_magic, decoder, may_become_magic
from outloop.core.errors import ScrubError
from outloop.core.exposure import ExposureCheck, Needles

# Text that is worth sending shrinks to a tenth; what grows beyond this was made to keep a reader busy.
EXPANSION_FLOOR_BYTES = 8 * 1024 * 1024
EXPANSION_RATIO = 50
_AS_IT_STANDS, _DECODED = 0, 1


class Search:
    """Searches one body or message for several sets of needles at once.

    *content_encoding* is what the agent says of it. Where it says nothing, a body that begins like compressed data is read so
    as far as it can be. `is_unreadable` tells that data is not in the coding it is said to be in, or grows in it beyond all
    proportion. A coding that nobody here knows makes nothing unreadable: what is said to be in it counts as if nothing was said.
    """

    def __init__(self, wanted: Sequence[Needles], content_encoding: str = "") -> None:
        self._wanted = wanted
        self._checks = [ExposureCheck(needles) for needles in wanted]
        self._head: bytes | None = b""  # the first bytes, until they are enough to know compressed data by
        self._decoder: Decoder | None = None
        self._inner_checks: Sequence[ExposureCheck] = ()
        self._is_declared = False
        self._came_in = self._came_out = 0
        self.is_unreadable = False
        if content_encoding and {name.strip().lower() for name in content_encoding.split(",")} - {"", "identity"}:
            with suppress(ScrubError):
                self._decode_by(decoder(content_encoding))
                self._is_declared = True

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield, for the needles that stand in what has come so far, their place in the list and the text they stand in."""
        yield from _found(self._checks, data)
        if self._head is not None:
            data = self._begun(self._head + data)
        if self._decoder is None:
            return
        self._came_in += len(data)
        try:
            for piece in self._decoder.feed(data):
                self._came_out += len(piece)
                if self._came_out > max(EXPANSION_FLOOR_BYTES, EXPANSION_RATIO * self._came_in):
                    raise ExpansionError("the body grows beyond all proportion")
                yield from _found(self._inner_checks, piece)
        except ScrubError:
            self._decoder = None
            self.is_unreadable = self._is_declared

    def _begun(self, head: bytes) -> bytes:
        """Choose the decoder, once *head* is enough to know by; return what it is to begin with."""
        if may_become_magic(head):
            self._head = head
            return b""
        self._head = None
        if coding := coding_by_magic(head):
            self._decode_by(decoder(coding))
        return head

    def _decode_by(self, found: Decoder) -> None:
        self._decoder = found
        self._inner_checks = [ExposureCheck(needles) for needles in self._wanted]
        self._head = None


def _found(checks: Sequence[ExposureCheck], text: bytes) -> Iterator[tuple[int, bytes]]:
    for place, check in enumerate(checks):
        if check.feed(text):
            yield place, check.seen
