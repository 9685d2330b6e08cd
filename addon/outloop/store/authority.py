"""The certificate authority of one home, which signs for the hosts that the proxy opens.

The folder has the layout that mitmproxy reads as its ``confdir``: ``mitmproxy-ca.pem`` (key and certificate, mode 0600) and
``mitmproxy-ca-cert.pem``.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outloop.core.errors import UsageError
from outloop.store.files import create_file, replace_file
from outloop.store.home import Home

LIFETIME = timedelta(days=730)
RENEWAL = timedelta(days=90)  # before the end
BACKDATED = timedelta(days=2)  # mitmproxy backdates its leaves as much, for agents whose clock is behind


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: its PEM file, its SHA-256 fingerprint (``AB:CD:…``) and the moment it expires."""

    certificate: Path
    fingerprint: str
    not_after: datetime


def ensure_authority(home: Home, now: datetime) -> Authority:
    """Return the home's certificate authority, made where there is none and renewed in the last 90 of its 730 days.

    *now* is aware. A renewal keeps key and name, so that what a running proxy has signed stays valid. Safe against another
    process doing the same. Raises UsageError when the files are broken, or readable by others.
    """
    folder = home.ca
    folder.mkdir(mode=0o700, exist_ok=True)
    _refuse_if_shared(folder)
    pair = folder / "mitmproxy-ca.pem"
    if not pair.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        create_file(pair, _pem_of_key(key) + _pem_of(_self_signed(key, now)), 0o600)
    _refuse_if_shared(pair)
    key, certificate = _read_pair(pair)
    if certificate.not_valid_after_utc - now < RENEWAL:
        certificate = _self_signed(key, now)
        replace_file(pair, _pem_of_key(key) + _pem_of(certificate), 0o600)
    public = folder / "mitmproxy-ca-cert.pem"
    replace_file(public, _pem_of(certificate), 0o644)
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    return Authority(public, fingerprint, certificate.not_valid_after_utc)


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """RFC 5280 §4.2.1: what strict verifiers (Python 3.13's VERIFY_X509_STRICT) ask of an authority.

    The subject key identifier must be the SHA-1 one: mitmproxy 11 computes its leaves' authority key identifier that way.
    """
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"Outloop local CA {identifier.digest.hex()[:8]}"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Outloop"),
        ]
    )
    signs_certificates_only = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now - BACKDATED + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signs_certificates_only, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


def _read_pair(path: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    broken = UsageError(
        f"the certificate authority in {path} is broken",
        "move that file away and run `outloop init`: agents then need the new bundle",
    )
    try:
        text = path.read_bytes()
        key = serialization.load_pem_private_key(text, None)
        certificate = x509.load_pem_x509_certificate(text)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise broken from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        raise broken
    return key, certificate


def _refuse_if_shared(path: Path) -> None:
    status = path.lstat()
    if hasattr(os, "getuid") and (stat.S_ISLNK(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077):
        raise UsageError(
            f"{path} is open to other users, or not yours",
            f"others may hold the key that agents trust: remove {path} and run `outloop init` for a new one",
        )


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
