"""How a service takes its credential, and which static headers may stand beside it."""

from __future__ import annotations

import re

from outloop.core.auth import AwsSigV4, Basic, Bearer, Cookie, Header, Headers, Query, Scheme
from outloop.core.policy.document import Fields, Listing, Node, Scalar
from outloop.core.policy.problems import Problems, looks_secret, shown
from outloop.core.policy.signing import read_hmac, read_jwt, read_oauth2
from outloop.core.policy.spots import FRAMING, PARAM_NAME, TOKEN, VALUE, header_name, read_prefix, text_at

_OVERRIDES = frozenset("x-http-method x-http-method-override x-method-override x-original-url x-rewrite-url".split())
_CREDENTIAL = re.compile(
    r"auth|token|secret|passw|api-?key|access-?key|cookie|credential|session|signature|^x-key$|^key$|bearer", re.IGNORECASE
)
_STORE = "`outloop key add` stores it in the keychain, and `auth` says where it goes"


def read_auth(node: Node | None, problems: Problems) -> Scheme | None:
    """Build the scheme at *node*; None where it has not the shape of one (then the structural check has said so)."""
    kind = text_at(node, "type")
    if not isinstance(node, Fields) or kind is None:
        return None
    if kind == "bearer":
        return Bearer()
    if kind == "basic":
        return Basic()
    if kind == "header":
        name = header_name(node.get("name"), problems)
        prefix = read_prefix(node, problems)
        return Header(name, prefix) if name else None
    if kind == "headers":
        return _read_headers_scheme(node, problems)
    if kind == "cookie":
        return _named(node.get("name"), TOKEN, "a cookie's name", problems, Cookie)
    if kind == "query":
        return _named(node.get("param"), PARAM_NAME, "a query parameter's name", problems, Query)
    if kind == "aws_sigv4":
        return AwsSigV4(text_at(node, "service") or "", text_at(node, "region") or "")
    readers = {"jwt": read_jwt, "hmac": read_hmac, "oauth2": read_oauth2}
    return readers[kind](node, problems) if kind in readers else None


def read_headers(node: Node | None, auth: Scheme | None, problems: Problems) -> tuple[tuple[str, str], ...]:
    """Read static headers; one that could carry a credential, changes the framing or looks secret is refused."""
    found: list[tuple[str, str]] = []
    names: set[str] = set()
    for key, value in node if isinstance(node, Fields) else ():
        fault, hint = _header_fault(key.text, auth)
        if fault is None and key.text.lower() in names:
            fault, hint = f"the header {shown(key.text)} stands here twice", None
        names.add(key.text.lower())
        if fault is not None:
            problems.add(key, fault, hint)
        elif isinstance(value, Scalar) and looks_secret(value.text):
            problems.add(value, f"the static header `{key.text}` looks like a secret", f"policy files hold none: {_STORE}")
        elif isinstance(value, Scalar) and not VALUE.fullmatch(value.text):
            problems.add(value, f"the static header `{key.text}` is not printable ascii on one line")
        elif isinstance(value, Scalar):
            found.append((key.text, value.text.strip(" ")))
    return tuple(found)


def _header_fault(name: str, auth: Scheme | None) -> tuple[str | None, str | None]:
    lower = name.lower()
    if not TOKEN.fullmatch(name):
        return f"{shown(name)} is not a header name", "letters, digits and `-`"
    if lower in FRAMING:
        return f"the header `{name}` belongs to the connection, not to a policy", None
    if lower in _OVERRIDES:
        return (
            f"the header `{name}` changes what is asked after the rules have seen it",
            "write a rule for the real method and path",
        )
    if _CREDENTIAL.search(lower) or (auth is not None and lower in auth.stripped_headers):
        return f"the header `{name}` carries credentials, and a static header must not", _STORE
    return None, None


def _read_headers_scheme(node: Fields, problems: Problems) -> Scheme | None:
    names_node, public_node = node.get("names"), node.get("public")
    items = names_node.items if isinstance(names_node, Listing) else ()
    names = [name for name in (header_name(item, problems) for item in items) if name]
    listed = public_node.items if isinstance(public_node, Listing) else ()
    for item in listed:
        if isinstance(item, Scalar) and item.text not in names:
            problems.add(item, f"{shown(item.text)} is not among the names", f"names: {', '.join(names)}")
    if len({name.lower() for name in names}) != len(names):
        problems.add(node, "a header's name stands here twice")
    public = frozenset(item.text for item in listed if isinstance(item, Scalar))
    if names and public >= set(names):
        problems.add(node, "a key needs at least one part that is secret")
    return Headers(tuple(names), public) if names else None


def _named(
    node: Node | None, form: re.Pattern[str], what: str, problems: Problems, scheme: type[Cookie] | type[Query]
) -> Scheme | None:
    if not isinstance(node, Scalar) or not node.text:
        return None
    if not form.fullmatch(node.text):
        problems.add(node, f"{shown(node.text)} is not {what}")
        return None
    return scheme(node.text)
