"""Whether all the names a request carries agree on the one host that is dialled.

The dialled host is the truth: it is where bytes go. Host, ``:authority`` and SNI are the agent's words about it; a credential
follows only when each of them says the same (RFC 9110 §7.2, RFC 9113 §8.3.1, RFC 6066 §3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outloop.core.errors import MalformedRequest
from outloop.core.hosts import canonical_host, is_ip, split_authority
from outloop.core.model import HTTPS_PORT


@dataclass(frozen=True, slots=True)
class Names:
    """What the agent said about the host: every Host header, the ``:authority`` or absolute-form authority, and the SNI.

    `sni` is None where the connection from the agent carries no TLS, and "" where its ClientHello named no host.
    """

    host_headers: Sequence[str]
    authority: str = ""
    sni: str | None = None


def disagreement(names: Names, host: str, port: int, scheme: str) -> str | None:
    """Return which name differs from the dialled *host* and *port*, or None when all agree.

    A name without a port means 443 in https, and otherwise the port that is dialled: what is not https is refused for that.
    Raises MalformedRequest when there is no Host at all, more than one, or one that is not a host.
    """
    if len(names.host_headers) > 1:
        raise MalformedRequest("the request has more than one Host header")
    said = [("Host", text) for text in names.host_headers]
    if names.authority:
        said.append((":authority", names.authority))
    if not said:
        raise MalformedRequest("the request names no host")
    default_port = HTTPS_PORT if scheme == "https" else port
    for label, text in said:
        if split_authority(text, default_port) != (host, port):
            return label
    if names.sni is not None and not _sni_agrees(names.sni, host):
        return "SNI"
    return None


def _sni_agrees(sni: str, host: str) -> bool:
    # RFC 6066 §3: an IP literal is not permitted in SNI, so a client that dials one sends none.
    if is_ip(host):
        return sni in ("", host)
    try:
        return canonical_host(sni) == host
    except MalformedRequest:
        return False
