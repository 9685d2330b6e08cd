"""What of an agent's request may go on: credentials, hop-by-hop fields and fields that rewrite the target stay behind.

Pure functions over raw header fields and the raw query; `edits_applied` is the one place where a credential joins a request.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from outloop.core.auth import Edits, Fields, Scheme, fields_with, query_with
from outloop.core.errors import MalformedRequest
from outloop.core.paths import parse_query

# Places where some service or other honours a credential: none of them is the agent's to fill.
CREDENTIAL_HEADERS = frozenset(
    b"authorization proxy-authorization x-authorization x-forwarded-authorization x-original-authorization authentication "
    b"cookie cookie2 api-key apikey x-api-key x-apikey x-api-token x-auth-key x-auth-token x-access-token x-session-token "
    b"x-token x-csrf-token private-token job-token dd-api-key dd-application-key x-amz-security-token x-goog-api-key "
    b"x-goog-iam-authorization-token x-vault-token x-shopify-access-token x-figma-token".split()
)
# RFC 9110 §7.6.1 and RFC 9113 §8.2.2: they speak of one connection, not of the request.
HOP_HEADERS = frozenset(
    b"connection keep-alive proxy-connection te trailer upgrade http2-settings expect transfer-encoding".split()
)
# Fields by which a server behind a proxy takes another host or path than the one that was matched.
TARGET_HEADERS = frozenset(
    b"forwarded x-forwarded-host x-forwarded-server x-forwarded-port x-forwarded-proto x-forwarded-scheme x-forwarded-prefix "
    b"x-host x-original-host x-original-url x-rewrite-url x-http-host-override x-http-destinationurl x-proxy-url "
    b"proxy".split()  # CGI makes HTTP_PROXY of it (httpoxy, CVE-2016-5385)
)
# A part of a body cannot be scrubbed with certainty, and a coding nobody here decodes cannot be scrubbed at all.
RESPONSE_SHAPE_HEADERS = frozenset(b"range if-range accept-encoding".split())
OVERRIDE_HEADERS = frozenset(b"x-http-method-override x-http-method x-method-override x-method".split())
OVERRIDE_PARAM = "_method"
WEBSOCKET_HEADERS = frozenset(b"sec-websocket-extensions".split())

_DROPPED = HOP_HEADERS | TARGET_HEADERS | RESPONSE_SHAPE_HEADERS | frozenset({b"host", b"content-length"})


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The agent's request without what may not go on. `stripped` counts the credentials left behind.

    `left_behind` is all that does not go on: header fields, cookies each alone, and query parameters by name and value.
    """

    fields: Fields
    query: str
    query_pairs: tuple[tuple[str, str], ...]
    stripped: int
    left_behind: Fields = ()


def refuse_override(fields: Iterable[tuple[bytes, bytes]], query_pairs: Iterable[tuple[str, str]]) -> None:
    """Raise MalformedRequest when the request asks to be read as another method than the one that policy sees."""
    if any(name.lower().replace(b"_", b"-") in OVERRIDE_HEADERS for name, _ in fields):
        raise MalformedRequest("a method-override header hides the real method")
    if any(OVERRIDE_PARAM in _names_in(pair) for pair in query_pairs):
        raise MalformedRequest("a method-override parameter hides the real method")


def _names_in(pair: tuple[str, str]) -> frozenset[str]:
    """Return the names, in lower case, that a server finds in *pair* which also splits on ``;``, as Rack did until version 3."""
    return frozenset(piece.partition("=")[0].strip().lower() for piece in f"{pair[0]}={pair[1]}".split(";"))


def may_override(method: str, content_type: str) -> bool:
    """Tell whether a body may ask to be read as another method: Rack, Symfony and others look for ``_method`` in a posted form.

    A body without a type is a form to Rack.
    """
    return method == "POST" and (not content_type.strip() or "x-www-form-urlencoded" in content_type.lower())


def refuse_form_override(body: bytes) -> None:
    """Raise MalformedRequest when *body*, read as leniently as any server might, is a form that asks for another method."""
    names = (piece.partition(b"=")[0].replace(b"+", b" ") for piece in body.replace(b";", b"&").split(b"&"))
    if any(unquote_to_bytes(name).strip().lower() == OVERRIDE_PARAM.encode() for name in names):
        raise MalformedRequest("a method-override field hides the real method")


def stripped(fields: Iterable[tuple[bytes, bytes]], query: str, scheme: Scheme, *, is_websocket: bool = False) -> Outgoing:
    """Return what may go on of *fields* and the raw *query* to a service that authenticates by *scheme*.

    Raises MalformedRequest for a query that has no single reading, and for a method override.
    """
    pairs = parse_query(query)
    fields = tuple(fields)
    refuse_override(fields, pairs)
    credential_headers = CREDENTIAL_HEADERS | {name.encode() for name in scheme.stripped_headers}
    kept: list[tuple[bytes, bytes]] = []
    left: list[tuple[bytes, bytes]] = []
    count = 0
    for name, value in fields:
        # A server may read X_Api_Key as X-Api-Key (CGI, RFC 3875 §4.1.18).
        known = name.lower().replace(b"_", b"-")
        if known in credential_headers:
            count += 1
            left += [(name, cookie.strip()) for cookie in value.split(b";")] if known == b"cookie" else [(name, value)]
        elif known in _DROPPED or (is_websocket and known in WEBSOCKET_HEADERS):
            left.append((name, value))
        else:
            kept.append((name, value))
    kept.append((b"Accept-Encoding", b"identity"))
    if not scheme.stripped_query:
        return Outgoing(tuple(kept), query, pairs, count, tuple(left))
    pieces = [
        (piece, pair)
        for piece, pair in zip((piece for piece in query.split("&") if piece), pairs, strict=True)
        if not _names_in(pair) & scheme.stripped_query
    ]
    count += len(pairs) - len(pieces)
    left += [(name.encode(), value.encode()) for name, value in pairs if _names_in((name, value)) & scheme.stripped_query]
    sent = "&".join(piece for piece, _ in pieces)
    return Outgoing(tuple(kept), sent, tuple(pair for _, pair in pieces), count, tuple(left))


def misplaced(left_behind: Fields, edits: Edits) -> Fields:
    """Return what of *left_behind* does not stand where *edits* put the very same: that is in place, and replaced by itself."""
    places = {(name.lower().encode(), value.reveal()) for name, value in (*edits.headers, *edits.query)}
    places |= {(b"cookie", name.encode() + b"=" + value.reveal()) for name, value in edits.cookies}
    return tuple((name, value) for name, value in left_behind if (name.lower(), value) not in places)


def edits_applied(fields: Fields, query: str, edits: Edits, static: Iterable[tuple[str, str]]) -> tuple[Fields, str]:
    """Return header fields and raw query with the service's *static* headers and the credential in place."""
    added = [(name, value.encode()) for name, value in static] + [(name, value.reveal()) for name, value in edits.headers]
    result = fields_with(fields, added)
    if edits.cookies:
        cookies = b"; ".join(name.encode() + b"=" + value.reveal() for name, value in edits.cookies)
        result = (*result, (b"Cookie", cookies))
    return result, query_with(query, ((name, value.reveal()) for name, value in edits.query))
