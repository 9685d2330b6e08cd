"""Bodies: one reading or none.

JSON cases are from Bishop Fox, "An Exploration of JSON Interoperability Vulnerabilities" (2021), and Nicolas Seriot, "Parsing
JSON is a Minefield" (2016).
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outloop.core.body import MAX_JSON_DEPTH, MAX_JSON_VALUES, Form, Json, read_body, read_json

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"a": 1}', {"a": 1}, id="object"),
        pytest.param(b' [1, 1.5, "x", true, null] \n', [1, 1.5, "x", True, None], id="every-type"),
        pytest.param(b'{"a": {"b": 1}, "b": {"b": 2}}', {"a": {"b": 1}, "b": {"b": 2}}, id="same-name-in-other-objects"),
        pytest.param('{"é": "\\u00e9\\ud83d\\ude00"}'.encode(), {"é": "é😀"}, id="utf-8-and-a-surrogate-pair"),
        pytest.param(b'{"a": "\\u0000"}', {"a": "\x00"}, id="escaped-control-in-a-value"),
        pytest.param(b"[" + b"1," * (MAX_JSON_VALUES - 2) + b"1]", None, id="longest"),
        pytest.param(b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH, None, id="deepest"),
    ],
)
def test_plain_json_is_read(body: bytes, expected: object) -> None:
    assert read_json(body) == Json(json.loads(body) if expected is None else expected)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="truncated"),
        pytest.param(b'{"a": 1} {"a": 2}', id="two-documents"),
        pytest.param(b'{"a": 1}garbage', id="trailing-garbage"),
        pytest.param(b'{"a": 1, "a": 2}', id="duplicate-name"),
        pytest.param(b'{"a": 1, "\\u0061": 2}', id="duplicate-name-escaped"),
        pytest.param(b'{"x": {"a": 1, "a": 1}}', id="duplicate-name-inside"),
        pytest.param(b'[{"a": 1, "a": 2}]', id="duplicate-name-in-a-list"),
        pytest.param(b'{"a": 1, "a\\ud800": 2}', id="lone-surrogate-that-some-drop-from-a-name"),
        pytest.param(b'{"a": "\\udc00x"}', id="lone-surrogate-in-a-value"),
        pytest.param(b'{"a": 1, "a\\u0000": 2}', id="nul-that-some-cut-a-name-at"),
        pytest.param(b'{"a\\n": 1}', id="control-in-a-name"),
        pytest.param(b'{"a": "\n"}', id="raw-control"),
        pytest.param(b'{"a": "\\x61"}', id="stray-escape"),
        pytest.param(b'{"a": 1, /* "b": 2 */ "c": 3}', id="comment"),
        pytest.param(b'{"a": 1,}', id="trailing-comma"),
        pytest.param(b"{'a': 1}", id="single-quotes"),
        pytest.param(b"{a: 1}", id="bare-name"),
        pytest.param(b'{"a": NaN}', id="nan"),
        pytest.param(b'{"a": -Infinity}', id="infinity"),
        pytest.param(b'{"a": 1e999}', id="beyond-a-double"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="five-thousand-digits"),
        pytest.param(b'{"a": 0x1}', id="hex-number"),
        pytest.param(b'{"a": 01}', id="leading-zero"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', id="bom"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="utf-16"),
        pytest.param('{"a": 1}'.encode("utf-32-le"), id="utf-32"),
        pytest.param(b'{"a": "\xff"}', id="not-utf-8"),
        pytest.param(b'{"a": "\xed\xa0\x80"}', id="surrogate-in-utf-8"),
        pytest.param(b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1), id="too-deep"),
        pytest.param(b'{"a":' * 200 + b"1" + b"}" * 200, id="too-deep-objects"),
        pytest.param(b"[" + b"1," * (MAX_JSON_VALUES - 1) + b"1]", id="more-values-than-can-be-looked-through"),
        pytest.param(b"[" * 500_000, id="stack-breaker"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="stack-breaker-closed"),
    ],
)
def test_json_that_parsers_disagree_on_is_unreadable(body: bytes) -> None:
    assert read_json(body) is None


@pytest.mark.parametrize(
    "content_type",
    [
        *(
            "application/json",
            "Application/JSON",
            " application/json ",
            "application/json;charset=utf-8",
            "application/vnd.api+json",
        ),
        *('application/json; charset="UTF-8"', "application/json ; Charset=utf8 ", "application/problem+json"),
    ],
)
def test_json_is_read_under_its_own_types(content_type: str) -> None:
    assert read_body(b'{"a": 1}', content_type, "") == Json({"a": 1})


@pytest.mark.parametrize(
    "content_type",
    [
        *("", "json", "text/plain", "text/json", "application/jsonp", "application/x-json", "application/json5", "application/"),
        *("application/json; charset=utf-16", "application/json; charset=utf-7", "application/json; charset=ibm500"),
        *("application/json; charset=utf-8; charset=utf-16", 'application/json; charset="utf-8', "application/json;"),
        *("application/json, application/x-www-form-urlencoded", "application/json;boundary=x", "application/json\x00"),
        *(
            "multipart/form-data; boundary=x",
            "multipart/mixed",
            "application/graphql",
            "application/xml",
            "application/json\r\nX: y",
        ),
    ],
)
def test_any_other_type_is_unreadable(content_type: str) -> None:
    assert read_body(b'{"a": 1}', content_type, "") is None


@pytest.mark.parametrize("encoding", ["gzip", "identity", "br", "x"])
def test_a_coded_body_is_unreadable(encoding: str) -> None:
    assert read_body(b'{"a": 1}', JSON, encoding) is None


@pytest.mark.parametrize("content_type", [JSON, FORM, "", "multipart/form-data"])
def test_an_empty_body_says_nothing(content_type: str) -> None:
    assert read_body(b"", content_type, "") == Form(())


def test_a_body_that_was_not_read_is_unreadable() -> None:
    assert read_body(None, JSON, "") is None


@pytest.mark.parametrize(
    ("body", "pairs"),
    [
        pytest.param(b"a=1&b=2", (("a", "1"), ("b", "2")), id="two"),
        pytest.param(b"a=1&a=2", (("a", "1"), ("a", "2")), id="repeated"),
        pytest.param(b"items[0][id]=x+y%2Bz", (("items[0][id]", "x y+z"),), id="brackets-plus-escape"),
    ],
)
def test_a_form_is_read(body: bytes, pairs: tuple[tuple[str, str], ...]) -> None:
    assert read_body(body, FORM, "") == Form(pairs)
    assert read_body(body, FORM + "; charset=UTF-8", "") == Form(pairs)


@pytest.mark.parametrize(
    "body",
    [b'{"a": 1}', b'{"a":1}', b"a=%", b"a=%zz", b"a=%00", b"a=%ff", b"a=\xe9", b"a=\n", b"a b=1", b"a=1\r\n", b"<a/>", b"a=1#b"],
)
def test_a_form_that_servers_read_in_two_ways_is_unreadable(body: bytes) -> None:
    assert read_body(body, FORM, "") is None


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f")), inner)
    ),
    max_leaves=20,
)


@given(_VALUES, st.booleans())
@settings(deadline=None)
def test_whatever_python_writes_is_read_back(value: object, ascii_only: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == Json(value)


@given(st.binary())
@settings(deadline=None)
def test_no_bytes_break_the_reader(body: bytes) -> None:
    for content_type in (JSON, FORM):
        assert isinstance(read_body(body, content_type, ""), Json | Form | None)
