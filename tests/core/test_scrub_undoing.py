"""Quick ways to undo escapes give what the patterns give; and the work that scrubbing takes grows with the data, no faster."""

from __future__ import annotations

import json
import random
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outloop.core.exposure import _unquoted
from outloop.core.scrub import Scrubber, ScrubSet, scrub
from outloop.core.scrub.matcher import Matcher
from outloop.core.scrub.spellings import breaks, escapes
from outloop.core.scrub.views import Spelling, View, is_triggered
from outloop.core.secret import Secret

SECRETS = [b"sk_test/Obviously+Fake=Token.1234", b"x&y<z>100%/pass\\word'\"", "gehe1m-pässwort".encode()]
SPELLINGS = [spelling for secret in SECRETS for spelling in (*escapes(secret), *breaks())]
PIECES = st.sampled_from(
    [
        *(b"%41", b"%2f", b"%2F", b"%25", b"%22", b"%", b"%%", b"%2", b"=", b"%0a"),
        *(
            b"\\",
            b"\\\\",
            b"\\/",
            b"\\u0041",
            b"\\\\u0041",
            b"\\u005c",
            b"u002f",
            b"\\u00e9",
            b"\\x41",
            b'\\"',
            b"\\n",
            b"\\r\\n",
        ),
        *(b"&#65;", b"&#0065;", b"&#x2F;", b"&amp;", b"&amp;#65;", b"&amp;amp;#65;", b"#65;", b"&quot;", b"&sol;", b"&#"),
        *(b"A" * 20, b"\n", b"\r\n", b" ", b"\t", b"a", b"4", b"fake", b"sk_test/", b"\xc3\xa9"),
    ]
)
TEXTS = st.lists(PIECES | st.binary(max_size=3), max_size=60).map(b"".join)


@settings(max_examples=400)
@given(TEXTS, st.integers(1, 8))
@example(b"\\u002\\u0066 \\u002f \\\\u002f \\u0066", 1)  # a replacement makes up another token
def test_the_quick_way_gives_what_the_pattern_gives(text: bytes, times: int) -> None:
    for spelling in SPELLINGS:
        assert spelling.undo(text * times) == spelling.token.sub(spelling.value, text * times)


@settings(max_examples=400)
@given(TEXTS)
def test_data_full_of_signs_is_asked_the_same_as_data_with_few(text: bytes) -> None:
    for spelling in SPELLINGS:
        assert spelling.stands_in(text, b"") == is_triggered(spelling.trigger, text, b"")


@settings(max_examples=300)
@given(TEXTS, st.integers(1, 40), st.data())
def test_the_way_back_is_the_same_from_nearby_as_from_the_start(text: bytes, times: int, data: st.DataObject) -> None:
    raw = text * times
    for spelling in SPELLINGS:
        view = View(spelling.undo(raw), None, spelling)
        if view.text:
            index = data.draw(st.integers(0, len(view.text) - 1))
            whole = View(view.text, None, spelling)
            whole.raw_span(0, 1, raw)  # measures all of it
            assert view.raw_span(index, len(view.text), raw) == whole.raw_span(index, len(view.text), raw)


@settings(max_examples=400)
@given(TEXTS)
@example(b"%")
@example(b"a%4")
def test_the_check_undoes_percent_signs_as_the_standard_library_does(text: bytes) -> None:
    assert _unquoted(text) == unquote_to_bytes(text)


ALL = ScrubSet.compile(map(Secret, SECRETS))
PLAIN_OR_ESCAPED = st.sampled_from(SECRETS).flatmap(
    lambda secret: st.sampled_from(
        [secret, secret.hex().encode(), quote(secret, safe="").encode(), json.dumps(secret.decode())[1:-1].encode()]
    )
)


@settings(max_examples=400)
@given(st.lists(st.lists(PIECES | PLAIN_OR_ESCAPED, max_size=6).map(b"".join), min_size=1, max_size=5))
def test_what_stands_in_a_part_of_lines_is_found_in_all_of_them(parts: list[bytes]) -> None:
    if not scrub(ALL, b"\n".join(parts))[1]:
        assert [scrub(ALL, part) for part in parts] == [(part, 0) for part in parts]


SECRET = SECRETS[0]
FLOODS = {
    "percent-signs": b"%",
    "backslashes": b"\\",
    "ampersands": b"&",
    "half-percents": b"%2",
    "half-codes": b"\\u00",
    "half-references": b"&#0000",
    "percents-of-percents": b"%25",
    "codes-of-backslashes": b"\\u005c",
    "references-in-references": b"&amp;amp;amp;#65;",
    "heads": SECRET[:8],
    "near-hits": SECRET[:-1] + b"!",
    "escaped-near-hits": b"".join(b"%%%02x" % byte for byte in SECRET[:-1]) + b"!",
    "hits": SECRET + b" ",
    "every-kind": b"".join(b"%%%02x" % byte for byte in range(0x21, 0x7F)),
    "strays-and-percents": b"%%41",
    "slashes-in-strings-in-strings": b"\\\\\\\\\\\\/",
    "line-breaks": b"A" * 16 + b"\n",
    "mixed": b"%41\\u0041&#65;\\/",
}


class Work:
    """How many bytes the scrubber's steps look at, whatever each takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looked_at = 0
        for owner, name in ((Matcher, "find"), (Spelling, "stands_in"), (View, "_measured")):
            self._count(monkeypatch, owner, name)

    def _count(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        step = getattr(owner, name)

        def counted(this: object, text: bytes, *more: object) -> object:
            self.looked_at += len(text)
            return step(this, text, *more)

        monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("unit", FLOODS.values(), ids=FLOODS)
def test_twice_the_data_is_twice_the_work(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    scrub_set = ScrubSet.compile([Secret(SECRET)])
    pieces = [(unit * (16 * 1024 // len(unit) + 1))[: 16 * 1024]] * 8
    work = Work(monkeypatch)

    def done(count: int) -> int:
        work.looked_at, scrubber = 0, Scrubber(scrub_set)
        for piece in pieces[:count]:
            scrubber.feed(piece)
        scrubber.finish()
        return work.looked_at

    once, twice = done(4), done(8)

    assert twice <= 2.2 * once
    assert once <= 4 * len(pieces[0]) * 120  # each level, each spelling, and the way back


def test_random_bytes_are_looked_at_twice_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(1).randbytes(256 * 1024)
    scrubber, work = Scrubber(ScrubSet.compile([Secret(SECRET)])), Work(monkeypatch)

    scrubber.feed(data)

    assert work.looked_at <= 2 * len(data)
