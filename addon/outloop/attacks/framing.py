"""How it is framed: credentials in unexpected places, and messages whose end two parsers would see in two places.

Published work behind the rows: James Kettle, "HTTP Desync Attacks" (PortSwigger 2019), "HTTP/2: The Sequel is Always Worse"
(2021), "Browser-Powered Desync Attacks" (2022) and "HTTP/1.1 must die: the desync endgame" (2025); the mutations of `smuggler`
(Evan Custodio 2020); Jeppe Bonde Weikop, "Funky chunks" (2025); Nathan Davison, "Abusing HTTP hop-by-hop request headers" (2019);
RFC 9112 §11.1 and §11.2 (response splitting, request smuggling); RFC 9113 §8.2.1 and §10.3; `h2spec` (Moto Ishizawa; the sections
of RFC 9113 it tests are named); Bartek Nowotarski, "CONTINUATION Flood" (2024); CVE-2023-44487 (rapid reset); httpoxy (2016).
"""

from __future__ import annotations

from outloop.attacks import frames
from outloop.attacks.case import (
    AGENTS_OWN,
    CLOSED,
    HOST,
    TOKEN,
    Case,
    Sent2,
    Talk,
    connect,
    forwarded,
    http2,
    plain,
    request,
    tunnel,
    with_body,
)  # fmt: skip

DESYNC = "Kettle, HTTP Desync Attacks (2019)"
SEQUEL = "Kettle, HTTP/2: The Sequel is Always Worse (2021)"
BROWSER = "Kettle, Browser-Powered Desync Attacks (2022)"
ENDGAME = "Kettle, HTTP/1.1 must die (2025)"
MUTATION = "smuggler (Custodio 2020)"
FUNKY = "Weikop, Funky chunks (2025)"
HOP = "Davison, Abusing HTTP hop-by-hop request headers (2019)"
NO_ROW = "a request that breaks the rules of HTTP/2 itself ends its connection: an event tells of it, not a document and a row"
MODERN = "modern.example.com"
SMUGGLED = b"DELETE /private/1 HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
CL, TE = "Content-Length: 3", "Transfer-Encoding: chunked"


def _stays_behind(name: str, *lines: str, target: str = "/a", basis: str = "") -> Case:
    """What the agent put there does not reach the upstream; the request does."""
    return Case(name, "G2", tunnel(request(target, *lines)), 200, "OK", (forwarded("/a"),), body=b"ok", basis=basis)


def _refused(name: str, talk: Talk, basis: str = "") -> Case:
    return Case(name, "G3", talk, 400, "malformed_request", basis=basis)


def _broken(name: str, *steps: bytes, basis: str = "") -> Case:
    return Case(name, "G3", http2(*steps), CLOSED, "", basis=basis, limit=NO_ROW, or_refused=True)


def _sent(target: str, host: str, credential: str) -> bytes:
    """What reaches a service whose credential stands elsewhere than in a bearer Authorization."""
    head = forwarded(target, host=host, token="").removesuffix(b"\r\n")
    return head + (f"{credential}\r\n\r\n" if credential else "\r\n").encode()


CREDENTIAL_HEADERS = (
    *("aUTHORIZATION", "Cookie", "Cookie2", "X-Api-Key", "X_Api_Key", "Api-Key", "ApiKey", "X-Auth-Token", "X-Access-Token"),
    *("X-Authorization", "Private-Token", "Job-Token", "X-Goog-Api-Key", "X-Amz-Security-Token", "X-Vault-Token", "X-Token"),
    *("DD-API-KEY", "X-Shopify-Access-Token", "X-Figma-Token", "X-Forwarded-Authorization", "X-Original-Authorization"),
)
CREDENTIALS = (
    _stays_behind("authorization", f"Authorization: Bearer {AGENTS_OWN}"),
    _stays_behind("authorization-twice", f"Authorization: Bearer {AGENTS_OWN}", f"Authorization: Basic {AGENTS_OWN}"),
    _stays_behind("authorization-without-a-space", f"Authorization:Bearer {AGENTS_OWN}"),
    *(_stays_behind(f"credential-in-{name.lower().replace('_', '-under-')}",
        f"{name}: {AGENTS_OWN}") for name in CREDENTIAL_HEADERS),
    _stays_behind("proxy-authorization-inside", f"Proxy-Authorization: Basic {AGENTS_OWN}"),
    _stays_behind("access-token-in-the-query", target=f"/a?access_token={AGENTS_OWN}", basis="RFC 6750 §2.3"),
    _stays_behind("access-token-in-the-query-in-capitals", target=f"/a?ACCESS%5fTOKEN={AGENTS_OWN}", basis="RFC 6750 §2.3"),
    _refused("authorization-folded", tunnel(request("/a", "Authorization: Bearer", f" {AGENTS_OWN}")), "RFC 9112 §5.2"),
    _refused("authorization-behind-a-space", tunnel(request("/a", f"Authorization : Bearer {AGENTS_OWN}")), "RFC 9112 §5.1"),
    _refused("authorization-behind-a-tab", tunnel(request("/a", f"Authorization\t: Bearer {AGENTS_OWN}")), "RFC 9112 §5.1"),
    _refused("authorization-on-a-line-of-its-own", tunnel(request("/a", f" Authorization: Bearer {AGENTS_OWN}")),
        "RFC 9112 §2.2"),
    Case("authorization-in-a-trailer", "G2", tunnel(request("/items/1", "Transfer-Encoding: chunked", "Trailer: Authorization",
        "Content-Type: a/b",
         method="POST", body=b"3\r\nabc\r\n0\r\n" + f"Authorization: Bearer {AGENTS_OWN}\r\n\r\n".encode())), 200, "OK",
         (forwarded("/items/1", "Content-Type: a/b", method="POST", body=CHUNKS, framing=TE),), basis="RFC 9110 §6.5.1"),
    Case("h2-authorization-in-a-trailer", "G2", http2(frames.open_headers(*frames.head(("content-type", "a/b"),
        ("content-length", "3"), method="POST", path="/items/1"))
         + frames.data(b"abc", flags=()) + frames.headers(("authorization", AGENTS_OWN))), 200, "OK",
         (forwarded("/items/1", "content-type: a/b", method="POST", body=b"abc"),), basis="RFC 9110 §6.5.1"),
    Case("h2-authorization-twice", "G2", http2(frames.headers(*frames.head(("authorization", AGENTS_OWN), ("authorization",
        AGENTS_OWN), path="/a"))), 200,
         "OK", (forwarded("/a"),)),
    Case("h2-cookie-crumbs", "G2", http2(frames.headers(*frames.head(("cookie", f"a={AGENTS_OWN}"), ("cookie",
        f"b={AGENTS_OWN}"), path="/a"))), 200, "OK",
         (forwarded("/a"),), basis="RFC 9113 §8.2.3"),
    Case("h2-proxy-authorization", "G2", http2(frames.headers(*frames.head(("proxy-authorization", AGENTS_OWN), path="/a"))),
        200, "OK", (forwarded("/a"),)),
    Case("header-of-the-service", "G2", tunnel(request("/a", f"x-vendor-KEY: {AGENTS_OWN}", f"X_Vendor_Key: {AGENTS_OWN}",
        host="header.example.com"),
         to="header.example.com:443"), 200, "OK", (_sent("/a", "header.example.com", f"X-Vendor-Key: {TOKEN}"),)),
    Case("parameter-of-the-service", "G2", tunnel(request(f"/a?vendor_key={AGENTS_OWN}&b=1&VENDOR%5FKEY={AGENTS_OWN}",
        host="query.example.com"),
         to="query.example.com:443"), 200, "OK", (_sent(f"/a?b=1&vendor_key={TOKEN}", "query.example.com", ""),)),
    Case("parameter-of-the-service-behind-a-semicolon", "G2", tunnel(request(f"/a?b=1;vendor_key={AGENTS_OWN}",
        host="query.example.com"),
         to="query.example.com:443"), 200, "OK", (_sent(f"/a?vendor_key={TOKEN}", "query.example.com", ""),),
         basis="HTTP Parameter Pollution (OWASP 2009)"),
    Case("cookie-of-the-service", "G2", tunnel(request("/a", f"Cookie: vendor={AGENTS_OWN}; x=1", host="cookie.example.com"),
         to="cookie.example.com:443"), 200, "OK", (_sent("/a", "cookie.example.com", f"Cookie: vendor={TOKEN}"),)),
    Case("token-of-nobody", "G7", plain(connect(f"{HOST}:443", f"Proxy-Authorization: Basic {AGENTS_OWN}")), 407,
        "agent_unknown"),
    Case("two-proxy-authorizations", "G7", plain(connect(f"{HOST}:443", "Proxy-Authorization: Basic b3Blbjp4",
        "Proxy-Authorization: Basic b3Blbjp5")), 407,
         "agent_unknown"),
)  # fmt: skip

HOP_BY_HOP = (
    _stays_behind("connection-names-authorization", "Connection: authorization, close", f"Authorization: {AGENTS_OWN}",
        basis=HOP),
    _stays_behind("connection-names-host", "Connection: close, host", basis=HOP),
    _stays_behind("connection-names-accept-encoding", "Connection: accept-encoding", "Accept-Encoding: br", basis=HOP),
    _stays_behind("proxy-connection", "Proxy-Connection: keep-alive, x", "Keep-Alive: timeout=5", basis=HOP),
    _stays_behind("te", "TE: trailers, gzip", "Trailer: Authorization"),
    _stays_behind("range", "Range: bytes=0-3", 'If-Range: "1"'),
    _stays_behind("range-of-many-parts", "Range: bytes=0-0,1-1,2-2", "RANGE: bytes=5-"),
    _stays_behind("accept-encoding-nobody-can-decode", "Accept-Encoding: x-secret, compress, *;q=1"),
    _stays_behind("expect-something", "Expect: 200-ok"),
    _stays_behind("httpoxy", "Proxy: http://evil.example.org:8080", basis="httpoxy, CVE-2016-5385"),
    Case("expect-100-continue", "G3", tunnel(with_body("/items/1", b"abc", "Content-Type: a/b", "Expect: 100-continue")), 200,
        "OK",
         (forwarded("/items/1", "Content-Type: a/b", method="POST", body=b"abc"),), basis=ENDGAME),
    Case("expect-obfuscated", "G3", tunnel(with_body("/items/1", b"abc", "Content-Type: a/b", "Expect: y 100-continue")), 200,
        "OK",
         (forwarded("/items/1", "Content-Type: a/b", method="POST", body=b"abc"),), basis=ENDGAME),
    Case("expect-on-a-read", "G3", tunnel(request("/a", "Expect: 100-continue")), 200, "OK", (forwarded("/a"),), basis=ENDGAME),
    Case("expect-of-what-is-denied", "G3", tunnel(with_body("/private/1", b"abc", "Expect: 100-continue")), 403,
        "denied_by_rule", basis=ENDGAME),
)  # fmt: skip


def _framed(name: str, *lines: str | bytes, body: bytes = CHUNKS, basis: str = MUTATION) -> Case:
    return _refused(name, tunnel(request("/items/1", "Content-Type: a/b", *lines, method="POST", body=body)), basis)


def _reframed(name: str, *lines: str | bytes, body: bytes = CHUNKS, basis: str = "RFC 9112 §6.3") -> Case:
    """One reading, and that one is sent: a length in place of chunks where the body was collected."""
    talk = tunnel(request("/links", "Content-Type: application/json", *lines, method="POST", body=body))
    return Case(
        name,
        "G3",
        talk,
        200,
        "OK",
        (forwarded("/links", "Content-Type: application/json", method="POST", body=b'{"max": 1}'),),
        basis=basis,
    )


ONE = b"a\r\n" + b'{"max": 1}' + b"\r\n0\r\n\r\n"
LENGTHS = (
    _framed("length-and-chunks", "Content-Length: 6", TE, body=b"0\r\n\r\nG", basis=f"{DESYNC}: CL.TE"),
    _framed("chunks-and-length", TE, "Content-Length: 4", body=b"2e\r\n" + SMUGGLED + b"\r\n0\r\n\r\n", basis=f"{DESYNC}: TE.CL"),
    _framed("length-zero-and-chunks", "Content-Length: 0", TE, basis=f"{ENDGAME}: 0.CL"),
    _framed("two-lengths", "Content-Length: 3", "Content-Length: 4"),
    _framed("two-equal-lengths", CL, CL, body=b"abc", basis="RFC 9112 §6.3: may be refused"),
    _framed("length-list", "Content-Length: 3, 3", body=b"abc", basis="RFC 9110 §8.6"),
    _framed("length-list-that-differs", "Content-Length: 3, 4", body=b"abcd"),
    _framed("length-with-a-plus", "Content-Length: +3", body=b"abc"),
    _framed("length-negative", "Content-Length: -3", body=b"abc"),
    _framed("length-hexadecimal", "Content-Length: 0x3", body=b"abc"),
    _framed("length-with-an-underscore", "Content-Length: 1_0", body=b"a" * 10, basis="Python's int()"),
    _framed("length-with-a-point", "Content-Length: 3.0", body=b"abc"),
    _framed("length-with-an-exponent", "Content-Length: 3e0", body=b"abc"),
    _framed("length-in-other-digits", "Content-Length: ٣", body=b"abc", basis="Python's int()"),
    _framed("length-empty", "Content-Length:", body=b"abc"),
    _framed("length-with-a-vertical-tab", b"Content-Length: \x0b3", body=b"abc"),
    _framed("length-with-a-nul", b"Content-Length: 3\0", body=b"abc"),
    _framed("length-folded", "Content-Length:", " 3", body=b"abc", basis=ENDGAME),
    _framed("length-behind-a-space", "Content-Length : 3", body=b"abc"),
    _framed("length-beyond-64-bits", "Content-Length: 18446744073709551619", body=b"abc",
        basis="18446744073709551619 is 3 modulo 2^64"),
    _framed("length-padded", "Content-Length: 03", body=b"abc", basis="octal to some"),
    _framed("chunks-misspelled", "Transfer-Encoding: xchunked"),
    _framed("chunks-doubled", "Transfer-Encoding: chunked, chunked"),
    _framed("chunks-then-identity", "Transfer-Encoding: chunked, identity"),
    _framed("identity-then-chunks", "Transfer-Encoding: identity, chunked"),
    _framed("gzip-then-chunks", "Transfer-Encoding: gzip, chunked", basis="RFC 9112 §6.1"),
    _framed("gzip-alone", "Transfer-Encoding: gzip", basis="RFC 9112 §6.3: 400"),
    _framed("identity-and-length", "Transfer-Encoding: identity", CL, body=b"abc"),
    _framed("chunks-in-quotes", 'Transfer-Encoding: "chunked"'),
    _framed("chunks-in-single-quotes", "Transfer-Encoding: 'chunked'"),
    _framed("chunks-with-a-parameter", "Transfer-Encoding: chunked;q=1"),
    _framed("chunks-with-a-comma", "Transfer-Encoding: chunked,"),
    _framed("chunks-behind-a-comma", "Transfer-Encoding: ,chunked"),
    _framed("chunks-behind-a-vertical-tab", b"Transfer-Encoding: \x0bchunked"),
    _framed("chunks-before-a-vertical-tab", b"Transfer-Encoding: chunked\x0b"),
    _framed("chunks-before-a-form-feed", b"Transfer-Encoding: chunked\x0c"),
    _framed("chunks-behind-a-nul", b"Transfer-Encoding: \0chunked"),
    _framed("chunks-behind-latin-1", b"Transfer-Encoding: \xa0chunked"),
    _framed("chunks-behind-a-carriage-return", b"Transfer-Encoding: \rchunked"),
    _framed("chunks-empty", "Transfer-Encoding:"),
    _framed("chunks-twice", TE, "Transfer-Encoding: x"),
    _framed("chunks-twice-the-same", TE, TE),
    _framed("chunks-twice-reversed", "Transfer-Encoding: x", TE),
    _framed("chunks-behind-a-space", "Transfer-Encoding : chunked"),
    _framed("chunks-folded", "Transfer-Encoding:", " chunked"),
    _framed("chunks-on-an-indented-line", " Transfer-Encoding: chunked"),
    _framed("chunks-behind-a-broken-name", "Transfer-Encoding", ": chunked"),
    _framed("chunks-behind-a-carriage-return-in-a-value", b"X: x\rTransfer-Encoding: chunked"),
    _refused("chunks-in-http-1-0", tunnel(request("/items/1", TE, method="POST", body=CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0")),
        "RFC 9112 §6.1"),
    _reframed("chunks-in-capitals", "TRANSFER-ENCODING: CHUNKED", body=ONE),
    _reframed("chunks-behind-a-tab", "Transfer-Encoding:\tchunked", body=ONE),
    Case("length-with-an-underscore-twin", "G3", tunnel(with_body("/items/1", b"abc", "Content-Type: a/b", "Content_Length: 40",
        "Transfer_Encoding: chunked")), 200,
         "OK", (forwarded("/items/1", "Content-Type: a/b", method="POST", body=b"abc"),), basis=MUTATION),
    Case("line-feeds-for-line-ends", "G3", tunnel(request("/a", "X: 1").replace(b"\r\n", b"\n")), 200, "OK", (forwarded("/a",
        "X: 1"),),
         basis="RFC 9112 §2.2: one canonical form is sent"),
)  # fmt: skip


def _chunked(name: str, body: bytes, basis: str = FUNKY, *, leaves: bool = False) -> Case:
    """Broken chunks to a rule that reads the body: nothing is sent."""
    talk = tunnel(request("/links", "Content-Type: application/json", TE, method="POST", body=body), leaves=leaves)
    return Case(
        name,
        "G3",
        talk,
        CLOSED,
        "",
        rows=(("deny", "malformed_request"),),
        basis=basis,
        limit="what breaks off inside its body ends the connection without a document",
    )


CHUNKED = (
    _reframed("chunk-extension", TE, body=b'a;x="y"\r\n{"max": 1}\r\n0;z\r\n\r\n', basis="RFC 9112 §7.1.1"),
    _reframed("chunk-size-with-zeros", TE, body=b'000a\r\n{"max": 1}\r\n000\r\n\r\n'),
    _reframed("chunk-trailers", TE, body=b'a\r\n{"max": 1}\r\n0\r\nHost: evil.example.org\r\nContent-Length: 9\r\n\r\n',
        basis="RFC 9112 §7.1.2"),
    _chunked("chunk-size-with-a-plus", b'+a\r\n{"max": 1}\r\n0\r\n\r\n', MUTATION),
    _chunked("chunk-size-negative", b'-a\r\n{"max": 1}\r\n0\r\n\r\n', MUTATION),
    _chunked("chunk-size-with-0x", b'0xa\r\n{"max": 1}\r\n0\r\n\r\n', MUTATION),
    _chunked("chunk-size-with-an-underscore", b'0_a\r\n{"max": 1}\r\n0\r\n\r\n', MUTATION),
    _chunked("chunk-size-empty", b'\r\n{"max": 1}\r\n0\r\n\r\n', MUTATION),
    _chunked("chunk-size-beyond-64-bits", b'1000000000000000a\r\n{"max": 1}\r\n0\r\n\r\n', "CVE-2013-2028", leaves=True),
    _chunked("chunk-size-beyond-any-use", b"f" * 400 + b'\r\n{"max": 1}\r\n0\r\n\r\n', "CVE-2013-2028"),
    _chunked("chunk-without-its-end", b'a\r\n{"max": 1}0\r\n\r\n', f"{FUNKY}: TERM.SPILL"),
    Case("chunk-with-two-bytes-too-many", "G3", tunnel(request("/links", "Content-Type: application/json", TE, method="POST",
         body=b'a\r\n{"max": 1}XX0\r\n\r\n')), 200, "OK", (forwarded("/links", "Content-Type: application/json", method="POST",
         body=b'{"max": 1}'),), or_refused=True, basis=f"{FUNKY}: SPILL.TERM; CVE-2025-43859",
         limit="h11 before 0.16 (mitmproxy 11 needs it) takes any two bytes as the end of a chunk: what it read is framed anew"),
    _chunked("chunk-line-that-ends-in-a-line-feed", b'a\n{"max": 1}\r\n0\r\n\r\n', f"{FUNKY}: TERM.EXT"),
    _chunked("chunk-extension-with-a-line-feed", b'a;\n{"max": 1}\r\n0\r\n\r\n', f"{FUNKY}: EXT.TERM"),
    _reframed("chunk-extension-with-a-carriage-return", TE, body=b'a;\rx\r\n{"max": 1}\r\n0\r\n\r\n', basis=FUNKY),
    _chunked("chunk-line-that-ends-in-a-carriage-return", b'a\r{"max": 1}\r\n0\r\n\r\n', FUNKY),
    _chunked("chunk-extension-without-end", b"a;" + b"x" * 100_000, "CVE-2023-39326"),
    _chunked("chunk-trailers-without-end", b'a\r\n{"max": 1}\r\n0\r\n' + b"X: y\r\n" * 20_000, "CWE-400"),
)  # fmt: skip

HEADS = (
    _refused("ten-thousand-headers", tunnel(request("/a", *(f"X-{number}: 1" for number in range(10_000)))), "CWE-400"),
    _refused("three-hundred-headers", tunnel(request("/a", *(f"X-{number}: 1" for number in range(300)))), "CWE-400"),
    _refused("a-header-of-seventy-thousand-bytes", tunnel(request("/a", "X: " + "a" * 70_000)), "CWE-400"),
    _refused("header-without-a-colon", tunnel(request("/a", "X")), "RFC 9112 §5"),
    _refused("header-without-a-name", tunnel(request("/a", ": x")), "RFC 9112 §5"),
    _refused("header-name-with-a-space", tunnel(request("/a", "X Y: 1")), "RFC 9110 §5.1"),
    _refused("header-name-with-a-slash", tunnel(request("/a", "X/Y: 1")), "RFC 9110 §5.6.2"),
    _refused("header-name-with-a-nul", tunnel(request("/a", b"X\0: 1")), "RFC 9110 §5.6.2"),
    _refused("header-name-in-utf-8", tunnel(request("/a", "Ä: 1")), "RFC 9110 §5.6.2"),
    _refused("header-name-of-http-2", tunnel(request("/a", ":authority: evil.example.org")), "RFC 9113 §8.3"),
    _refused("header-value-with-a-nul", tunnel(request("/a", b"X: a\0b")), "RFC 9110 §5.5"),
    _refused("header-value-with-a-carriage-return", tunnel(request("/a", b"X: a\rb")), "RFC 9110 §5.5"),
    _refused("header-value-with-a-carriage-return-at-the-end", tunnel(request("/a", b"X: a\r")), "RFC 9110 §5.5"),
    Case("header-byte-by-byte", "G3", tunnel(request("/a", "X: 1"), piece_bytes=1), 200, "OK", (forwarded("/a", "X: 1"),),
        basis="Slowloris (2009)"),
    Case("header-that-never-ends", "G3", tunnel(b"GET /a HTTP/1.1\r\nHost: api.example.com\r\nX: ", leaves=True), CLOSED, "",
        basis="Slowloris (2009)"),
    Case("empty-lines-first", "G3", tunnel(b"\r\n\r\n" + request("/a")), 200, "OK", (forwarded("/a"),), basis="RFC 9112 §2.2"),
    Case("a-body-that-is-a-request", "G3", tunnel(request("/a") + SMUGGLED), 200, "OK", (forwarded("/a"),),
         rows=(("allow", "OK"), ("deny", "denied_by_rule")), basis=f"{BROWSER}: CL.0"),
    Case("a-declared-body-that-is-a-request", "G3", tunnel(with_body("/a", SMUGGLED, method="GET"), request("/b")), 200, "OK",
         (forwarded("/a", body=SMUGGLED), forwarded("/b")), basis=f"{BROWSER}: CL.0"),
    Case("a-post-of-length-zero-and-a-request", "G3", tunnel(request("/items/1", "Content-Length: 0", method="POST") + SMUGGLED),
        200, "OK",
         (forwarded("/items/1", method="POST", framing="Content-Length: 0"),), rows=(("allow", "OK"), ("deny",
             "denied_by_rule")), basis=f"{BROWSER}: CL.0"),
    Case("after-a-refusal-the-body-is-not-a-request", "G3", tunnel(with_body("/private/1", request("/a")), request("/b")), 200,
        "OK", (forwarded("/b"),),
         rows=(("deny", "denied_by_rule"), ("allow", "OK")), basis=f"{BROWSER}: pause-based desync"),
    Case("after-a-malformed-request-nothing-is-read", "G3", tunnel(request("/a", "X : 1") + request("/b")), 400,
        "malformed_request", basis="RFC 9112 §9.6"),
)  # fmt: skip


def _h2(*fields: frames.Field, body: bytes | None = None, method: str = "POST", path: str = "/items/1", to: str = HOST) -> Talk:
    head = frames.head(("content-type", "a/b"), *fields, method=method, path=path, authority=to)
    step = frames.headers(*head) if body is None else frames.open_headers(*head) + frames.data(body)
    return http2(step, to=f"{to}:443")


def _downgrade(name: str, talk: Talk, basis: str = SEQUEL) -> Case:
    return Case(f"h2-{name}", "G3", talk, CLOSED, "", basis=basis, limit=NO_ROW, or_refused=True)


DOWNGRADES = (
    _downgrade("line-break-in-a-value", _h2(("x", "a\r\nTransfer-Encoding: chunked"), body=b"0\r\n\r\n")),
    _downgrade("line-feed-in-a-value", _h2(("x", "a\nTransfer-Encoding: chunked"), body=b"0\r\n\r\n")),
    _downgrade("carriage-return-in-a-value", _h2(("x", "a\rb"))),
    _downgrade("nul-in-a-value", _h2(("x", "a\0b"))),
    _downgrade("request-in-a-value", _h2(("x", "a\r\n\r\n" + SMUGGLED.decode()))),
    _downgrade("line-break-in-a-name", _h2(("x: y\r\ntransfer-encoding", "chunked"), body=b"0\r\n\r\n")),
    _downgrade("colon-in-a-name", _h2(("transfer-encoding: chunked\r\nx", "y"))),
    _downgrade("space-in-a-name", _h2(("transfer-encoding ", "chunked"))),
    _downgrade("capital-in-a-name", _h2(("Transfer-Encoding", "chunked"))),
    _downgrade("empty-name", _h2(("", "x"))),
    _downgrade("line-break-in-the-path", _h2(path="/items/1 HTTP/1.1\r\nX: y")),
    _downgrade("line-break-in-the-authority", http2(frames.headers(*frames.head(authority="api.example.com\r\nX: y")))),
    _downgrade("line-break-in-the-scheme", http2(frames.headers(*frames.head(scheme="https\r\nX: y")))),
    _downgrade("transfer-encoding", _h2(("transfer-encoding", "chunked"), body=b"0\r\n\r\n" + SMUGGLED), f"{SEQUEL}: H2.TE"),
    _downgrade("connection", _h2(("connection", "transfer-encoding"))),
    _downgrade("upgrade", _h2(("upgrade", "websocket"))),
    _downgrade("te-with-chunked", _h2(("te", "chunked"))),
    _downgrade("length-shorter-than-the-body", _h2(("content-length", "0"), body=SMUGGLED), f"{SEQUEL}: H2.CL"),
    _downgrade("length-longer-than-the-body", _h2(("content-length", "50"), body=b"abc"), f"{SEQUEL}: H2.CL"),
    _refused("h2-two-lengths", _h2(("content-length", "3"), ("content-length", "4"), body=b"abc"), SEQUEL),
    _downgrade("length-negative", _h2(("content-length", "-1"), body=b"abc"), SEQUEL),
    _downgrade("value-padded", _h2(("x", " y ")), "RFC 9113 §8.2.1"),
    _downgrade("pseudo-header-twice", http2(frames.headers((":path", "/private/1"), *frames.head()))),
    _downgrade("method-twice", http2(frames.headers((":method", "DELETE"), *frames.head()))),
    _downgrade("pseudo-header-after-a-header", http2(frames.headers((":method", "GET"), (":scheme", "https"), ("x", "y"),
        (":path", "/a"), (":authority", HOST)))),
    _downgrade("pseudo-header-nobody-knows", http2(frames.headers((":status", "200"), *frames.head()))),
    _downgrade("pseudo-header-missing", http2(frames.headers((":method", "GET"), (":scheme", "https"), (":authority", HOST)))),
    _downgrade("pseudo-header-in-a-trailer", http2(frames.open_headers(*frames.head(("content-length", "3"), method="POST",
        path="/links")) + frames.data(b"abc", flags=())
               + frames.headers((":path", "/private/1")))),
    Case("h2-body-without-a-length", "G3", _h2(body=b"abc"), 200, "OK", (forwarded("/items/1", "content-type: a/b", method="POST",
         body=CHUNKS, framing=TE),), basis="RFC 9113 §8.1.1"),
    Case("h2-body-that-is-a-request", "G3", _h2(("content-length", str(len(SMUGGLED))), body=SMUGGLED), 200, "OK",
         (forwarded("/items/1", "content-type: a/b", method="POST", body=SMUGGLED),), basis=SEQUEL),
    Case("h2-read-with-a-body", "G3", _h2(("content-length", "3"), body=b"abc", method="GET"), 200, "OK",
         (forwarded("/items/1", "content-type: a/b", body=b"abc"),), basis=SEQUEL),
    Case("h2-to-h2", "G3", _h2(("content-length", "3"), ("authorization", AGENTS_OWN), body=b"abc", to=MODERN), 200, "OK",
         (Sent2("POST /items/1", ((b"host", MODERN.encode()), (b"content-type", b"a/b"), (b"accept-encoding", b"identity"),
                                  (b"authorization", f"Bearer {TOKEN}".encode()), (b"content-length", b"3")), b"abc"),)),
    Case("h2-headers-without-end", "G3", http2(frames.headers(*frames.head(*((f"x-{number}", "y") for number in range(600)),
        path="/a"))), 400,
         "malformed_request", basis="CWE-400"),
)  # fmt: skip

REQUEST = frames.headers(*frames.head(path="/a"))
DENIED = frames.headers(*frames.head(path="/private/1"))
HALF = frames.headers(*frames.head(path="/a"), flags=("END_STREAM",))
FRAMES = (
    _broken("frame-data-on-stream-0", frames.data(b"abc", stream=1).replace(b"\0\0\0\1", b"\0\0\0\0"),
        basis="h2spec: RFC 9113 §6.1"),
    _broken("frame-data-on-an-idle-stream", frames.data(b"abc", stream=5), basis="h2spec: RFC 9113 §5.1"),
    _broken("frame-headers-on-stream-0", frames.frame(1, frames.block(*frames.head(path="/a")), flags=5),
        basis="h2spec: RFC 9113 §6.2"),
    _broken("frame-headers-on-an-even-stream", frames.headers(*frames.head(path="/a"), stream=2),
        basis="h2spec: RFC 9113 §5.1.1"),
    _broken("frame-headers-on-a-lower-stream", frames.headers(*frames.head(path="/private/1"), stream=5) + REQUEST,
        basis="h2spec: RFC 9113 §5.1.1"),
    _broken("frame-continuation-alone", frames.continuation(frames.block(("x", "y"))), basis="h2spec: RFC 9113 §6.10"),
    _broken("frame-between-headers-and-continuation", HALF + frames.data(b"abc"), basis="h2spec: RFC 9113 §6.10"),
    _broken("frame-ping-of-a-wrong-length", frames.frame(6, b"abc"), basis="h2spec: RFC 9113 §6.7"),
    _broken("frame-ping-on-a-stream", frames.frame(6, bytes(8), stream=1), basis="h2spec: RFC 9113 §6.7"),
    _broken("frame-settings-with-a-payload-and-ack", frames.frame(4, bytes(6), flags=1), basis="h2spec: RFC 9113 §6.5"),
    _broken("frame-settings-of-a-wrong-length", frames.frame(4, bytes(5)), basis="h2spec: RFC 9113 §6.5"),
    _broken("frame-settings-window-too-large", frames.frame(4, b"\0\4\xff\xff\xff\xff"), basis="h2spec: RFC 9113 §6.5.2"),
    _broken("frame-settings-push-of-two", frames.frame(4, b"\0\2\0\0\0\2"), basis="h2spec: RFC 9113 §6.5.2"),
    _broken("frame-window-update-of-zero", frames.frame(8, bytes(4)), basis="h2spec: RFC 9113 §6.9"),
    _broken("frame-window-update-overflow", frames.frame(8, b"\x7f\xff\xff\xff"), basis="h2spec: RFC 9113 §6.9.1"),
    _broken("frame-push-promise-by-an-agent", frames.frame(5, b"\0\0\0\2" + frames.block(*frames.head()), flags=4, stream=1),
        basis="h2spec: RFC 9113 §8.4"),
    _broken("frame-reset-of-an-idle-stream", frames.frame(3, bytes(4), stream=7), basis="h2spec: RFC 9113 §6.4"),
    _broken("frame-larger-than-allowed", frames.frame(0, bytes(20_000), stream=1), basis="h2spec: RFC 9113 §4.2"),
    _broken("frame-padding-larger-than-itself", frames.frame(1, b"\xff" + frames.block(*frames.head(path="/a")), flags=13,
        stream=1), basis="h2spec: RFC 9113 §6.2"),
    _broken("frame-hpack-index-nobody-has", frames.frame(1, b"\xff\xff\xff\x03", flags=5, stream=1),
        basis="h2spec: RFC 7541 §2.3.3"),
    _broken("frame-hpack-cut-off", frames.frame(1, frames.block(*frames.head(path="/a"))[:-3], flags=5, stream=1),
        basis="h2spec: RFC 7541 §5.2"),
    _broken("frame-hpack-table-too-large", frames.frame(1, b"\x3f\xff\xff\xff\x07" + frames.block(*frames.head(path="/a")),
        flags=5, stream=1),
            basis="h2spec: RFC 7541 §6.3"),
    _broken("frame-continuations-without-end", HALF + frames.continuation(frames.block(*(("x", "y" * 1000) for _ in range(15))),
        flags=()) * 80,
            basis="CONTINUATION Flood (2024)"),
    Case("frame-headers-after-the-end", "G3", http2(DENIED + REQUEST, leaves=True), CLOSED, "", rows=(("deny", "denied_by_rule"),
        ),
         basis="h2spec: RFC 9113 §5.1"),
    Case("frame-data-after-the-end", "G3", http2(DENIED + frames.data(b"abc"), leaves=True), CLOSED, "", rows=(("deny",
        "denied_by_rule"),),
         basis="h2spec: RFC 9113 §5.1"),
    Case("frame-of-an-unknown-type", "G3", http2(frames.frame(0x42, b"abc", stream=0) + REQUEST), 200, "OK", (forwarded("/a"),),
        basis="h2spec: RFC 9113 §4.1"),
    Case("frame-continuations", "G3", http2(frames.headers(*frames.head(path="/a"), flags=("END_STREAM",))
        + frames.continuation(frames.block(("x", "y")))), 200, "OK",
         (forwarded("/a", "x: y"),), basis="RFC 9113 §6.10"),
    Case("frame-priority-on-itself", "G3", http2(frames.frame(2, b"\0\0\0\1\0", stream=1) + REQUEST, leaves=True), CLOSED, "",
        basis="h2spec: RFC 9113 §5.3.1",
         limit=NO_ROW, or_refused=True),
    Case("no-preface", "G3", tunnel(REQUEST, leaves=True), CLOSED, "", basis="h2spec: RFC 9113 §3.4"),
)  # fmt: skip

INTERIM = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANSWERS = (
    *(
        Case(f"interim-{code}", "G1", tunnel(request("/a")), 200, "OK", (forwarded("/a"),), body=b"ok",
             reply=b"HTTP/1.1 %d X\r\nX-Echo: %b\r\n\r\n" % (code, TOKEN.encode()) + INTERIM, basis="RFC 9110 §15.2")
        for code in (100, 102, 103, 199)
    ),
    Case("interim-ten-times", "G1", tunnel(request("/a")), 200, "OK", (forwarded("/a"),), body=b"ok",
        reply=b"HTTP/1.1 103 X\r\n\r\n" * 10 + INTERIM),
    Case("switch-that-nobody-asked-for", "G1", tunnel(request("/a")), 502, "scrub_failed", (forwarded("/a"),), (("allow",
        "scrub_failed"),),
         reply=f"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Echo: {TOKEN}\r\n\r\n{TOKEN}".encode(),
         basis="RFC 9110 §15.2.2"),
    Case("switch-to-something-else", "G1", tunnel(request("/a", "Connection: Upgrade", "Upgrade: h2c")), 502, "scrub_failed",
        (forwarded("/a"),),
         (("allow", "scrub_failed"),), reply=b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
             basis="Bishop Fox, h2c Smuggling (2020)"),
    Case("switch-of-a-socket-without-its-key", "G1", tunnel(request("/socket", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")), 502, "scrub_failed",
         (forwarded("/socket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==").removesuffix(b"\r\n")
          + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",), (("allow", "scrub_failed"),),
         reply=f"HTTP/1.1 101 X\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n{TOKEN}".encode(), basis="RFC 6455 §4.1"),
)  # fmt: skip

CASES = (*CREDENTIALS, *HOP_BY_HOP, *LENGTHS, *CHUNKED, *HEADS, *DOWNGRADES, *FRAMES, *ANSWERS)
