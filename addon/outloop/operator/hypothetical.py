"""A request that nobody sent: what `policy explain` and `policy test` ask about."""

from __future__ import annotations

import json
import re

from outloop.core.errors import UsageError
from outloop.core.hosts import split_authority
from outloop.core.model import Request
from outloop.core.paths import canonical_path, parse_query, split_target

_URL = re.compile(r"(https?)://([^/?#]*)(.*)", re.DOTALL)
_PORTS = {"http": 80, "https": 443}
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110 §5.6.2


def hypothetical_request(method: str, url: str, body: object = None, *, has_body: bool = False) -> Request:
    """Return the request *method* *url* as the proxy would read it; with *has_body*, *body* is sent as JSON.

    Raises UsageError where *url* is no http or https URL, and MalformedRequest where the proxy would answer so.
    """
    found = _URL.fullmatch(url)
    if not found or not found[2]:
        raise UsageError(f"{url!r} is not a url", "give the whole of it, such as https://api.example.com/users/me")
    if not _METHOD.fullmatch(method):
        raise UsageError(f"{method!r} is not a method", "such as GET")
    scheme, authority, rest = found.groups()
    host, port = split_authority(authority, _PORTS[scheme])
    path, query = split_target(rest if rest.startswith("/") else f"/{rest}")
    return Request(
        method=method,
        scheme=scheme,
        host=host,
        port=port,
        path=canonical_path(path, keep_encoded_slash=True),  # the decision refuses it where the service does
        query=parse_query(query),
        content_type="application/json" if has_body else "",
        body=json.dumps(body).encode() if has_body else b"",
    )
