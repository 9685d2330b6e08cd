"""Is there a certificate authority, and for how much longer?"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from outloop.operator.doctor.finding import Finding, failure, ok, warning
from outloop.operator.doctor.premises import Premises
from outloop.store.authority import RENEWAL

_NAME = "authority"


def check(premises: Premises) -> Iterator[Finding]:
    """Look at the certificate that agents trust. Nothing is made or renewed: that is for `outloop init` and the proxy."""
    path = premises.home.ca / "mitmproxy-ca-cert.pem"
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        yield failure(_NAME, "this home has no certificate authority", "outloop init")
        return
    except (OSError, ValueError):
        yield failure(_NAME, f"{path} cannot be read", "outloop init writes it again")
        return
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if premises.now < begins:
        yield failure(
            _NAME, f"the certificate authority is valid from {begins:%Y-%m-%d}, which is still to come", "set the clock"
        )
    elif premises.now >= ends:
        yield failure(
            _NAME, f"the certificate authority expired on {ends:%Y-%m-%d}", "outloop init, then restart proxy and agents"
        )
    elif ends - premises.now < RENEWAL:
        yield warning(
            _NAME, f"the certificate authority expires on {ends:%Y-%m-%d}", "outloop init renews it; then restart the proxy"
        )
    else:
        yield ok(_NAME, f"the certificate authority is valid until {ends:%Y-%m-%d}")
