"""One attack: what the agent sends, what it must get, what may reach an upstream, and which rows must be written.

The tables read so:

    Case("dot-segment", "G3", tunnel(request("/a/../private/1")), 400, "malformed_request")
    Case("upper-case-host", "G2", tunnel(request("/a", host="API.EXAMPLE.COM")), 200, "OK", (forwarded("/a"),))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

HOST = "api.example.com"
TOKEN = "not-a-real-token-0123456789"  # what the upstream is sent, and no agent may see
RICH = "fake/rich+key=\"0<9>&'x%41~end"  # another key of the same workspace, of characters that every notation spells anew
USER, PASSWORD = "public-name-of-a-user", "fake-password-of-a-pair"  # a basic pair of the same workspace; the name is public
PREVIOUS = "fake-value-before-rotation-77"  # was the value of a key of the workspace until a moment ago
FOREIGN = "fake-key-of-another-workspace-5"
DECOY = "planted-here-and-never-a-key-02468"  # of the same workspace; lower case, so that it can be part of a host's name too
FOREIGN_DECOY = "planted-elsewhere-and-never-a-key-13579"
AGENTS_OWN = "agents-own-fake-credential"  # stands where an agent puts a credential: no upstream and no row may see it
CLOSED = 0  # in place of a status: the connection (or the stream) ended without an answer

HTTP1 = "http/1.1"
HTTP2 = "h2"


@dataclass(frozen=True, slots=True)
class Talk:
    """What an agent does: it connects, then says each of `steps` when the step before was answered.

    `connect` is sent first and must be answered with 200; without one the agent talks to the proxy itself. `sni` is the name
    in the TLS ClientHello inside the tunnel, "" a ClientHello without a name, None no TLS at all. Over HTTP/2 a step is frames,
    and the answer is the one on `stream` (of step n: stream 2n-1, unless given). With `piece_bytes` a step is written in pieces
    of that size; with `leaves` the agent closes its side after the last step, and soon stops listening.
    """

    steps: tuple[bytes, ...]
    connect: bytes = b""
    sni: str | None = None
    protocol: str = HTTP1
    stream: int | None = None
    piece_bytes: int = 0
    leaves: bool = False


@dataclass(frozen=True, slots=True)
class Sent2:
    """A request as an HTTP/2 upstream must get it: all header fields in order, pseudo-headers as `Host` and the first line."""

    first_line: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Cut:
    """A request that an HTTP/1.1 upstream got only the start of, because the connection was closed then."""

    start: bytes


Sent = bytes | Sent2 | Cut


@dataclass(frozen=True, slots=True)
class Heard:
    """What the agent got for its last step. `everything` is every byte it received on the connection."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    everything: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the header's first value."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Case:
    """One row of a table. `promise` is the one that would be broken (G1 … G9).

    `status` and `reason` are the agent's last answer (`CLOSED` and "" where there is none). `upstream` is every request that
    reaches an upstream, in order, byte for byte; where it is () nothing may even be dialled. `rows` are (decision, reason) of
    every row that is written, in order; left out, one row for the answer after an `OK` for each earlier step.

    `reply` is what the upstream answers, in the words of whoever runs the upstream; `body` what the agent must get of it, and
    `check` looks at more: it returns what is wrong, or "". With `or_refused` a refusal as malformed is as good, with its
    row and nothing sent: versions of mitmproxy and of the libraries under it differ in what they stop themselves. With
    `dials` a connection may be opened although no request gets there. With `follows` it needs what the case before it left
    behind. `basis` cites where an attack was published; `limit` says what is accepted, in a case that documents a limit.
    `decoys` are those whose use must be an event, in order; no other may.
    """

    id: str
    promise: str
    talk: Talk
    status: int
    reason: str
    upstream: tuple[Sent, ...] = ()
    rows: tuple[tuple[str, str], ...] | None = None
    reply: object = None
    body: bytes | None = None
    check: Callable[[Heard], str] | None = None
    or_refused: bool = False
    dials: bool = False
    follows: bool = False
    basis: str = ""
    limit: str = ""
    decoys: tuple[str, ...] = ()

    def refused(self, status: int) -> Case:
        """Return the case in which the agent is refused (`or_refused`) with 400, or without an answer (`CLOSED`)."""
        row = ("deny", "malformed_request")
        reason = "" if status == CLOSED else row[1]
        return replace(self, status=status, reason=reason, upstream=(), rows=(row,), body=None, or_refused=False)

    @property
    def expected_rows(self) -> tuple[tuple[str, str], ...]:
        """Every row that must be written, in order."""
        if self.rows is not None:
            return self.rows
        earlier = (("allow", "OK"),) * (len(self.talk.steps) - 1)
        return (*earlier, ("allow" if self.reason == "OK" else "deny", self.reason)) if self.reason else earlier


def request(target: str | bytes, *lines: str | bytes, method: str = "GET", host: str = HOST, body: bytes = b"") -> bytes:
    """Return an HTTP/1.1 request of exactly these header lines (no length is added). Text goes as UTF-8."""
    first = b"%b %b HTTP/1.1" % (method.encode(), _bytes(target))
    return b"\r\n".join([first, b"Host: " + host.encode(), *map(_bytes, lines), b"", body])


def with_body(target: str, body: bytes, *lines: str, method: str = "POST", host: str = HOST) -> bytes:
    """Return a request with *body* and its Content-Length."""
    return request(target, *lines, f"Content-Length: {len(body)}", method=method, host=host, body=body)


def connect(authority: str, *lines: str) -> bytes:
    """Return a CONNECT for *authority*."""
    return "\r\n".join([f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *lines, "", ""]).encode()


def forwarded(
    target: str, *lines: str, method: str = "GET", host: str = HOST, token: str = TOKEN, body: bytes = b"",
    framing: str = "",
) -> bytes:  # fmt: skip
    """Return the request as the upstream must get it, credential and all; *lines* are the agent's that pass.

    *framing* is the line that frames *body*, unless that is its length.
    """
    framed = [framing or f"Content-Length: {len(body)}"] if body or framing else []
    credential = [f"Authorization: Bearer {token}"] if token else []
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "Accept-Encoding: identity", *credential, *framed, "", ""]
    return "\r\n".join(head).encode() + body


def plain(*steps: bytes, leaves: bool = False) -> Talk:
    """Talk to the proxy itself, in cleartext."""
    return Talk(steps, leaves=leaves)


def tunnel(*steps: bytes, to: str = f"{HOST}:443", sni: str | None = None, piece_bytes: int = 0, leaves: bool = False) -> Talk:
    """Talk HTTP/1.1 over TLS inside a tunnel; the SNI is the tunnel's host unless given."""
    name = to.rpartition(":")[0] if sni is None else sni
    return Talk(steps, connect(to), name, piece_bytes=piece_bytes, leaves=leaves)


def bare_tunnel(*steps: bytes, to: str = f"{HOST}:443", leaves: bool = False) -> Talk:
    """Talk inside a tunnel without TLS."""
    return Talk(steps, connect(to), leaves=leaves)


def http2(
    *steps: bytes, to: str = f"{HOST}:443", sni: str | None = None, stream: int | None = None, leaves: bool = False
) -> Talk:
    """Talk HTTP/2 over TLS inside a tunnel; steps are frames (frames.py)."""
    name = to.rpartition(":")[0] if sni is None else sni
    return Talk(steps, connect(to), name, HTTP2, stream, leaves=leaves)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
