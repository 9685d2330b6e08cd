"""Host names and addresses in the one spelling that is compared, dialled and sent.

A host that could be read in two ways is refused, never repaired: what a lenient parser makes of ``0x7f.1`` or of a full-width
dot is exactly what an attacker would like two programs to disagree on.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

from outloop.core.errors import MalformedRequest

MAX_HOST_LENGTH = 253  # RFC 1035 §2.3.4: 255 octets on the wire are 253 characters without the root dot
MAX_PORT = 65535

# RFC 1123 §2.1: letters, digits and hyphens, at most 63, no hyphen at either end. A-labels (RFC 5890) are such labels.
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# WHATWG URL, "ends in a number": a host whose last label looks so is an IPv4 address to somebody.
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")

# IANA IPv4 Special-Purpose Address Registry, without the few entries that are reachable from everywhere.
_NOT_PUBLIC_V4 = tuple(
    IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's host service: a public number that answers only from inside
    )
)
# RFC 4291 §2.4: all global unicast addresses handed out so far lie in 2000::/3 …
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
# … of which IANA keeps these for protocols and documentation (Teredo, which hides an IPv4 address, is in the first).
_NOT_PUBLIC_V6 = tuple(IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "3fff::/20"))
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052


def canonical_host(raw: str) -> str:
    """Return *raw*, a host without port or brackets, in its one spelling.

    Names are lower-cased and lose one trailing dot; A-labels pass as they are. IP addresses pass only in canonical notation
    (dotted quad; RFC 5952 for IPv6). Raises MalformedRequest for everything else.
    """
    if ":" in raw:
        return _canonical_v6(raw)
    host = raw.removesuffix(".").lower() if raw.isascii() else ""
    if not host or len(host) > MAX_HOST_LENGTH:
        raise MalformedRequest("the host is empty, too long or not in ascii", "send an international name in its xn-- form")
    labels = host.split(".")
    if not all(map(_LABEL.fullmatch, labels)):
        raise MalformedRequest("the host is not a valid name", "use letters, digits, hyphens and dots only")
    if _NUMERIC_LABEL.fullmatch(labels[-1]) and (raw != host or not _is_dotted_quad(labels)):
        raise MalformedRequest("the host is an ip address in an unusual notation", "write four decimal numbers")
    return host


def split_authority(raw: str, default_port: int) -> tuple[str, int]:
    """Split ``host``, ``host:port``, ``[v6]`` or ``[v6]:port`` into the canonical host and the port.

    Raises MalformedRequest, also for user-info, an empty port and a port with leading zeros (RFC 3986 §3.2 permits them; no
    client needs them).
    """
    if raw.startswith("["):
        inside, bracket, rest = raw[1:].partition("]")
        if not bracket or ":" not in inside or (rest and not rest.startswith(":")):
            raise MalformedRequest("the authority has unbalanced or misplaced brackets")
        host, colon, port = inside, rest[:1], rest[1:]
    else:
        host, colon, port = raw.partition(":")
    if not colon:
        return canonical_host(host), default_port
    if not _PORT.fullmatch(port) or int(port) > MAX_PORT:
        raise MalformedRequest("the port is not a number from 1 to 65535")
    return canonical_host(host), int(port)


def is_ip(host: str) -> bool:
    """Tell whether *host*, in canonical form, is an IP address and not a name."""
    return ":" in host or _is_dotted_quad(host.split("."))


def is_public_address(ip: str) -> bool:
    """Tell whether *ip* is an address that the open internet routes: not private, local, shared, reserved or metadata.

    An IPv6 address that carries an IPv4 one (mapped, 6to4, NAT64) is as public as that one. What is no address is not public.
    """
    try:
        address = IPv6Address(ip) if ":" in ip else IPv4Address(ip)
    except AddressValueError:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    carried = address.ipv4_mapped or address.sixtofour
    if carried is None and address in _NAT64:
        carried = IPv4Address(int(address) & 0xFFFFFFFF)
    if carried is not None:
        return is_public_address(str(carried))
    return address in _GLOBAL_UNICAST_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


def _is_dotted_quad(labels: list[str]) -> bool:
    return len(labels) == 4 and all(
        label.isascii() and label.isdigit() and str(int(label[:4])) == label and int(label) <= 255 for label in labels
    )


def _canonical_v6(raw: str) -> str:
    try:
        address = IPv6Address(raw)
    except AddressValueError:
        raise MalformedRequest("the host is not a valid name or ip address") from None
    # A mapped address is a second spelling of an IPv4 one, and Python versions disagree on how to print it.
    if address.ipv4_mapped is not None or address.scope_id is not None or str(address) != raw:
        raise MalformedRequest("the host is an ip address in an unusual notation", "write it as rfc 5952 says")
    return raw
