"""The ``where`` of a rule: tests on path names, query parameters and body fields.

Allow and ask read strictly: one spelling of the field, present, and every occurrence of it matching. Deny reads widely: any
occurrence in any spelling that some server takes for the same field (case, ``x[y]`` for ``x.y``, ``;`` for ``&``, a list
around it). So an agent gains nothing by sending a field twice, or nearly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from outloop.core.body import Body, Form
from outloop.core.fields import Fields, Members, Pairs
from outloop.core.model import Condition, Expected, Source
from outloop.core.paths import fold


@dataclass(frozen=True, slots=True)
class Subject:
    """What conditions look at beside the path. `body` is None when it is unreadable or was not read."""

    query: Fields
    body: Fields | Members | None

    @classmethod
    def of(cls, query: Pairs, body: Body | None) -> Subject:
        """Arrange the decoded pairs of a query, and a body that was read."""
        if body is None:
            return cls(Fields(query), None)
        return cls(Fields(query), Fields(body.pairs) if isinstance(body, Form) else Members(body.value))


def permits(condition: Condition, names: Mapping[str, str], subject: Subject) -> bool:
    """Tell whether *condition* holds for an allow or ask rule. *names* are the path's; an unreadable body never holds."""
    match condition.source:
        case Source.PATH:
            name = names.get(condition.keys[0])
            return name is not None and _accepts_text(condition, name)
        case Source.QUERY:
            return _permits_pairs(condition, subject.query)
        case Source.BODY:
            if isinstance(subject.body, Members):
                return any(_accepts_json(condition, value) for value in subject.body.at(condition.keys))
            return subject.body is not None and _permits_pairs(condition, subject.body)


def forbids(condition: Condition, names: Mapping[str, str], subject: Subject) -> bool:
    """Tell whether *condition* holds for a deny rule; on an unreadable body every condition on it does."""
    match condition.source:
        case Source.PATH:
            name = names.get(condition.keys[0])
            return name is not None and _rejects_text(condition, name)
        case Source.QUERY:
            return _forbids_pairs(condition, subject.query)
        case Source.BODY:
            if isinstance(subject.body, Members):
                return any(_rejects_json(condition, value) for value in subject.body.everywhere(condition.keys))
            return subject.body is None or _forbids_pairs(condition, subject.body)


def _permits_pairs(condition: Condition, fields: Fields) -> bool:
    first, *rest = condition.keys
    spellings = (".".join(condition.keys), first + "".join(f"[{key}]" for key in rest))
    found = fields.spelled_like(spellings[0])
    return bool(found) and all(name in spellings and _accepts_text(condition, value) for name, value in found)


def _forbids_pairs(condition: Condition, fields: Fields) -> bool:
    return any(_rejects_text(condition, value) for _, value in fields.spelled_like(".".join(condition.keys)))


def _accepts_text(condition: Condition, value: str) -> bool:
    return any(_equals_text(expected, value) for expected in condition.accepted)


def _rejects_text(condition: Condition, value: str) -> bool:
    folded = fold(value)
    return any(_equals_folded(expected, folded) for expected in condition.accepted)


def _accepts_json(condition: Condition, value: object) -> bool:
    return any(_equals_json(expected, value) for expected in condition.accepted)


def _rejects_json(condition: Condition, value: object) -> bool:
    if isinstance(value, str):
        folded = fold(value)
        return any(_is_text(expected) and _equals_folded(expected, folded) for expected in condition.accepted)
    return any(_is_same_number(expected, value) or _equals_json(expected, value) for expected in condition.accepted)


def _equals_text(expected: Expected, value: str) -> bool:
    return fnmatchcase(value, _glob(expected.text)) if expected.is_glob else value == expected.text


def _equals_folded(expected: Expected, folded: str) -> bool:
    text = fold(expected.text)
    return fnmatchcase(folded, _glob(text)) if expected.is_glob else folded == text


def _equals_json(expected: Expected, value: object) -> bool:
    if isinstance(value, str):
        return _is_text(expected) and _equals_text(expected, value)
    if _is_text(expected):
        return False
    # By type as well: True equals 1 in Python, and 1.0 may have been 1.00000000000000000001.
    return type(value) is type(expected.json) and value == expected.json


def _is_same_number(expected: Expected, value: object) -> bool:
    numbers = (int, float)
    return not _is_text(expected) and type(expected.json) in numbers and type(value) in numbers and expected.json == value


def _is_text(expected: Expected) -> bool:
    return expected.quoted or expected.is_glob or isinstance(expected.json, str)


def _glob(text: str) -> str:
    # fnmatch knows [classes] too; a glob here has * and ? only. Its patterns are atomic since Python 3.11: no backtracking.
    return text.replace("[", "[[]")
