"""What the text of a key's part stands for: text, coded bytes, or a private key."""

from __future__ import annotations

import base64
import binascii
from enum import Enum
from typing import TYPE_CHECKING

from outloop.core.errors import KeyUnusable
from outloop.core.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

RSA_BITS_MINIMUM = 2048  # RFC 7518 §3.3


class Form(Enum):
    """The value is what a person calls it."""

    TEXT = "text"
    BASE64 = "base64"
    HEX = "hex"
    RSA = "an RSA private key"
    P256 = "a P-256 private key"
    ED25519 = "an Ed25519 private key"

    @property
    def is_pem(self) -> bool:
        """Tell whether it is a private key in PEM (RFC 7468), which has several lines."""
        return self in (Form.RSA, Form.P256, Form.ED25519)


def key_bytes(value: Secret, form: Form) -> bytes:
    """Return the bytes that *value*, of a *form* other than PEM, stands for. Raises KeyUnusable."""
    data = value.reveal()
    try:
        if form is Form.HEX:
            return bytes.fromhex(data.decode())
        if form is Form.BASE64:  # either alphabet, padded or not (RFC 4648 §4 and §5)
            plain = data.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
            return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise KeyUnusable(f"it is not {form.value}", "paste it as the service shows it") from None
    return data


def private_key(value: Secret, form: Form) -> RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey:
    """Return the private key in PEM that *value* is. Raises KeyUnusable for any other than *form* asks for."""
    # Here and not above: most commands, and most services, have no use for it.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(value.reveal(), None)
    except TypeError:
        hint = "openssl pkey -in key.pem writes it without its password"
        raise KeyUnusable("the private key is encrypted with a password", hint) from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(f"it is not {form.value} in PEM", "paste all of it, from -----BEGIN to -----END") from None
    if form is Form.RSA and isinstance(key, RSAPrivateKey):
        if key.key_size < RSA_BITS_MINIMUM:
            raise KeyUnusable(f"the RSA key has fewer than {RSA_BITS_MINIMUM} bits", "make a new one at the service")
        return key
    if form is Form.P256 and isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key
    if form is Form.ED25519 and isinstance(key, Ed25519PrivateKey):
        return key
    raise KeyUnusable(f"the private key is not {form.value}", "`alg` in the policy's `auth` says which kind is wanted")
