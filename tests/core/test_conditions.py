"""Conditions: allow and ask read strictly, deny reads widely.

Parameter pollution cases are from OWASP WSTG-INPV-04 and Carettoni and di Paola, "HTTP Parameter Pollution" (2009); name
variants from the documentation of PHP, Rails, Express and Go's encoding/json.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from outloop.core import conditions
from outloop.core.body import Body, Form, Json
from outloop.core.conditions import Subject
from outloop.core.fields import Pairs
from outloop.core.model import Condition, Expected, Source


def permits(condition: Condition, names: Mapping[str, str], query: Pairs, body: Body | None) -> bool:
    return conditions.permits(condition, names, Subject.of(query, body))


def forbids(condition: Condition, names: Mapping[str, str], query: Pairs, body: Body | None) -> bool:
    return conditions.forbids(condition, names, Subject.of(query, body))


def plain(text: str, value: str | int | float | bool | None) -> Expected:
    return Expected(text, value, quoted=False)


def quoted(text: str) -> Expected:
    return Expected(text, None, quoted=True)


def glob(text: str) -> Expected:
    return Expected(text, None, quoted=False, is_glob=True)


ONE, TEXT_ONE = plain("1", 1), quoted("1")
TRUE, NULL, HALF, ACME = plain("true", True), plain("null", None), plain("0.5", 0.5), plain("acme", "acme")


def in_path(*accepted: Expected) -> Condition:
    return Condition(Source.PATH, ("id",), accepted)


def in_query(*accepted: Expected) -> Condition:
    return Condition(Source.QUERY, ("org",), accepted)


def in_body(*accepted: Expected) -> Condition:
    return Condition(Source.BODY, ("x", "y"), accepted)


@pytest.mark.parametrize(
    ("expected", "text", "holds"),
    [
        pytest.param(ONE, "1", True, id="plain-number-is-its-text"),
        pytest.param(ONE, "1.0", False, id="another-spelling-of-the-number"),
        pytest.param(ONE, "01", False, id="leading-zero"),
        pytest.param(TEXT_ONE, "1", True, id="quoted"),
        pytest.param(TRUE, "true", True, id="plain-boolean-is-its-text"),
        pytest.param(TRUE, "1", False, id="boolean-is-not-a-number"),
        pytest.param(NULL, "null", True, id="plain-null-is-its-text"),
        pytest.param(NULL, "", False, id="null-is-not-empty"),
        pytest.param(ACME, "acme", True, id="text"),
        pytest.param(ACME, "acme ", False, id="padded"),
        pytest.param(ACME, "acme\x00", False, id="nul"),
        pytest.param(glob("acme-*"), "acme-1", True, id="glob"),
        pytest.param(glob("acme-*"), "xacme-1", False, id="glob-is-anchored"),
        pytest.param(glob("acme-*"), "acme-\nx", True, id="glob-star-crosses-lines"),
        pytest.param(glob("a?c"), "abc", True, id="glob-question-mark"),
        pytest.param(glob("a?c"), "ac", False, id="glob-question-mark-is-one"),
        pytest.param(glob("[ab]*"), "a", False, id="glob-has-no-classes"),
        pytest.param(glob("[ab]*"), "[ab]c", True, id="glob-brackets-are-text"),
    ],
)
def test_text_is_compared_exactly_for_allow_and_ask(expected: Expected, text: str, holds: bool) -> None:
    assert permits(in_path(expected), {"id": text}, (), None) is holds
    assert permits(in_query(expected), {}, (("org", text),), None) is holds
    assert permits(in_body(expected), {}, (), Form((("x.y", text),))) is holds


@pytest.mark.parametrize(
    ("expected", "value", "holds"),
    [
        pytest.param(ONE, 1, True, id="number"),
        pytest.param(ONE, "1", False, id="number-is-not-text"),
        pytest.param(ONE, True, False, id="number-is-not-true"),
        pytest.param(ONE, 1.0, False, id="integer-is-not-a-rounded-fraction"),
        pytest.param(HALF, 0.5, True, id="fraction"),
        pytest.param(TEXT_ONE, "1", True, id="quoted"),
        pytest.param(TEXT_ONE, 1, False, id="quoted-is-not-a-number"),
        pytest.param(TRUE, True, True, id="true"),
        pytest.param(TRUE, 1, False, id="true-is-not-one"),
        pytest.param(TRUE, "true", False, id="true-is-not-text"),
        pytest.param(quoted("true"), "true", True, id="quoted-true-is-text"),
        pytest.param(quoted("true"), True, False, id="quoted-true-is-not-true"),
        pytest.param(plain("0", 0), False, False, id="zero-is-not-false"),
        pytest.param(plain("false", False), 0, False, id="false-is-not-zero"),
        pytest.param(NULL, None, True, id="null"),
        pytest.param(NULL, "null", False, id="null-is-not-text"),
        pytest.param(NULL, False, False, id="null-is-not-false"),
        pytest.param(ACME, "acme", True, id="text"),
        pytest.param(ACME, "Acme", False, id="case"),
        pytest.param(ACME, ["acme"], False, id="a-list-is-not-its-item"),
        pytest.param(ACME, {"acme": 1}, False, id="an-object-is-not-its-name"),
        pytest.param(glob("*"), "", True, id="glob-any-text"),
        pytest.param(glob("*"), 1, False, id="glob-is-for-text"),
        pytest.param(glob("1*"), 12, False, id="glob-is-not-for-digits-of-a-number"),
    ],
)
def test_json_is_compared_by_value_and_type_for_allow_and_ask(expected: Expected, value: object, holds: bool) -> None:
    assert permits(in_body(expected), {}, (), Json({"x": {"y": value}})) is holds


def test_one_of_a_list_of_values_is_enough() -> None:
    condition = in_query(quoted("a"), quoted("b"))
    assert permits(condition, {}, (("org", "b"),), None)
    assert permits(condition, {}, (("org", "a"), ("org", "b")), None)
    assert forbids(condition, {}, (("org", "b"),), None)
    assert not forbids(condition, {}, (("org", "c"),), None)


@pytest.mark.parametrize("condition", [in_path(glob("*")), in_query(glob("*")), in_body(glob("*")), in_body(NULL)])
def test_a_missing_field_never_matches(condition: Condition) -> None:
    for body in (Form(()), Json({}), Json({"x": {}}), Json({"x": None}), Json({"x.y": None}), Json([]), Json(None), Json("x")):
        assert not permits(condition, {}, (), body)
        assert not forbids(condition, {}, (), body)


def test_an_unreadable_body_permits_nothing_and_forbids_everything_about_it() -> None:
    assert not permits(in_body(glob("*")), {}, (), None)
    assert forbids(in_body(quoted("never sent")), {}, (), None)


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param((("org", "mine"), ("org", "theirs")), id="repeated"),
        pytest.param((("org", "theirs"), ("org", "mine")), id="repeated-the-other-way-round"),
        pytest.param((("org", "mine"), ("org[]", "theirs")), id="list-brackets"),
        pytest.param((("org", "mine"), ("org[0]", "theirs")), id="indexed"),
        pytest.param((("org", "mine"), ("org[1][]", "theirs")), id="indexed-twice"),
        pytest.param((("org", "mine"), ("ORG", "theirs")), id="case"),
        pytest.param((("org", "mine"), ("ｏrg", "theirs")), id="full-width"),
        pytest.param((("org", "mine"), (" org", "theirs")), id="padded-name-that-php-trims"),
        pytest.param((("org", "mine"), ("x", "1;org=theirs")), id="semicolon-in-a-value"),
        pytest.param((("org", "mine"), ("x;org", "theirs")), id="semicolon-in-a-name"),
        pytest.param((("org", "mine;org=theirs"),), id="semicolon-in-its-own-value"),
    ],
)
def test_a_second_value_under_any_spelling_permits_nothing_and_forbids(pairs: tuple[tuple[str, str], ...]) -> None:
    assert not permits(in_query(quoted("mine"), glob("mine;*")), {}, pairs, None)
    assert forbids(in_query(quoted("theirs")), {}, pairs, None)


@pytest.mark.parametrize("name", ["org[]", "ORG", "org.", "organisation", "xorg"])
def test_a_field_in_another_spelling_is_missing_for_allow_and_ask(name: str) -> None:
    assert not permits(in_query(glob("*")), {}, ((name, "mine"),), None)


@pytest.mark.parametrize("name", ["x.y", "x[y]"])
def test_a_form_field_inside_another_has_two_spellings(name: str) -> None:
    assert permits(in_body(quoted("1")), {}, (), Form(((name, "1"),)))
    assert forbids(in_body(quoted("1")), {}, (), Form(((name, "1"),)))
    assert not permits(in_body(quoted("1")), {}, (), Form(((name, "1"), ("x[y]", "2"))))


@pytest.mark.parametrize("name", ["x_y", "X[Y]", "x[y][]", "x[0][y]", "x y"])
def test_a_form_field_as_php_and_rails_would_spell_it_forbids(name: str) -> None:
    assert forbids(in_body(quoted("1")), {}, (), Form(((name, "1"),)))
    assert not permits(in_body(quoted("1")), {}, (), Form(((name, "1"),)))


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        pytest.param(ACME, "ACME", id="case"),
        pytest.param(ACME, "ａcme", id="full-width"),
        pytest.param(glob("acme-*"), "Acme-1", id="glob-case"),
    ],
)
def test_deny_compares_text_without_case(expected: Expected, text: str) -> None:
    assert forbids(in_path(expected), {"id": text}, (), None)
    assert forbids(in_query(expected), {}, (("org", text),), None)
    assert forbids(in_body(expected), {}, (), Json({"x": {"y": text}}))
    assert forbids(in_body(expected), {}, (), Form((("x[y]", text),)))


@pytest.mark.parametrize(
    ("expected", "body", "holds"),
    [
        pytest.param(ONE, {"x": {"y": 1}}, True, id="number"),
        pytest.param(ONE, {"x": {"y": 1.0}}, True, id="same-number-as-a-fraction"),
        pytest.param(ONE, {"x": {"y": True}}, False, id="true-is-no-number"),
        pytest.param(TRUE, {"x": {"y": 1}}, False, id="one-is-not-true"),
        pytest.param(TRUE, {"x": {"y": True}}, True, id="true"),
        pytest.param(NULL, {"x": {"y": None}}, True, id="null"),
        pytest.param(ONE, {"x": {"y": "1"}}, False, id="text-is-no-number"),
        pytest.param(TEXT_ONE, {"x": {"y": 1}}, False, id="number-is-no-text"),
        pytest.param(ONE, {"X": {"Y": 1}}, True, id="names-without-case"),
        pytest.param(ONE, {"x": {"y": 2, "Y": 1}}, True, id="any-spelling-of-the-name"),
        pytest.param(ONE, [{"x": {"y": 2}}, {"x": {"y": 1}}], True, id="one-of-a-batch"),
        pytest.param(ONE, {"x": [[{"y": [2, [1]]}]]}, True, id="lists-at-every-level"),
        pytest.param(ONE, {"x": {"y": [2, 3]}}, False, id="none-of-a-list"),
        pytest.param(ONE, {"y": 1}, False, id="another-field"),
    ],
)
def test_deny_looks_for_json_in_lists_and_under_every_spelling(expected: Expected, body: object, holds: bool) -> None:
    assert forbids(in_body(expected), {}, (), Json(body)) is holds


@pytest.mark.parametrize("body", [{"x": {"y": 1, "Y": 2}}, {"x": {"y": 1}, "X": {"y": 2}}, [{"x": {"y": 1}}], {"x": [{"y": 1}]}])
def test_json_with_a_second_candidate_permits_nothing(body: object) -> None:
    assert not permits(in_body(ONE), {}, (), Json(body))


def test_a_name_that_the_path_does_not_bind_matches_nothing() -> None:
    assert not permits(in_path(glob("*")), {"other": "1"}, (), None)
    assert not forbids(in_path(glob("*")), {"other": "1"}, (), None)


def test_a_long_value_costs_no_exponential_time() -> None:
    value = "a" * 100_000
    assert not permits(in_query(glob("*a*a*a*a*a*a*a*a*b")), {}, (("org", value),), None)


def test_conditions_that_share_a_subject_do_not_disturb_each_other() -> None:
    subject = Subject.of((), Json([{"x": {"y": 1, "z": 2}}, {"X": {"Y": 3}}]))
    for name, number, holds in [("y", 1, True), ("z", 2, True), ("y", 2, False), ("y", 3, True), ("z", 3, False), ("y", 1, True)]:
        condition = Condition(Source.BODY, ("x", name), (plain(str(number), number),))
        assert conditions.forbids(condition, {}, subject) is holds
