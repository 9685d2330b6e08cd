"""Takes credentials out of bytes that come back, incrementally and in linear time.

What leaves is everything but the end of the data that could yet become a form. Each round of `ScrubSet.survey` searches the bytes
as they are, then every view of them that is worth making; a view costs nothing where its trigger is absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from outloop.core.errors import ScrubError
from outloop.core.scrub.forms import forms_of, signature_forms
from outloop.core.scrub.matcher import Matcher, Span, Tail
from outloop.core.scrub.spellings import (
    CONTEXT_BYTES,
    ESCAPE_LEVELS,
    LONGEST_ESCAPE_BYTES,
    break_from,
    breaks,
    escapes,
    undecided_from,
)
from outloop.core.scrub.views import Gate, Spelling, View
from outloop.core.secret import Secret

MARK = b"[scrubbed-by-outloop]"  # odd, as the UTF-16 form without its outer zero is: code units behind it stay aligned
SHORTEST_SECRET_BYTES = 8
_BREAKS = breaks()


@dataclass(frozen=True, slots=True, repr=False)
class ScrubSet:
    """Every form of a workspace's secrets, compiled. Immutable: made once per change of keys, shared by every response."""

    matchers: tuple[Matcher, ...]
    escapes: tuple[Spelling, ...]
    gate: Gate
    hold_limit_bytes: int

    @classmethod
    def compile(cls, secrets: Iterable[Secret]) -> ScrubSet:
        """Compile *secrets*; empty ones are left out. Raises ScrubError for one that is shorter than 8 bytes."""
        values = sorted({secret.reveal() for secret in secrets if secret})
        if any(len(value) < SHORTEST_SECRET_BYTES for value in values):
            raise ScrubError("a secret shorter than 8 bytes cannot be told from ordinary text")
        matcher = Matcher(forms_of(values))
        spellings = escapes(b"".join(values))
        return cls((matcher,), spellings, Gate(spellings + _BREAKS), matcher.longest_bytes * LONGEST_ESCAPE_BYTES // 2)

    def with_signatures(self, signatures: Iterable[Secret]) -> ScrubSet:
        """Return a set that takes out *signatures* as well, whose bytes are base64 or hex digits: for one exchange.

        Nothing but their few forms is compiled: 0.1 ms, where a set of its own would take 1 ms.
        """
        # Padding says nothing of a signature, and its sign has no part in the spellings.
        values = {signature.reveal().rstrip(b"=") for signature in signatures}
        if not values:
            return self
        added = Matcher([form for value in sorted(values) for form in signature_forms(value)])
        limit = max(self.hold_limit_bytes, added.longest_bytes * LONGEST_ESCAPE_BYTES // 2)
        return ScrubSet((*self.matchers, added), self.escapes, self.gate, limit)

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to take out."""
        return all(matcher.longest_bytes == 0 for matcher in self.matchers)

    def survey(self, raw: bytes, context: bytes, is_final: bool) -> tuple[list[Span], int]:
        """Return the spans of *raw* to take out, and from where on it must wait for more bytes (`len(raw)` when nothing must).

        *context* is what stood before *raw*.
        """
        spans, opened = self._found(raw, None if is_final else _tail(raw, context))
        if not self.gate.opens(raw, context):
            return spans, opened
        for view in self._views(raw, context):
            found, begun = self._found(view.text, None if is_final else _tail(view.text, context))
            spans += [view.raw_span(start, stop, raw) for start, stop in found]
            if begun < len(view.text):
                opened = min(opened, view.raw_span(begun, begun + 1, raw)[0])
        return spans, opened

    def _found(self, text: bytes, tail: Tail | None) -> tuple[list[Span], int]:
        spans, opened = self.matchers[0].find(text, tail)
        for matcher in self.matchers[1:]:
            more, begun = matcher.find(text, tail)
            spans += more
            opened = min(opened, begun)
        return spans, opened

    def _views(self, raw: bytes, context: bytes) -> Iterator[View]:
        """Yield each view of *raw* that is worth making: each has one more spelling undone than the one before."""
        view: View | None = None
        fruitless = 0
        for escape in self.escapes * ESCAPE_LEVELS:
            if deeper := escape.undone(raw if view is None else view.text, context, view):
                yield deeper
                view, fruitless = deeper, 0
            else:
                fruitless += 1
                if fruitless == len(self.escapes):  # each has been asked about this very text
                    break
        for line_break in _BREAKS:
            if deeper := line_break.undone(raw if view is None else view.text, context, view):
                yield deeper
                view = deeper


def _tail(text: bytes, context: bytes) -> Tail:
    escape = undecided_from(text)
    return Tail(escape, min(escape, break_from(text, context)))


class Scrubber:
    """Scrubs one stream: a body, or one message. `hits` counts what was taken out."""

    __slots__ = ("_context", "_held", "_masked", "_set", "hits")

    def __init__(self, scrub_set: ScrubSet) -> None:
        self._set = scrub_set
        self._held = b""
        self._masked = 0  # how many bytes of what is held are behind a mark that has already left
        self._context = b""
        self.hits = 0

    @property
    def held_bytes(self) -> int:
        """How many bytes of what was fed wait for more."""
        return len(self._held)

    def feed(self, data: bytes) -> bytes:
        """Take the next *data*; return what may leave (perhaps nothing)."""
        if self._set.is_empty:
            return data
        return self._advance(self._held + data if self._held else data, is_final=False)

    def finish(self) -> bytes:
        """Return what is left once no more data comes."""
        return self._advance(self._held, is_final=True) if self._held else b""

    def _advance(self, raw: bytes, is_final: bool) -> bytes:
        spans, opened = self._set.survey(raw, self._context, is_final)
        hold = max(opened, len(raw) - self._set.hold_limit_bytes)
        if is_final:
            hold = len(raw)
        if spans or self._masked:
            scrubbed, marks, self._masked = _masked(raw, sorted(spans), self._masked, hold)
            self.hits += marks
        else:
            scrubbed = raw if hold == len(raw) else raw[:hold]
        self._context = raw[:hold][-CONTEXT_BYTES:] if hold >= CONTEXT_BYTES else (self._context + raw[:hold])[-CONTEXT_BYTES:]
        self._held = raw[hold:]
        return scrubbed


def _masked(raw: bytes, spans: list[Span], covered: int, hold: int) -> tuple[bytes, int, int]:
    """Return `raw[:hold]` with one mark for each run of overlapping *spans* (sorted) that begins in it, and how many that are.

    The first *covered* bytes are behind a mark that has left already; the last number is how many from *hold* on are now.
    """
    pieces: list[bytes] = []
    for start, stop in spans:
        if start >= hold:
            break
        if start >= covered:
            pieces += (raw[covered:start], MARK)
        covered = max(covered, stop)
    marks = len(pieces) // 2
    pieces.append(raw[covered:hold])
    return b"".join(pieces), marks, max(covered - hold, 0)


def scrub(scrub_set: ScrubSet, data: bytes) -> tuple[bytes, int]:
    """Scrub *data*, which is complete; return it and how many marks it now bears. Clean data is returned as it is."""
    if scrub_set.is_empty:
        return data, 0
    spans, _ = scrub_set.survey(data, b"", is_final=True)
    if not spans:
        return data, 0
    scrubbed, marks, _ = _masked(data, sorted(spans), 0, len(data))
    return scrubbed, marks


def without(scrub_sets: Iterable[ScrubSet], text: str) -> str:
    """Return *text*, where surrogates stand for what is not UTF-8, without any value of *scrub_sets*."""
    data = text.encode("utf-8", "surrogateescape")
    for scrub_set in scrub_sets:
        data = scrub(scrub_set, data)[0]
    return data.decode("utf-8", "surrogateescape")
