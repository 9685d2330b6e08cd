"""A service's rules, arranged so that a decision looks at the few that could match and not at all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from outloop.core.model import Effect, Rule, Service, Source
from outloop.core.paths import PathPattern, fold_segment

WEBSOCKET = "WEBSOCKET"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule whose method and path match a request. `names` are the segments that its path names."""

    rule: Rule
    names: dict[str, str]

    @property
    def reads_body(self) -> bool:
        """Tell whether its ``where`` names the body."""
        return any(condition.source is Source.BODY for condition in self.rule.where)


def covers_method(methods: frozenset[str] | None, method: str) -> bool:
    """Tell whether a rule with *methods* (None: ``*``) speaks of *method*: GET covers HEAD, ``*`` all but WEBSOCKET."""
    if methods is None:
        return method != WEBSOCKET
    return method in methods or (method == "HEAD" and "GET" in methods)


class RuleIndex:
    """The rules of one service in a trie of folded path segments; the answer is the same as that of asking every rule."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._root = _Node()
        for position, rule in enumerate(self._rules):
            self._root.insert(rule.pattern, position)

    def candidates(self, method: str, segments: Sequence[str]) -> list[Candidate]:
        """Return the rules that match *method* and *segments* (decoded), in the order of the file.

        Deny rules match without case, the others exactly.
        """
        folded = tuple(map(fold_segment, segments))
        found = []
        for position in sorted(self._root.reachable(folded)):
            rule = self._rules[position]
            if covers_method(rule.methods, method):
                is_deny = rule.effect is Effect.DENY
                if rule.pattern.covers(folded if is_deny else segments, folded=is_deny):
                    found.append(Candidate(rule, rule.pattern.bind(segments)))
        return found


def rule_index(service: Service) -> RuleIndex:
    """Return the index of *service*'s rules, made at its first request and kept beside its other cached properties."""
    kept: RuleIndex | None = vars(service).get("rule_index")
    if kept is None:
        kept = vars(service)["rule_index"] = RuleIndex(service.rules)
    return kept


@dataclass(slots=True)
class _Node:
    """A place in the trie. Rules are known by their position in the file.

    `ending` rules end here; `open` ones go on with ``**`` and stand under a literal that must follow somewhere (None: none).
    """

    literals: dict[str, _Node] = field(default_factory=dict)
    any_one: _Node | None = None
    ending: list[int] = field(default_factory=list)
    open: dict[str | None, list[int]] = field(default_factory=dict)

    def insert(self, pattern: PathPattern, position: int) -> None:
        node = self
        head, *later = pattern.runs
        for step in head:
            if step.literal is not None:
                node = node.literals.setdefault(step.folded, _Node())
            else:
                node.any_one = node = node.any_one or _Node()
        if later:
            required = next((step.folded for run in later for step in run if step.literal is not None), None)
            node.open.setdefault(required, []).append(position)
        else:
            node.ending.append(position)

    def reachable(self, folded: Sequence[str]) -> Iterator[int]:
        """Yield the rules that could match the path: all that do, and few others."""
        present = {None, *folded}
        nodes = [self]
        for segment in (*folded, None):
            following = []
            for node in nodes:
                for required, positions in node.open.items():
                    if required in present:
                        yield from positions
                if segment is None:
                    yield from node.ending
                elif segment in node.literals:
                    following.append(node.literals[segment])
                if node.any_one is not None:
                    following.append(node.any_one)
            nodes = following
