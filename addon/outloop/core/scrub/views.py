"""Views: the same bytes with escapes undone or line breaks taken out, and the way back to where each byte came from.

A view is made only where its trigger stands in the data, and its map only where something was found in it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from ahocorasick_rs import BytesAhoCorasick, MatchKind

_END_BYTES = 1024
_LONGEST_TOKEN_BYTES = 40  # of an escape, however often its own sign was escaped
_STEPS_MAXIMUM = 64

# Of each change, in order: its start and stop in the view, its start and stop in what the view was made of.
_Edges = tuple[list[int], list[int], list[int], list[int]]


class View:
    """Bytes as they read after one change, with the way back.

    `text` is the view. `raw_span` tells which bytes of the raw data a stretch of it came from.
    """

    __slots__ = ("_edges", "_parent", "_spelling", "text")

    def __init__(self, text: bytes, parent: View | None, spelling: Spelling) -> None:
        self.text = text
        self._parent = parent
        self._spelling = spelling
        self._edges: _Edges | None = None

    def raw_span(self, start: int, stop: int, raw: bytes) -> tuple[int, int]:
        """Return the (start, stop) in *raw* of the non-empty stretch `text[start:stop]`."""
        source = raw if self._parent is None else self._parent.text
        edges = self._edges or self._near_end(source, start)
        if edges is None:
            edges = self._edges = self._measured(source, 0, 0)
        span = _origin(edges, start)[0], _origin(edges, stop - 1)[1]
        return span if self._parent is None else self._parent.raw_span(*span, raw)

    def _near_end(self, source: bytes, start: int) -> _Edges | None:
        """Return the edges from somewhere before `text[start]` on; None where it is far from the end, or escapes stand too close.

        What more bytes could complete is always at the end, and asked for with every piece of a stream.
        """
        wanted = len(self.text) - start
        spelling = self._spelling
        if wanted > _END_BYTES or spelling.value == b"":  # a line break takes any number of blanks along
            return None
        sign = spelling.starts[0][:1]
        at = max(len(source) - (wanted + 8) * 8, 0)
        for _ in range(_STEPS_MAXIMUM):
            before = source.rfind(sign, max(at - _LONGEST_TOKEN_BYTES, 0), at)
            if before < 0:
                break
            at = before
        else:
            return None
        # No token begins so shortly before: those found from here on are those that were undone.
        end = spelling.token.sub(spelling.value, source[at:])
        here = len(self.text) - len(end)
        return self._measured(source, at, here) if here <= start and self.text.endswith(end) else None

    def _measured(self, source: bytes, source_at: int, here_at: int) -> _Edges:
        """Return the edges from `source[source_at:]` on, which is `text[here_at:]`; where that begins is the first."""
        edges: _Edges = ([here_at], [here_at], [source_at], [source_at])
        here_starts, here_stops, source_starts, source_stops = edges
        shift = source_at - here_at
        value = self._spelling.value
        for match in self._spelling.token.finditer(source, source_at):
            start, stop = match.span()
            length = len(value if isinstance(value, bytes) else value(match))
            here_starts.append(start - shift)
            here_stops.append(start - shift + length)
            source_starts.append(start)
            source_stops.append(stop)
            shift += stop - start - length
        return edges


def _origin(edges: _Edges, index: int) -> tuple[int, int]:
    """Return the (start, stop) in the source of the one byte at *index* of the view."""
    here_starts, here_stops, source_starts, source_stops = edges
    nearest = bisect_right(here_stops, index)
    if nearest < len(here_starts) and here_starts[nearest] <= index:
        return source_starts[nearest], source_stops[nearest]
    start = source_stops[nearest - 1] + index - here_stops[nearest - 1]
    return start, start + 1


@dataclass(frozen=True, slots=True, repr=False)
class Spelling:
    """One way in which bytes are spelled otherwise, and how to undo it.

    `starts` are short strings with which every trigger begins, all with the same byte; `trigger` matches where undoing is worth
    while, `token` each occurrence, and `value` gives what one stands for; bytes when that is always the same.
    """

    starts: tuple[bytes, ...]
    trigger: re.Pattern[bytes]
    token: re.Pattern[bytes]
    value: Callable[[re.Match[bytes]], bytes] | bytes

    def undone(self, text: bytes, context: bytes, parent: View | None) -> View | None:
        """Return a view of *text* (the text of *parent*) without this spelling, or None where that is not worth while.

        *context* is the end of what came before *text*, for a trigger that looks back.
        """
        if self.starts[0][:1] in text and is_triggered(self.trigger, text, context):
            return View(self.token.sub(self.value, text), parent, self)
        return None


class Gate:
    """Tells, in one quick pass, whether any view of some data is worth making."""

    __slots__ = ("_break", "_escape", "_starts")

    def __init__(self, spellings: tuple[Spelling, ...]) -> None:
        breaks = [spelling for spelling in spellings if b"\n" in spelling.starts]
        escapes = [spelling for spelling in spellings if b"\n" not in spelling.starts]
        self._break = _any_of(breaks)
        self._escape = _any_of(escapes)
        starts = {start for spelling in escapes for start in spelling.starts}
        self._starts = BytesAhoCorasick(sorted(starts), MatchKind.LeftmostFirst)

    def opens(self, text: bytes, context: bytes) -> bool:
        """Tell whether a trigger stands in *text*; *context* is the end of what came before it."""
        if b"%" in text or b"\\" in text or b"&" in text:
            seam = len(context)
            for _, start, _ in self._starts.find_matches_as_indexes(text):
                if self._escape.match(text, start):
                    return True
                if start < seam and self._escape.match(context + text[: 2 * seam], seam + start):
                    return True
        return b"\n" in text and is_triggered(self._break, text, context)


def is_triggered(trigger: re.Pattern[bytes], text: bytes, context: bytes) -> bool:
    """Tell whether *trigger* matches in *text*; *context* is the end of what came before it."""
    seam = len(context)
    return bool(trigger.search(text) or (seam and trigger.search(context + text[: 2 * seam], seam)))


def _any_of(spellings: list[Spelling]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(spelling.trigger.pattern for spelling in spellings))
