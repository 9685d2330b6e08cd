"""What agents ask for, well formed or crooked, and how it is to be answered: as it is drawn, and as it goes onto the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from stateful.policy import BODIES, PATHS, RULES, WORDS, Asked
from stateful.tenant import OWN, SHARED
from stateful.upstream import CODINGS, FORMS, PLACES, Plan

_MALFORMED_PATHS = (
    *("/items/../items/1", "/items/%2e%2E/1", "/items/.", "//items/1", "/items%2f1", "/items%5C1", "/items/1;x=1", "/items/1%00"),
    *("/items/%2531", "/items\\1", "/items/1#n", "/items/%zz", "items/1", "*", "/items/\xe9"),
)
EVERYTHING = [
    Asked(method, path, query, body)
    for method in WORDS
    for path in PATHS
    for query in (({}, {"q": "open sesame"}) if method in ("GET", "HEAD") else ({},))
    for body in (BODIES if method in ("POST", "PUT", "PATCH") else (None,))
]
BROKEN = (None, None, None, "", "workspace: [", "services:\n  own: {hosts: [evil.example], rules: all}\n")

tenants = st.integers(0, 2)
numbers = st.integers(0, 1 << 16)
services = st.sampled_from((OWN, SHARED))
rule_sets = st.lists(st.sampled_from(RULES), max_size=5, unique=True).map(tuple)
statuses = st.sampled_from((200, 200, 200, 201, 302, 401, 403, 404, 429, 500))


@dataclass(frozen=True)
class Wish:
    """What one request is to be like, less who sends it and where.

    With `is_sound` it is made one that the rules let through, if there is any.
    """

    is_sound: bool
    method: str
    path: str
    query: dict[str, str]
    body: bytes | None
    is_chunked: bool
    keep: bool
    plan: Plan

    @property
    def asked(self) -> Asked:
        """What policy will look at."""
        return Asked(self.method, self.path, self.query, self.body)


def _by_path(path: str) -> Callable[[Wish], Wish]:
    return lambda wish: replace(wish, path=path)


def _by_method(method: str) -> Callable[[Wish], Wish]:
    return lambda wish: replace(wish, method=method)


CROOKED = [*map(_by_path, _MALFORMED_PATHS), *map(_by_method, ("TRACE", "get", "CONNECT", "TRACK"))]


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    """Draw a request that is well formed, and how it is answered."""
    method = draw(st.sampled_from(WORDS))
    body = draw(st.sampled_from(BODIES)) if method in ("POST", "PUT", "PATCH") else None
    status = draw(statuses)
    plan = Plan(
        status=status,
        form=draw(st.sampled_from(sorted(FORMS))),
        # What answers a HEAD has no body.
        place=draw(st.sampled_from(PLACES)) if method != "HEAD" else draw(st.sampled_from(("header", "cookie", "location"))),
        coding=draw(st.sampled_from(sorted(CODINGS))),
        retry_after_s=draw(st.sampled_from((None, 0, 600))) if status == 429 else None,
    )
    query = draw(st.sampled_from(({}, {"q": "open sesame"}, {"q": "closed"}))) if method in ("GET", "HEAD") else {}
    return Wish(
        draw(st.sampled_from((True, True, False))),
        method,
        draw(st.sampled_from(PATHS)),
        query,
        body,
        draw(st.booleans()),
        draw(st.booleans()),
        plan,
    )


def request_bytes(wish: Wish, target: str, host: str) -> bytes:
    """Return the request as an agent writes it: with placeholders where credentials go."""
    lines = [
        f"{wish.method} {target} HTTP/1.1",
        f"Host: {host}",
        "Authorization: Bearer placeholder-1",
        "X-Api-Key: placeholder-2",
    ]
    body = wish.body
    if body is not None:
        lines.append("Content-Type: application/json")
        if wish.is_chunked:
            lines.append("Transfer-Encoding: chunked")
            body = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5, body[:5], len(body) - 5, body[5:])
        else:
            lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")
