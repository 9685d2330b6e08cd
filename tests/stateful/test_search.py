"""A search that finds nothing proves nothing: it finds each form that an upstream of these tests sends."""

from __future__ import annotations

import json

import pytest

from stateful.search import found_in
from stateful.upstream import CODINGS, FORMS

SECRET = b"sk_test/Obviously+Fake=Token.1234"
OTHER = b"pk_live-Certainly&Made%Up:Value!9"


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_secret_is_found(form: str, coding: str) -> None:
    body = CODINGS[coding](b'{"you": "' + FORMS[form](b"user:" + SECRET + b"\nand more") + b'"}')

    assert found_in(body, [SECRET, OTHER]) == {SECRET}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            json.dumps({"a": json.dumps({"b": "".join(f"\\u{byte:04x}" for byte in SECRET)})}).encode(), id="json-in-json"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-A: " + SECRET.hex(":").encode() + b"\r\n\r\n", id="hex-in-a-header"),
        pytest.param(b"\xef\xbb\xbf" + SECRET.decode().encode("utf-16-le"), id="utf-16-behind-an-odd-byte"),
        pytest.param(b"%25" + b"%25".join(b"%02x" % byte for byte in SECRET), id="percent-twice"),
    ],
)
def test_a_nested_or_displaced_form_is_found(data: bytes) -> None:
    assert found_in(data, [SECRET]) == {SECRET}


@pytest.mark.parametrize("form", FORMS)
def test_all_but_one_byte_of_a_secret_is_not_the_secret(form: str) -> None:
    assert not found_in(FORMS[form](b"user:" + SECRET[:-1] + b"\nand more"), [SECRET])
