"""Where a service is: its hosts, its base, and what fills the ``{param}`` in them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from outloop.core.errors import MalformedRequest
from outloop.core.hosts import split_authority
from outloop.core.model import HTTPS_PORT, INTERNAL_HOST, HostClaim
from outloop.core.paths import canonical_path
from outloop.core.policy.document import Listing, Node, Scalar
from outloop.core.policy.problems import Problems, looks_secret, shown

_PARAM = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TOKEN_URL = re.compile(r"https://([^/?#@\\]+)(?:/[!-\"$-~]*)?")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)(/[^?#]*)?")


def params_of(text: str) -> tuple[str, ...]:
    """Return the names of the ``{param}`` in *text*, in order."""
    return tuple(_PARAM.findall(text))


def filled(text: str, params: Mapping[str, str]) -> str:
    """Return *text* with every ``{param}`` that *params* knows replaced; the others stay."""
    return _PARAM.sub(lambda found: params.get(found[1], found[0]), text)


def read_hosts(node: Node | None, problems: Problems) -> tuple[HostClaim, ...]:
    """Read a list of ``host`` or ``host:port``; faulty ones are noted and left out."""
    claims: dict[HostClaim, None] = {}
    for item in node.items if isinstance(node, Listing) else ():
        if isinstance(item, Scalar) and item.text:
            claim = read_host(item, item.text, problems)
            if claim in claims:
                problems.add(item, f"the host {shown(item.text)} stands here twice")
            elif claim is not None:
                claims[claim] = None
    return tuple(claims)


def read_host(node: Scalar, text: str, problems: Problems) -> HostClaim | None:
    """Read *text*, a host or host:port that stands at *node* (or was filled there); None, with a problem noted, if it is none."""
    url = _URL.fullmatch(text)
    if url:
        base = f" and `base: {url[2].rstrip('/')}`" if url[2] and url[2] != "/" else ""
        problems.add(
            node, f"{shown(text)} is a url, not a host", f"did you mean `{url[1].rpartition('@')[2] or 'api.example.com'}`{base}?"
        )
    elif "*" in text:
        problems.add(node, "a credential is never sent on a wildcard host", "name each host")
    elif "/" in text:
        host, _, rest = text.partition("/")
        hint = f"did you mean `{host}` and `base: /{rest.rstrip('/')}`?" if host else None
        problems.add(node, f"{shown(text)} has a path, a host has none", hint)
    else:
        return _read_plain_host(node, text, problems)
    return None


def _read_plain_host(node: Scalar, text: str, problems: Problems) -> HostClaim | None:
    try:
        host, port = split_authority(text, HTTPS_PORT)
    except MalformedRequest as error:
        problems.add(node, f"{shown(text)} is not a host: {error.message}", _ascii_form(text) or error.hint)
        return None
    if host == INTERNAL_HOST:
        problems.add(node, f"`{INTERNAL_HOST}` is Outloop's own")
        return None
    return HostClaim(host, port)


def read_token_url(node: Scalar, text: str, problems: Problems) -> None:
    """Note what is wrong with *text*, a token endpoint's URL that stands at *node* (or was filled there)."""
    form = "such as `https://login.example.com/oauth/token`"
    url = _TOKEN_URL.fullmatch(text)
    if url is None:
        reason = "is not over https" if text.lower().startswith("http:") else "is not the url of a token endpoint"
        problems.add(node, f"{shown(text)} {reason}", form)
        return
    try:
        host, _ = split_authority(url[1], HTTPS_PORT)
    except MalformedRequest as error:
        problems.add(node, f"{shown(url[1])} is not a host: {error.message}", form)
        return
    if host == INTERNAL_HOST:
        problems.add(node, f"`{INTERNAL_HOST}` is Outloop's own")
    if looks_secret(text):
        problems.add(node, "the token endpoint's url looks like it holds a secret", "`outloop key add` stores the key's parts")


def _ascii_form(text: str) -> str | None:
    try:
        return None if text.isascii() else f"did you mean `{text.encode('idna').decode()}`?"
    except UnicodeError:
        return None


def read_base(node: Node | None, text: str, problems: Problems) -> str:
    """Read *text*, a base that stands at *node*: a canonical path without trailing slash; "" for the whole host."""
    if not isinstance(node, Scalar) or text in ("", "/"):
        return ""
    url = _URL.fullmatch(text)
    if url or not text.startswith("/"):
        problems.add(
            node, f"the base {shown(text)} is not a path", f"did you mean `{((url[2] if url else '/' + text) or '/')[:60]}`?"
        )
        return ""
    if any(mark in text for mark in "*{}?"):
        problems.add(node, "a base has no wildcards, names or query", "it is the fixed beginning of every path")
        return ""
    try:
        return canonical_path(text).text.rstrip("/")
    except MalformedRequest as error:
        problems.add(node, f"the base {shown(text)} can never match: {error.message}", error.hint)
        return ""
