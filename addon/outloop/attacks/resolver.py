"""Answers for the domain name system where an attacker would: names under ``.rebound.example``.

The first label says how: ``8-8-8-8.127-0-0-1`` has both addresses, ``8-8-8-8.then.127-0-0-1`` the first the first time it is
asked for and the second from then on.
"""

from __future__ import annotations

import socket
from typing import Any

ZONE = ".rebound.example"
_ask = socket.getaddrinfo
_asked: set[str] = set()


def _answered(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    if not isinstance(name, str) or not name.endswith(ZONE):
        return _ask(host, port, *arguments, **options)
    first, _, later = name.removesuffix(ZONE).partition(".then.")
    said = later if later and name in _asked else first
    _asked.add(name)
    addresses = [label.replace("-", ".") if label.count("-") == 3 else label.replace("-", ":") for label in said.split(".")]
    return [found for address in addresses for found in _ask(address, port, *arguments, **options)]


def install() -> None:
    """Have this process ask here."""
    socket.getaddrinfo = _answered
