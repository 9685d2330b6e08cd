"""The rules that random policies are made of, and what they allow, worked out the obvious way."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WORDS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class RuleText:
    """One rule; `where` is (name, accepted values), its values as they stand in YAML flow style."""

    effect: str
    methods: str
    path: str
    where: tuple[str, tuple[str, ...]] | None = None

    @property
    def yaml(self) -> str:
        """The rule as a line of policy."""
        condition = f"\n        where: {{{self.where[0]}: [{', '.join(self.where[1])}]}}" if self.where else ""
        return f'      - {self.effect}: "{self.methods} {self.path}"{condition}\n'


@dataclass(frozen=True)
class Asked:
    """What policy looks at of a request; `body` None is one without any."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes | None


# A rule of each kind that policy knows; overlapping, so that deny, ask and allow meet.
RULES = (
    RuleText("allow", "GET", "/**"),
    RuleText("allow", "*", "/**"),
    RuleText("allow", "GET", "/items/*"),
    RuleText("allow", "POST,PUT", "/items/{id}", ("id", ('"1"', '"2"'))),
    RuleText("allow", "POST", "/notes", ("body.kind", ("note",))),
    RuleText("allow", "PATCH,DELETE", "/items/**/part"),
    RuleText("allow", "GET", "/search", ("query.q", ("open*",))),
    RuleText("ask", "DELETE", "/items/{id}"),
    RuleText("deny", "*", "/items/2"),
    RuleText("deny", "DELETE", "/**"),
    RuleText("deny", "POST", "/notes", ("body.kind", ("secret",))),
    RuleText("deny", "GET", "/search", ("query.q", ("closed",))),
)
PATHS = ("/items/1", "/items/2", "/ITEMS/2", "/items/3", "/items/1/part", "/notes", "/search", "/search/", "/")
BODIES = (None, b'{"kind": "note"}', b'{"kind": "secret"}', b'{"kind": "note", "kind": "secret"}', b"kind=note")


def is_allowed(rules: Sequence[RuleText], asked: Asked) -> bool:
    """Tell whether *rules* let *asked* through without anybody being asked."""
    if any(_matches(rule, asked) for rule in rules if rule.effect == "deny"):
        return False
    if any(_matches(rule, asked) for rule in rules if rule.effect == "ask"):
        return False
    return any(_matches(rule, asked) for rule in rules if rule.effect == "allow")


def _matches(rule: RuleText, asked: Asked) -> bool:
    methods = rule.methods.split(",")
    covered = "*" in methods or asked.method in methods or (asked.method == "HEAD" and "GET" in methods)
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", rule.path)
    pattern = pattern.replace("/**", "(?:/[^/]+)~").replace("*", "[^/]+").replace("~", "*")
    found = re.fullmatch(pattern + "/?", asked.path, re.IGNORECASE if rule.effect == "deny" else 0)
    return covered and found is not None and _holds(rule, asked, found)


def _holds(rule: RuleText, asked: Asked, found: re.Match[str]) -> bool:
    if rule.where is None:
        return True
    name, values = rule.where
    if name == "id":
        return f'"{found["id"]}"' in values
    if name == "query.q":
        return any(re.fullmatch(value.replace("*", ".*"), asked.query["q"]) for value in values) if "q" in asked.query else False
    if asked.body is None:
        return False  # nothing is said, so nothing matches
    pairs = _pairs(asked.body)
    if pairs is None:
        return rule.effect == "deny"
    return any(value in values for key, value in pairs if key == "kind")


def _pairs(body: bytes) -> list[tuple[str, object]] | None:
    """Return the members of a JSON body, None for one that cannot be read in one way only: all are labelled as JSON."""
    try:
        pairs: list[tuple[str, object]] = json.loads(body, object_pairs_hook=list)
    except ValueError:
        return None
    return pairs if len(dict(pairs)) == len(pairs) else None
