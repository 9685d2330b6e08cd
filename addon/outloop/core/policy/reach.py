"""What path patterns can reach: whether one covers another, and whether two meet.

Used to find rules that can never match. The answers are exact for the pattern language (literal, ``*``, ``**``, ``{name}``);
letters that differ in case alone count as the same when the covering rule is a deny, which matches so.
"""

from __future__ import annotations

from collections.abc import Iterable

from outloop.core.paths import PathPattern, Step

_MOST_STEPS = 30_000
_ANY_ONE = ""
_OTHER = ""  # any segment that neither pattern names; a literal is never empty

States = frozenset[int]


class Reach:
    """Answers with a common budget of steps, so that a hostile file costs no more than an honest one.

    Beyond it nothing is found any more: `covers` says False and `meet` True.
    """

    def __init__(self) -> None:
        self._steps_left = _MOST_STEPS
        self._automata: dict[tuple[str, bool], _Automaton] = {}

    def covers(self, outer: PathPattern, inner: PathPattern, *, fold_case: bool) -> bool:
        """Tell whether *outer* matches every path that *inner* matches."""
        self._steps_left -= 1
        if self._steps_left < 0 or _parts_early(outer, inner, fold_case):
            return False
        wide, narrow = self._automaton(outer, fold_case), self._automaton(inner, fold_case)
        alphabet = (*(wide.literals | narrow.literals), _OTHER)
        todo = [(narrow.start, wide.start)]
        seen = set(todo)
        while todo:
            at, around = todo.pop()
            if narrow.accepts(at) and not wide.accepts(around):
                return False
            self._steps_left -= len(alphabet)
            if self._steps_left < 0:
                return False
            for symbol in alphabet:
                pair = (narrow.after(at, symbol), wide.after(around, symbol))
                if pair[0] and pair not in seen:
                    seen.add(pair)
                    todo.append(pair)
        return True

    def meet(self, one: PathPattern, other: PathPattern) -> bool:
        """Tell whether some path matches both."""
        first, second = self._automaton(one, False), self._automaton(other, False)
        alphabet = (*(first.literals | second.literals), _OTHER)
        todo = [(first.start, second.start)]
        seen = set(todo)
        while todo:
            pair = todo.pop()
            self._steps_left -= len(alphabet)
            if (first.accepts(pair[0]) and second.accepts(pair[1])) or self._steps_left < 0:
                return True
            for symbol in alphabet:
                following = (first.after(pair[0], symbol), second.after(pair[1], symbol))
                if all(following) and following not in seen:
                    seen.add(following)
                    todo.append(following)
        return False

    def _automaton(self, pattern: PathPattern, fold_case: bool) -> _Automaton:
        key = (pattern.text, fold_case)
        if key not in self._automata:
            self._automata[key] = _Automaton(pattern, fold_case)
        return self._automata[key]


def _parts_early(outer: PathPattern, inner: PathPattern, fold_case: bool) -> bool:
    """Tell whether a literal at the beginning of *outer* already excludes paths of *inner*: true of most pairs."""
    pairs = zip(outer.runs[0], inner.runs[0], strict=False)
    return any(wide.literal is not None and _token(wide, fold_case) != _token(narrow, fold_case) for wide, narrow in pairs)


def _token(step: Step, fold_case: bool) -> str:
    if step.literal is None:
        return _ANY_ONE
    return step.folded if fold_case else step.literal


class _Automaton:
    """A pattern as states: state *n* means that *n* of its steps are matched. ``**`` stays where it is."""

    def __init__(self, pattern: PathPattern, fold_case: bool) -> None:
        self._tokens: list[str | None] = []  # a literal, _ANY_ONE, or None for **
        for index, run in enumerate(pattern.runs):
            if index:
                self._tokens.append(None)
            self._tokens += [_token(step, fold_case) for step in run]
        self.literals = frozenset(token for token in self._tokens if token)
        self.start = self._closure([0])
        self._after: dict[tuple[States, str], States] = {}

    def after(self, states: States, symbol: str) -> States:
        """Return the states after one more segment; `_OTHER` fits wildcards only."""
        symbol = symbol if symbol in self.literals else _OTHER
        known = self._after.get((states, symbol))
        if known is None:
            known = self._after[states, symbol] = self._closure(self._following(states, symbol))
        return known

    def accepts(self, states: States) -> bool:
        """Tell whether the path may end here."""
        return len(self._tokens) in states

    def _following(self, states: States, symbol: str) -> Iterable[int]:
        for state in states:
            if state == len(self._tokens):
                continue
            token = self._tokens[state]
            if token is None:
                yield state
            elif token in (_ANY_ONE, symbol):
                yield state + 1

    def _closure(self, states: Iterable[int]) -> States:
        closed = set(states)
        for state in sorted(closed):
            while state < len(self._tokens) and self._tokens[state] is None:
                state += 1
                closed.add(state)
        return frozenset(closed)
