"""Rules that can never match, or never decide: an operator who wrote one believes something that is not so."""

from __future__ import annotations

from outloop.core.model import Condition, Effect, Rule, Source
from outloop.core.paths import compile_pattern
from outloop.core.policy.document import Scalar
from outloop.core.policy.problems import Problems
from outloop.core.policy.reach import Reach
from outloop.core.policy.rules import WEBSOCKET

_STRONGER = {Effect.ALLOW: (Effect.DENY, Effect.ASK), Effect.ASK: (Effect.DENY,), Effect.DENY: ()}


def report_dead_rules(rules: tuple[Rule, ...], base: str, problems: Problems, reach: Reach) -> None:
    """Note each of a service's *rules* outside its *base*, and each that a stronger one covers wholly."""
    inside = compile_pattern(f"{base}/**") if base else None
    live = []
    for rule in rules:
        if inside is not None and not reach.meet(rule.pattern, inside):
            message = f"this rule can never match: `{rule.pattern.text[:60]}` is outside the base `{base[:60]}`"
            problems.add(_node(rule), message, f"paths include the base: did you mean `{base[:60]}{rule.pattern.text[:60]}`?")
        else:
            live.append(rule)
    by_strength = {effect: [rule for rule in live if rule.effect is effect] for effect in (Effect.DENY, Effect.ASK)}
    for rule in live:
        candidates = (other for effect in _STRONGER[rule.effect] for other in by_strength[effect])
        stronger = next((other for other in candidates if _covers(other, rule, reach)), None)
        if stronger is not None and stronger.effect is Effect.DENY:
            message = f"this rule can never match: the deny on line {stronger.place.line} covers all of it"
            problems.add(_node(rule), message, "deny always wins: remove this rule or narrow the deny")
        elif stronger is not None:
            message = f"this rule never decides: the ask on line {stronger.place.line} covers all of it"
            problems.add(_node(rule), message, "ask beats allow: remove one of them")


def _node(rule: Rule) -> Scalar:
    return Scalar(rule.text, False, rule.place.line, rule.place.column)


def _covers(outer: Rule, inner: Rule, reach: Reach) -> bool:
    return (
        _covers_methods(outer.methods, inner.methods)
        and all(_is_implied(condition, outer, inner) for condition in outer.where)
        and reach.covers(outer.pattern, inner.pattern, fold_case=outer.effect is Effect.DENY)
    )


def _covers_methods(outer: frozenset[str] | None, inner: frozenset[str] | None) -> bool:
    if outer is None:
        return inner is None or WEBSOCKET not in inner
    if inner is None:
        return False
    return inner <= (outer | {"HEAD"} if "GET" in outer else outer)


def _is_implied(condition: Condition, outer: Rule, inner: Rule) -> bool:
    """Tell whether *inner* holds only where *condition* of *outer* does: it asks for the same field and accepts no more."""
    if condition.source is Source.PATH and outer.pattern.text != inner.pattern.text:
        return False
    return any(
        (own.source, own.keys) == (condition.source, condition.keys) and set(own.accepted) <= set(condition.accepted)
        for own in inner.where
    )
