"""Does NO_PROXY take calls to a bridged host around the proxy, where they have no credential and leave no row?"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from outloop.core.model import INTERNAL_HOST
from outloop.operator.doctor.finding import Finding, failure, ok, skipped
from outloop.operator.doctor.premises import Premises
from outloop.operator.doctor.shell import proxy_of

_NAME = "bypass"
_VARIABLES = ("no_proxy", "NO_PROXY")


def check(premises: Premises) -> Iterator[Finding]:
    """Hold every entry against every bridged host, in the widest way in which any program reads it."""
    if proxy_of(premises.environ) is None:
        yield skipped(_NAME, "this shell names no proxy to go around")
        return
    hosts = {host for workspace in premises.policies.workspaces for host in workspace.claims} | {INTERNAL_HOST}
    found = False
    for name in _VARIABLES:
        for entry in filter(None, (entry.strip() for entry in premises.environ.get(name, "").split(","))):
            around = sorted(host for host in hosts if goes_around(entry, host))
            if around:
                found = True
                text = f"{name} holds {entry[:60]!r}: calls to {', '.join(around)} go past the proxy, without a key"
                yield failure(_NAME, text, f'eval "$(outloop env -w {premises.someone})"')
    if not found:
        yield ok(_NAME, "NO_PROXY takes no bridged host around the proxy")


def goes_around(entry: str, host: str) -> bool:
    """Tell whether some program takes *entry* of NO_PROXY to cover *host* (canonical).

    curl and Go take a name for itself and all below it, with or without a leading dot; others know ``*.``, ports and, for
    addresses, CIDR ranges. There is no standard: an entry counts as soon as one of them would follow it.
    """
    if entry == "*":
        return True
    entry = entry.lower()
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        name = entry.rpartition(":")[0] if entry.rpartition(":")[2].isdigit() else entry
        name = name.removeprefix("*").removeprefix(".").removesuffix(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False
