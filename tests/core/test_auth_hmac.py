"""Signatures as real services document them, RFC 4231, and what else a policy can describe."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest

from outloop.core.auth import Facts, Form, Hmac
from outloop.core.auth.hmac import Spot
from outloop.core.errors import KeyUnusable
from outloop.core.secret import Secret

AT_S = 1_499_827_319.559
HOST = "api.example.com"


def facts(method: str = "GET", path: str = "/", query: str = "", body: bytes | None = b"") -> Facts:
    return Facts(method, HOST, path, query, (), (), body, AT_S)


def parts(**values: str | bytes) -> dict[str, Secret]:
    return {name: Secret(value if isinstance(value, bytes) else value.encode()) for name, value in values.items()}


def plain(pairs: tuple[tuple[str, Secret], ...]) -> list[tuple[str, str]]:
    return [(name, value.reveal().decode()) for name, value in pairs]


# Binance, "SIGNED Endpoint Examples": the total parameters are the query with the body behind it.
BINANCE = Hmac(
    sign="{query}{body}",
    signature=Spot("signature", in_query=True),
    timestamp=Spot("timestamp", in_query=True),
    clock="milliseconds",
    key_id=Spot("X-MBX-APIKEY"),
)
BINANCE_KEY = parts(
    key_id="vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A",
    secret="NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j",
)


def test_binances_documented_signature_is_made_in_the_query() -> None:
    query = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000"

    edits = BINANCE.edits(BINANCE_KEY, facts("POST", "/api/v3/order", query))

    signature = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
    assert plain(edits.query) == [("timestamp", "1499827319559"), ("signature", signature)]
    assert plain(edits.headers) == [("X-MBX-APIKEY", BINANCE_KEY["key_id"].reveal().decode())]
    assert [each.reveal().decode() for each in edits.signatures] == [signature]


def test_coinbases_signature_goes_into_headers_beside_its_passphrase() -> None:
    secret = base64.b64encode(b"a made-up secret of coinbase's").decode()
    scheme = Hmac(
        sign="{timestamp}{method}{target}{body}",
        signature=Spot("CB-ACCESS-SIGN"),
        is_base64=True,
        secret_form=Form.BASE64,
        timestamp=Spot("CB-ACCESS-TIMESTAMP"),
        key_id=Spot("CB-ACCESS-KEY"),
        passphrase=Spot("CB-ACCESS-PASSPHRASE"),
    )
    key = parts(key_id="key-1", secret=secret, passphrase="correct-horse")

    edits = scheme.edits(key, facts("POST", "/orders", "a=1", b'{"size": 1}'))

    expected = hmac.digest(b"a made-up secret of coinbase's", b'1499827319POST/orders?a=1{"size": 1}', "sha256")
    assert plain(edits.headers) == [
        ("CB-ACCESS-KEY", "key-1"),
        ("CB-ACCESS-TIMESTAMP", "1499827319"),
        ("CB-ACCESS-PASSPHRASE", "correct-horse"),
        ("CB-ACCESS-SIGN", base64.b64encode(expected).decode()),
    ]
    assert edits.query == ()
    assert [(part.name, part.is_secret) for part in scheme.parts] == [("key_id", False), ("secret", True), ("passphrase", True)]


# RFC 4231 §4.2, 4.3, 4.4 and 4.7; the keys are not all text.
@pytest.mark.parametrize(
    ("key", "data", "name", "digest"),
    [
        pytest.param(
            b"\x0b" * 20, b"Hi There", "sha256", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7", id="1-sha256"
        ),
        pytest.param(
            b"Jefe",
            b"what do ya want for nothing?",
            "sha512",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e"
            "070a38bce737",
            id="2-sha512",
        ),
        pytest.param(
            b"\xaa" * 20,
            b"\xdd" * 50,
            "sha256",
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            id="3-sha256",
        ),
        pytest.param(
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "sha256",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            id="6-sha256",
        ),
    ],
)
def test_the_rfcs_digests_are_made(key: bytes, data: bytes, name: str, digest: str) -> None:
    for form, text in ((Form.HEX, key.hex()), (Form.BASE64, base64.urlsafe_b64encode(key).rstrip(b"=").decode())):
        scheme = Hmac(sign="{body}", signature=Spot("X-Sign", prefix="v1="), hash=name, secret_form=form)

        assert plain(scheme.edits(parts(secret=text), facts(body=data)).headers) == [("X-Sign", f"v1={digest}")]


@pytest.mark.parametrize(
    ("sign", "expected"),
    [
        ("{method}", b"PUT"),
        ("{host}", HOST.encode()),
        ("{path}", b"/a%20b"),
        ("{query}", b"x=1&t=1499827319"),
        ("{target}", b"/a%20b?x=1&t=1499827319"),
        ("{body}", b"\xff{key_id}"),
        ("{body_sha256}", hashlib.sha256(b"\xff{key_id}").hexdigest().encode()),
        ("{timestamp}", b"1499827319"),
        ("{key_id}", b"id-{body}"),
        ("v2\n{method}\n{timestamp}\n{key_id}.", b"v2\nPUT\n1499827319\nid-{body}."),
    ],
)
def test_each_placeholder_stands_for_what_is_sent_and_none_is_looked_for_in_it(sign: str, expected: bytes) -> None:
    scheme = Hmac(sign=sign, signature=Spot("S"), timestamp=Spot("t", in_query=True), key_id=Spot("K"))

    edits = scheme.edits(parts(secret="secret", key_id="id-{body}"), facts("PUT", "/a%20b", "x=1", b"\xff{key_id}"))

    assert dict(plain(edits.headers))["S"] == hmac.digest(b"secret", expected, "sha256").hex()


def test_a_target_without_a_query_has_no_question_mark() -> None:
    edits = Hmac(sign="{target}", signature=Spot("S")).edits(parts(secret="secret"), facts(path="/a"))

    assert plain(edits.headers) == [("S", hmac.digest(b"secret", b"/a", "sha256").hex())]


@pytest.mark.parametrize(
    ("clock", "expected"),
    [("seconds", "1499827319"), ("milliseconds", "1499827319559"), ("iso8601", "2017-07-12T02:41:59.559Z")],
)
def test_the_time_is_written_as_the_policy_says(clock: str, expected: str) -> None:
    assert datetime.fromtimestamp(AT_S, UTC).year == 2017
    scheme = Hmac(sign="{timestamp}", signature=Spot("S"), timestamp=Spot("T"), clock=clock)

    assert plain(scheme.edits(parts(secret="secret"), facts()).headers)[0] == ("T", expected)


@pytest.mark.parametrize(
    ("sign", "signs_body"), [("{method}{query}", False), ("{query}{body}", True), ("{body_sha256}", True), ("{timestamp}", False)]
)
def test_a_body_is_wanted_where_it_is_signed(sign: str, signs_body: bool) -> None:
    assert Hmac(sign=sign, signature=Spot("S")).signs_body(HOST) is signs_body


def test_the_agents_own_values_are_stripped_from_every_place_that_is_filled() -> None:
    assert BINANCE.stripped_headers == {"x-mbx-apikey"}
    assert BINANCE.stripped_query == {"signature", "timestamp"}


@pytest.mark.parametrize(("form", "text"), [(Form.HEX, "xyz0"), (Form.HEX, "abc"), (Form.BASE64, "a*bc"), (Form.BASE64, "abcde")])
def test_a_stored_secret_that_is_not_in_its_coding_cannot_be_used(form: Form, text: str) -> None:
    with pytest.raises(KeyUnusable, match=f"is not {form.value}"):
        Hmac(sign="{method}", signature=Spot("S"), secret_form=form).edits(parts(secret=text), facts())


def test_a_missing_part_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        BINANCE.edits(parts(secret="secret"), facts())
