"""The scrubber against a slow and obvious one: a regular expression per form, every byte of it spelled in any way."""

from __future__ import annotations

import base64
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outloop.core.scrub import MARK, Scrubber, ScrubSet, scrub
from outloop.core.secret import Secret

SECRETS = [
    b"ghp_NotARealToken0123456789abcdef",
    b"2fab/41+cd==decafbad",
    b"x&y<z>100%/pass\\word'\"",
    b"8bytes!?",
    b"eyJhbGciOiJub25lIn0.eyJmYWtlIjoxfQ.c2lnbmF0dXJlLW9mLW5vYm9keQ",
]
COMPILED = {secret: ScrubSet.compile([Secret(secret)]) for secret in SECRETS}
ALL = ScrubSet.compile(map(Secret, SECRETS))


def spellings(byte: int) -> list[bytes]:
    """Return ways to write *byte*: itself, percent-encoded, in JSON, in HTML, some of them twice over."""
    named = {b"&": b"&amp;", b"<": b"&lt;", b">": b"&gt;", b'"': b"&quot;", b"'": b"&apos;"}
    character = bytes([byte])
    written = [
        character,
        *(pattern % byte for pattern in (b"%%%02x", b"%%%02X", b"%%25%02X", b"\\u%04x", b"\\u%04X", b"\\x%02x", b"\\\\u%04x")),
        *(pattern % byte for pattern in (b"&#%d;", b"&#%05d;", b"&#x%x;", b"&#X%04X;", b"&amp;#%d;")),
    ]
    if character in named:
        written += [named[character], b"&amp;" + named[character][1:]]
    if character in b'/"\\':
        written += [b"\\" + character]
    return written


def literals(secret: bytes) -> list[bytes]:
    """Return the forms that are the same in every surrounding."""
    cores = []
    for before in range(3):
        kept = [base64.b64encode(fill * before + secret + fill * 2).rstrip(b"=") for fill in (b"\0", b"\xff")]
        cores.append(bytes(one for one, other in zip(*kept, strict=True) if one == other))
    flipped = [secret[::-1], secret.upper(), secret.lower(), secret.swapcase()] if len(secret) >= 16 else []
    hexes = [secret.hex().encode(), secret.hex().upper().encode()]
    return [secret, *hexes, *flipped, *cores, *(core.translate(bytes.maketrans(b"+/", b"-_")) for core in cores)]


def _spelled(byte: int) -> bytes:
    return b"(?:" + b"|".join(map(re.escape, sorted(set(spellings(byte)), key=len, reverse=True))) + b")"


def reference(secret: bytes) -> re.Pattern[bytes]:
    return re.compile(b"|".join(b"".join(map(_spelled, literal)) for literal in literals(secret)), re.DOTALL)


REFERENCE = {secret: reference(secret) for secret in SECRETS}


def cut(data: bytes, places: list[int]) -> list[bytes]:
    return [data[start:stop] for start, stop in pairwise(sorted({0, len(data), *(place % (len(data) + 1) for place in places)}))]


def stream(scrub_set: ScrubSet, pieces: list[bytes]) -> bytes:
    scrubber = Scrubber(scrub_set)
    return b"".join([*map(scrubber.feed, pieces), scrubber.finish()])


QUIET = st.sampled_from([b'"', b" ", b": ", b"\n\n", b"{", b"<b>", b"\0", b"\xff", b"?q=", b" the ", b"~~~", b", "])
NASTY = st.sampled_from(
    [b"%", b"\\", b"&", b"%25", b"&#", b"&amp;", b"\\\\", b"ghp_", b"8byte", b"2f", b"Z2hw", b"a", b"\n", b"x&"]
)
PLACES = st.lists(st.integers(0, 10_000), max_size=6)


@st.composite
def spelled_forms(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw a secret and one of its forms, each byte of it spelled in some way."""
    secret = draw(st.sampled_from(SECRETS))
    literal = draw(st.sampled_from(literals(secret)))
    is_plain = draw(st.booleans())
    return secret, b"".join(draw(st.sampled_from(spellings(byte)[:1] if is_plain else spellings(byte))) for byte in literal)


@settings(max_examples=300)
@given(spelled_forms(), st.lists(QUIET, min_size=1), st.lists(QUIET, min_size=1), PLACES)
def test_what_the_reference_finds_becomes_one_mark(
    form: tuple[bytes, bytes], before: list[bytes], after: list[bytes], places: list[int]
) -> None:
    secret, spelled = form
    text = b"".join([*before, spelled, *after])
    expected = b"".join([*before, MARK, *after])

    assert REFERENCE[secret].sub(MARK, text) == expected
    assert stream(COMPILED[secret], cut(text, places)) == expected


@settings(max_examples=300)
@given(st.lists(spelled_forms() | st.tuples(st.just(b""), NASTY), min_size=1, max_size=6), PLACES)
def test_whatever_surrounds_it_the_reference_finds_nothing_in_what_is_left(
    parts: list[tuple[bytes, bytes]], places: list[int]
) -> None:
    text = b"".join(part for _, part in parts)
    left = stream(ALL, cut(text, places))

    for secret in SECRETS:
        assert not REFERENCE[secret].search(left)


@settings(max_examples=300)
@given(st.lists(st.one_of(NASTY, QUIET, st.binary(max_size=12)), max_size=40), PLACES)
def test_what_the_reference_finds_clean_passes_byte_for_byte(parts: list[bytes], places: list[int]) -> None:
    text = b"".join(parts)

    if not any(pattern.search(text) for pattern in REFERENCE.values()):
        assert scrub(ALL, text) == (text, 0)
        assert stream(ALL, cut(text, places)) == text


@settings(max_examples=60)
@given(st.sampled_from(SECRETS), st.binary(max_size=9), st.binary(max_size=9), st.booleans())
def test_bits_of_the_secret_in_shared_base64_characters_leave_with_it(
    secret: bytes, before: bytes, after: bytes, is_url: bool
) -> None:
    encode = base64.urlsafe_b64encode if is_url else base64.b64encode
    other = bytes(byte ^ 0x55 for byte in secret)
    coded = b'"' + encode(before + secret + after) + b'"'
    twin = b'"' + encode(before + other + after) + b'"'

    assert scrub(COMPILED[secret], coded)[0] == scrub(ScrubSet.compile([Secret(other)]), twin)[0]


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
def test_every_single_spelling_of_every_byte_is_known(secret: bytes) -> None:
    for index, byte in enumerate(secret):
        for spelled in spellings(byte):
            text = b'"' + secret[:index] + spelled + secret[index + 1 :] + b'"'
            assert scrub(COMPILED[secret], text)[0] == b'"' + MARK + b'"', text
