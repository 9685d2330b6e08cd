"""Certificates for upstreams, from an authority made for the occasion."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HTTP1 = ("http/1.1",)
HTTP2 = ("h2", "http/1.1")

_BEGIN, _END = datetime(2015, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_EXPIRED = datetime(2020, 1, 1, tzinfo=UTC)


class Authority:
    """A certificate authority of its own: two of them do not trust each other."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        self._name = _named(f"authority {x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()[:8]}")
        builder = _builder(self._name, self._name, public).add_extension(x509.BasicConstraints(True, None), critical=True)
        signs = dict.fromkeys(("key_cert_sign", "crl_sign"), True)
        self._certificate = builder.add_extension(_usage(**signs), critical=True).sign(self._key, SHA256())

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return self._certificate.public_bytes(Encoding.PEM)

    def write_bundle(self, folder: Path, name: str = "upstream-ca.pem") -> Path:
        """Write the authority's certificate for `OUTLOOP_UPSTREAM_CA` and return its path."""
        path = folder / name
        path.write_bytes(self.pem)
        return path

    def issue(self, *names: str, not_after: datetime = _END, common_name: str | None = None) -> bytes:
        """Return the PEM of a server's key, and of its certificate for *names* (host names or addresses)."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        builder = _builder(self._name, _named(common_name), public, not_after)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(_usage(digital_signature=True), critical=True)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(authority, critical=False)
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        certificate = builder.add_extension(alternatives, critical=False).sign(self._key, SHA256())
        return _pem_of(key) + certificate.public_bytes(Encoding.PEM)

    def server_context(
        self, *names: str, protocols: Sequence[str] = HTTP1, expired: bool = False, common_name: str | None = None
    ) -> ssl.SSLContext:
        """Return a server's TLS context with one certificate for *names* (host names or addresses).

        *protocols* are offered by ALPN (RFC 7301).
        """
        context = _serving(self.issue(*names, not_after=_EXPIRED if expired else _END, common_name=common_name))
        context.set_alpn_protocols(list(protocols))
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a client's TLS context that trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.pem.decode())
        return context


def self_signed(name: str) -> ssl.SSLContext:
    """Return a server's TLS context whose certificate for *name* vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_named(name), _named(name), key.public_key())
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name)])
    certificate = builder.add_extension(alternatives, critical=False).sign(key, SHA256())
    return _serving(_pem_of(key) + certificate.public_bytes(Encoding.PEM))


def _builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey, not_after: datetime = _END
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), _BEGIN, not_after)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _named(common_name: str | None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Outloop, for the occasion")]
    return x509.Name([*attributes, *([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(**uses: bool) -> x509.KeyUsage:
    names = "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign"
    return x509.KeyUsage(**dict.fromkeys([*names.split(), "encipher_only", "decipher_only"], False) | uses)


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _serving(chain: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:  # OpenSSL reads a key from nowhere else; mode 0600
        file.write(chain)
        file.flush()
        context.load_cert_chain(file.name)
    return context
