"""Who is being called: every way to say one host and mean another.

Published work behind the rows: James Kettle, "Cracking the lens" (PortSwigger 2017: routing by Host and absolute-form) and
"HTTP/2: The Sequel is Always Worse" (PortSwigger 2021: ambiguous authority, path and scheme); "Domain fronting" (Fifield et al.,
PoPETs 2015); RFC 9110 §7.2 and §17.1; RFC 9113 §8.3.1; RFC 6066 §3; WHATWG URL §3.5 (hosts that end in a number); Unicode TS 39
(confusables); Orange Tsai, "A New Era of SSRF" (Black Hat 2017: parsers that disagree on an authority).
"""

from __future__ import annotations

import base64

from outloop.attacks import frames
from outloop.attacks.case import (
    CLOSED,
    HOST,
    Case,
    Talk,
    bare_tunnel,
    connect,
    forwarded,
    http2,
    plain,
    request,
    tunnel,
    with_body,
)  # fmt: skip

NO_ROW = "a request that breaks the rules of HTTP/2 itself ends its connection: an event tells of it, not a document and a row"
LENS = "Kettle, Cracking the lens (2017)"
SEQUEL = "Kettle, HTTP/2: The Sequel is Always Worse (2021)"
SSRF = "Orange Tsai, A New Era of SSRF (2017)"
BOOKS = "xn--bcher-kva.example.com"
TENANT = "tenant.example.com"
OPEN = "Proxy-Authorization: Basic " + base64.b64encode(b"open:fake-token-of-the-open-workspace").decode()
UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")


def _refused_connect(name: str, authority: str, status: int, reason: str, basis: str = "") -> Case:
    return Case(f"connect-{name}", "G2", plain(connect(authority)), status, reason, basis=basis)


def _mismatch(name: str, talk: Talk, basis: str = "") -> Case:
    return Case(name, "G2", talk, 421, "host_mismatch", basis=basis)


def _malformed(name: str, talk: Talk, basis: str = "") -> Case:
    return Case(name, "G2", talk, 400, "malformed_request", basis=basis)


def _broken(name: str, talk: Talk, basis: str = "") -> Case:
    return Case(name, "G2", talk, CLOSED, "", basis=basis, limit=NO_ROW, or_refused=True)


def _same(name: str, talk: Talk, upstream: bytes = b"", basis: str = "") -> Case:
    return Case(name, "G2", talk, 200, "OK", (upstream or forwarded("/a"),), body=b"ok", basis=basis)


def _host(name: str) -> Talk:
    return tunnel(request("/a", host=name))


def _authority(name: str | None, *fields: frames.Field, scheme: str = "https") -> Talk:
    return http2(frames.headers(*frames.head(*fields, authority=name, path="/a", scheme=scheme)))


HEADERS = (
    _mismatch("host-of-another-service", _host(TENANT), "domain fronting"),
    _mismatch("host-of-a-stranger", _host("evil.example.org"), "domain fronting"),
    _mismatch("host-with-another-port", _host(f"{HOST}:444")),
    _mismatch("host-with-the-port-of-http", _host(f"{HOST}:80")),
    _mismatch("host-with-a-look-alike-suffix", _host(f"{HOST}.evil.example.org")),
    _mismatch("host-with-a-look-alike-prefix", _host(f"not{HOST}")),
    _mismatch("host-in-punycode-look-alike", _host("xn--pi-6kc.example.com"), "Unicode TS 39"),
    _mismatch("host-is-an-address", _host("192.0.2.7")),
    _mismatch("host-is-outloops-own-page", _host("outloop.internal")),
    _malformed("host-with-user-info", _host(f"{HOST}@evil.example.org"), SSRF),
    _malformed("host-as-user-info", _host(f"evil.example.org:443@{HOST}"), SSRF),
    _malformed("host-with-a-path", _host(f"{HOST}/x"), LENS),
    _malformed("host-with-a-fragment", _host(f"evil.example.org#{HOST}"), SSRF),
    _malformed("host-with-a-backslash", _host(f"evil.example.org\\{HOST}"), SSRF),
    _malformed("host-with-two-ports", _host(f"{HOST}:443:443"), SSRF),
    _malformed("host-with-an-empty-port", _host(f"{HOST}:")),
    _malformed("host-with-a-padded-port", _host(f"{HOST}:00443")),
    _malformed("host-with-a-port-too-large", _host(f"{HOST}:65979"), "65979 is 443 modulo 65536"),
    _malformed("host-list", _host(f"{HOST}, evil.example.org")),
    _malformed("host-with-a-space", _host(f"{HOST} evil.example.org")),
    _malformed("host-with-a-tab", _host(f"{HOST}\tevil.example.org")),
    _malformed("host-percent-encoded", _host("api%2eexample.com"), LENS),
    _malformed("host-full-width", _host("ａpi.example.com"), SSRF),
    _malformed("host-ideographic-dot", _host("api。example.com"), SSRF),
    _malformed("host-zero-width", _host("api\u200b.example.com"), "Unicode TS 39"),
    _malformed("host-soft-hyphen", _host("api\u00ad.example.com"), "Unicode TS 39"),
    _malformed("host-with-two-trailing-dots", _host(f"{HOST}..")),
    _malformed("host-empty", _host("")),
    _malformed("host-missing", tunnel(b"GET /a HTTP/1.1\r\n\r\n")),
    _malformed("host-missing-in-http-1-0", tunnel(b"GET /a HTTP/1.0\r\n\r\n")),
    _malformed("hosts-that-differ", tunnel(request("/a", "Host: evil.example.org")), LENS),
    _malformed("hosts-that-agree", tunnel(request("/a", f"hOST: {HOST}")), "RFC 9112 §3.2: more than one is a 400"),
    _malformed("hosts-with-an-underscore-twin", tunnel(request("/a", "Host : evil.example.org")), "RFC 9112 §5.1"),
    _same("host-in-upper-case", _host(HOST.upper())),
    _same("host-with-a-trailing-dot", _host(f"{HOST}.")),
    _same("host-with-its-own-port", _host(f"{HOST}:443")),
    _same(
        "target-headers-of-servers-behind-proxies",
        tunnel(request("/a", "X-Forwarded-Host: evil.example.org", "X-Host: evil.example.org", "Forwarded: host=evil.example.org",
                       "X-Original-URL: /private/1", "X-Rewrite-URL: /private/1", "X_Forwarded_Host: evil.example.org")),
        basis="Kettle, Practical Web Cache Poisoning (2018)",
    ),
)  # fmt: skip

SECOND = (
    Case("second-request-of-a-connection", "G2", tunnel(request("/a"), request("/b", host=TENANT)), 421, "host_mismatch",
         (forwarded("/a"),)),
    Case("third-request-in-absolute-form", "G2", tunnel(request("/a"), request("/b"), request(f"https://{TENANT}/c")), 400,
         "malformed_request", (forwarded("/a"), forwarded("/b"))),
    Case("pipelined-request-names-another-host", "G2", tunnel(request("/a") + request("/b", host=TENANT)), 200, "OK",
         (forwarded("/a"),), rows=(("allow", "OK"), ("deny", "host_mismatch")), basis="RFC 9112 §9.3.2"),
    Case("h2-later-stream", "G2", http2(
        frames.headers(*frames.head(path="/a")), frames.headers(*frames.head(path="/b", authority=TENANT), stream=3)),
        421, "host_mismatch", (forwarded("/a"),), basis=SEQUEL),
    Case("h2-two-streams-at-once", "G2", http2(
        frames.headers(*frames.head(path="/b", authority=TENANT)) + frames.headers(*frames.head(path="/a"), stream=3), stream=3),
        200, "OK", (forwarded("/a"),), rows=(("deny", "host_mismatch"), ("allow", "OK")), basis=SEQUEL),
)  # fmt: skip

AUTHORITY = (
    _mismatch("h2-authority-of-another-service", _authority(TENANT), SEQUEL),
    _mismatch("h2-authority-of-a-stranger", _authority("evil.example.org"), SEQUEL),
    _mismatch("h2-authority-with-another-port", _authority(f"{HOST}:444")),
    _broken("h2-host-and-authority-differ", _authority(HOST, ("host", "evil.example.org")), SEQUEL),
    _broken("h2-authority-and-host-differ", _authority("evil.example.org", ("host", HOST)), SEQUEL),
    _broken("h2-authority-with-user-info", _authority(f"evil.example.org@{HOST}"), "RFC 9113 §8.3.1"),
    _broken("h2-authority-full-width", _authority("ａpi.example.com"), SSRF),
    _broken("h2-no-authority-and-no-host", _authority(None)),
    _malformed("h2-authority-empty", _authority("")),
    _broken("h2-authority-with-a-path", _authority(f"{HOST}/x"), SEQUEL),
    _broken("h2-authority-with-a-space", _authority(f"{HOST} evil.example.org"), SEQUEL),
    _same("h2-authority-in-upper-case", _authority(HOST.upper()), forwarded("/a")),
    _same("h2-authority-with-its-port", _authority(f"{HOST}:443"), forwarded("/a")),
    _same("h2-host-and-authority-agree", _authority(HOST, ("host", HOST)), forwarded("/a")),
    _same("h2-scheme-that-lies", _authority(HOST, scheme="http"), forwarded("/a"), SEQUEL),  # what is sent is always https
    _malformed("h2-scheme-with-a-url", _authority(HOST, scheme="https://evil.example.org/x?y=https"), SEQUEL),
    Case("h2-authority-twice", "G2", http2(frames.headers((":authority", "evil.example.org"), *frames.head(path="/a"))), CLOSED,
        "",
         basis=SEQUEL, limit=NO_ROW, or_refused=True),
    _broken("h2-nested-connect", http2(frames.open_headers((":method", "CONNECT"), (":authority", "evil.example.org:443"))),
        "RFC 9113 §8.5"),
    _broken("h2-extended-connect", http2(frames.open_headers(*frames.head((":protocol", "websocket"), method="CONNECT",
        path="/socket"))),
            "RFC 8441 §4: only where SETTINGS_ENABLE_CONNECT_PROTOCOL was sent"),
)  # fmt: skip

NAMES_IN_TLS = (
    _mismatch("sni-of-another-service", tunnel(request("/a"), sni=TENANT), "domain fronting"),
    _mismatch("sni-of-a-stranger", tunnel(request("/a"), sni="evil.example.org"), "domain fronting"),
    _mismatch("sni-of-a-look-alike", tunnel(request("/a"), sni=f"{HOST}.evil.example.org")),
    _mismatch("sni-missing", tunnel(request("/a"), sni="")),
    _mismatch("sni-and-host-of-another-service", tunnel(request("/a", host=TENANT), sni=TENANT)),
    _mismatch("h2-sni-of-another-service", http2(frames.headers(*frames.head(path="/a")), sni=TENANT)),
    _same("sni-in-upper-case", tunnel(request("/a"), sni=HOST.upper())),
    _mismatch("sni-names-a-host-where-an-address-is-dialled", tunnel(request("/a", host="192.0.2.7"), to="192.0.2.7:443",
        sni=HOST)),
    _same("an-address-has-no-sni", tunnel(request("/a", host="192.0.2.7"), to="192.0.2.7:443", sni=""),
          forwarded("/a", host="192.0.2.7")),
    _mismatch("address-dialled-and-name-in-host", tunnel(request("/a"), to="192.0.2.7:443", sni="")),
)  # fmt: skip

DIALLED = (
    _same("connect-in-upper-case", tunnel(request("/a"), to=f"{HOST.upper()}:443", sni=HOST)),
    _same("connect-with-a-trailing-dot", tunnel(request("/a"), to=f"{HOST}.:443", sni=HOST)),
    _same("connect-in-punycode", tunnel(request("/a", host=BOOKS), to=f"{BOOKS}:443"), forwarded("/a", host=BOOKS)),
    _same("absolute-form-in-punycode", plain(request(f"https://{BOOKS}/a", host=BOOKS)), forwarded("/a", host=BOOKS)),
    _same("h2-authority-in-punycode", http2(frames.headers(*frames.head(path="/a", authority=BOOKS)), to=f"{BOOKS}:443"),
          forwarded("/a", host=BOOKS)),
    _refused_connect("stranger", "evil.example.org:443", 403, "host_not_allowed"),
    _refused_connect("look-alike-suffix", f"{HOST}.evil.example.org:443", 403, "host_not_allowed"),
    _refused_connect("look-alike-prefix", "notapi.example.com:443", 403, "host_not_allowed"),
    _refused_connect("parent-domain", "example.com:443", 403, "host_not_allowed"),
    _refused_connect("punycode-look-alike", "xn--pi-6kc.example.com:443", 403, "host_not_allowed", "Unicode TS 39"),
    _refused_connect("full-width", "ａpi.example.com:443", 400, "malformed_request", SSRF),
    _refused_connect("ideographic-dot", "api。example.com:443", 400, "malformed_request", SSRF),
    _refused_connect("zero-width", "api\u200b.example.com:443", 400, "malformed_request"),
    _refused_connect("two-trailing-dots", f"{HOST}..:443", 400, "malformed_request"),
    _refused_connect("user-info", f"evil.example.org@{HOST}:443", 400, "malformed_request", SSRF),
    _refused_connect("user-info-and-port", f"{HOST}:443@evil.example.org:443", 400, "malformed_request", SSRF),
    _refused_connect("no-port", HOST, 400, "malformed_request"),
    _refused_connect("port-zero", f"{HOST}:0", 400, "malformed_request"),
    _refused_connect("port-beyond-16-bits", f"{HOST}:65979", 400, "malformed_request", "65979 is 443 modulo 65536"),
    _refused_connect("negative-port", f"{HOST}:-443", 400, "malformed_request"),
    _refused_connect("path", f"{HOST}:443/x", 400, "malformed_request"),
    _refused_connect("url", f"https://{HOST}/", 400, "malformed_request"),
    _refused_connect("http-port", f"{HOST}:80", 403, "cleartext_refused"),
    _refused_connect("other-port", f"{HOST}:8080", 403, "cleartext_refused"),
    _refused_connect("own-page-on-another-port", "outloop.internal:8443", 403, "cleartext_refused"),
    _refused_connect("zero-length", ":443", 400, "malformed_request"),
    _refused_connect("decimal-address", "3221225991:443", 400, "malformed_request", "WHATWG URL §3.5"),
    _refused_connect("hexadecimal-address", "0xC0000207:443", 400, "malformed_request", "WHATWG URL §3.5"),
    _refused_connect("octal-address", "0300.0.02.07:443", 400, "malformed_request", "WHATWG URL §3.5"),
    _refused_connect("short-address", "192.0.519:443", 400, "malformed_request", "WHATWG URL §3.5"),
    _refused_connect("padded-address", "192.000.002.007:443", 400, "malformed_request", "WHATWG URL §3.5"),
    _refused_connect("address-with-a-dot", "192.0.2.7.:443", 400, "malformed_request", "WHATWG URL §3.5"),
    _refused_connect("mapped-address", "[::ffff:192.0.2.7]:443", 400, "malformed_request", "RFC 4291 §2.5.5.2"),
    _refused_connect("long-v6", "[0:0:0:0:0:0:0:1]:443", 400, "malformed_request", "RFC 5952"),
    _refused_connect("v6-zone", "[fe80::1%25eth0]:443", 400, "malformed_request", "RFC 6874"),
    _refused_connect("loopback-v6", "[::1]:443", 403, "host_not_allowed"),
    _refused_connect("the-proxy-itself", "{proxy}", 403, "host_not_allowed"),
    _refused_connect("the-proxy-by-name", "localhost:443", 403, "host_not_allowed"),
    Case("connect-that-tunnels-to-the-proxy-itself", "G2", plain(connect("{proxy}", OPEN)), 403, "destination_not_allowed"),
    Case("connect-that-tunnels-to-loopback-in-disguise", "G2", plain(connect("0177.1:443", OPEN)), 400, "malformed_request"),
    Case("connect-that-tunnels-to-metadata", "G2", plain(connect("169.254.169.254:80", OPEN)), 403, "destination_not_allowed"),
    Case("connect-names-another-host-in-host", "G2",
         plain(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: evil.example.org:443\r\n\r\n".encode()), 421, "host_mismatch", basis=LENS),
    Case("connect-with-two-hosts", "G2",
         plain(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nHost: evil.example.org\r\n\r\n".encode()), 400,
         "malformed_request", basis="RFC 9112 §3.2"),
)  # fmt: skip

DIRECT = (
    _same("absolute-form", plain(request(f"https://{HOST}/a"))),
    Case("absolute-form-in-upper-case", "G2", plain(request(f"HTTPS://{HOST.upper()}/a")), 200, "OK", (forwarded("/a"),),
         body=b"ok", or_refused=True),
    _mismatch("absolute-form-with-another-host", plain(request(f"https://{HOST}/a", host=TENANT)), LENS),
    _mismatch("absolute-form-of-another-with-host", plain(request(f"https://{TENANT}/a")), LENS),
    _malformed("absolute-form-with-user-info", plain(request(f"https://evil.example.org@{HOST}/a")), SSRF),
    _malformed("absolute-form-full-width", plain(request("https://ａpi.example.com/a")), SSRF),
    _malformed("absolute-form-ideographic-dot", plain(request("https://api。example.com/a")), SSRF),
    _malformed("absolute-form-percent-encoded", plain(request("https://api%2eexample.com/a")), SSRF),
    _malformed("absolute-form-decimal-address", plain(request("https://3221225991/a", host="192.0.2.7")), "WHATWG URL §3.5"),
    _malformed("absolute-form-with-a-tab", plain(request("https://api\t.example.com/a")), SSRF),
    _malformed("absolute-form-with-two-hosts", plain(request(f"https://{HOST}/a", "Host: evil.example.org")), LENS),
    _malformed("absolute-form-ftp", plain(request(f"ftp://{HOST}/a"))),
    _malformed("absolute-form-ws", plain(request(f"wss://{HOST}/socket", "Connection: Upgrade", "Upgrade: websocket"))),
    _malformed("absolute-form-without-a-host", plain(request("https:///a"))),
    _malformed("absolute-form-with-a-backslash", plain(request(f"https://evil.example.org\\@{HOST}/a")), SSRF),
    Case("absolute-form-cleartext", "G2", plain(request(f"http://{HOST}/a")), 403, "cleartext_refused"),
    Case("absolute-form-http-on-443", "G2", plain(request(f"http://{HOST}:443/a", host=f"{HOST}:443")), 403, "cleartext_refused"),
    Case("absolute-form-https-on-80", "G2", plain(request(f"https://{HOST}:80/a", host=f"{HOST}:80")), 403, "cleartext_refused"),
    Case("absolute-form-of-a-stranger", "G2", plain(request("https://evil.example.org/a", host="evil.example.org")), 403,
         "host_not_allowed"),
    Case("absolute-form-to-the-proxy-itself", "G2", plain(request("http://{proxy}/", host="{proxy}")), 403, "host_not_allowed"),
    _malformed("origin-form-to-the-proxy", plain(request("/a"))),
    _malformed("origin-form-to-the-proxy-as-itself", plain(request("/", host="{proxy}"))),
    _malformed("origin-form-for-outloops-page", plain(request("/", host="outloop.internal")), "DNS rebinding from a browser"),
    _malformed("asterisk-form-to-the-proxy", plain(request("*", method="OPTIONS"))),
    _malformed("http2-prior-knowledge-to-the-proxy", plain(b"PRI * HTTP/2.0\r\n\r\n"), "RFC 9113 §3.3"),
    _malformed("absolute-form-in-a-tunnel", tunnel(request(f"https://{HOST}/a")), LENS),
    _malformed("absolute-form-of-another-in-a-tunnel", tunnel(request(f"https://{TENANT}/a")), LENS),
    _malformed("scheme-relative-target-in-a-tunnel", tunnel(request(f"//{TENANT}/a")), SSRF),
    _malformed("target-with-at-in-a-tunnel", tunnel(request(f"@{TENANT}/a")), LENS),
    _malformed("authority-form-in-a-tunnel", tunnel(request(f"{TENANT}:443"))),
    _malformed("nested-connect", tunnel(connect("evil.example.org:443"))),
    _malformed("nested-connect-to-the-same-host", tunnel(connect(f"{HOST}:443"))),
    _malformed("nested-connect-without-tls", bare_tunnel(connect("evil.example.org:443"))),
    Case("plain-http-in-a-tunnel", "G2", bare_tunnel(request("/a")), 403, "cleartext_refused"),
    Case("plain-http-of-another-in-a-tunnel", "G2", bare_tunnel(request("/a", host="evil.example.org")), 421, "host_mismatch"),
    Case("own-page-does-not-answer-for-others", "G2",
         tunnel(request("/", host="evil.example.org"), to="outloop.internal:443"), 421, "host_mismatch",
         basis="DNS rebinding from a browser"),
)  # fmt: skip

OTHER_PROTOCOLS = (
    _same("upgrade-to-h2c-is-not-passed-on", tunnel(request("/a", *UPGRADE, "Upgrade: h2c")),
        basis="Bishop Fox, h2c Smuggling (2020)"),
    _same("upgrade-to-h2c-misspelled", tunnel(request("/a", *UPGRADE, "upgrade: H2C, foo/1")),
        basis="Bishop Fox, h2c Smuggling (2020)"),
    _same("upgrade-to-tls", tunnel(request("/a", "Connection: Upgrade", "Upgrade: TLS/1.0")), basis="RFC 2817 §3"),
    _same("upgrade-to-a-list-with-websocket", tunnel(request("/a", "Connection: Upgrade", "Upgrade: h2c, websocket")),
          basis="0ang3el, WebSocket smuggling (2019)"),
    Case("upgrade-to-websocket-on-another-path", "G3", tunnel(request("/a", "Connection: Upgrade", "Upgrade: websocket")), 403,
         "path_not_allowed", basis="0ang3el, WebSocket smuggling (2019)"),
    Case("websocket-by-post", "G3", tunnel(with_body("/socket", b"", "Connection: Upgrade", "Upgrade: websocket")), 400,
         "malformed_request", basis="RFC 6455 §4.1"),
    Case("ssh-in-a-tunnel", "G2", bare_tunnel(b"SSH-2.0-OpenSSH_9.0\r\n\0\0\1\x14\x06\x14", leaves=True), CLOSED, ""),
    Case("binary-in-a-tunnel", "G2", bare_tunnel(bytes(range(128, 256)) * 4, leaves=True), CLOSED, ""),
    Case("smtp-in-a-tunnel", "G2", bare_tunnel(b"EHLO evil\r\nMAIL FROM:<a>\r\n", leaves=True), CLOSED, ""),
    Case("ssh-in-tls", "G2", tunnel(b"SSH-2.0-OpenSSH_9.0\r\n\r\n"), 400, "malformed_request"),
    Case("http2-prior-knowledge-without-tls", "G2", bare_tunnel(b"PRI * HTTP/2.0\r\n\r\n"), 400, "malformed_request",
         basis="RFC 9113 §3.3"),
    Case("http-0-9", "G2", tunnel(b"GET /a\r\n\r\n"), 400, "malformed_request"),
    Case("http-2-0-spelled-in-http-1", "G2", tunnel(request("/a").replace(b"HTTP/1.1", b"HTTP/2.0")), 400, "malformed_request"),
    Case("http-3-spelled-in-http-1", "G2", tunnel(request("/a").replace(b"HTTP/1.1", b"HTTP/3.0")), 400, "malformed_request"),
    Case("second-tls-inside-tls", "G2", tunnel(bytes.fromhex("16030100050100000100")), CLOSED, ""),
)  # fmt: skip

CASES = (*HEADERS, *SECOND, *AUTHORITY, *NAMES_IN_TLS, *DIALLED, *DIRECT, *OTHER_PROTOCOLS)
