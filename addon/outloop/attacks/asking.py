"""What is being asked: paths, methods and bodies that policy would read in one way and a server in another.

Published work behind the rows: Orange Tsai, "Breaking Parser Logic" (Black Hat 2018: path normalisation, ``..;``, off-by-slash);
PortSwigger, "Gotta cache 'em all" (Martin Doyhenard 2024: delimiters and normalisation of URLs by server); CWE-22, CWE-172 to
CWE-177 (encodings) and CWE-436 (interpretation conflict); RFC 3986 §6.2 and RFC 3629 §10 (overlong UTF-8); Bishop Fox, "An
Exploration of JSON Interoperability Vulnerabilities" (2021); Stefano di Paola and Luca Carettoni, "HTTP Parameter Pollution"
(OWASP 2009); "GraphQL over HTTP" (September 2025, §6.2: no mutations by GET); OData 4.01 §11.7 (batch).
"""

from __future__ import annotations

import gzip
import json

from outloop.attacks import frames
from outloop.attacks.case import CLOSED, Case, forwarded, http2, request, tunnel, with_body

TSAI = "Orange Tsai, Breaking Parser Logic (2018)"
CACHE = "Doyhenard, Gotta cache 'em all (2024)"
JSON = "Bishop Fox, JSON Interoperability (2021)"
POLLUTION = "HTTP Parameter Pollution (OWASP 2009)"
OVERLONG = "RFC 3629 §10"
NO_ROW = "a request that breaks the rules of HTTP/2 itself ends its connection: an event tells of it, not a document and a row"
IS_JSON = "Content-Type: application/json"
IS_FORM = "Content-Type: application/x-www-form-urlencoded"

IS_MULTIPART = "Content-Type: multipart/form-data; boundary=a"
MULTIPART = b'--a\r\nContent-Disposition: form-data; name="_method"\r\n\r\nDELETE\r\n--a--\r\n'

# Not one of these has a single reading, so that each is refused whatever it may lead to.
AMBIGUOUS = (
    ("dot-segment", "/items/../private/1", TSAI),
    ("dot-segment-at-the-start", "/../private/1", TSAI),
    ("dot-segment-at-the-end", "/private/x/..", TSAI),
    ("single-dot", "/./private/1", TSAI),
    ("single-dot-at-the-end", "/items/.", TSAI),
    ("encoded-dot-segment", "/items/%2e%2e/private/1", TSAI),
    ("encoded-dot-segment-upper-case", "/items/%2E%2E/private/1", TSAI),
    ("half-encoded-dot-segment", "/items/.%2e/private/1", TSAI),
    ("encoded-slash-after-dots", "/items/..%2fprivate/1", TSAI),
    ("encoded-slash", "/private%2f1", TSAI),
    ("encoded-backslash", "/items/..%5cprivate/1", TSAI),
    ("backslash", "/items\\..\\private\\1", TSAI),
    ("encoded-backslash-as-separator", "/private%5C1", TSAI),
    ("dots-with-a-parameter", "/items/..;/private/1", TSAI),
    ("dots-with-an-encoded-parameter", "/items/..%3b/private/1", TSAI),
    ("path-parameter", "/private;x=1/1", TSAI),
    ("path-parameter-without-name", "/;/private/1", TSAI),
    ("path-parameter-at-the-end", "/private/1;jsessionid=1", CACHE),
    ("double-encoded-dots", "/items/%252e%252e/private/1", "CWE-174"),
    ("double-encoded-slash", "/items/..%252fprivate", "CWE-174"),
    ("encoded-percent-and-digits", "/items/%25%32%65%25%32%65/private", "CWE-174"),
    ("triple-encoded", "/items/%25252e%25252e/private", "CWE-174"),
    ("empty-segment-at-the-start", "//private/1", TSAI),
    ("empty-segment-inside", "/items//private/1", TSAI),
    ("three-slashes", "///private/1", TSAI),
    ("slash-dot-slash", "/items/.//private", TSAI),
    ("nul", "/items/1%00.json", "CWE-158"),
    ("nul-in-dots", "/items/..%00/private/1", "CWE-158"),
    ("encoded-line-feed", "/items/1%0a", CACHE),
    ("encoded-carriage-return", "/items/1%0d%0aX-Injected:%201", "CWE-113"),
    ("encoded-tab", "/items/%09..", CACHE),
    ("encoded-delete", "/items/%7f", "CWE-176"),
    ("raw-tab", "/items/\t1", CACHE),
    ("raw-escape", "/items/\x1b[2J", "CWE-150"),
    ("fragment", "/items/1#/../private", "RFC 9112 §3.2.1"),
    ("fragment-in-the-query", "/items/1?a=1#b", "RFC 9112 §3.2.1"),
    ("overlong-dot", "/items/%c0%ae%c0%ae/private/1", OVERLONG),
    ("overlong-dot-in-three-bytes", "/items/%e0%80%ae%e0%80%ae/private/1", OVERLONG),
    ("overlong-slash", "/private%c0%af1", OVERLONG),
    ("truncated-utf-8", "/items/%e2%80", OVERLONG),
    ("surrogate-in-utf-8", "/items/%ed%a0%80", OVERLONG),
    ("latin-1", "/items/%e9", OVERLONG),
    ("iis-unicode-escape", "/items/%u002e%u002e/private", "CVE-2000-0884"),
    ("bad-escape", "/items/%zz", "RFC 3986 §2.1"),
    ("cut-escape", "/items/%2", "RFC 3986 §2.1"),
    ("lone-percent", "/items/%", "RFC 3986 §2.1"),
    ("raw-utf-8", "/items/é", "RFC 3986 §2"),
    ("not-a-path", "items/1", "RFC 9112 §3.2.1"),
    ("asterisk", "*", "RFC 9112 §3.2.4"),
    ("a-query-alone", "?x=1", "RFC 9112 §3.2.1"),
    ("nine-thousand-bytes", "/items/" + "a" * 9000, "RFC 9110 §4.1"),
    ("a-thousand-segments", "/items" + "/a" * 1000, "CWE-400"),
    ("ten-thousand-parameters", "/items?" + "a=1&" * 10_000, "CWE-400"),
    ("seventy-thousand-bytes", "/items/" + "a" * 70_000, "CWE-400"),
    ("bad-escape-in-the-query", "/search?scope=%zz", POLLUTION),
    ("nul-in-the-query", "/search?scope=x%00all", POLLUTION),
    ("latin-1-in-the-query", "/search?scope=%e9", POLLUTION),
    ("raw-utf-8-in-the-query", "/search?scope=ａll", POLLUTION),
    ("raw-control-in-the-query", "/search?scope=\x01all", POLLUTION),
)  # fmt: skip
ALSO_OVER_HTTP2 = frozenset(
    "dot-segment encoded-dot-segment encoded-slash dots-with-a-parameter double-encoded-dots empty-segment-at-the-start "
    "fragment nul raw-tab raw-utf-8 not-a-path overlong-dot bad-escape".split()
)
# A deny rule holds for every spelling of what it names.
DENIED = (
    ("as-it-is", "/private/1", ""),
    ("the-folder-itself", "/private", ""),
    ("with-a-trailing-slash", "/private/", TSAI),
    ("in-upper-case", "/PRIVATE/1", "CWE-178"),
    ("in-mixed-case", "/pRiVaTe/1", "CWE-178"),
    ("with-an-encoded-letter", "/%70rivate/1", "CWE-177"),
    ("all-encoded", "/%70%72%69%76%61%74%65/1", "CWE-177"),
    ("in-encoded-capitals", "/%50RIVATE/1", "CWE-177"),
    ("full-width", "/%ef%bd%90rivate/1", "CWE-176: Unicode NFKC"),
    ("with-a-long-s-elsewhere", "/private/%c5%bf", "CWE-176: Unicode NFKC"),
    ("with-an-encoded-question-mark", "/private/1%3Fx", TSAI),
    ("with-an-encoded-hash", "/private/%231", TSAI),
    ("with-a-query", "/private/1?a=/items", ""),
    ("query-value", "/search?scope=all", ""),
    ("query-value-encoded", "/search?scope=%61%6c%6c", POLLUTION),
    ("query-name-encoded", "/search?sc%6fpe=all", POLLUTION),
    ("query-name-in-upper-case", "/search?SCOPE=all", POLLUTION),
    ("query-value-in-upper-case", "/search?scope=ALL", POLLUTION),
    ("query-value-full-width", "/search?scope=%EF%BD%81ll", POLLUTION),
    ("query-value-first", "/search?scope=all&scope=mine", POLLUTION),
    ("query-value-last", "/search?scope=mine&scope=all", POLLUTION),
    ("query-value-as-a-list", "/search?scope[]=all", POLLUTION),
    ("query-value-with-an-index", "/search?scope[0]=all", POLLUTION),
    ("query-value-behind-a-semicolon", "/search?a=1;scope=all", POLLUTION),
    ("query-name-with-a-space", "/search?%20scope=all", "PHP: variables from external sources"),
)  # fmt: skip
# What has one reading passes, and in one spelling.
CANONICAL = (
    ("unreserved-decoded", "/items/%61%2Db%2ec%5fd%7e", "/items/a-b.c_d~"),
    ("escapes-in-upper-case", "/items/%c3%a9%3a", "/items/%C3%A9%3A"),
    ("unwise-characters-escaped", '/items/a"<b>[c]^`{d|e}', "/items/a%22%3Cb%3E%5Bc%5D%5E%60%7Bd%7Ce%7D"),
    ("trailing-slash-kept", "/items/", "/items/"),
    ("dots-in-names", "/items/...", "/items/..."),
    ("dots-at-the-end-of-a-name", "/items../1", "/items../1"),
    ("encoded-percent", "/items/100%25", "/items/100%25"),
    ("query-as-it-was", "/items?a=%2f&b=c+d&e", "/items?a=%2f&b=c+d&e"),
    ("query-without-empty-pieces", "/items?&a=1&&b", "/items?a=1&b"),
    ("question-mark-in-the-query", "/items?a=?&b=/../x", "/items?a=?&b=/../x"),
    ("empty-query", "/items?", "/items"),
)
TARGETS = (
    *(Case(f"path-{name}", "G3", tunnel(request(target)), 400, "malformed_request", basis=basis) for name, target,
        basis in AMBIGUOUS),
    *(Case(f"denied-{name}", "G3", tunnel(request(target)), 403, "denied_by_rule", basis=basis) for name, target,
        basis in DENIED),
    *(Case(f"canonical-{name}", "G3", tunnel(request(raw)), 200, "OK", (forwarded(sent),)) for name, raw, sent in CANONICAL),
    *(
        Case(f"h2-path-{name}", "G3", http2(frames.headers(*frames.head(path=target))), 400, "malformed_request", basis=basis)
        for name, target, basis in AMBIGUOUS
        if name in ALSO_OVER_HTTP2
    ),
    Case("h2-path-with-a-space", "G3", http2(frames.headers(*frames.head(path="/items/1 HTTP/1.1"))), 400, "malformed_request",
         basis="Kettle, HTTP/2: The Sequel is Always Worse (2021)"),
    Case("h2-path-with-a-url", "G3", http2(frames.headers(*frames.head(path="https://tenant.example.com/a"))), 400,
         "malformed_request", basis="Kettle, HTTP/2: The Sequel is Always Worse (2021)"),
    Case("h2-path-empty", "G3", http2(frames.headers(*frames.head(path=""))), CLOSED, "", basis="RFC 9113 §8.3.1",
         limit=NO_ROW, or_refused=True),
    Case("two-spaces-before-the-target", "G3", tunnel(request(" /items/1")), 400, "malformed_request"),
    Case("space-in-the-target", "G3", tunnel(request("/items/1 /private/1")), 400, "malformed_request"),
    Case("no-target", "G3", tunnel(b"GET HTTP/1.1\r\nHost: api.example.com\r\n\r\n"), 400, "malformed_request"),
    Case("trailing-dot-of-a-name", "G3", tunnel(request("/private./1")), 403, "denied_by_rule", basis="CWE-42"),
    Case("trailing-space-of-a-name", "G3", tunnel(request("/private%20/1")), 403, "denied_by_rule", basis="CWE-46"),
    Case("encoded-slash-that-is-data", "G3", tunnel(request("/files/a%2fb", host="slashed.example.com"),
        to="slashed.example.com:443"),
         200, "OK", (forwarded("/files/a%2Fb", host="slashed.example.com"),)),
    Case("encoded-slash-that-climbs", "G3", tunnel(request("/files/..%2fprivate", host="slashed.example.com"),
        to="slashed.example.com:443"),
         400, "malformed_request", basis=TSAI),
    Case("encoded-slash-twice", "G3", tunnel(request("/files/a%2f%2fb", host="slashed.example.com"),
        to="slashed.example.com:443"),
         200, "OK", (forwarded("/files/a%2F%2Fb", host="slashed.example.com"),), basis=TSAI,
         limit="where a service says `encoded_slash: keep`, what its server makes of them is the operator's to know"),
    Case("encoded-slash-of-another-service", "G3", tunnel(request("/items/a%2fb")), 400, "malformed_request"),
    Case("outside-the-base", "G3", tunnel(request("/v1/x", host="based.example.com"), to="based.example.com:443"), 403,
        "path_not_allowed"),
    Case("base-in-another-case", "G3", tunnel(request("/V2/x", host="based.example.com"), to="based.example.com:443"), 403,
        "path_not_allowed"),
    Case("base-as-a-prefix", "G3", tunnel(request("/v22/x", host="based.example.com"), to="based.example.com:443"), 403,
        "path_not_allowed"),
)  # fmt: skip

OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x-http-method-override", "X_HTTP_Method_Override")
METHODS = (
    *(
        Case(f"method-{name}", "G3", tunnel(request("/items/1", method=method)), 400, "malformed_request", basis=basis)
        for name, method, basis in (
            ("lower-case", "get", "RFC 9110 §9.1: methods are case-sensitive"),
            ("mixed-case", "Delete", "RFC 9110 §9.1"),
            ("trace", "TRACE", "Cross-Site Tracing (Grossman 2003)"),
            ("track", "TRACK", "Cross-Site Tracing (Grossman 2003)"),
            ("with-a-tab", "GET\t", "RFC 9112 §3"),
            ("padded", "GET ", "RFC 9112 §3"),
            ("padded-before", " GET", "RFC 9112 §3"),
            ("with-a-digit", "G3T", ""),
            ("with-a-dash", "M-SEARCH", ""),
            ("with-a-nul", "GET\0", ""),
            ("with-a-control", "\x0bGET", "PortSwigger HTTP desync: prefix bytes"),
            ("empty", "", ""),
            ("policys-own-word", "WEBSOCKET", ""),
        )
    ),
    *(
        Case(f"method-{method.lower()}", "G3", tunnel(request("/items/1", method=method)), 403, "method_not_allowed")
        for method in ("PROPFIND", "MOVE", "PURGE", "LINK", "DEBUG", "QUERY", "PRI", "X" * 500)
    ),
    *(
        Case(f"override-by-{name.lower().replace('_', '-')}-{number}", "G3", tunnel(request("/items/1", f"{name}: DELETE")), 400,
            "malformed_request")
        for number, name in enumerate(OVERRIDES)
    ),
    Case("override-to-the-same", "G3", tunnel(request("/items/1", "X-HTTP-Method-Override: GET")), 400, "malformed_request"),
    Case("override-by-parameter", "G3", tunnel(request("/items/1?_method=DELETE")), 400, "malformed_request",
        basis="Rails, Symfony"),
    Case("override-by-parameter-in-capitals", "G3", tunnel(request("/items/1?_METHOD=DELETE")), 400, "malformed_request"),
    Case("override-by-parameter-encoded", "G3", tunnel(request("/items/1?%5fmethod=DELETE")), 400, "malformed_request"),
    Case("override-by-parameter-behind-a-semicolon", "G3", tunnel(request("/items/1?a=1;_method=DELETE")), 400,
        "malformed_request"),
    Case("override-by-h2-header", "G3", http2(frames.headers(*frames.head(("x-http-method-override", "DELETE")))), 400,
        "malformed_request"),
    Case("override-in-a-form", "G3", tunnel(with_body("/items/1", b"_method=DELETE", IS_FORM)), 400, "malformed_request",
         basis="Rails, Symfony: a field of the form"),
    Case("override-in-a-form-in-chunks", "G3", tunnel(request("/items/1", IS_FORM, "Transfer-Encoding: chunked", method="POST",
         body=b"4\r\n_met\r\na\r\nhod=DELETE\r\n0\r\n\r\n")), 400, "malformed_request"),
    Case("override-in-a-long-form", "G3", tunnel(with_body("/items/1", b"a=" + b"b" * 70_000 + b"&_method=DELETE", IS_FORM)),
        400, "malformed_request"),
    Case("override-in-a-form-without-a-type", "G3", tunnel(with_body("/items/1", b"_method=DELETE")), 400, "malformed_request",
        basis="Rack"),
    Case("override-in-a-form-behind-a-semicolon", "G3", tunnel(with_body("/items/1", b"a=1; _METHOD=DELETE", IS_FORM)), 400,
        "malformed_request"),
    Case("override-in-a-multipart-form", "G3", tunnel(with_body("/items/1", MULTIPART, IS_MULTIPART)), 200, "OK",
         (forwarded("/items/1", IS_MULTIPART, method="POST", body=MULTIPART),), basis="Rails, Symfony",
         limit="a `_method` in a multipart or JSON body is not looked for: such uploads stream"),
    Case("policys-own-word-for-an-upgrade", "G3", tunnel(request("/socket", method="WEBSOCKET")), 400, "malformed_request"),
    Case("override-in-a-form-encoded", "G3", tunnel(with_body("/items/1", b"a=1&%5Fmethod=DELETE", IS_FORM)), 400,
        "malformed_request"),
    Case("h2-method-in-lower-case", "G3", http2(frames.headers(*frames.head(method="get"))), 400, "malformed_request"),
    Case("h2-method-with-a-space", "G3", http2(frames.headers(*frames.head(method="GET /private/1 HTTP/1.1\r\nX: 1"))), CLOSED,
        "",
         basis="Kettle, HTTP/2: The Sequel is Always Worse (2021): request line injection",
         limit=NO_ROW, or_refused=True),
    Case("head-is-a-read", "G3", tunnel(request("/items/1", method="HEAD")), 200, "OK", (forwarded("/items/1", method="HEAD"),),
        body=b""),
    Case("head-of-what-is-denied", "G3", tunnel(request("/private/1", method="HEAD")), 403, "denied_by_rule"),
    Case("options-of-what-is-denied", "G3", tunnel(request("/private/1", method="OPTIONS")), 403, "denied_by_rule"),
    Case("options-where-no-rule-has-it", "G3", tunnel(request("/a", method="OPTIONS")), 403, "path_not_allowed"),
    Case("options-of-everything", "G3", tunnel(request("*", method="OPTIONS")), 400, "malformed_request",
        basis="RFC 9110 §9.3.7"),
    Case("a-read-with-a-body", "G3", tunnel(with_body("/items/1", b"abc", method="GET")), 200, "OK",
         (forwarded("/items/1", method="GET", body=b"abc"),), basis="RFC 9110 §9.3.1"),
    Case("a-write-where-only-reads-are-allowed", "G3",
         tunnel(with_body("/items/1", b"", method="POST", host="reader.example.com"), to="reader.example.com:443"), 403,
         "method_not_allowed"),
)  # fmt: skip


def _graphql(name: str, body: object, status: int = 403, reason: str = "body_not_allowed", kind: str = IS_JSON) -> Case:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    host = "graph.example.com"
    sent = (forwarded("/graphql", kind, method="POST", host=host, body=data),) if status == 200 else ()
    return Case(
        f"graphql-{name}", "G3", tunnel(with_body("/graphql", data, kind, host=host), to=f"{host}:443"), status, reason, sent
    )


READ = "query { me { id } }"
WRITE = "mutation { deleteEverything }"
GRAPHQL = (
    _graphql("read", {"query": READ}, 200, "OK"),
    _graphql("mutation", {"query": WRITE}),
    _graphql("both-in-one-document", {"query": f"{READ} {WRITE}", "operationName": "x"}),
    _graphql("batch", [{"query": READ}, {"query": WRITE}]),
    _graphql("batch-of-reads", [{"query": READ}]),
    _graphql("two-queries", b'{"query": "query { me { id } }", "query": "mutation { deleteEverything }"}'),
    _graphql("two-queries-in-two-cases", {"query": READ, "Query": WRITE}),
    _graphql("escaped-name", b'{"query": "query { me { id } }", "qu\\u0065ry": "mutation { deleteEverything }"}'),
    _graphql("comment", {"query": f"# {READ}\n{WRITE}"}),
    _graphql("persisted", {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}),
    _graphql("as-a-document", WRITE.encode(), kind="Content-Type: application/graphql"),
    _graphql("as-text", json.dumps({"query": READ}).encode(), kind="Content-Type: text/plain"),
    _graphql("multipart",
             b'--a\r\nContent-Disposition: form-data; name="operations"\r\n\r\n{"query": "mutation { x }"}\r\n--a--\r\n',
             kind="Content-Type: multipart/form-data; boundary=a"),
    _graphql("array-as-query", {"query": [READ]}),
    _graphql("null", None),
    Case("graphql-by-get", "G3", tunnel(request("/graphql?query=mutation%7Bx%7D", host="graph.example.com"),
        to="graph.example.com:443"),
         403, "path_not_allowed"),
    Case("graphql-mutation-by-get-where-all-reads-are-allowed", "G3",
         tunnel(request("/graphql?query=mutation%7Bx%7D", host="reader.example.com"), to="reader.example.com:443"), 200, "OK",
         (forwarded("/graphql?query=mutation%7Bx%7D", host="reader.example.com"),), basis="GraphQL over HTTP §6.2",
         limit="a GET that changes something is the service's fault: name what may be read instead of /**"),
)  # fmt: skip


def _link(name: str, body: bytes, kind: str = IS_JSON, basis: str = "", *lines: str) -> Case:
    return Case(
        f"body-{name}",
        "G3",
        tunnel(with_body("/links", body, *([kind] if kind else []), *lines)),
        403,
        "body_not_allowed",
        basis=basis,
    )


def _note(name: str, body: bytes, kind: str = IS_JSON, basis: str = "", *lines: str) -> Case:
    return Case(f"denied-body-{name}", "G3", tunnel(with_body("/notes", body, kind, *lines)), 403, "denied_by_rule", basis=basis)


def _passes(name: str, target: str, body: bytes, kind: str = IS_JSON) -> Case:
    return Case(f"body-{name}", "G3", tunnel(with_body(target, body, kind)), 200, "OK",
                (forwarded(target, kind, method="POST", body=body),))  # fmt: skip


ONE = b'{"max": 1}'
BODIES = (
    _passes("that-a-rule-allows", "/links", ONE),
    _passes("that-a-rule-allows-as-a-form", "/links", b"max=1", IS_FORM),
    _passes("that-no-rule-denies", "/notes", b'{"kind": "open"}'),
    Case("body-in-chunks", "G3", tunnel(request("/links", IS_JSON, "Transfer-Encoding: chunked", method="POST",
         body=b"5\r\n" + ONE[:5] + b"\r\n5;ext=1\r\n" + ONE[5:] + b"\r\n0\r\n\r\n")), 200, "OK",
         (forwarded("/links", IS_JSON, method="POST", body=ONE),)),
    Case("body-byte-by-byte", "G3", tunnel(with_body("/links", ONE, IS_JSON), piece_bytes=1), 200, "OK",
         (forwarded("/links", IS_JSON, method="POST", body=ONE),), basis="slow bodies: OWASP, R-U-Dead-Yet"),
    Case("body-in-h2-frames", "G3", http2(frames.open_headers(*frames.head(("content-type", "application/json"), method="POST",
        path="/links"))
         + frames.data(ONE[:4], flags=()) + frames.data(b"", flags=()) + frames.data(ONE[4:])), 200, "OK",
         (forwarded("/links", "content-type: application/json", method="POST", body=ONE),)),
    _link("another-value", b'{"max": 2}'),
    _link("a-text-for-a-number", b'{"max": "1"}'),
    _link("a-boolean-for-a-number", b'{"max": true}'),
    _link("a-list-for-a-value", b'{"max": [1]}'),
    _link("nested", b'{"x": {"max": 1}}'),
    _link("missing", b"{}"),
    _link("empty", b""),
    _link("an-array", b'[{"max": 1}]', IS_JSON, JSON),
    _link("duplicate-key-last", b'{"max": 1, "max": 2}', IS_JSON, JSON),
    _link("duplicate-key-first", b'{"max": 2, "max": 1}', IS_JSON, JSON),
    _link("duplicate-key-elsewhere", b'{"max": 1, "a": {"b": 1, "b": 2}}', IS_JSON, JSON),
    _link("duplicate-key-escaped", b'{"max": 1, "m\\u0061x": 2}', IS_JSON, JSON),
    _link("duplicate-key-in-capitals", b'{"max": 1, "MAX": 2}', IS_JSON, "Go, encoding/json: names without case"),
    _link("duplicate-key-truncated", b'{"max": 1, "max\\u0000x": 2}', IS_JSON, JSON),
    _link("lone-surrogate", b'{"max": 1, "a": "\\ud800"}', IS_JSON, JSON),
    _link("nan", b'{"max": 1, "a": NaN}', IS_JSON, JSON),
    _link("infinite-number", b'{"max": 1, "a": 1e999}', IS_JSON, JSON),
    _link("huge-integer", b'{"max": 1, "a": 1' + b"0" * 5000 + b"}", IS_JSON, JSON),
    _link("comment", b'{"max": 1 /*, "max": 2 */}', IS_JSON, JSON),
    _link("trailing-garbage", b'{"max": 1} {"max": 2}', IS_JSON, JSON),
    _link("trailing-nul", b'{"max": 1}\0', IS_JSON, JSON),
    _link("trailing-comma", b'{"max": 1,}', IS_JSON, JSON),
    _link("single-quotes", b"{'max': 1}", IS_JSON, JSON),
    _link("byte-order-mark", b"\xef\xbb\xbf" + ONE, IS_JSON, "RFC 8259 §8.1"),
    _link("utf-16", ONE.decode().encode("utf-16-le"), IS_JSON, "RFC 8259 §8.1"),
    _link("utf-16-with-its-charset", ONE.decode().encode("utf-16-le"), "Content-Type: application/json; charset=utf-16"),
    _link("utf-7-charset", b'{"max": 1, "+AG0-ax": 2}', "Content-Type: application/json; charset=utf-7",
        "charset tricks (Soroush Dalili 2017)"),
    _link("ebcdic-charset", ONE, "Content-Type: application/json; charset=ibm500", "charset tricks (Soroush Dalili 2017)"),
    _link("two-charsets", ONE, "Content-Type: application/json; charset=utf-8; charset=utf-16"),
    _link("invalid-utf-8", b'{"max": 1, "a": "\xff"}', IS_JSON, JSON),
    _link("too-deep", b'{"max": 1, "a": ' + b"[" * 100 + b"]" * 100 + b"}", IS_JSON, "CWE-674"),
    _link("no-type", ONE, ""),
    _link("text-type", ONE, "Content-Type: text/plain"),
    _link("two-types", ONE, IS_JSON, "", IS_FORM),
    _link("type-list", ONE, "Content-Type: application/json, text/plain"),
    _link("json-for-a-form", ONE, IS_FORM),
    _link("form-for-json", b"max=1", IS_JSON),
    _link("form-twice", b"max=1&max=2", IS_FORM, POLLUTION),
    _link("form-semicolon", b"max=1;max=2", IS_FORM, POLLUTION),
    _link("form-list", b"max=1&max[]=2", IS_FORM, POLLUTION),
    _link("form-bad-escape", b"max=1&a=%zz", IS_FORM, POLLUTION),
    _link("multipart", b'--a\r\nContent-Disposition: form-data; name="max"\r\n\r\n1\r\n--a--\r\n',
        "Content-Type: multipart/form-data; boundary=a"),
    _link("gzip", gzip.compress(ONE, mtime=0), IS_JSON, "CWE-436", "Content-Encoding: gzip"),
    _link("gzip-unlabelled", gzip.compress(ONE, mtime=0), IS_JSON, "CWE-436"),
    _link("coding-that-is-a-lie", ONE, IS_JSON, "CWE-436", "Content-Encoding: br"),
    _link("coding-identity", ONE, IS_JSON, "CWE-436", "Content-Encoding: identity"),
    Case("body-truncated", "G3", tunnel(request("/links", IS_JSON, "Content-Length: 100", method="POST", body=ONE), leaves=True),
         CLOSED, "", rows=(("deny", "malformed_request"),), basis="RFC 9112 §8"),
    Case("body-truncated-chunk", "G3", tunnel(request("/links", IS_JSON, "Transfer-Encoding: chunked", method="POST",
        body=b"a\r\n" + ONE), leaves=True),
         CLOSED, "", rows=(("deny", "malformed_request"),), basis="RFC 9112 §8"),
    Case("body-longer-than-said", "G3", tunnel(request("/links", IS_JSON, "Content-Length: 10", method="POST", body=ONE
        + b"GET /private/1")), 200, "OK",
         (forwarded("/links", IS_JSON, method="POST", body=ONE),)),
    Case("body-too-large", "G3", tunnel(with_body("/links", b'{"max": 1, "a": "' + b"a" * 64 + b'"}', IS_JSON,
        host="small.example.com"),
         to="small.example.com:443"), 413, "body_too_large"),
    Case("body-too-large-in-chunks", "G3", tunnel(request("/links", IS_JSON, "Transfer-Encoding: chunked", method="POST",
        host="small.example.com",
         body=b"50\r\n" + b" " * 80 + b"\r\na\r\n" + ONE + b"\r\n0\r\n\r\n"), to="small.example.com:443"), 413, "body_too_large"),
    Case("body-said-to-be-enormous", "G3", tunnel(request("/links", IS_JSON, "Content-Length: 99999999999999", method="POST",
        body=b" " * 2**21)), 413,
         "body_too_large"),
    _note("as-it-is", b'{"kind": "secret"}'),
    _note("as-a-form", b"kind=secret", IS_FORM),
    _note("in-capitals", b'{"KIND": "SECRET"}'),
    _note("in-a-list", b'[{"kind": "secret"}]'),
    _note("value-in-a-list", b'{"kind": ["open", "secret"]}'),
    _note("duplicate-key", b'{"kind": "open", "kind": "secret"}', IS_JSON, JSON),
    _note("escaped", b'{"k\\u0069nd": "s\\u0065cret"}', IS_JSON, JSON),
    _note("full-width", '{"kind": "ｓecret"}'.encode(), IS_JSON, "CWE-176"),
    _note("gzip", gzip.compress(b'{"kind": "open"}', mtime=0), IS_JSON, "CWE-436", "Content-Encoding: gzip"),
    _note("unreadable", b"{", IS_JSON),
    _note("unknown-type", b'{"kind": "open"}', "Content-Type: application/octet-stream"),
    _note("multipart", b'--a\r\nContent-Disposition: form-data; name="kind"\r\n\r\nsecret\r\n--a--\r\n',
        "Content-Type: multipart/form-data; boundary=a"),
    _note("byte-order-mark", b'\xef\xbb\xbf{"kind": "open"}', IS_JSON, "RFC 8259 §8.1"),
    _note("form-list", b"kind[]=secret", IS_FORM, POLLUTION),
    Case("batch-endpoint", "G3", tunnel(with_body("/$batch", b"--b\r\n\r\nDELETE /private/1 HTTP/1.1\r\n\r\n\r\n--b--",
         "Content-Type: multipart/mixed; boundary=b")), 403, "path_not_allowed", basis="OData 4.01 §11.7"),
    Case("batch-in-an-allowed-place", "G3", tunnel(with_body("/items/batch",
        b'{"requests": [{"method": "DELETE", "url": "/private/1"}]}', IS_JSON)), 200, "OK",
         (forwarded("/items/batch", IS_JSON, method="POST", body=b'{"requests": [{"method": "DELETE", "url": "/private/1"}]}'),),
             basis="OData 4.01 §11.7",
         limit="what a batch endpoint makes of its body only the service knows: do not allow a batch endpoint, or pin its body"),
)  # fmt: skip


def _git(name: str, target: str, status: int, reason: str, method: str = "GET", *lines: str) -> Case:
    host, body = "git.example.com", b"0000" if method == "POST" else b""
    sent = (forwarded(target, *lines, method=method, host=host, body=body),) if status == 200 else ()
    raw = with_body(target, body, *lines, method=method, host=host) if body else request(target, *lines, host=host)
    return Case(f"git-{name}", "G3", tunnel(raw, to=f"{host}:443"), status, reason, sent)


GIT = (
    _git("fetch-begins", "/acme/app.git/info/refs?service=git-upload-pack", 200, "OK", "GET", "Git-Protocol: version=2"),
    _git("fetch", "/acme/app.git/git-upload-pack", 200, "OK", "POST"),
    _git("push-begins", "/acme/app.git/info/refs?service=git-receive-pack", 403, "body_not_allowed"),
    _git("push-begins-behind-a-fetch", "/acme/app.git/info/refs?service=git-upload-pack&service=git-receive-pack", 403,
        "body_not_allowed"),
    _git("push-begins-before-a-fetch", "/acme/app.git/info/refs?service=git-receive-pack&service=git-upload-pack", 403,
        "body_not_allowed"),
    _git("push-begins-behind-a-semicolon", "/acme/app.git/info/refs?service=git-upload-pack;service=git-receive-pack", 403,
        "body_not_allowed"),
    _git("push-begins-encoded", "/acme/app.git/info/refs?service=git%2Dreceive%2Dpack", 403, "body_not_allowed"),
    _git("push-begins-in-capitals", "/acme/app.git/info/refs?service=git-upload-pack&SERVICE=git-receive-pack", 403,
        "body_not_allowed"),
    _git("dumb-protocol", "/acme/app.git/info/refs", 403, "body_not_allowed"),
    _git("push", "/acme/app.git/git-receive-pack", 403, "path_not_allowed", "POST"),
    _git("push-in-capitals", "/acme/app.git/GIT-RECEIVE-PACK", 403, "path_not_allowed", "POST"),
    _git("push-by-dots", "/acme/app.git/git-upload-pack/../git-receive-pack", 400, "malformed_request", "POST"),
    _git("push-by-a-parameter", "/acme/app.git/git-receive-pack;/git-upload-pack", 400, "malformed_request", "POST"),
    _git("other-repository", "/other/app.git/git-upload-pack", 403, "path_not_allowed", "POST"),
    _git("large-files", "/acme/app.git/info/lfs/objects/batch", 403, "path_not_allowed", "POST"),
)  # fmt: skip

CASES = (*TARGETS, *METHODS, *GRAPHQL, *BODIES, *GIT)
