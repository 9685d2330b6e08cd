"""Every form of a secret is taken out, wherever the stream is cut; everything else arrives byte for byte."""

from __future__ import annotations

import base64
import html
import itertools
import json
import random
import tracemalloc
import urllib.parse
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from outloop.core.errors import ScrubError
from outloop.core.scrub import MARK, Scrubber, ScrubSet, scrub
from outloop.core.secret import Secret

SECRET = b"sk_test/Obviously+Fake=Token.1234"
TWIN = b"pk_live-Certainly&Made%Up:Value!9"  # as long, and unlike it everywhere


def of(*secrets: bytes) -> ScrubSet:
    return ScrubSet.compile(map(Secret, secrets))


def stream(scrub_set: ScrubSet, pieces: list[bytes]) -> bytes:
    scrubber = Scrubber(scrub_set)
    return b"".join([*map(scrubber.feed, pieces), scrubber.finish()])


def every(text: bytes, spell: Callable[[int], str]) -> bytes:
    return "".join(map(spell, text)).encode()


def some(text: bytes, spell: Callable[[int], str], seed: int = 7) -> bytes:
    chance = random.Random(seed)
    return "".join(spell(byte) if chance.random() < 0.5 else chr(byte) for byte in text).encode()


def wrapped(coded: bytes, width: int, line_break: bytes) -> bytes:
    return line_break.join(coded[start : start + width] for start in range(0, len(coded), width))


def coded(secret: bytes, before: int, after: int, encode: Callable[[bytes], bytes] = base64.b64encode) -> bytes:
    return encode(b"u" * before + secret + b"w" * after)


LINES = base64.b64encode(b"p" * 61 + SECRET + b"q" * 61)
JSON_TEXT = json.dumps({"echo": SECRET.decode()})

FORMS = {
    "raw": SECRET,
    "percent-reserved": urllib.parse.quote(SECRET, safe="").encode(),
    "percent-every-upper": every(SECRET, lambda byte: f"%{byte:02X}"),
    "percent-every-lower": every(SECRET, lambda byte: f"%{byte:02x}"),
    "percent-some": some(SECRET, lambda byte: f"%{byte:02x}"),
    "percent-twice": urllib.parse.quote(urllib.parse.quote(SECRET, safe=""), safe="").encode(),
    "percent-three-times": every(SECRET, lambda byte: f"%2525{byte:02x}"),
    "json-slash": SECRET.replace(b"/", b"\\/"),
    "json-code-upper": every(SECRET, lambda byte: f"\\u{byte:04X}"),
    "json-code-some": some(SECRET, lambda byte: f"\\u{byte:04x}"),
    "json-in-json": json.dumps(every(SECRET, lambda byte: f"\\u{byte:04x}").decode())[1:-1].encode(),
    "json-slash-in-json": SECRET.replace(b"/", b"\\\\\\/"),
    "byte-escapes": every(SECRET, lambda byte: f"\\x{byte:02x}"),
    "html-decimal": every(SECRET, lambda byte: f"&#{byte};"),
    "html-zero-padded": every(SECRET, lambda byte: f"&#{byte:06d};"),
    "html-hex-some": some(SECRET, lambda byte: f"&#x{byte:x};"),
    "html-hex-padded-upper": every(SECRET, lambda byte: f"&#X{byte:04X};"),
    "html-in-html": every(SECRET, lambda byte: f"&amp;#{byte};"),
    "html-named": SECRET.replace(b"/", b"&sol;").replace(b"=", b"&equals;"),
    "utf-16-le": SECRET.decode().encode("utf-16-le").removesuffix(b"\0"),
    "utf-16-be": SECRET.decode().encode("utf-16-be").removeprefix(b"\0"),
    "hex-lower": SECRET.hex().encode(),
    "hex-upper": SECRET.hex().upper().encode(),
    "hex-colons": SECRET.hex(":").encode(),
    "hex-spaces-upper": SECRET.hex(" ").upper().encode(),
    "reversed": SECRET[::-1],
    "upper": SECRET.upper(),
    "lower": SECRET.lower(),
    "swapped-case": SECRET.swapcase(),
    "base64": base64.b64encode(SECRET),
    "base64-unpadded": base64.b64encode(SECRET).rstrip(b"="),
    "base64-url": base64.urlsafe_b64encode(SECRET),
    "base64-percent": urllib.parse.quote(base64.b64encode(SECRET), safe="").encode(),
    "base64-json-slash": base64.b64encode(SECRET).replace(b"/", b"\\/"),
    "base64-code-some": some(base64.b64encode(SECRET), lambda byte: f"\\u{byte:04x}"),
    "hex-percent": some(SECRET.hex().encode(), lambda byte: f"%{byte:02X}"),
    "percent-in-json": every(SECRET, lambda byte: f"\\u0025{byte:02x}"),
    "json-in-html": some(SECRET, lambda byte: f"&#92;u{byte:04x}"),
    "html-in-percent": every(SECRET, lambda byte: f"%26%23{byte}%3B"),
}
# What stays of it depends on what surrounds the secret, never on the secret.
INSIDE: dict[str, Callable[[bytes], bytes]] = {
    "basic": lambda secret: b"Basic " + coded(secret, 5, 0),
    "wrapped-64-lf": lambda secret: wrapped(coded(secret, 61, 61), 64, b"\n"),
    "wrapped-76-crlf": lambda secret: wrapped(coded(secret, 60, 61), 76, b"\r\n"),
    "wrapped-76-in-json": lambda secret: json.dumps(wrapped(coded(secret, 62, 61), 76, b"\n").decode()).encode(),
    "wrapped-64-crlf-in-json": lambda secret: json.dumps(wrapped(coded(secret, 50, 61), 64, b"\r\n").decode()).encode(),
    "wrapped-64-indented": lambda secret: wrapped(coded(secret, 40, 61), 64, b"\n    "),
    **{
        f"base64-{alphabet}-{before}-{after}": partial(coded, before=before, after=after, encode=encode)
        for alphabet, encode in (("standard", base64.b64encode), ("url", base64.urlsafe_b64encode))
        for before in range(4)
        for after in range(4)
    },
}
STREAMS = {name: b'{"a": "' + form + b'", "b": 1}\n' for name, form in FORMS.items()} | {
    name: b'x="' + spell(SECRET) + b'"\r\n' for name, spell in INSIDE.items()
}


@pytest.mark.parametrize("form", [pytest.param(form, id=name) for name, form in FORMS.items()])
def test_a_form_becomes_the_mark_and_what_surrounds_it_stays(form: bytes) -> None:
    assert scrub(of(SECRET), b'{"a": "' + form + b'", "b": 1}') == (b'{"a": "' + MARK + b'", "b": 1}', 1)


@pytest.mark.parametrize("spell", [pytest.param(spell, id=name) for name, spell in INSIDE.items()])
def test_nothing_left_of_base64_depends_on_the_secret(spell: Callable[[bytes], bytes]) -> None:
    left, hits = scrub(of(SECRET), spell(SECRET))

    assert hits == 1
    assert left == scrub(of(TWIN), spell(TWIN))[0]


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in STREAMS.items()])
def test_a_form_is_taken_out_wherever_the_stream_is_cut(text: bytes) -> None:
    scrub_set = of(SECRET)
    whole = scrub(scrub_set, text)[0]

    assert MARK in whole
    assert all(stream(scrub_set, [text[:cut], text[cut:]]) == whole for cut in range(len(text) + 1))
    assert all(stream(scrub_set, [text[i : i + n] for i in range(0, len(text), n)]) == whole for n in (1, 2, 3, 5, 7))


SIGNATURES = {
    "hex": b"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    "base64": b"pZ/0aB+Q9zXw3uT7" * 2 + b"hA==",
}
SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "upper": bytes.upper,
    "reversed": lambda value: value[::-1],
    "hex": lambda value: value.hex().encode(),
    "percent": lambda value: urllib.parse.quote(value, safe="").encode(),
    "percent-every": lambda value: every(value, lambda byte: f"%{byte:02x}"),
    "json-code": lambda value: every(value, lambda byte: f"\\u{byte:04x}"),
    "json-slash": lambda value: value.replace(b"/", b"\\/"),
    "html": lambda value: every(value, lambda byte: f"&#{byte};"),
    "utf-16": lambda value: value.decode().encode("utf-16-le"),
    "in-an-authorization": lambda value: base64.b64encode(b"AWS4-HMAC-SHA256 Signature=" + value),
}


@pytest.mark.parametrize("signature", [pytest.param(value, id=name) for name, value in SIGNATURES.items()])
@pytest.mark.parametrize("spell", [pytest.param(spell, id=name) for name, spell in SPELLINGS.items()])
def test_a_signature_of_one_exchange_is_taken_out_beside_the_keys(spell: Callable[[bytes], bytes], signature: bytes) -> None:
    signed = of(SECRET).with_signatures([Secret(signature)])
    text = b'{"a": "' + spell(signature) + b'", "b": "' + SECRET + b'"}\n'
    whole, hits = scrub(signed, text)

    assert hits == 2
    assert spell(signature.rstrip(b"=")) not in whole
    assert all(stream(signed, [text[:cut], text[cut:]]) == whole for cut in range(len(text) + 1))
    assert scrub(of(SECRET), text)[1] == 1  # the set it was made from stays as it is


def test_a_set_of_nothing_takes_out_a_signature() -> None:
    value = SIGNATURES["hex"]

    assert scrub(of().with_signatures([Secret(value)]), b"<" + value + b">") == (b"<" + MARK + b">", 1)


@pytest.mark.parametrize("extra", range(6))
@pytest.mark.parametrize(
    "spell",
    [
        pytest.param(bytes, id="raw"),
        pytest.param(base64.b64encode, id="base64"),
        pytest.param(lambda secret: base64.b64encode(secret).rstrip(b"="), id="base64-unpadded"),
        pytest.param(lambda secret: base64.b64encode(b"u:" + secret), id="basic"),
        pytest.param(lambda secret: secret.hex().encode(), id="hex"),
        pytest.param(lambda secret: every(secret, lambda byte: f"%{byte:02x}"), id="percent"),
    ],
)
def test_the_mark_does_not_reveal_the_length(spell: Callable[[bytes], bytes], extra: int) -> None:
    longer = SECRET + b"abcdefgh"[:extra]

    assert scrub(of(longer), b"<" + spell(longer) + b">") == scrub(of(SECRET), b"<" + spell(SECRET) + b">")


@pytest.mark.parametrize(
    ("secrets", "text", "expected"),
    [
        pytest.param([b"abcdefgh", b"abcdefghijkl"], b"-abcdefghijkl-", b"-M-", id="one-begins-the-other"),
        pytest.param([b"ijklmnop", b"abcdefghijklmnopqr"], b"-abcdefghijklmnopqr-", b"-M-", id="one-inside-the-other"),
        pytest.param([b"abcdefgh12", b"gh12345678"], b"-abcdefgh12345678-", b"-M-", id="overlapping"),
        pytest.param([b"abcdefgh", b"ijklmnop"], b"-abcdefghijklmnop-", b"-MM-", id="touching"),
        pytest.param([b"abcdefgh", b"abcdefgX"], b"abcdefgX abcdefgh abcdefg", b"M M abcdefg", id="one-byte-apart"),
        pytest.param([b"aaaaaaaa"], b"-" + b"a" * 100 + b"-", b"-M-", id="overlapping-itself"),
        pytest.param([b"abababab"], b"-" + b"ab" * 50 + b"a-", b"-Ma-", id="overlapping-itself-by-two"),
        pytest.param([b"abcdefgh"], b"abcdefgabcdefgh", b"abcdefgM", id="false-start"),
        pytest.param([b"aabaabaac"], b"aabaabaabaac", b"aabM", id="false-start-within-itself"),
        pytest.param([b"pa%41ssword"], b"pa%41ssword pa%2541ssword paAssword", b"M M M", id="looks-percent-encoded-itself"),
        pytest.param([b"41bc/defghij"], b"100%41bc%2Fdefghij", b"100M", id="behind-a-bare-percent"),
        pytest.param([b"41bc/defghij"], b"100%2541bc%2Fdefghij", b"100M", id="behind-an-escaped-percent"),
        pytest.param([b"a&b<c>\"d'e"], b"a&amp;b&lt;c&gt;&quot;d&#39;e", b"M", id="html-special"),
        pytest.param([b"a&b<c>\"d'e"], b"a&amp;b&LT;c&gt;&#34;d&apos;e", b"M", id="html-named"),
        pytest.param([b'pass"wo\\rd'], json.dumps('pass"wo\\rd').encode(), b'"M"', id="json-special"),
        pytest.param([b'pass"wo\\rd'], json.dumps(json.dumps('pass"wo\\rd')).encode(), b'"\\"M\\""', id="json-special-twice"),
        pytest.param(["pässwörd-€uro".encode()], json.dumps("pässwörd-€uro").encode(), b'"M"', id="beyond-ascii-in-json"),
        pytest.param(["pässwörd-€uro".encode()], b"p&#228;ssw&#xf6;rd-&#8364;uro", b"M", id="beyond-ascii-in-html"),
        pytest.param(["pässwörd-€uro".encode()], urllib.parse.quote("pässwörd-€uro").encode(), b"M", id="beyond-ascii-percent"),
        pytest.param(["pässwörd-€uro".encode()], "<pässwörd-€uro>".encode("utf-16-be"), b"\0<\0M\0>", id="beyond-ascii-utf-16"),
        pytest.param([b"\xff\xfe\x80binary\x99"], b"<\xff\xfe\x80binary\x99>", b"<M>", id="not-text"),
        pytest.param([b"15-bytes-short!"], b"15-BYTES-SHORT!", b"15-BYTES-SHORT!", id="short-is-not-flipped"),
        pytest.param([b"15-bytes-short!"], b"!trohs-setyb-51", b"!trohs-setyb-51", id="short-is-not-reversed"),
    ],
)
def test_secrets_that_meet_each_other_and_their_surroundings(secrets: list[bytes], text: bytes, expected: bytes) -> None:
    scrub_set = of(*secrets)

    assert scrub(scrub_set, text)[0] == expected.replace(b"M", MARK)
    assert stream(scrub_set, [text[i : i + 1] for i in range(len(text))]) == expected.replace(b"M", MARK)


def test_utf_16_text_stays_aligned_around_the_mark() -> None:
    text = f"before {SECRET.decode()} after"

    for order in ("utf-16-le", "utf-16-be"):
        left = scrub(of(SECRET), text.encode(order))[0].decode(order)
        assert left.startswith("before ")
        assert left.endswith(" after")


def clean_samples() -> Iterator[object]:
    chance = random.Random(3)
    escapes = [b"%2F", b"\\/", b"\\u0041", b"&amp;", b"&#65;", b"\r\n", b"%", b"\\", b"&", b"sk_test/", b"c2tfdGVzd"]
    pieces = [bytes([byte]) for byte in range(256)] + escapes * 10
    users = [{"id": n, "uri": f"https://api.example.com/x/{n}?a=%2F&b=c"} for n in range(400)]
    runs = [b"\xff" * 9000, b"%" * 5000, b"\\" * 5000, b"&" * 5000, b"&%" * 3000, b"&#0000" * 900, b"\n" * 3000, b"%25" * 3000]
    yield pytest.param(chance.randbytes(40_000), id="random")
    yield pytest.param(b"".join(chance.choice(pieces) for _ in range(20_000)), id="escapes-and-beginnings")
    yield pytest.param(json.dumps(users).encode(), id="json")
    yield pytest.param(base64.encodebytes(chance.randbytes(20_000)), id="base64-lines")
    yield pytest.param("Ünïcödé text, \n".encode("utf-16") * 900, id="utf-16")
    yield pytest.param(b"".join(runs), id="runs")
    yield pytest.param(b"", id="empty")


@pytest.mark.parametrize("data", list(clean_samples()))
def test_clean_data_passes_byte_for_byte(data: bytes) -> None:
    scrub_set = of(SECRET, TWIN, b"password")
    chance = random.Random(11)
    cuts = sorted({0, len(data), *(chance.randrange(len(data) + 1) for _ in range(60))})

    assert scrub(scrub_set, data) == (data, 0)
    assert stream(scrub_set, [data[start:stop] for start, stop in itertools.pairwise(cuts)]) == data


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(b'data: {"delta": "hello"}\n\n', id="json"),
        pytest.param(b"data: hello\n\n", id="text"),
        pytest.param(b"data: [DONE]\r\n\r\n", id="crlf"),
        pytest.param(b":\n\n", id="comment"),
    ],
)
def test_an_event_is_not_held_back(event: bytes) -> None:
    scrubber = Scrubber(of(SECRET, TWIN))

    assert [scrubber.feed(event) for _ in range(3)] == [event] * 3


def test_only_what_may_become_a_form_is_held_back() -> None:
    scrubber = Scrubber(of(SECRET))

    assert scrubber.feed(b"{} " + SECRET[:-1]) == b"{} "
    assert scrubber.held_bytes == len(SECRET) - 1
    assert scrubber.feed(b"!") == SECRET[:-1] + b"!"
    assert scrubber.finish() == b""


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"a" * 4096, id="every-byte-begins-a-form"),
        pytest.param(b"YWFh" * 1024, id="every-byte-begins-base64"),
        pytest.param(b"%61" * 1400, id="escaped"),
        pytest.param(b"%25" * 1400, id="escaped-percents"),
        pytest.param(b"&#" + b"0" * 4094, id="endless-reference"),
        pytest.param(b"\\" * 4096, id="backslashes"),
        pytest.param(b"a\0" * 2048, id="utf-16"),
        pytest.param(b"YWFhYWFhYWFhYWFhYWFhYWFh\n" * 160, id="lines"),
        pytest.param(bytes(4096), id="zeros"),
    ],
)
def test_a_long_stream_takes_no_more_memory_than_a_short_one(piece: bytes) -> None:
    scrubber = Scrubber(of(b"a" * 40, b"a" * 39 + b"b"))
    tracemalloc.start()
    for _ in range(60):  # the interpreter keeps some freed objects by
        scrubber.feed(piece[:1000])
    early, _ = tracemalloc.get_traced_memory()
    for _ in range(200):
        scrubber.feed(piece[:1000])
    late, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert late - early < 16 * 1024
    assert scrubber.held_bytes < 8 * 1024


def test_one_long_hit_leaves_one_mark() -> None:
    scrub_set = of(b"a" * 40)
    scrubber = Scrubber(scrub_set)
    left = b"".join([*(scrubber.feed(b"a" * 1000) for _ in range(50)), scrubber.feed(b"-"), scrubber.finish()])

    assert left == MARK + b"-"
    assert scrubber.hits == 1


def test_without_secrets_everything_passes_at_once() -> None:
    scrubber = Scrubber(of())

    assert scrubber.feed(SECRET) == SECRET
    assert scrubber.finish() == b""
    assert scrub(of(b""), SECRET) == (SECRET, 0)


def test_a_secret_shorter_than_8_bytes_is_refused() -> None:
    with pytest.raises(ScrubError, match="shorter than 8 bytes"):
        of(SECRET, b"1234567")


def test_a_scrub_set_does_not_show_what_it_holds() -> None:
    scrub_set = of(SECRET)

    assert "Obviously" not in f"{scrub_set!r} {scrub_set.matchers!r} {vars(Scrubber).keys()} {scrub_set.escapes!r}"


def test_html_of_a_page_that_echoes_is_scrubbed() -> None:
    page = f"<p>{html.escape(SECRET.decode())}</p><a href='/?t={urllib.parse.quote_plus(SECRET)}'>{html.escape(JSON_TEXT)}</a>"

    left, hits = scrub(of(SECRET), page.encode())
    assert hits == 3
    assert b"Obviously" not in left
