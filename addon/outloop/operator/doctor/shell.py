"""Do programs that this shell starts go through the proxy, and look for certificates where they should?"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import SplitResult, urlsplit

from outloop.operator.call import Listener
from outloop.operator.doctor.finding import Finding, ok, warning
from outloop.operator.doctor.premises import Premises
from outloop.operator.environment import DIVERTING_VARIABLES
from outloop.store.trust import CA_FILE_VARIABLES, CA_FOLDER_VARIABLE

_NAME = "shell"
_HTTPS = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
# Each is read by some program and by no other: curl reads no HTTP_PROXY, others no lower case.
_PAIRS = (("HTTPS_PROXY", "https_proxy"), ("HTTP_PROXY", "http_proxy"))


def check(premises: Premises) -> Iterator[Finding]:
    """A proof of the operator's needs none of this: what is wrong here stops the agents that this shell starts."""
    environ, mend = premises.environ, f'eval "$(outloop env -w {premises.someone})"'
    proxy = proxy_of(environ)
    if proxy is None:
        yield warning(_NAME, "no proxy variable is set: programs that this shell starts go past the proxy", mend)
        return
    if not leads_to(proxy, premises.listeners):
        shown = f"{proxy.hostname or '?'}:{_port(proxy) or '?'}"  # never the token that may stand before it
        yield warning(_NAME, f"the proxy variables name {shown}, where no proxy of this home is known to listen", mend)
        return
    found = [*_variables(environ, mend), *_certificates(environ, mend)]
    yield from found or [ok(_NAME, "programs that this shell starts go through the proxy")]


def proxy_of(environ: Mapping[str, str]) -> SplitResult | None:
    """Return the proxy that *environ* names for https; None where it names none, or nothing that is a URL."""
    named = next((environ[name] for name in _HTTPS if environ.get(name)), "")
    try:
        return urlsplit(named if "://" in named else f"http://{named}") if named else None
    except ValueError:
        return None


def leads_to(proxy: SplitResult, listeners: Iterable[Listener]) -> bool:
    """Tell whether *proxy* is where one of *listeners* is."""
    named = proxy.hostname or ""
    return any(_port(proxy) == listener.port and _same_host(named, listener.host) for listener in listeners)


def _same_host(named: str, host: str) -> bool:
    return named == host or (_is_loopback(named) and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _port(proxy: SplitResult) -> int | None:
    try:
        return proxy.port
    except ValueError:
        return None


def _variables(environ: Mapping[str, str], mend: str) -> Iterator[Finding]:
    for upper, lower in _PAIRS:
        missing = [name for name in (upper, lower) if not environ.get(name)]
        if missing:
            yield warning(_NAME, f"{' and '.join(missing)} not set: some programs read no other name", mend)
        elif environ[upper] != environ[lower]:
            yield warning(_NAME, f"{upper} and {lower} differ: which of them counts depends on the program", mend)
    diverting = [name for name in DIVERTING_VARIABLES if environ.get(name)]
    if diverting:
        yield warning(_NAME, f"{', '.join(diverting)} sends some programs another way", f"unset {' '.join(diverting)}")


def _certificates(environ: Mapping[str, str], mend: str) -> Iterator[Finding]:
    unset = [name for name in CA_FILE_VARIABLES if not environ.get(name)]
    if unset:
        yield warning(_NAME, f"not set, so that some programs will not trust the proxy: {', '.join(unset)}", mend)
    if environ.get(CA_FOLDER_VARIABLE):
        text = f"{CA_FOLDER_VARIABLE} is set: Go and some others read that folder instead of the bundle"
        yield warning(_NAME, text, f"unset {CA_FOLDER_VARIABLE}")
