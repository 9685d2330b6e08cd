"""Published lists of framing that two servers read in two ways, worked through by name.

* Linhart, Klein, Heled and Orrin, "HTTP Request Smuggling" (Watchfire 2005); Amit Klein, "HTTP Request Smuggling in 2020"
  (Black Hat 2020): junk after a name, versions nobody has.
* Daniel Thatcher, "Practical HTTP Header Smuggling" (Black Hat Europe 2021): names that one server takes for another.
* Zeyu Zhang, "HTTP Request Smuggling in the Multiverse of Parsing Flaws" (2022), and CVE-2022-32213 to -32215, CVE-2022-35256 and
  CVE-2023-30589 of Node's llhttp.
* James Kettle, "HTTP Desync Attacks" (PortSwigger 2019), "HTTP/2: The Sequel is Always Worse" (2021), "Browser-Powered Desync
  Attacks" (2022) and "HTTP/1.1 must die: the desync endgame" (2025); Paolo Arnolfo, Guillermo Gregorio and Medusa, "Unveiling
  TE.0 HTTP Request Smuggling" (2024).
* Ben Kallus and Prashant Anantharaman and others, "The HTTP Garden" (2024): the classes of bugs in its list.

What stands in framing.py already is not repeated here; the mutations of `smuggler` are in mutations.py.
"""

from __future__ import annotations

from outloop.attacks import frames
from outloop.attacks.case import CLOSED, HOST, Case, Talk, connect, forwarded, http2, plain, request, tunnel

KLEIN = "Klein, HTTP Request Smuggling in 2020"
LINHART = "Linhart et al., HTTP Request Smuggling (2005)"
THATCHER = "Thatcher, Practical HTTP Header Smuggling (2021)"
LLHTTP = "CVE-2022-32213 to -32215, CVE-2022-35256, CVE-2023-30589"
GARDEN = "Kallus et al., The HTTP Garden (2024)"
TE_0 = "Arnolfo, Gregorio and Medusa, TE.0 (2024)"
SEQUEL = "Kettle, HTTP/2: The Sequel is Always Worse (2021)"
ENDGAME = "Kettle, HTTP/1.1 must die (2025)"
IN_ITSELF = "a request that breaks the rules of HTTP/2 itself ends its connection without a document; an event tells of it"

IS_TEXT = "Content-Type: a/b"
INNER = b"DELETE /private/1 HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
ENDED = b"0\r\n\r\n"
FIVE = f"Content-Length: {len(ENDED)}"
TE = "Transfer-Encoding: chunked"


def _refused(name: str, talk: Talk, basis: str) -> Case:
    return Case(name, "G3", talk, 400, "malformed_request", basis=basis)


def _post(*lines: str | bytes, body: bytes = ENDED) -> Talk:
    return tunnel(request("/items/1", IS_TEXT, *lines, method="POST", body=body))


def _same(name: str, talk: Talk, sent: bytes, basis: str) -> Case:
    """It has one reading, and that one is sent."""
    return Case(name, "G3", talk, 200, "OK", (sent,), basis=basis)


# Names that one server takes for another.
NAMES = (
    *(
        _refused(f"name-{name}", _post(line, FIVE), basis)
        for name, line, basis in (
            ("with-junk-behind-it", "Content-Length abcde: 40", f"{KLEIN}: variant 1"),
            ("with-a-space-and-junk-of-a-proxy", "X-Forwarded-For abcd: 127.0.0.1", THATCHER),
            ("with-a-carriage-return-behind-it", b"Content-Length\r: 40", f"{KLEIN}: variant 4"),
            ("behind-a-carriage-return", b"\rContent-Length: 40", f"{KLEIN}: variant 4"),
            ("with-a-nul-behind-it", b"Content-Length\0: 40", THATCHER),
            ("with-a-vertical-tab-behind-it", b"Content-Length\x0b: 40", THATCHER),
            ("with-latin-1-behind-it", b"Content-Length\x85: 40", THATCHER),
            ("in-brackets", "(Content-Length): 40", THATCHER),
            ("with-a-comma", "X,Content-Length: 40", THATCHER),
            ("of-a-host-behind-a-space", " Host: evil.example.org", f"{ENDGAME}: masked Host"),
            ("of-a-host-before-a-space", "Host : evil.example.org", f"{ENDGAME}: masked Host"),
            ("of-a-host-twice-in-two-cases", "hOST: evil.example.org", f"{ENDGAME}: masked Host"),
        )
    ),
    *(
        _refused(f"length-{name}", _post(line), basis)
        for name, line, basis in (
            ("with-junk", "Content-Length: 5abc", THATCHER),
            ("with-junk-behind-a-space", "Content-Length: 5 abc", THATCHER),
            ("with-a-comma", "Content-Length: 5,", LLHTTP),
            ("behind-a-comma", "Content-Length: ,5", GARDEN),
            ("with-a-semicolon", "Content-Length: 5;", GARDEN),
            ("with-a-space-inside", "Content-Length: 0 5", GARDEN),
            ("in-quotes", 'Content-Length: "5"', GARDEN),
            ("that-is-minus-nothing", "Content-Length: -0", GARDEN),
            ("that-is-plus-nothing", "Content-Length: +0", GARDEN),
            ("octal", "Content-Length: 0o5", GARDEN),
            ("binary", "Content-Length: 0b101", GARDEN),
            ("of-forty-digits", "Content-Length: " + "0" * 39 + "5", GARDEN),
            ("that-differs-by-zeros", "Content-Length: 5\r\nContent-Length: 05", LINHART),
            ("beside-chunks-in-another-case", "content-length: 5\r\ntransfer-encoding: Chunked", f"{TE_0}: CL and TE"),
        )
    ),
    _same("name-with-an-apostrophe", _post("X'Content-Length: 40", FIVE),
          forwarded("/items/1", IS_TEXT, "X'Content-Length: 40", method="POST", body=ENDED), THATCHER),
    _same("name-in-the-words-of-cgi", _post("Content_Length: 40", FIVE),
          forwarded("/items/1", IS_TEXT, method="POST", body=ENDED), THATCHER),
)  # fmt: skip

# Heads and lines of other shapes than RFC 9112 has.
VERSIONS = (
    "HTTP/1.2",
    "HTTP/1.10",
    "HTTP/01.1",
    "HTTP/1.1 ",
    "http/1.1",
    "HTTP/1",
    "HTTP /1.1",
    "HTTP/1.1\t",
    "HTTP/+1.1",
    "ICE/1.1",
)
LINES = (
    *(
        _refused(f"version-{number}", tunnel(request("/a").replace(b"HTTP/1.1", version.encode())),
                 KLEIN if version == "HTTP/1.2" else GARDEN)
        for number, version in enumerate(VERSIONS)
    ),
    _refused("line-that-ends-in-two-carriage-returns", tunnel(request("/a").replace(b"1.1\r\n", b"1.1\r\r\n", 1)), GARDEN),
    _refused("line-that-ends-in-a-carriage-return", tunnel(request("/a").replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r", 1)), LLHTTP),
    _refused("header-that-ends-in-a-carriage-return", tunnel(request("/a", b"X: y\rZ: z")), LLHTTP),
    _refused("line-behind-a-tab", tunnel(b"\t" + request("/a")), GARDEN),
    _refused("line-behind-a-nul", tunnel(b"\0" + request("/a")), GARDEN),
    _refused("three-words-too-many", tunnel(request("/a HTTP/1.1 HTTP/1.1")), f"{ENDGAME}: H-V"),
    _refused("nul-in-the-target", tunnel(request(b"/a\0b")), GARDEN),
    _refused("method-with-a-parenthesis", tunnel(request("/a", method="GET(")), GARDEN),
    _refused("connect-with-chunks", plain(connect(f"{HOST}:443", TE, FIVE) + ENDED), GARDEN),
    _same("length-on-a-read-that-ends-in-a-request", tunnel(request("/a", f"Content-Length: {len(INNER)}", body=INNER)),
          forwarded("/a", body=INNER), LINHART),
    _same("te-0", tunnel(request("/items/1", TE, method="OPTIONS", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER))),
          forwarded("/items/1", method="OPTIONS", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER), framing=TE), TE_0),
    Case("expect-folded", "G3", _post("Expect:", " 100-continue", FIVE), 400, "malformed_request", basis=f"{ENDGAME}: Expect"),
    _same("expect-in-capitals", _post("EXPECT: 100-CONTINUE", FIVE), forwarded("/items/1", IS_TEXT, method="POST", body=ENDED),
          f"{ENDGAME}: Expect"),
    _same("expect-twice", _post("Expect: 100-continue", "Expect: 100-continue", FIVE),
          forwarded("/items/1", IS_TEXT, method="POST", body=ENDED), f"{ENDGAME}: Expect"),
    Case("early-answer-of-a-refusal", "G3",
         tunnel(request("/private/1", f"Content-Length: {len(INNER)}", body=INNER), request("/b")), 200, "OK",
         (forwarded("/b"),), (("deny", "denied_by_rule"), ("allow", "OK")), basis=f"{ENDGAME}: early-response gadget"),
)  # fmt: skip


def _chunked(name: str, body: bytes, basis: str = GARDEN) -> Case:
    """Broken chunks to a rule that reads the body: nothing is sent."""
    talk = tunnel(request("/links", "Content-Type: application/json", TE, method="POST", body=body), leaves=True)
    return Case(name, "G3", talk, CLOSED, "", rows=(("deny", "malformed_request"),), basis=basis,
                limit="what breaks off inside its body ends the connection without a document")  # fmt: skip


JSON = b'{"max": 1}'
READ = (forwarded("/links", "Content-Type: application/json", method="POST", body=JSON),)
CHUNKS = (
    _chunked("size-behind-a-space", b" a\r\n" + JSON + b"\r\n0\r\n\r\n"),
    _chunked("size-behind-a-tab", b"\ta\r\n" + JSON + b"\r\n0\r\n\r\n"),
    _chunked("size-with-a-nul", b"a\0\r\n" + JSON + b"\r\n0\r\n\r\n"),
    _chunked("size-with-a-comma", b"a,\r\n" + JSON + b"\r\n0\r\n\r\n"),
    _chunked("size-with-a-point", b"a.0\r\n" + JSON + b"\r\n0\r\n\r\n"),
    _chunked("size-minus-nothing", b"a\r\n" + JSON + b"\r\n-0\r\n\r\n"),
    _chunked("size-plus-nothing", b"a\r\n" + JSON + b"\r\n+0\r\n\r\n"),
    _chunked("size-of-nothing-in-0x", b"a\r\n" + JSON + b"\r\n0x0\r\n\r\n"),
    _chunked("size-of-seventeen-digits", b"0000000000000000000000a\r\n" + JSON + b"\r\n0\r\n\r\n"),
    _chunked("end-with-a-line-feed", b"a\r\n" + JSON + b"\n0\r\n\r\n"),
    _chunked("last-size-with-a-line-feed", b"a\r\n" + JSON + b"\r\n0\n\r\n"),
    _chunked("without-the-last", b"a\r\n" + JSON + b"\r\n"),
    _chunked("without-the-last-line", b"a\r\n" + JSON + b"\r\n0\r\n"),
    *(
        Case(name, "G3", tunnel(request("/links", "Content-Type: application/json", TE, method="POST", body=body)), 200, "OK",
             READ, or_refused=True, basis=GARDEN)
        for name, body in (
            ("size-before-a-space", b"a \r\n" + JSON + b"\r\n0\r\n\r\n"),
            ("extension-with-a-space", b"a ; x = y\r\n" + JSON + b"\r\n0\r\n\r\n"),
            ("extension-in-latin-1", b"a;\xff\r\n" + JSON + b"\r\n0\r\n\r\n"),
            ("trailer-that-is-a-length", b"a\r\n" + JSON + b"\r\n0\r\nContent-Length: 40\r\n\r\n"),
        )
    ),
    _chunked("trailer-folded", b"a\r\n" + JSON + b"\r\n0\r\nX: y\r\n z\r\nno colon\r\n\r\n"),
)  # fmt: skip


def _h2(*fields: frames.Field, body: bytes | None = None, method: str = "POST", path: str = "/items/1", **other: str) -> Talk:
    head = frames.head(("content-type", "a/b"), *fields, method=method, path=path, **other)
    return http2(frames.headers(*head) if body is None else frames.open_headers(*head) + frames.data(body))


def _broken(name: str, talk: Talk, basis: str = SEQUEL) -> Case:
    return Case(f"h2-{name}", "G3", talk, CLOSED, "", basis=basis, limit=IN_ITSELF, or_refused=True)


WITH_ITS_LENGTH = ("content-length", str(len(INNER)))
DOWNGRADES = (
    _broken("length-with-a-plus", _h2(("content-length", "+3"), body=b"abc")),
    _broken("length-with-a-space", _h2(("content-length", " 3"), body=b"abc")),
    _broken("length-with-an-underscore", _h2(("content-length", "1_0"), body=b"a" * 10), "Python's int()"),
    _broken("length-in-other-digits", _h2(("content-length", "٣"), body=b"abc"), "Python's int()"),
    _broken("length-empty", _h2(("content-length", ""), body=b"abc")),
    _broken("length-hexadecimal", _h2(("content-length", "0x3"), body=b"abc")),
    _broken("length-list", _h2(("content-length", "3, 3"), body=b"abc")),
    _broken("two-equal-lengths", _h2(("content-length", "3"), ("content-length", "3"), body=b"abc")),
    _broken("length-of-a-request-without-a-body", _h2(("content-length", "3")), f"{SEQUEL}: H2.0"),
    _broken("transfer-encoding-in-a-continuation", http2(
        frames.headers(*frames.head(method="POST", path="/items/1"), flags=()) + frames.continuation(
            frames.block(("transfer-encoding", "chunked"))) + frames.data(ENDED + INNER)), f"{SEQUEL}: H2.TE"),
    _broken("transfer-encoding-twice", _h2(("transfer-encoding", "identity"), ("transfer-encoding", "chunked"), body=ENDED)),
    _broken("keep-alive", _h2(("keep-alive", "timeout=5"))),
    _broken("proxy-connection", _h2(("proxy-connection", "keep-alive"))),
    _broken("name-with-a-nul", _h2(("x\0y", "z"))),
    _broken("name-behind-a-space", _h2((" x", "z"))),
    _broken("name-with-a-tab", _h2(("x\ty", "z"))),
    _broken("name-in-latin-1", _h2((b"x\xff", "z"))),
    _broken("name-that-is-a-request-line", _h2(("get / http/1.1\r\nhost", "evil.example.org"))),
    _broken("value-behind-a-tab", _h2(("x", "\ty")), "RFC 9113 §8.2.1"),
    _broken("authority-with-a-prefix", http2(frames.headers(*frames.head(authority="api.example.com/private?"))), SEQUEL),
    _broken("authority-with-a-port-that-is-none", http2(frames.headers(*frames.head(authority="api.example.com:x"))), SEQUEL),
    _broken("authority-and-host-in-two-cases", http2(frames.headers(*frames.head(("host", "evil.example.org")))), SEQUEL),
    _broken("scheme-that-is-a-path", http2(frames.headers(*frames.head(scheme="https://evil.example.org/x?"))), SEQUEL),
    _broken("scheme-missing", http2(frames.headers(*frames.head(scheme=None))), "RFC 9113 §8.3.1"),
    _broken("method-missing", http2(frames.headers((":scheme", "https"), (":authority", HOST), (":path", "/a"))),
            "RFC 9113 §8.3.1"),
    _broken("path-twice", http2(frames.headers((":path", "/a"), *frames.head(path="/private/1"))), SEQUEL),
    _broken("path-without-a-slash", http2(frames.headers(*frames.head(path="private/1"))), SEQUEL),
    _broken("path-that-is-a-request", http2(frames.headers(*frames.head(
        path="/a HTTP/1.1\r\nHost: evil.example.org\r\n\r\nGET /b"))), SEQUEL),
    _broken("path-with-a-space-and-a-version", http2(frames.headers(*frames.head(path="/a HTTP/1.0"))), SEQUEL),
    _broken("method-that-is-a-request", http2(frames.headers(*frames.head(method="GET /private/1 HTTP/1.1"))), SEQUEL),
    _broken("trailer-that-is-a-length", http2(
        frames.open_headers(*frames.head(("content-length", "3"), method="POST", path="/links")) + frames.data(b"abc", flags=())
        + frames.headers((":content-length", "40"))), SEQUEL),
    _same("h2-length-in-the-words-of-cgi",
          _h2(("content_length", "40"), ("transfer_encoding", "chunked"), WITH_ITS_LENGTH, body=INNER),
          forwarded("/items/1", "content-type: a/b", method="POST", body=INNER), THATCHER),
    _same("h2-read-whose-body-is-a-request", _h2(WITH_ITS_LENGTH, body=INNER, method="GET"),
          forwarded("/items/1", "content-type: a/b", body=INNER), f"{SEQUEL}: H2.0"),
    _same("h2-padded-frames", http2(
        frames.frame(1, b"\x05" + frames.block(*frames.head(path="/a")) + bytes(5), flags=0xD, stream=1)), forwarded("/a"),
        "RFC 9113 §6.2"),
)  # fmt: skip

CASES: tuple[Case, ...] = (*NAMES, *LINES, *CHUNKS, *DOWNGRADES)
