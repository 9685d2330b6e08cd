"""Tokens that a key signs for itself: RFC 7515's examples, and PyJWT as the one who verifies."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from outloop.core.auth import MINTED, Facts, Form, Jwt
from outloop.core.errors import KeyUnusable
from outloop.core.secret import Secret

NOW_S = 1_700_000_000.9
FACTS = Facts("GET", "api.example.com", "/", "", (), (), b"", NOW_S)
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
KEYS["PS256"] = KEYS["RS256"]
SECRET = "a-secret-of-more-than-sixty-four-bytes-for-the-longest-of-the-three-hashes"


def pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8, encryption: Any = None) -> Secret:
    return Secret(key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()))


def verified(scheme: Jwt, token: Secret, key: Any) -> dict[str, Any]:
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
    return jwt.decode(token.reveal().decode(), key, algorithms=[scheme.alg], options=options)


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "EdDSA"])
def test_pyjwt_verifies_what_a_private_key_signs(alg: str) -> None:
    key = KEYS[alg]
    scheme = Jwt(alg, (("iss", "me"), ("aud", "appstoreconnect-v1"), ("admin", True), ("n", 1)), kid="K1", lifetime_s=300)

    minted = scheme.minted({"private_key": pem(key)}, NOW_S)

    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = verified(scheme, minted.token, public)
    assert claims == {"iss": "me", "aud": "appstoreconnect-v1", "admin": True, "n": 1, "iat": 1_699_999_970, "exp": 1_700_000_270}
    assert jwt.get_unverified_header(minted.token.reveal()) == {"alg": alg, "typ": "JWT", "kid": "K1"}
    assert minted.expires_s == 1_700_000_270


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("form", [Form.TEXT, Form.BASE64, Form.HEX])
def test_pyjwt_verifies_what_a_shared_secret_signs(alg: str, form: Form) -> None:
    raw = SECRET.encode()
    stored = {Form.TEXT: raw, Form.BASE64: base64.b64encode(raw), Form.HEX: raw.hex().encode()}[form]
    scheme = Jwt(alg, secret_form=form)

    minted = scheme.minted({"secret": Secret(stored)}, NOW_S)

    assert set(verified(scheme, minted.token, raw)) == {"iat", "exp"}


def test_rfc_7515s_first_example_is_signed_as_there() -> None:
    # Appendix A.1: the octets that are signed, and their signature under the key that is given as base64.
    from outloop.core.auth import jwt as scheme_file

    key = Secret(b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
    header = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
    payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

    signature = Jwt("HS256", secret_form=Form.BASE64)._signature({"secret": key}, f"{header}.{payload}".encode())

    assert scheme_file._coded(signature) == b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


def test_the_token_goes_where_the_policy_says() -> None:
    token = {MINTED: Secret(b"a.b.c")}

    def header(scheme: Jwt) -> list[tuple[str, bytes]]:
        return [(name, value.reveal()) for name, value in scheme.edits(token, FACTS).headers]

    assert header(Jwt("HS256")) == [("Authorization", b"Bearer a.b.c")]
    assert header(Jwt("HS256", header="X-Ghost", prefix="")) == [("X-Ghost", b"a.b.c")]
    assert Jwt("HS256", header="X-Ghost").stripped_headers == {"x-ghost"}
    with pytest.raises(KeyError):
        Jwt("HS256").edits({"secret": Secret(b"x")}, FACTS)


def test_the_private_keys_text_gives_it_away_on_one_line_as_well() -> None:
    secret = pem(KEYS["ES256"])

    (derived,) = Jwt("ES256").derived({"private_key": secret})

    joined = "".join(secret.reveal().decode().splitlines()[1:-1])
    assert derived.reveal().decode() == joined
    assert base64.b64decode(joined)
    assert Jwt("HS256").derived({"secret": Secret(b"x")}) == ()


@pytest.mark.parametrize(
    ("alg", "value", "message"),
    [
        pytest.param("RS256", pem(KEYS["ES256"]), "not an RSA private key", id="ec-for-rs256"),
        pytest.param("ES256", pem(KEYS["RS256"]), "not a P-256 private key", id="rsa-for-es256"),
        pytest.param("ES256", pem(ec.generate_private_key(ec.SECP384R1())), "not a P-256 private key", id="another-curve"),
        pytest.param("EdDSA", pem(KEYS["ES256"]), "not an Ed25519 private key", id="ec-for-eddsa"),
        pytest.param("RS256", pem(rsa.generate_private_key(65537, 1024)), "fewer than 2048 bits", id="short-rsa"),
        pytest.param(
            "RS256", pem(KEYS["RS256"], encryption=BestAvailableEncryption(b"pw")), "encrypted with a password", id="encrypted"
        ),
        pytest.param("RS256", Secret(b"-----BEGIN PRIVATE KEY-----\nMIIC\n-----END PRIVATE KEY-----\n"), "in PEM", id="cut"),
        pytest.param("RS256", Secret(b"not a key"), "not an RSA private key in PEM", id="no-pem"),
        pytest.param(
            "ES256",
            Secret(KEYS["ES256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
            "in PEM",
            id="public",
        ),
    ],
)
def test_a_key_of_another_kind_cannot_sign(alg: str, value: Secret, message: str) -> None:
    with pytest.raises(KeyUnusable, match=message):
        Jwt(alg).minted({"private_key": value}, NOW_S)


def test_the_older_pem_of_rsa_and_ec_is_read_too() -> None:
    for alg in ("RS256", "ES256"):
        assert Jwt(alg).minted({"private_key": pem(KEYS[alg], PrivateFormat.TraditionalOpenSSL)}, NOW_S).token


def test_a_claim_in_any_script_is_written_as_json() -> None:
    token = Jwt("HS256", (("sub", 'Zoë "x"'),)).minted({"secret": Secret(SECRET.encode())}, NOW_S).token.reveal()

    assert json.loads(base64.urlsafe_b64decode(token.split(b".")[1] + b"=="))["sub"] == 'Zoë "x"'
