"""Paths and queries: one form is matched and forwarded, and what servers read in two ways is refused.

Attack spellings are from Orange Tsai's "Breaking Parser Logic" (Black Hat 2018: ``..;/``, ``//``, ``%2e``, ``NN/``),
PortSwigger's "Web cache deception" delimiter lists and "Path traversal" labs, the OWASP path traversal page, RFC 3986 §5.4 and
§6.2.2, and the WHATWG URL Standard's percent-encode sets.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outloop.core.errors import MalformedRequest
from outloop.core.paths import (
    MAX_PARAMETERS,
    MAX_PATH_LENGTH,
    MAX_SEGMENTS,
    CanonicalPath,
    canonical_path,
    compile_pattern,
    fold,
    parse_query,
    split_target,
)


@pytest.mark.parametrize(
    ("raw", "text", "segments"),
    [
        pytest.param("/", "/", (), id="root"),
        pytest.param("/users/me", "/users/me", ("users", "me"), id="plain"),
        pytest.param("/users/me/", "/users/me/", ("users", "me"), id="trailing-slash-is-forwarded"),
        pytest.param("/%75sers/%6d%65", "/users/me", ("users", "me"), id="escaped-letters"),
        pytest.param("/%7Euser/a%2Db%5Fc", "/~user/a-b_c", ("~user", "a-b_c"), id="escaped-unreserved"),
        pytest.param("/a%3ab", "/a%3Ab", ("a:b",), id="hex-in-upper-case"),
        pytest.param("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,=", ("a:b@c!$&'()*+,=",), id="pchars-as-they-are"),
        pytest.param("/a%20b", "/a%20b", ("a b",), id="space"),
        pytest.param("/caf%c3%a9", "/caf%C3%A9", ("café",), id="utf-8"),
        pytest.param('/a|b{c}"<>^`[]', "/a%7Cb%7Bc%7D%22%3C%3E%5E%60%5B%5D", ('a|b{c}"<>^`[]',), id="what-rfc3986-wants-escaped"),
        pytest.param("/.well-known/x", "/.well-known/x", (".well-known", "x"), id="dot-file"),
        pytest.param("/...", "/...", ("...",), id="three-dots"),
        pytest.param("/a..b/..c", "/a..b/..c", ("a..b", "..c"), id="dots-inside"),
        pytest.param("/100%25", "/100%25", ("100%",), id="percent-sign"),
        pytest.param("/a%25zz", "/a%25zz", ("a%zz",), id="percent-sign-before-no-hex"),
        pytest.param("/a%3Fb%23c", "/a%3Fb%23c", ("a?b#c",), id="delimiters-as-data"),
    ],
)
def test_a_path_has_one_canonical_form(raw: str, text: str, segments: tuple[str, ...]) -> None:
    assert canonical_path(raw) == CanonicalPath(text, segments)
    assert canonical_path(text) == CanonicalPath(text, segments)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("", id="empty"),
        pytest.param("*", id="asterisk-form"),
        pytest.param("users", id="relative"),
        pytest.param("https://api.calendly.com/", id="absolute-form"),
        *(
            "//",
            "//users",
            "/users//me",
            "/users/me//",
            "///",
            "/./",
            "/.",
            "/..",
            "/../admin",
            "/users/../admin",
            "/users/..",
            "/a/./b",
        ),
        *("/%2e%2e/admin", "/%2E./admin", "/.%2e/admin", "/a/%2e/b", "/a/%2e", "/a/%2e%2e", "/%2e%2e%2fadmin"),
        *(
            "/%252e%252e/admin",
            "/%25%32%65%25%32%65/admin",
            "/%25%32%65",
            "/%2525",
            "/a%252fb",
            "/a%255cb",
            "/%2%35%32e",
            "/%25252e",
        ),
        *("/a%2fb", "/a%2Fb", "/%2f", "/..%2fadmin", "/%2f%2fevil.example/"),
        *("/a\\b", "/..\\admin", "/a%5cb", "/..%5Cadmin", "/%5c%5cevil.example"),
        *("/..;/admin", "/a;x=1/b", "/;/admin", "/admin;.css", "/a%3bb", "/..%3B/admin"),
        *("/a b", "/a\tb", "/a\nb", "/a\r\nX: y", "/a\x00b", "/a\x7fb", "/a\x85b", "/a\n", "/\x0b"),
        *("/%00", "/a%0d%0aX:y", "/a%09b", "/a%1fb", "/a%7fb", "/admin%00.css"),
        *("/a?b", "/a#b", "/a%", "/a%2", "/a%zz", "/a%u002e", "/a%0", "/%%32%65", "/a%-1"),
        *("/é", "/\u2025/admin", "/\uff0e\uff0e/admin", "/a\uff0fb", "/\uff2e\uff2e/admin", "/a\ud800b"),
        *("/%c0%ae%c0%ae/admin", "/%c0%af", "/%e0%80%ae", "/%ff", "/%ed%a0%80", "/%f5%80%80%80", "/%c3"),
        pytest.param("/" + "a" * MAX_PATH_LENGTH, id="too-long"),
        pytest.param("/a" * (MAX_SEGMENTS + 1), id="too-many-segments"),
    ],
)
def test_a_path_that_servers_read_in_two_ways_is_refused(raw: str) -> None:
    with pytest.raises(MalformedRequest):
        canonical_path(raw)


@pytest.mark.parametrize(
    ("raw", "text", "segments"),
    [
        pytest.param("/p/a%2fb", "/p/a%2Fb", ("p", "a/b"), id="data-in-its-segment"),
        pytest.param("/p/%2Fetc", "/p/%2Fetc", ("p", "/etc"), id="leading"),
        pytest.param("/p/a%2F..b", "/p/a%2F..b", ("p", "a/..b"), id="dots-in-a-name"),
    ],
)
def test_an_encoded_slash_is_kept_as_data_where_the_service_says_so(raw: str, text: str, segments: tuple[str, ...]) -> None:
    assert canonical_path(raw, keep_encoded_slash=True) == CanonicalPath(text, segments)


@pytest.mark.parametrize(
    "raw", ["/p/..%2fadmin", "/p/a%2f..", "/p/a%2f%2e%2e%2fb", "/p/.%2fa", "/p/a%252fb", "/p/a%5cb", "/p//a"]
)
def test_a_kept_slash_opens_no_way_up(raw: str) -> None:
    with pytest.raises(MalformedRequest):
        canonical_path(raw, keep_encoded_slash=True)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param("/a?b=1", ("/a", "b=1"), id="query"),
        pytest.param("/a", ("/a", ""), id="no-query"),
        pytest.param("/a?", ("/a", ""), id="empty-query"),
        pytest.param("/a?b?c=/d", ("/a", "b?c=/d"), id="second-question-mark-is-data"),
    ],
)
def test_a_target_splits_at_its_first_question_mark(raw: str, expected: tuple[str, str]) -> None:
    assert split_target(raw) == expected


@pytest.mark.parametrize("raw", ["", "*", "a", "?a", "https://h/", "/a#b", "/a?b#c", "h:443"])
def test_a_target_in_another_form_is_refused(raw: str) -> None:
    with pytest.raises(MalformedRequest):
        split_target(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param("", (), id="empty"),
        pytest.param("a=1&b=2", (("a", "1"), ("b", "2")), id="two"),
        pytest.param("a=1&a=2", (("a", "1"), ("a", "2")), id="repeated-in-order"),
        pytest.param("&&a=1&", (("a", "1"),), id="empty-pieces-say-nothing"),
        pytest.param("a", (("a", ""),), id="no-equals-sign"),
        pytest.param("=1", (("", "1"),), id="no-name"),
        pytest.param("a=b=c", (("a", "b=c"),), id="second-equals-sign-is-data"),
        pytest.param("a+b=c+d%2B", (("a b", "c d+"),), id="plus-is-a-space"),
        pytest.param("a%3D=%26", (("a=", "&"),), id="escaped-delimiters-are-data"),
        pytest.param("a;b=1;c=2", (("a;b", "1;c=2"),), id="semicolon-splits-nothing"),
        pytest.param("a=%0A%C3%A9", (("a", "\né"),), id="escaped-newline-and-utf-8"),
        pytest.param("a=%2525", (("a", "%25"),), id="decoded-once"),
        pytest.param("a[b]=|{}\\^\"<>`'", (("a[b]", "|{}\\^\"<>`'"),), id="raw-punctuation"),
    ],
)
def test_a_query_is_read_in_one_way(raw: str, expected: tuple[tuple[str, str], ...]) -> None:
    assert parse_query(raw) == expected


@pytest.mark.parametrize(
    "raw", ["a=%", "a=%2", "a=%zz", "a=%u0041", "a= b", "a=\n", "a=\x00", "a=%00", "a=é", "a=#", "a=%ff", "%c0%af=1", "a=\x7f"]
)
def test_a_query_without_one_reading_is_refused(raw: str) -> None:
    with pytest.raises(MalformedRequest):
        parse_query(raw)


@pytest.mark.parametrize("separator", ["&", ";", "%3B", "%3b"])
def test_a_query_of_more_parameters_than_can_be_looked_through_is_refused(separator: str) -> None:
    assert parse_query(separator.join(["a"] * MAX_PARAMETERS))
    with pytest.raises(MalformedRequest):
        parse_query(separator.join(["a"] * (MAX_PARAMETERS + 1)))


def test_the_deepest_path_passes() -> None:
    assert len(canonical_path("/a" * MAX_SEGMENTS).segments) == MAX_SEGMENTS


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        pytest.param("/", "/", {}, id="root"),
        pytest.param("/", "/a", None, id="root-alone"),
        pytest.param("/users/me", "/users/me", {}, id="literal"),
        pytest.param("/users/me", "/users/me/", {}, id="trailing-slash-in-the-path"),
        pytest.param("/users/me/", "/users/me", {}, id="trailing-slash-in-the-pattern"),
        pytest.param("/users/me", "/Users/me", None, id="case-matters"),
        pytest.param("/users/me", "/users/mee", None, id="not-a-prefix"),
        pytest.param("/users/me", "/users", None, id="too-short"),
        pytest.param("/users/me", "/%75sers/me", {}, id="escaped-letter"),
        pytest.param("/v1/docs:copy", "/v1/docs%3acopy", {}, id="escaped-colon-is-the-same-segment"),
        pytest.param("/a%20b", "/a%20b", {}, id="pattern-percent-encoded"),
        pytest.param("/a b", "/a%20b", {}, id="pattern-decoded"),
        pytest.param("/café", "/caf%C3%A9", {}, id="pattern-in-unicode"),
        pytest.param("/*", "/a", {}, id="one"),
        pytest.param("/*", "/", None, id="one-is-not-none"),
        pytest.param("/*", "/a/b", None, id="one-is-not-two"),
        pytest.param("/a/*/c", "/a/b/c", {}, id="one-inside"),
        pytest.param("/**", "/", {}, id="any-none"),
        pytest.param("/**", "/a/b/c", {}, id="any-three"),
        pytest.param("/a/**", "/a", {}, id="any-after-none"),
        pytest.param("/a/**", "/ab", None, id="any-keeps-the-segment-boundary"),
        pytest.param("/**/z", "/z", {}, id="any-before-none"),
        pytest.param("/**/z", "/a/z/b/z", {}, id="any-before-the-last"),
        pytest.param("/**/z", "/a/z/b", None, id="the-last-must-be-last"),
        pytest.param("/a/**/a", "/a", None, id="one-segment-is-not-both-ends"),
        pytest.param("/**/b/c/**", "/a/b/b/c", {}, id="middle-run"),
        pytest.param("/**/b/c/**", "/a/b/x/c", None, id="middle-run-is-together"),
        pytest.param("/**/**", "/", {}, id="two-are-one"),
        pytest.param("/a/{x}/{y_2}", "/a/1/2%203", {"x": "1", "y_2": "2 3"}, id="names-bind-decoded-text"),
        pytest.param("/{x}/**/{y}", "/1/2/3/4", {"x": "1", "y": "4"}, id="names-around-any"),
        pytest.param("/**/{x}/end", "/1/2/end", {"x": "2"}, id="name-before-the-end"),
    ],
)
def test_a_pattern_covers_whole_paths(pattern: str, path: str, expected: dict[str, str] | None) -> None:
    assert compile_pattern(pattern).match(canonical_path(path).segments) == expected


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        pytest.param("/Data/**", "/dAtA/x", id="ascii-case"),
        pytest.param("/straße/{x}", "/STRASSE/1", id="full-case-folding"),
        pytest.param("/data", "/%EF%BD%84ata", id="full-width-letter"),
        pytest.param("/**/keys/*", "/a/%E2%84%AAEYS/1", id="kelvin-sign"),
    ],
)
def test_folding_compares_without_case_and_compatibility_form(pattern: str, path: str) -> None:
    segments = canonical_path(path).segments
    assert compile_pattern(pattern).match(segments) is None
    assert compile_pattern(pattern).match(segments, fold_case=True) is not None


def test_folding_binds_names_as_they_came() -> None:
    assert compile_pattern("/a/{x}").match(("A", "MiXed"), fold_case=True) == {"x": "MiXed"}


def test_a_kept_slash_is_one_segment_to_a_pattern() -> None:
    segments = canonical_path("/projects/group%2Fname/issues", keep_encoded_slash=True).segments
    assert compile_pattern("/projects/{id}/issues").match(segments) == {"id": "group/name"}
    assert compile_pattern("/projects/group%2Fname/**").match(segments) == {}
    assert compile_pattern("/projects/group/name/issues").match(segments) is None


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        pytest.param("", "starts with a slash", id="empty"),
        pytest.param("users", "starts with a slash", id="relative"),
        pytest.param("/users?limit=1", "where", id="query"),
        pytest.param("/users//me", "empty segment", id="empty-segment"),
        pytest.param("/users//", "empty segment", id="two-trailing-slashes"),
        pytest.param("//", "empty segment", id="only-slashes"),
        pytest.param("/users/*me", "whole segment", id="star-in-a-segment"),
        pytest.param("/users/***", "whole segment", id="three-stars"),
        pytest.param("/users/{id}.json", "whole segment", id="name-in-a-segment"),
        pytest.param("/users/{}", "whole segment", id="empty-name"),
        pytest.param("/users/{1a}", "whole segment", id="name-that-is-none"),
        pytest.param("/users/{a", "whole segment", id="open-brace"),
        pytest.param("/a/../b", "never match", id="dot-segment"),
        pytest.param("/a;b", "never match", id="semicolon"),
        pytest.param("/a\\b", "never match", id="backslash"),
        pytest.param("/100%", "never match", id="bad-percent"),
        pytest.param("/a%0a", "never match", id="control"),
        pytest.param("/{id}/x/{id}", "twice", id="name-twice"),
        pytest.param("/**/{id}/**", "between two", id="name-that-could-be-any-segment"),
    ],
)
def test_a_pattern_that_cannot_mean_one_thing_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compile_pattern(pattern)


def test_patterns_know_their_text_and_names_and_can_be_set_members() -> None:
    pattern = compile_pattern("/{a}/**/{b}/x")
    assert (pattern.text, pattern.names) == ("/{a}/**/{b}/x", ("a", "b"))
    assert pattern in {compile_pattern("/{a}/**/{b}/x")}


_PIECES = st.sampled_from(
    [
        "/",
        "a",
        "B",
        ".",
        "..",
        "%2e",
        "%2E",
        "%61",
        "%41",
        "%7e",
        "%25",
        "2e",
        "%2f",
        "%3b",
        ";",
        "\\",
        "|",
        "%C3%A9",
        "é",
        "~",
        ":",
        "%3A",
        " ",
    ]
)
_RAW_PATHS = st.lists(_PIECES, max_size=8).map(lambda pieces: "/" + "".join(pieces))
_SEGMENTS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=7)
_STEPS = st.lists(st.sampled_from(["a", "b", "*", "**"]), max_size=6)


@given(_RAW_PATHS | st.text(alphabet=string.printable).map(lambda text: "/" + text), st.booleans())
@settings(deadline=None, max_examples=500)
def test_canonical_path_is_idempotent_and_keeps_the_meaning(raw: str, keep: bool) -> None:
    try:
        path = canonical_path(raw, keep_encoded_slash=keep)
    except MalformedRequest:
        return
    assert canonical_path(path.text, keep_encoded_slash=keep) == path
    assert path.text.isascii()
    assert path.text.isprintable()
    assert unquote(path.text) == unquote(raw)
    assert path.segments == tuple(unquote(segment) for segment in raw.strip("/").split("/") if segment)
    assert not {"", ".", ".."} & {part for segment in path.segments for part in segment.split("/")[:1]}


@given(_SEGMENTS, _STEPS)
@settings(deadline=None, max_examples=1000)
def test_the_matcher_agrees_with_the_obvious_one(segments: list[str], steps: list[str]) -> None:
    pattern = compile_pattern("/" + "/".join(steps))
    assert (pattern.match(segments) is not None) is _covers(steps, segments)


@given(st.text())
@settings(deadline=None)
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_many_wildcards_cost_no_exponential_time() -> None:
    # The obvious recursive matcher would not return within the age of the universe.
    pattern = compile_pattern("/" + "**/a/" * 200 + "z")
    assert pattern.match(("a",) * 4000) is None


def _covers(steps: Sequence[str], segments: Sequence[str]) -> bool:
    if not steps:
        return not segments
    if steps[0] == "**":
        return _covers(steps[1:], segments) or (bool(segments) and _covers(steps, segments[1:]))
    return bool(segments) and steps[0] in ("*", segments[0]) and _covers(steps[1:], segments[1:])
