"""Finds literal forms, whole or begun, in bytes.

Engine: only the first eight bytes of each form (its head) are searched for; the rest is compared in place, which is rare.
Sixty-four heads at a time fit the vector search of `ahocorasick_rs`: 0.25 ms per MiB and group. Beside it were measured one
automaton over every whole form (2.2 ms for 20 secrets, 30 ms to compile), `re` alternation (70 ms), hyperscan (0.4 ms, but
16 s to compile the escaped spellings, and no wheels for Windows), and `bytes.find` of a single needle (0.2 ms). Where a set
has so many heads that the groups cost more than one automaton (1.9 ms), that one is used. All of it is linear in the data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from outloop.core.scrub.forms import Form

HEAD_BYTES = 8
_GROUP_HEADS = 64
_GROUPS_MAXIMUM = 7
_SHORT_BYTES = 1024  # up to here one automaton costs less than starting several

Span = tuple[int, int]


class Tail(NamedTuple):
    """How the end of a text may yet read otherwise: where an unfinished escape begins, and where that or a line break does.

    Both are the length of the text where there is no such thing.
    """

    escape: int
    settled: int


class Matcher:
    """The compiled forms of a scrub set. Immutable; shared by every response."""

    __slots__ = ("_beginnings", "_every", "_forms", "_gates", "_heads", "_leads", "longest_bytes")

    def __init__(self, forms: Sequence[Form]) -> None:
        by_head: defaultdict[bytes, list[Form]] = defaultdict(list)
        for form in forms:
            by_head[form.value[:HEAD_BYTES]].append(form)
        heads = sorted(by_head)
        self._forms = [by_head[head] for head in heads]
        self._every = BytesAhoCorasick(heads, MatchKind.Standard, Implementation.DFA)
        self._heads = heads
        self._gates: Sequence[BytesAhoCorasick] = ()  # made for the first longer text: most signatures never meet one
        self._beginnings = frozenset(head[:length] for head in heads for length in range(1, len(head)))
        self._leads = frozenset(lead for form in forms for lead in form.leads)
        self.longest_bytes = max((len(form.value) for form in forms), default=0)

    def find(self, text: bytes, tail: Tail | None) -> tuple[list[Span], int]:
        """Return the spans of every form in *text*, overlapping ones too, and where a form begins that more bytes could complete.

        The latter is `len(text)` when there is none. *tail* None says that no more bytes will come, so nothing is begun.
        """
        spans: list[Span] = []
        opened = len(text)
        for gate in self._searched(text):
            if gate.find_matches_as_indexes(text):
                spans, opened = self._compared(text, tail)
                break
        if tail is None:
            return spans, len(text)
        opened = min(opened, tail.escape, self._begun(text, len(text)))
        if tail.settled < len(text):
            opened = min(opened, self._begun(text, tail.settled))
        edge = opened if opened < len(text) else tail.settled
        if edge and text[edge - 1] in self._leads:  # it may carry bits of the base64 character that follows
            opened = edge - 1
        return spans, opened

    def _searched(self, text: bytes) -> Sequence[BytesAhoCorasick]:
        """Return what *text* is searched by first: the quickest that lets nothing pass."""
        if len(text) <= _SHORT_BYTES:
            return (self._every,)
        if not self._gates:
            groups = [self._heads[start : start + _GROUP_HEADS] for start in range(0, len(self._heads), _GROUP_HEADS)]
            # Leftmost search is the kind that has the vector path; what it skips over, `_every` finds.
            is_few = len(groups) <= _GROUPS_MAXIMUM
            self._gates = [BytesAhoCorasick(group, MatchKind.LeftmostFirst) for group in groups] if is_few else (self._every,)
        return self._gates

    def _compared(self, text: bytes, tail: Tail | None) -> tuple[list[Span], int]:
        spans: list[Span] = []
        opened = len(text)
        for index, start, _ in self._every.find_matches_as_indexes(text, overlapping=True):
            for form in self._forms[index]:
                if text.startswith(form.value, start):
                    span, is_decided = _with_neighbours(text, form, start, tail)
                    spans.append(span)
                    # A last byte that begins an escape may yet be spelled by it: ``%25`` for the ``%`` at the end of a value.
                    if not is_decided or (tail is not None and tail.escape < span[1]):
                        opened = min(opened, span[0])
                elif (
                    tail is not None
                    and start + len(form.value) > tail.settled
                    and form.value.startswith((text[start:], text[start : tail.settled]))
                ):
                    opened = min(opened, start)
        return spans, opened

    def _begun(self, text: bytes, stop: int) -> int:
        """Return where the end of `text[:stop]` is less than a head but the beginning of one; `len(text)` when nowhere."""
        for length in range(min(HEAD_BYTES - 1, stop), 0, -1):
            if text[stop - length : stop] in self._beginnings:
                return stop - length
        return len(text)


def _with_neighbours(text: bytes, form: Form, start: int, tail: Tail | None) -> tuple[Span, bool]:
    """Return the span of *form* found at *start* with the neighbours that carry bits of it, and whether it is decided.

    It is not while bytes to come could still be such neighbours.
    """
    stop = start + len(form.value)
    if start and text[start - 1] in form.leads:
        start -= 1
    if not form.trails:
        return (start, stop), True
    limit = len(text) if tail is None else tail.settled
    if stop < limit and text[stop] in form.trails:
        stop += 1
        padded = stop + form.pads
        while stop < min(padded, limit) and text[stop : stop + 1] == b"=":
            stop += 1
        return (start, stop), tail is None or stop < limit or stop == padded
    return (start, stop), tail is None or stop < limit
