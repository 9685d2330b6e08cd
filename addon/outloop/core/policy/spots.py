"""Where in a request a credential may stand: names of headers, query parameters and cookies."""

from __future__ import annotations

import re

from outloop.core.auth.hmac import Spot
from outloop.core.policy.document import Fields, Node, Scalar
from outloop.core.policy.problems import Problems, shown

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")  # RFC 9110 §5.6.2
VALUE = re.compile(r"[\x20-\x7e]*")
PARAM_NAME = re.compile(r"[\x21-\x7e]+")
FRAMING = frozenset(
    "host connection content-length transfer-encoding te trailer upgrade expect keep-alive proxy-connection content-encoding "
    "proxy-authenticate proxy-authorization proxy-authentication-info range if-range via forwarded".split()
)


def header_name(node: Node | None, problems: Problems) -> str | None:
    """Return the name of a header that may carry a key; None, with a problem noted, for any other."""
    if not isinstance(node, Scalar) or not node.text:
        return None
    if not TOKEN.fullmatch(node.text):
        problems.add(node, f"{shown(node.text)} is not a header name", "letters, digits and `-`, such as X-Api-Key")
    elif node.text.lower() in FRAMING - {"proxy-authorization"} or node.text.lower() == "cookie":
        problems.add(node, f"the header `{node.text}` cannot carry a key", "`auth: {type: cookie, name: …}` sets a cookie")
    elif node.text.lower() == "proxy-authorization":
        problems.add(node, "the header `Proxy-Authorization` never leaves the proxy")
    else:
        return node.text
    return None


def read_prefix(node: Fields, problems: Problems, default: str = "") -> str:
    """Return what stands before a value in its header."""
    prefix = node.get("prefix")
    if not isinstance(prefix, Scalar):
        return default
    if not VALUE.fullmatch(prefix.text):
        problems.add(prefix, "a header's prefix is printable ascii")
    return prefix.text


def read_bearer(node: Fields, problems: Problems) -> tuple[str, str]:
    """Return the header that a token goes into, and what stands before it there."""
    named = header_name(node.get("header"), problems) or "Authorization"
    return named, read_prefix(node, problems, "Bearer " if named.lower() == "authorization" else "")


def read_spot(node: Node | None, problems: Problems) -> Spot | None:
    """Return the place at *node*; None where there is none, or a problem was noted."""
    if not isinstance(node, Fields):
        return None
    header, query = node.get("header"), node.get("query")
    if (header is None) == (query is None):
        problems.add(node, "expected one of `header` and `query`", "such as `{header: X-Signature}` or `{query: signature}`")
        return None
    if header is not None:
        name = header_name(header, problems)
        return Spot(name, prefix=read_prefix(node, problems)) if name else None
    if node.key("prefix") is not None:
        problems.add(node.key("prefix") or node, "a query parameter has no prefix")
    if not isinstance(query, Scalar) or not query.text:
        return None
    if not PARAM_NAME.fullmatch(query.text):
        problems.add(query, f"{shown(query.text)} is not a query parameter's name")
        return None
    return Spot(query.text, in_query=True)


def text_at(node: Node | None, name: str) -> str | None:
    """Return the text of the field *name*, None where there is none."""
    value = node.get(name) if isinstance(node, Fields) else None
    return value.text if isinstance(value, Scalar) else None
