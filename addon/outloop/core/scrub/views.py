"""Views: the same bytes with escapes undone or line breaks taken out, and the way back to where each byte came from.

A view is made only where its trigger stands in the data, and its map only where something was found in it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable

from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

_CROWDED_BYTES = 100
_SAMPLED = 13
_SIGNS = (b"%", b"\\", b"&")
_NEARBY_BYTES = 96
_FIRST_BYTES = 2048
_OVERLAP_BYTES = 64  # more than the longest head

# Of each change, in order: its start and stop in the view, its start and stop in what the view was made of.
_Edges = tuple[list[int], list[int], list[int], list[int]]


class View:
    """Bytes as they read after one change, with the way back.

    `text` is the view. `raw_span` tells which bytes of the raw data a stretch of it came from.
    """

    __slots__ = ("_edges", "_from", "_from_source", "_parent", "_spelling", "text")

    def __init__(self, text: bytes, parent: View | None, spelling: Spelling) -> None:
        self.text = text
        self._parent = parent
        self._spelling = spelling
        self._edges: _Edges = ([], [], [], [])
        self._from = len(text)  # from here on, and from there in the source, the changes are measured
        self._from_source = 0

    def raw_span(self, start: int, stop: int, raw: bytes) -> tuple[int, int]:
        """Return the (start, stop) in *raw* of the non-empty stretch `text[start:stop]`."""
        if start < self._from:
            self._measure(start, raw if self._parent is None else self._parent.text)
        first = self._from_source + _origin(self._edges, start - self._from)[0]
        last = self._from_source + _origin(self._edges, stop - 1 - self._from)[1]
        return (first, last) if self._parent is None else self._parent.raw_span(first, last, raw)

    def _measure(self, start: int, source: bytes) -> None:
        """Measure the changes from *start* on. Near the end, which is asked for at every piece, not those of all the data."""
        nearby = 2 * (len(self.text) - start) + _NEARBY_BYTES
        for reach in (nearby, 16 * nearby):
            outside = self._spelling.outside.search(source, max(len(source) - reach, 0))
            if outside is not None:
                edges, length = self._measured(source[outside.end() :])
                if len(self.text) - length <= start:
                    self._edges, self._from, self._from_source = edges, len(self.text) - length, outside.end()
                    return
        self._edges, self._from, self._from_source = self._measured(source)[0], 0, 0

    def _measured(self, source: bytes) -> tuple[_Edges, int]:
        """Return the changes that lead from *source* to the view, and how long that is."""
        edges: _Edges = ([], [], [], [])
        here_starts, here_stops, source_starts, source_stops = edges
        shift = 0
        value = self._spelling.value
        for match in self._spelling.token.finditer(source):
            start, stop = match.span()
            length = len(value if isinstance(value, bytes) else value(match))
            here_starts.append(start - shift)
            here_stops.append(start - shift + length)
            source_starts.append(start)
            source_stops.append(stop)
            shift += stop - start - length
        return edges, len(source) - shift


def _origin(edges: _Edges, index: int) -> tuple[int, int]:
    """Return the (start, stop) in the source of the one byte at *index* of the view."""
    here_starts, here_stops, source_starts, source_stops = edges
    nearest = bisect_right(here_stops, index)
    if nearest < len(here_starts) and here_starts[nearest] <= index:
        return source_starts[nearest], source_stops[nearest]
    start = index if nearest == 0 else source_stops[nearest - 1] + index - here_stops[nearest - 1]
    return start, start + 1


class Spelling:
    """One way in which bytes are spelled otherwise, and how to undo it.

    `starts` are short strings with which every trigger begins, all with the same byte, and *heads* longer ones, which data that
    is full of that byte may lack; `trigger` matches where undoing is worth while, `token` each occurrence, and `value` gives what
    one stands for; bytes when that is always the same. `outside` matches bytes right after which no occurrence is under way.
    `undo` is a quick way to what `token.sub(value, …)` gives.
    """

    __slots__ = ("_heads", "outside", "starts", "token", "trigger", "undo", "value")

    def __init__(
        self,
        starts: tuple[bytes, ...],
        trigger: re.Pattern[bytes],
        token: re.Pattern[bytes],
        value: Callable[[re.Match[bytes]], bytes] | bytes,
        *,
        outside: bytes,
        heads: Iterable[bytes] = (),
        undo: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.starts = starts
        self.trigger = trigger
        self.token = token
        self.value = value
        self.outside = re.compile(outside)
        self.undo = undo or (lambda text: token.sub(value, text))
        self._heads = BytesAhoCorasick(sorted(set(heads) or starts), MatchKind.LeftmostFirst, Implementation.DFA)

    def undone(self, text: bytes, context: bytes, parent: View | None) -> View | None:
        """Return a view of *text* (the text of *parent*) without this spelling, or None where that is not worth while.

        *context* is the end of what came before *text*, for a trigger that looks back.
        """
        return View(self.undo(text), parent, self) if self.stands_in(text, context) else None

    def stands_in(self, text: bytes, context: bytes) -> bool:
        """Tell whether a trigger stands in *text*; *context* is the end of what came before it."""
        sign = self.starts[0][:1]
        if sign not in text:
            return False
        # The pattern is tried at every sign, at a price: where there are many, they are looked through in one pass before.
        if is_crowded(text, sign) and not self._may_stand_in(text):
            seam = len(context)
            return bool(seam and self.trigger.search(context + text[: 2 * seam], seam))
        return is_triggered(self.trigger, text, context)

    def _may_stand_in(self, text: bytes) -> bool:
        # In two steps, as a list of all heads in dense data is long.
        return bool(
            self._heads.find_matches_as_indexes(text[:_FIRST_BYTES])
            or self._heads.find_matches_as_indexes(text[_FIRST_BYTES - _OVERLAP_BYTES :])
        )


class Gate:
    """Tells, in one quick pass, whether any view of some data is worth making."""

    __slots__ = ("_break", "_escape", "_escapes", "_starts")

    def __init__(self, spellings: tuple[Spelling, ...]) -> None:
        breaks = [spelling for spelling in spellings if b"\n" in spelling.starts]
        self._escapes = [spelling for spelling in spellings if b"\n" not in spelling.starts]
        self._break = _any_of(breaks)
        self._escape = _any_of(self._escapes)
        starts = {start for spelling in self._escapes for start in spelling.starts}
        self._starts = BytesAhoCorasick(sorted(starts), MatchKind.LeftmostFirst)

    def opens(self, text: bytes, context: bytes) -> bool:
        """Tell whether a trigger stands in *text*; *context* is the end of what came before it."""
        signs = [sign for sign in _SIGNS if sign in text]
        if any(is_crowded(text, sign) for sign in signs):
            if any(spelling.stands_in(text, context) for spelling in self._escapes):
                return True
        elif signs:
            seam = len(context)
            for _, start, _ in self._starts.find_matches_as_indexes(text):
                if self._escape.match(text, start):
                    return True
                if start < seam and self._escape.match(context + text[: 2 * seam], seam + start):
                    return True
        return b"\n" in text and is_triggered(self._break, text, context)


def is_crowded(text: bytes, sign: bytes) -> bool:
    """Tell whether *sign* stands in *text* rather often, by a sample."""
    sample = text[::_SAMPLED]
    return sample.count(sign) > len(sample) // _CROWDED_BYTES


def is_triggered(trigger: re.Pattern[bytes], text: bytes, context: bytes) -> bool:
    """Tell whether *trigger* matches in *text*; *context* is the end of what came before it."""
    seam = len(context)
    return bool(trigger.search(text) or (seam and trigger.search(context + text[: 2 * seam], seam)))


def _any_of(spellings: list[Spelling]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(spelling.trigger.pattern for spelling in spellings))
