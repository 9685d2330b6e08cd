"""The check sees every plain form of a secret, however it was cut up, and nothing in clean data."""

from __future__ import annotations

import ast
import base64
import inspect
import json
import random
import urllib.parse
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outloop.core import exposure
from outloop.core.exposure import ExposureCheck, Needles
from outloop.core.secret import Secret

SECRET = b"sk_test/Obviously+Fake=Token.1234"
SHORT = b"pa/ss+wd"
LONG = b"eyJhbGciOiJub25lIn0." + b"Fake0Claims1" * 40 + b".c2lnbmF0dXJl/LW9m+bm9ib2R5"


def of(*secrets: bytes) -> Needles:
    return Needles.compile(map(Secret, secrets))


def quoted(text: bytes) -> str:
    """Return *text* with every byte percent-encoded."""
    return "".join(f"%{byte:02x}" for byte in text)


def coded(text: str) -> bytes:
    """Return *text* with every character as a JSON escape."""
    return "".join(f"\\u{ord(character):04x}" for character in text).encode()


def forms(secret: bytes) -> dict[str, bytes]:
    percent = urllib.parse.quote(secret, safe="").encode()
    code = "".join(f"\\u{byte:04x}" for byte in secret).encode()
    return {
        "raw": secret,
        "percent-reserved": percent,
        "percent-every": "".join(f"%{byte:02x}" for byte in secret).encode(),
        "percent-twice": urllib.parse.quote(percent, safe="").encode(),
        "json-slash": secret.replace(b"/", b"\\/"),
        "json-code": code,
        "json-code-upper": "".join(f"\\u{byte:04X}" if index % 3 else chr(byte) for index, byte in enumerate(secret)).encode(),
        "json-in-percent": urllib.parse.quote(secret.replace(b"/", b"\\/")).encode(),
        "percent-in-json": percent.replace(b"%", b"\\u0025"),
        **{
            f"{name}-of-{what}": spelled("".join(f"\\u{byte:04x}" for byte in text) if name == "percent" else quoted(text))
            for what, text in (("raw", secret), ("hex", secret.hex().encode()), ("base64", base64.b64encode(secret)))
            for name, spelled in (("percent", lambda code: quoted(code.encode()).encode()), ("json", coded))
        },
        "hex": secret.hex().encode(),
        "hex-upper": secret.hex().upper().encode(),
        "base64": base64.b64encode(secret),
        "base64-percent": urllib.parse.quote(base64.b64encode(secret), safe="").encode(),
        "base64-url-unpadded": base64.urlsafe_b64encode(secret).rstrip(b"="),
        **{f"base64-behind-{n}": base64.b64encode(b"u" * n + secret + b"w") for n in range(1, 4)},
    }


CASES = [
    pytest.param(secret, form, id=f"{size}-{name}")
    for size, secret in (("short", SHORT), ("usual", SECRET), ("long", LONG))
    for name, form in forms(secret).items()
]


@pytest.mark.parametrize(("secret", "form"), CASES)
def test_a_form_is_seen_alone_and_in_a_crowd(secret: bytes, form: bytes) -> None:
    crowd = of(*(f"other-secret-number-{number:02d}".encode() for number in range(20)), secret)

    for needles in (of(secret), crowd):
        assert ExposureCheck(needles).feed(b'{"a": "' + form + b'"}')
        assert ExposureCheck(needles).feed(form)


@pytest.mark.parametrize(("secret", "form"), CASES)
def test_a_form_is_seen_wherever_the_stream_is_cut(secret: bytes, form: bytes) -> None:
    needles = of(secret)
    text = b'{"a": "' + form + b'"}'
    for cut in range(0, len(text) + 1, 1 + len(text) // 200):
        check = ExposureCheck(needles)
        assert [check.feed(text[:cut]), check.feed(text[cut:])].count(True) == 1


@pytest.mark.parametrize("offset", [0, 1, 7, 63, 64, 3000, 65_000, 65_535, 70_001])
@pytest.mark.parametrize("secret", [SHORT, SECRET, LONG], ids=["short", "usual", "long"])
def test_a_secret_is_seen_at_any_distance(secret: bytes, offset: int) -> None:
    noise = random.Random(offset).randbytes(offset)
    check = ExposureCheck(of(secret))
    text = noise + secret + noise

    assert any(check.feed(text[start : start + 4096]) for start in range(0, len(text), 4096))


def test_a_secret_is_seen_when_it_comes_byte_by_byte() -> None:
    check = ExposureCheck(of(SECRET))
    seen = [check.feed(bytes([byte])) for byte in b"<" + SECRET]

    assert seen == [False] * len(SECRET) + [True]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param([b"clean", SECRET], False, id="all-in-the-piece"),
        pytest.param([b"clean" + SECRET[:5], SECRET[5:]], True, id="begun-in-an-earlier-one"),
    ],
)
def test_the_check_tells_whether_part_had_already_passed(pieces: list[bytes], expected: bool) -> None:
    check = ExposureCheck(of(SECRET))

    assert [check.feed(piece) for piece in pieces] == [False, True]
    assert check.reached_back is expected


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(random.Random(5).randbytes(200_000), id="random"),
        pytest.param(json.dumps([{"uri": f"https://example.com/{n}?a=%2Fb"} for n in range(3000)]).encode(), id="json"),
        pytest.param(b"https:\\/\\/example.com\\/" * 5000, id="slashes"),
        pytest.param(bytes(100_000), id="zeros"),
        pytest.param(SECRET[:-1] * 3000, id="all-but-the-last-byte"),
        pytest.param(b"%" * 70_000 + b"\\u00" * 9_000, id="beginnings-of-escapes"),
        pytest.param(b"", id="empty"),
    ],
)
def test_clean_data_is_clean(data: bytes) -> None:
    check = ExposureCheck(of(SECRET, SHORT, LONG))

    assert not any(check.feed(data[start : start + 60_000]) for start in range(0, len(data) + 1, 60_000))


@given(st.binary(min_size=8, max_size=90), st.binary(max_size=300), st.lists(st.integers(0, 400)))
def test_any_secret_is_seen_in_anything(secret: bytes, noise: bytes, places: list[int]) -> None:
    text = noise + secret + noise
    check = ExposureCheck(of(secret))
    cuts = sorted({0, len(text), *(place % len(text) for place in places)})

    assert any(check.feed(text[start:stop]) for start, stop in pairwise(cuts))


@pytest.mark.parametrize("form", [pytest.param(form, id=name) for name, form in forms(SHORT).items()])
def test_a_signature_of_one_exchange_is_seen_beside_the_keys(form: bytes) -> None:
    before = of(SECRET, LONG)
    signed = before.with_signatures([Secret(SHORT)])

    for cut in range(len(form)):
        check = ExposureCheck(signed)
        assert [check.feed(form[:cut]), check.feed(form[cut:])].count(True) == 1
    assert signed.stand_in(b"<" + SECRET + b">")
    assert not before.stand_in(form)
    assert before.with_signatures([]) is before


def test_without_secrets_nothing_is_seen() -> None:
    assert not ExposureCheck(of()).feed(SECRET)
    assert not ExposureCheck(of(b"")).feed(SECRET)


def test_the_check_shares_nothing_with_the_scrubber() -> None:
    imported = {node.module for node in ast.walk(ast.parse(inspect.getsource(exposure))) if isinstance(node, ast.ImportFrom)}

    assert {name for name in imported if name and name.startswith("outloop")} == {"outloop.core.secret"}


def test_needles_do_not_show_themselves() -> None:
    assert "Obviously" not in repr(of(SECRET))
