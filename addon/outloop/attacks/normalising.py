"""Published lists of paths that a proxy and a server normalise in two ways, worked through by name.

* Rafael da Costa Santos, "Exploiting HTTP Parsers Inconsistencies" (2023): the bytes that Node, Flask, Spring and PHP drop from a
  path behind a proxy's deny rule, raw and encoded; ``/index.php`` behind what is denied; ``@`` and ``;@`` in the target.
* Orange Tsai, "Breaking Parser Logic" (Black Hat 2018) and "Confusion Attacks" on Apache httpd (2024): ``%3f``, ``..;`` and
  their like.
* RFC 3986 §5.4.1 and §5.4.2: the normal and abnormal examples of references, each as the path of a request below ``/b/c/d``.
* WHATWG URL, §4.3: single-dot and double-dot segments in every spelling it names, and what it drops from an input.
* Martin Doyhenard, "Gotta cache 'em all" (PortSwigger 2024): delimiters and static extensions by server.
* Lists for going round a 403 (``403-bypasser`` of Yunus Emre Sert, `byp4xx` of Luis Cuende; both 2020 and later).

Denied is ``/private``. Of what does not spell it in any way, the rest is refused as ambiguous or has no rule. What stands in
asking.py already is not repeated here.
"""

from __future__ import annotations

from outloop.attacks import frames
from outloop.attacks.case import CLOSED, Case, Sent, Talk, forwarded, http2, request, tunnel

SANTOS = "da Costa Santos, HTTP Parsers Inconsistencies (2023)"
TSAI = "Orange Tsai, Breaking Parser Logic (2018)"
CONFUSION = "Orange Tsai, Confusion Attacks (2024)"
CACHE = "Doyhenard, Gotta cache 'em all (2024)"
BYPASS = "byp4xx, 403-bypasser (2020)"
URL = "WHATWG URL §4.3"
IN_ITSELF = "a request that breaks the rules of HTTP/2 itself ends its connection without a document; an event tells of it"
DATA = "what a server makes of another name only the service knows: allow by name instead of /**"

# Byte → the servers that drop it, or take it for a space, at the end of a path.
DROPPED = {
    0x09: "Node, Spring, PHP-FPM", 0x0B: "Flask", 0x0C: "Node, Flask", 0x1C: "Flask", 0x1D: "Flask", 0x1E: "Flask", 0x1F: "Flask",
    0x20: "Spring", 0x85: "Flask", 0xA0: "Node, Flask", 0x00: "PHP", 0x0A: "nginx's $uri", 0x0D: "nginx's $uri", 0x5C: "IIS",
}  # fmt: skip


def _refused(name: str, talk: Talk, basis: str) -> Case:
    return Case(name, "G3", talk, 400, "malformed_request", basis=basis)


def _denied(name: str, target: str, basis: str) -> Case:
    return Case(name, "G3", tunnel(request(target)), 403, "denied_by_rule", basis=basis)


def _passes(name: str, target: str, sent: str, basis: str, limit: str = "") -> Case:
    expected: tuple[Sent, ...] = (forwarded(sent),)
    return Case(name, "G3", tunnel(request(target)), 200, "OK", expected, basis=basis, limit=limit)


def _encoded(byte: int, servers: str) -> Case:
    name, target = f"path-that-ends-in-encoded-{byte:02x}", f"/private%{byte:02x}"
    if byte == 0x20:
        return _denied(name, target, f"{SANTOS}: {servers}")
    return _refused(name, tunnel(request(target)), f"{SANTOS}: {servers}")


BYTES = (
    *(_refused(f"path-that-ends-in-raw-{byte:02x}", tunnel(request(b"/private" + bytes([byte]))), f"{SANTOS}: {servers}")
      for byte, servers in DROPPED.items()),
    *(_refused(f"path-with-raw-{byte:02x}-before-its-slash", tunnel(request(b"/private%b/1" % bytes([byte]))),
               f"{SANTOS}: {servers}")
      for byte, servers in DROPPED.items()),
    *(_encoded(byte, servers) for byte, servers in DROPPED.items()),
    *(Case(f"h2-path-that-ends-in-raw-{byte:02x}", "G3", http2(frames.headers((":method", "GET"), (":scheme", "https"),
           (":authority", "api.example.com"), (":path", b"/private" + bytes([byte])))), CLOSED, "", basis=f"{SANTOS}: {servers}",
           limit=IN_ITSELF, or_refused=True)
      for byte, servers in DROPPED.items()),
    _denied("index-behind-what-is-denied", "/private/index.php", f"{SANTOS}: PHP-FPM"),
    _denied("static-file-behind-what-is-denied", "/private/x.css", CACHE),
    _refused("target-that-is-another-host", tunnel(request("@evil.example.org/private")), f"{SANTOS}: Flask"),
    _refused("target-that-is-a-host-behind-a-semicolon", tunnel(request(";@evil.example.org/private")), f"{SANTOS}: Spring"),
    _refused("target-that-is-another-host-behind-an-asterisk", tunnel(request("*@evil.example.org/private")), f"{SANTOS}: PHP"),
    _passes("at-in-a-path", "/a/@b", "/a/@b", SANTOS),
)  # fmt: skip

# RFC 3986 §5.4: reference → the path it resolves to against http://a/b/c/d;p?q, as a client asks that resolves nothing.
REFERENCES = (
    ("g", "/b/c/g", "/b/c/g"), ("./g", "/b/c/./g", ""), ("g/", "/b/c/g/", "/b/c/g/"), ("g?y", "/b/c/g?y", "/b/c/g?y"),
    ("?y", "/b/c/d;p?y", ""), ("g#s", "/b/c/g#s", ""), ("g?y#s", "/b/c/g?y#s", ""), (";x", "/b/c/;x", ""),
    ("g;x", "/b/c/g;x", ""), ("g;x?y#s", "/b/c/g;x?y#s", ""), (".", "/b/c/.", ""), ("./", "/b/c/./", ""), ("..", "/b/c/..", ""),
    ("../", "/b/c/../", ""), ("../g", "/b/c/../g", ""), ("../..", "/b/c/../..", ""), ("../../", "/b/c/../../", ""),
    ("../../g", "/b/c/../../g", ""), ("../../../g", "/b/c/../../../g", ""), ("../../../../g", "/b/c/../../../../g", ""),
    ("/./g", "/./g", ""), ("/../g", "/../g", ""), ("g.", "/b/c/g.", "/b/c/g."), (".g", "/b/c/.g", "/b/c/.g"),
    ("g..", "/b/c/g..", "/b/c/g.."), ("..g", "/b/c/..g", "/b/c/..g"), ("./../g", "/b/c/./../g", ""), ("./g/.", "/b/c/./g/.", ""),
    ("g/./h", "/b/c/g/./h", ""), ("g/../h", "/b/c/g/../h", ""), ("g;x=1/./y", "/b/c/g;x=1/./y", ""),
    ("g;x=1/../y", "/b/c/g;x=1/../y", ""),
    ("g?y/./x", "/b/c/g?y/./x", "/b/c/g?y/./x"), ("g?y/../x", "/b/c/g?y/../x", "/b/c/g?y/../x"),
    ("g#s/./x", "/b/c/g#s/./x", ""), ("g#s/../x", "/b/c/g#s/../x", ""), ("http:g", "http:g", ""), ("//g", "//g", ""),
    ("g:h", "g:h", ""),
)  # fmt: skip
DOTS = ("%2e", "%2E", "..", ".%2e", ".%2E", "%2e.", "%2E.", "%2e%2e", "%2E%2E", "%2e%2E", "%2E%2e")
RESOLVED = (
    *(
        _passes(f"reference-{number:02}", target, sent, f"RFC 3986 §5.4: {reference}") if sent
        else _refused(f"reference-{number:02}", tunnel(request(target)), f"RFC 3986 §5.4: {reference}")
        for number, (reference, target, sent) in enumerate(REFERENCES, start=1)
    ),
    *(_refused(f"dots-{number:02}", tunnel(request(f"/items/{dots}/private/1")), f"{URL}: {dots}")
      for number, dots in enumerate(DOTS, start=1)),
    *(_refused(f"dots-at-the-end-{number:02}", tunnel(request(f"/private/x/{dots}")), f"{URL}: {dots}")
      for number, dots in enumerate(DOTS, start=1)),
    _refused("tab-inside-a-name", tunnel(request(b"/pri\tvate/1")), f"{URL}: tabs and line ends are dropped"),
    _refused("drive-letter", tunnel(request("C:\\private")), f"{URL}: Windows drive letters"),
)  # fmt: skip

# What is put behind, or before, a path that answers 403.
BEHIND = {
    "refused": (
        *("%09", "%00", "..;/", ";/", "/.", "//", "/./", "/..;/", "%2f", "%2f/", "#", "%2500", "%ff", ";x", ";.css", "%3b.css"),
        *("\\", "%5c", "/%2e/", "/%252e", "%0a", "%0d", "%0d%0aX:%20y", "/..%2f", "/%2e%2e%2f", "..%00/", "/;/x", "%u0020"),
    ),
    # Another server's word for the same name: a deny rule holds for it.
    "denied": (
        "/",
        *("?", "??", "???", "/?x", "/*", "/~", "/.css", "/x.css", "%20", "%20%20", ".", "..", "...", "%2e", ".%20.", "%c2%a0"),
        *("%e3%80%80", "%ef%bc%8f", "%ef%bc%8fx", "%3f", "%3f.css", "%3fx/1", "%ef%bc%9fx", "%23", "%23.css"),
        *("::$data", "%3a%3a$data", "::$index_allocation", ".%2e"),
    ),
    # Another name: data to Outloop, and /** allows it.
    "passes": (".json", ".css", "~", "'", "!", "$", ",", ":", "&", "%25"),
}  # fmt: skip
BEFORE = {
    "refused": (
        "/.",
        "//",
        "/;",
        "/.;",
        "/%2e",
        "/%2f",
        "/%5c",
        "/./.",
        "/x/..",
        "/..;",
        "/x/%2e%2e",
        "/\\",
        "/items/..;",
        "/..",
        "/%00",
    ),
    "passes": ("/*", "/%20", "/x"),
}
NEIGHBOURS = (
    *(_refused(f"denied-with-{number:02}-behind-it", tunnel(request(f"/private{suffix}")), f"{BYPASS}: {suffix}")
      for number, suffix in enumerate(BEHIND["refused"], start=1)),
    *(_denied(f"denied-whatever-is-behind-it-{number:02}", f"/private{suffix}", f"{BYPASS}; {CONFUSION}: {suffix}")
      for number, suffix in enumerate(BEHIND["denied"], start=1)),
    *(_passes(f"another-name-{number:02}", f"/private{suffix}", f"/private{suffix}", f"{BYPASS}: {suffix}", DATA)
      for number, suffix in enumerate(BEHIND["passes"], start=1)),
    *(_refused(f"denied-with-{number:02}-before-it", tunnel(request(f"{prefix}/private")), f"{BYPASS}: {prefix}")
      for number, prefix in enumerate(BEFORE["refused"], start=1)),
    *(_passes(f"another-folder-{number:02}", f"{prefix}/private", f"{prefix}/private", f"{BYPASS}: {prefix}", DATA)
      for number, prefix in enumerate(BEFORE["passes"], start=1)),
    *(Case(f"h2-denied-whatever-is-behind-it-{number:02}", "G3",
           http2(frames.headers(*frames.head(path=f"/private{suffix}"))), 403, "denied_by_rule",
           basis=f"{BYPASS}; {CONFUSION}: {suffix}")
      for number, suffix in enumerate(("%3f.css", "%20", "%2e", "%23", "::$data"), start=1)),
    Case("header-that-names-another-path", "G3", tunnel(request("/private/1", "X-Original-URL: /a", "X-Rewrite-URL: /a",
         "X-Custom-IP-Authorization: 127.0.0.1", "X-Forwarded-For: 127.0.0.1", "Referer: /a")), 403, "denied_by_rule",
         basis=BYPASS),
    Case("path-in-lower-case-only-to-unicode", "G3", tunnel(request("/pr%C4%B1vate/1")), 200, "OK",
         (forwarded("/pr%C4%B1vate/1"),), basis="Unicode TS 39: dotless i",
         limit="a server that folds ı to i serves what is denied: allow by name instead of /**"),
)  # fmt: skip

CASES: tuple[Case, ...] = (*BYTES, *RESOLVED, *NEIGHBOURS)
