"""Certificates for upstreams, from an authority made for the occasion."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HTTP1 = ("http/1.1",)
HTTP2 = ("h2", "http/1.1")


class Authority:
    """A certificate authority of its own: two of them do not trust each other."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    def write_bundle(self, folder: Path, name: str = "upstream-ca.pem") -> Path:
        """Write the authority's certificate for `OUTLOOP_UPSTREAM_CA` and return its path."""
        path = folder / name
        self._ca.cert_pem.write_to_path(path)
        return path

    def server_context(
        self, *names: str, protocols: Sequence[str] = HTTP1, expired: bool = False, common_name: str | None = None
    ) -> ssl.SSLContext:
        """Return a server's TLS context with one certificate for *names* (host names or addresses).

        *protocols* are offered by ALPN (RFC 7301).
        """
        certificate = self._ca.issue_cert(
            *names, common_name=common_name, not_after=datetime(2020, 1, 1, tzinfo=UTC) if expired else None
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        context.set_alpn_protocols(list(protocols))
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a client's TLS context that trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        return context


def self_signed(name: str) -> ssl.SSLContext:
    """Return a server's TLS context whose certificate for *name* vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
    certificate = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(key, SHA256())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.NamedTemporaryFile(suffix=".pem") as chain:
        chain.write(plain + certificate.public_bytes(Encoding.PEM))
        chain.flush()
        context.load_cert_chain(chain.name)
    return context
