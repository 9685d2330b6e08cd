"""What a token endpoint is sent, and what is made of its answers (RFC 6749)."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs

import pytest

from outloop.core.auth import MINTED, Facts, OAuth2
from outloop.core.auth.oauth2 import LONGEST_LIFETIME_S, UNSTATED_LIFETIME_S, Endpoint
from outloop.core.errors import MintError, MintRefused
from outloop.core.secret import Secret

URL = "https://login.example.com/oauth/token"
NOW_S = 1000.0
KEY = {
    "client_id": Secret(b"my client"),
    "client_secret": Secret(b"s3cret:with/odd+signs"),
    "refresh_token": Secret(b"refresh-token-1"),
}
TOKEN = "access-token-0123456789"


def answered(*, grant: str = "client_credentials", status: int = 200, **answer: object) -> object:
    return OAuth2(grant, URL).granted(status, json.dumps(answer).encode(), NOW_S)


def test_client_credentials_are_shown_by_basic_with_each_half_form_encoded() -> None:
    scheme = OAuth2("client_credentials", URL, scopes=("a", "b:c"), params=(("audience", "https://api.example.com/"),))

    request = scheme.token_request(KEY)

    assert request.endpoint == Endpoint("login.example.com", 443, "/oauth/token")
    fields = dict(request.fields)
    assert base64.b64decode(fields[b"Authorization"].removeprefix(b"Basic ")) == b"my+client:s3cret%3Awith%2Fodd%2Bsigns"
    assert fields[b"Content-Type"] == b"application/x-www-form-urlencoded"
    assert parse_qs(request.body.decode()) == {
        "grant_type": ["client_credentials"],
        "audience": ["https://api.example.com/"],
        "scope": ["a b:c"],
    }
    assert "s3cret" not in repr(request)


def test_a_refresh_token_goes_with_the_client_in_the_body() -> None:
    request = OAuth2("refresh_token", URL, is_client_in_body=True).token_request(KEY)

    assert b"Authorization" not in dict(request.fields)
    assert {name: value for name, [value] in parse_qs(request.body.decode()).items()} == {
        "grant_type": "refresh_token",
        "refresh_token": "refresh-token-1",
        "client_id": "my client",
        "client_secret": "s3cret:with/odd+signs",
    }


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://login.example.com", ("login.example.com", 443, "/")),
        ("https://login.example.com:8443/t?v=1", ("login.example.com", 8443, "/t?v=1")),
        ("https://[2001:db8::1]/t", ("2001:db8::1", 443, "/t")),
    ],
)
def test_the_endpoint_is_read_from_the_url(url: str, endpoint: tuple[str, int, str]) -> None:
    assert OAuth2("client_credentials", url).endpoint == Endpoint(*endpoint)


def test_the_parts_are_those_of_the_grant() -> None:
    def parts(grant: str) -> list[tuple[str, bool]]:
        return [(part.name, part.is_secret) for part in OAuth2(grant, URL).parts]

    assert parts("client_credentials") == [("client_id", False), ("client_secret", True)]
    assert parts("refresh_token") == [("client_id", False), ("client_secret", True), ("refresh_token", True)]


def test_both_spellings_of_the_basic_pair_are_derived() -> None:
    derived = {base64.b64decode(value.reveal()) for value in OAuth2("client_credentials", URL).derived(KEY)}

    assert derived == {b"my client:s3cret:with/odd+signs", b"my+client:s3cret%3Awith%2Fodd%2Bsigns"}


def test_the_token_alone_goes_to_the_service() -> None:
    edits = OAuth2("refresh_token", URL).edits(
        {**KEY, MINTED: Secret(TOKEN.encode())}, Facts("GET", "a", "/", "", (), (), b"", 0)
    )

    assert [(name, value.reveal()) for name, value in edits.headers] == [("Authorization", f"Bearer {TOKEN}".encode())]
    assert (edits.query, edits.cookies, edits.signatures) == ((), (), ())


@pytest.mark.parametrize(
    ("expires_in", "expected"),
    [
        pytest.param(3600, 4600.0, id="seconds"),
        pytest.param(60.5, 1060.5, id="fraction"),
        pytest.param("120", 1120.0, id="as-text"),
        pytest.param(None, NOW_S + UNSTATED_LIFETIME_S, id="left-out"),
        pytest.param(10**12, NOW_S + LONGEST_LIFETIME_S, id="for-ever"),
    ],
)
def test_a_token_stands_as_long_as_its_endpoint_says(expires_in: object, expected: float) -> None:
    stated = {} if expires_in is None else {"expires_in": expires_in}
    granted = OAuth2("client_credentials", URL).granted(200, json.dumps({"access_token": TOKEN, **stated}).encode(), NOW_S)

    assert (granted.minted.token.reveal().decode(), granted.minted.expires_s) == (TOKEN, expected)


def test_a_new_refresh_token_counts_for_the_grant_that_has_one() -> None:
    body = json.dumps({"access_token": TOKEN, "token_type": "Bearer", "refresh_token": "refresh-token-2"}).encode()

    renewed = OAuth2("refresh_token", URL).granted(200, body, NOW_S).refresh_token
    assert renewed is not None
    assert renewed.reveal() == b"refresh-token-2"
    assert OAuth2("client_credentials", URL).granted(200, body, NOW_S).refresh_token is None


@pytest.mark.parametrize("none", [None, ""])
def test_no_new_refresh_token_leaves_the_old_one(none: object) -> None:
    granted = OAuth2("refresh_token", URL).granted(200, json.dumps({"access_token": TOKEN, "refresh_token": none}).encode(), 0)

    assert granted.refresh_token is None


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        pytest.param(400, {"error": "invalid_grant", "error_description": "s3cret"}, "invalid_grant", id="invalid-grant"),
        pytest.param(401, {"error": "invalid_client"}, "invalid_client", id="invalid-client"),
        pytest.param(200, {"error": "bad_refresh_token"}, "it answered 200", id="an-error-with-200"),
        pytest.param(400, {"error": "s3cret:with/odd+signs"}, "it answered 400", id="an-error-that-quotes-the-secret"),
        pytest.param(401, {}, "it answered 401", id="401"),
        pytest.param(403, {}, "it answered 403", id="403"),
    ],
)
def test_a_refusal_of_the_key_says_which_and_quotes_nothing(status: int, answer: dict[str, object], message: str) -> None:
    with pytest.raises(MintRefused, match=message) as caught:
        answered(status=status, **answer)

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(500, b"{}", id="500"),
        pytest.param(503, b'{"error": "temporarily_unavailable"}', id="503"),
        pytest.param(429, b'{"error": "slow_down"}', id="429"),
        pytest.param(302, b"", id="redirect"),
        pytest.param(204, b"", id="204"),
        pytest.param(200, b"", id="empty"),
        pytest.param(200, b"<html>", id="no-json"),
        pytest.param(200, b"[" * 100_000, id="nested"),
        pytest.param(200, b'["access_token"]', id="list"),
        pytest.param(200, b"{}", id="no-token"),
        pytest.param(200, b'{"access_token": 12345678}', id="number"),
        pytest.param(200, b'{"access_token": "short"}', id="too-short-to-scrub"),
        pytest.param(200, b'{"access_token": "with a space in it"}', id="space"),
        pytest.param(200, b'{"access_token": "line\\r\\nX-Other: 1"}', id="line-break"),
        pytest.param(200, b'{"access_token": "caf\\u00e9-caf\\u00e9"}', id="not-ascii"),
        pytest.param(200, b'{"access_token": "%s"}' % (b"a" * 20_000), id="too-long"),
        pytest.param(200, b'{"access_token": "12345678", "token_type": "DPoP"}', id="no-bearer"),
        pytest.param(200, b'{"access_token": "12345678", "token_type": 1}', id="type-is-a-number"),
        pytest.param(200, b'{"access_token": "12345678", "expires_in": 0}', id="expired"),
        pytest.param(200, b'{"access_token": "12345678", "expires_in": -5}', id="negative"),
        pytest.param(200, b'{"access_token": "12345678", "expires_in": true}', id="lifetime-is-true"),
        pytest.param(200, b'{"access_token": "12345678", "expires_in": NaN}', id="nan"),
        pytest.param(200, b'{"access_token": "12345678", "expires_in": Infinity}', id="infinity"),
        pytest.param(200, b'{"access_token": "12345678", "expires_in": "soon"}', id="words"),
        pytest.param(200, b'{"access_token": "12345678", "refresh_token": "a b"}', id="refresh-token-with-a-space"),
        pytest.param(200, b'{"access_token": "12345678", "refresh_token": 5}', id="refresh-token-is-a-number"),
    ],
)
def test_an_answer_that_grants_nothing_usable_is_no_token(status: int, body: bytes) -> None:
    with pytest.raises(MintError) as caught:
        OAuth2("refresh_token", URL).granted(status, body, NOW_S)

    assert not isinstance(caught.value, MintRefused)
