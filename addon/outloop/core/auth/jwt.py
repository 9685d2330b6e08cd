"""A JSON Web Token that the key signs for itself (RFC 7519, 7515, 7518)."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from outloop.core.auth.base import MINTED, Edits, Facts, Minted, Part, Parts, Plain
from outloop.core.auth.forms import Form, key_bytes, private_key
from outloop.core.secret import Secret

ALGORITHMS: Mapping[str, Form] = {
    **dict.fromkeys(("HS256", "HS384", "HS512"), Form.TEXT),
    **dict.fromkeys(("RS256", "PS256"), Form.RSA),
    "ES256": Form.P256,
    "EdDSA": Form.ED25519,
}
LIFETIME_S = 600
SKEW_S = 30  # a server whose clock is behind would not take a token from its future

Claim = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Jwt(Plain):
    """`claims` are the policy's own; ``iat`` and ``exp`` come with each token. `secret_form` is of an HMAC secret."""

    mints: ClassVar[bool] = True

    alg: str
    claims: tuple[tuple[str, Claim], ...] = ()
    kid: str = ""
    lifetime_s: int = LIFETIME_S
    header: str = "Authorization"
    prefix: str = "Bearer "
    secret_form: Form = Form.TEXT
    stripped_query: frozenset[str] = frozenset({"access_token"})  # RFC 6750 §2.3

    @property
    def parts(self) -> tuple[Part, ...]:
        form = ALGORITHMS[self.alg]
        return (Part("private_key", form=form) if form.is_pem else Part("secret", form=self.secret_form),)

    @property
    def stripped_headers(self) -> frozenset[str]:
        return frozenset({self.header.lower()})

    def edits(self, parts: Parts, facts: Facts) -> Edits:
        return Edits(headers=((self.header, Secret(self.prefix.encode() + parts[MINTED].reveal())),))

    def derived(self, parts: Parts) -> tuple[Secret, ...]:
        if not ALGORITHMS[self.alg].is_pem:
            return ()
        lines = parts["private_key"].reveal().splitlines()
        return (Secret(b"".join(line.strip() for line in lines if not line.startswith(b"-----"))),)

    def minted(self, parts: Parts, now_s: float) -> Minted:
        """Return a token made now. Raises KeyError when a part is absent, KeyUnusable for one that cannot sign."""
        header = {"alg": self.alg, "typ": "JWT"} | ({"kid": self.kid} if self.kid else {})
        issued_s = int(now_s) - SKEW_S
        claims = {**dict(self.claims), "iat": issued_s, "exp": issued_s + self.lifetime_s}
        signed = b".".join(_coded(json.dumps(each, separators=(",", ":")).encode()) for each in (header, claims))
        return Minted(Secret(signed + b"." + _coded(self._signature(parts, signed))), issued_s + self.lifetime_s)

    def _signature(self, parts: Parts, signed: bytes) -> bytes:
        form = ALGORITHMS[self.alg]
        if not form.is_pem:
            return hmac.digest(key_bytes(parts["secret"], self.secret_form), signed, f"sha{self.alg.removeprefix('HS')}")
        return _signature(parts["private_key"], form, signed, is_pss=self.alg == "PS256")


def _signature(value: Secret, form: Form, signed: bytes, *, is_pss: bool) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    key = private_key(value, form)
    if isinstance(key, RSAPrivateKey):
        return key.sign(signed, PSS(MGF1(SHA256()), PSS.DIGEST_LENGTH) if is_pss else PKCS1v15(), SHA256())
    if isinstance(key, EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(signed, ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")  # RFC 7518 §3.4: not the DER that X.509 has
    return key.sign(signed)


def _coded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
