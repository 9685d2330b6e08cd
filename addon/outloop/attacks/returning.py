"""What comes back: the key, echoed in every form, place, coding and cut; and what must come back as it was.

A form is caught, or refused, or stands at the end of this table as a limit. Published work behind the rows: RFC 9110 §8.4 and
RFC 9112 §7 (codings), RFC 6455 §5 (WebSocket frames), RFC 8259 §7, RFC 3986 §2.1, RFC 4648, RFC 2045 §6.8 (spellings); David
Fifield, "A better zip bomb" (2019); CVE-2022-32206 (curl: many decompression steps).
"""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import brotli
import zstandard

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
    Heard,
    Sent2,
    forwarded,
    http2,
    request,
    tunnel,
)  # fmt: skip
from outloop.attacks.forms import AFTER, BEFORE, BODILY, PLAIN, every, heard_in
from outloop.attacks.upstream.replies import End, Framing, Reply, chunked, raw, reply, until_close
from outloop.core.scrub import MARK

SECRETS = (TOKEN, RICH, PASSWORD, PREVIOUS)
MODERN = "modern.example.com"
ASKED, SENT = tunnel(request("/a")), (forwarded("/a"),)
ASKED_2 = http2(frames.headers(*frames.head(path="/items/1", authority=MODERN)), to=f"{MODERN}:443")
ACCEPTED = (b"accept-encoding", b"identity"), (b"authorization", f"Bearer {TOKEN}".encode())
SENT_2 = (Sent2("GET /items/1", ((b"host", MODERN.encode()), *ACCEPTED)),)
REFUSED = (("allow", "scrub_failed"),)
FAILED = (("allow", "upstream_failed"),)
ECHO = f"{BEFORE}{TOKEN}{AFTER}".encode()
CLEAN = BEFORE.encode() + MARK + AFTER.encode()

Check = Callable[[Heard], str]


def _gone(*wanted: bytes, marks: bool = True) -> Check:
    """Look for any secret in all that was heard; *wanted* must be there, and so must the mark, unless told otherwise."""

    def check(heard: Heard) -> str:
        head = "\n".join(f"{name}: {value}" for name, value in heard.headers).encode("latin-1")
        for part in (head, heard.body, heard.everything):
            if found := heard_in(part[:4096], *SECRETS) or heard_in(part[-4096:], *SECRETS):
                return found
        missing = [each for each in (*wanted, *([MARK] if marks else [])) if each not in head + heard.body]
        return f"{missing} is not in {head + heard.body[:500]!r}" if missing else ""

    return check


def _comes(name: str, answer: Reply | bytes, *wanted: bytes, status: int = 200, marks: bool = True, basis: str = "") -> Case:
    """The answer passes, and no secret is in it; *wanted* is."""
    return Case(name, "G1", ASKED, status, "OK", SENT, reply=answer, check=_gone(*wanted, marks=marks), basis=basis)


def _fails(name: str, answer: Reply | bytes, reason: str = "scrub_failed", basis: str = "") -> Case:
    """The answer cannot be proved clean, or is broken: a document and nothing of it."""
    return Case(name, "G1", ASKED, 502, reason, SENT, (("allow", reason),), answer, check=_gone(marks=False), basis=basis)


def _cut(name: str, answer: Reply | bytes, reason: str = "scrub_failed", basis: str = "") -> Case:
    """The answer was under way: the transfer ends so that nobody takes it for whole."""
    return Case(name, "G1", ASKED, CLOSED, "", SENT, (("allow", reason),), answer, check=_gone(marks=False), basis=basis)


def _cut_by(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


# Forms

WORDS = (BEFORE.strip().encode(), AFTER.strip().encode())


def _forms(secrets: Iterable[tuple[str, str]]) -> Iterator[Case]:
    for owner, secret in secrets:
        for name, form in every(PLAIN, BODILY).items():
            spelled = form(secret)
            body = BEFORE.encode() + spelled + AFTER.encode()
            if name.startswith("utf-16"):
                body = (BEFORE + " " * (len(BEFORE) % 2)).encode("utf-16-le") + spelled
            wanted = () if name.startswith("utf-16") else WORDS
            yield _comes(f"{owner}-{name}-in-a-body", reply(body), *wanted)
            yield _comes(f"{owner}-{name}-in-chunks", chunked(*_cut_by(body, 5)), *wanted)
            if name in PLAIN:
                yield _comes(f"{owner}-{name}-in-a-header", reply(b"ok", headers=[("X-Echo", body.decode())]), *WORDS, b"ok")


FORMS = tuple(_forms((("bearer", TOKEN), ("rich", RICH))))
OTHERS = tuple(
    _comes(f"{owner}-{name}", reply(f"{BEFORE}{PLAIN[name](secret).decode()}{AFTER}".encode()), *WORDS)
    for owner, secret in (
        ("password", PASSWORD),
        ("pair", base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()),
        ("value-before-rotation", PREVIOUS),
    )
    for name in (
        "raw",
        "percent-upper",
        "json-u-lower",
        "html-decimal",
        "hex",
        "base64-0",
        "base64-1",
        "base64-2-url",
        "reversed",
    )
)

# Places


def _head(*lines: str, body: str = "ok", first: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([first, *lines, f"Content-Length: {len(body)}", "", body]).encode()


FIELDS = {
    "set-cookie": f"Set-Cookie: session={TOKEN}; Path=/; HttpOnly",
    "set-cookie-name": f"Set-Cookie: {TOKEN}=1",
    "location": f"Location: https://{HOST}/next?token={TOKEN}#{TOKEN}",
    "location-in-user-info": f"Location: https://user:{TOKEN}@{HOST}/",
    "content-location": f"Content-Location: /a/{TOKEN}",
    "www-authenticate": f'WWW-Authenticate: Bearer error="invalid_token", error_description="{TOKEN}"',
    "authentication-info": f"Authentication-Info: nextnonce={TOKEN}",
    "authorization": f"Authorization: Bearer {TOKEN}",
    "link": f'Link: <https://{HOST}/a?page=2&token={TOKEN}>; rel="next"',
    "etag": f'ETag: "{TOKEN}"',
    "content-type": f"Content-Type: text/plain; boundary={TOKEN}",
    "content-disposition": f"Content-Disposition: attachment; filename*=UTF-8''{TOKEN}.txt",
    "vary": f"Vary: {TOKEN}",
    "server-timing": f'Server-Timing: auth;desc="{TOKEN}"',
    "refresh": f"Refresh: 0; url=/a?{TOKEN}",
    "access-control": f"Access-Control-Allow-Headers: {TOKEN}",
    "unknown-field": f"X-{TOKEN[:6]}: {TOKEN}",
    "latin-1-beside": f"X-Echo: \u00e9{TOKEN}\u00e9",
    "very-long": f"X-Echo: {'a' * 20_000}{TOKEN}",
}
NAMES = {
    "name": TOKEN,
    "name-upper": TOKEN.upper(),
    "name-hex": TOKEN.encode().hex(),
    "name-percent": PLAIN["percent-upper"](TOKEN).decode(),
}
PLACES = (
    *(_comes(f"place-{name}", _head(line), b"ok", basis="RFC 9110") for name, line in FIELDS.items()),
    *(_comes(f"place-{name}", _head(f"{line}: x", "X-Kept: 1"), b"X-Kept", marks=False) for name, line in NAMES.items()),
    _comes("place-two-lines", _head(f"X-Echo: {TOKEN}", f"x-echo: {TOKEN}"), b"ok"),
    *(_comes(f"place-redirect-{status}", _head(FIELDS["location"], first=f"HTTP/1.1 {status} Moved"), b"ok", status=status)
        for status in (301, 302, 303, 307, 308)),
    _comes("place-reason-phrase", _head(first=f"HTTP/1.1 200 {TOKEN}"), b"ok", marks=False, basis="RFC 9112 §4"),
    _comes("place-reason-phrase-base64", _head(first=f"HTTP/1.1 200 {PLAIN['base64-1'](TOKEN).decode()}"), b"ok", marks=False),
    _comes("place-trailer", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Echo\r\n\r\n2\r\nok\r\n0\r\n"
        + f"X-Echo: {TOKEN}\r\n\r\n".encode(), b"ok", marks=False, basis="RFC 9110 §6.5"),
    _comes("place-trailer-name",
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{TOKEN}: x\r\n\r\n".encode(),
        b"ok", marks=False, basis="RFC 9110 §6.5"),
    _comes("place-chunk-extension",
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a={TOKEN}\r\nok\r\n0;{TOKEN}\r\n\r\n".encode(),
        b"ok", marks=False, basis="RFC 9112 §7.1.1"),
    *(_comes(f"place-interim-{code}", f"HTTP/1.1 {code} {TOKEN}\r\nLink: <{TOKEN}>\r\n\r\n".encode() + _head(), b"ok",
        marks=False,
        basis="RFC 8297") for code in (100, 102, 103)),
    _comes("place-error-page", _head(f"X-Echo: {TOKEN}", body=f"<h1>bad: {TOKEN}</h1>", first="HTTP/1.1 500 Oops"), b"<h1>bad: ",
        status=500),
    Case("place-rejected-key", "G1", ASKED, 401, "key_rejected", SENT, (("allow", "key_rejected"),),
         _head(FIELDS["www-authenticate"], body=f"no such key: {TOKEN}", first="HTTP/1.1 401 Unauthorized"),
         check=_gone(b"no such key: ")),
    Case("place-head", "G1", tunnel(request("/a", method="HEAD")), 200, "OK", (forwarded("/a", method="HEAD"),),
         reply=f"HTTP/1.1 200 OK\r\nX-Echo: {TOKEN}\r\nContent-Length: 1000\r\n\r\n".encode(), body=b"", check=_gone()),
    *(Case(f"place-bodiless-{status}", "G1", ASKED, status, "OK", SENT,
        reply=f"HTTP/1.1 {status} X\r\nX-Echo: {TOKEN}\r\n\r\n".encode(), body=b"", check=_gone()) for status in (204, 304)),
    Case("place-body-behind-a-204", "G1", ASKED, 204, "OK", SENT, reply=raw(f"HTTP/1.1 204 X\r\n\r\n{TOKEN}".encode(), End.CLOSE),
         body=b"", check=_gone(marks=False), basis="RFC 9112 §6.3"),
    Case("place-body-behind-a-head", "G1", tunnel(request("/a", method="HEAD")), 200, "OK", (forwarded("/a", method="HEAD"),),
         reply=raw(f"HTTP/1.1 200 OK\r\nContent-Length: {len(TOKEN)}\r\n\r\n{TOKEN}".encode(), End.CLOSE),
         body=b"", check=_gone(marks=False), basis="RFC 9112 §6.3"),
    Case("place-body-behind-the-end", "G1", ASKED, 200, "OK", SENT, body=b"ok", check=_gone(marks=False), basis="RFC 9112 §9.2",
         reply=raw(f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{TOKEN}".encode(), End.CLOSE)),
)  # fmt: skip


def _modern(name: str, answer: Reply, *wanted: bytes, marks: bool = True) -> Case:
    return Case(
        f"h2-{name}", "G1", ASKED_2, 200, "OK", SENT_2, reply=answer, check=_gone(*wanted, marks=marks), basis="RFC 9113 §8"
    )


def _h2_field(line: str) -> Reply:
    name, _, value = line.partition(": ")
    return reply(b"ok", headers=[(name, value)])


MODERN_PLACES = (
    *(_modern(name, _h2_field(line), b"ok") for name, line in FIELDS.items() if name not in ("latin-1-beside", "very-long")),
    *(_modern(name, reply(b"ok", headers=[(line.lower(), "x")]), b"ok", marks=False) for name, line in NAMES.items()
        if "%" not in line),
    *(_modern(f"{name}-in-frames", chunked(*_cut_by(BEFORE.encode() + PLAIN[name](TOKEN), 3)), b"before") for name in
        ("raw", "percent-lower", "json-u-upper", "html-hex", "base64-1-url", "basic", "hex", "reversed")),
    _modern("empty-frames", chunked(b"before ", TOKEN[:9].encode(), b"", b"", TOKEN[9:].encode()), b"before"),
    Case("h2-reset-after-the-echo", "G1", ASKED_2, CLOSED, "", SENT_2, FAILED, chunked(ECHO, End.ABORT),
        check=_gone(marks=False)),
    Case("h2-left-after-the-echo", "G1", ASKED_2, CLOSED, "", SENT_2, FAILED, chunked(ECHO, End.CLOSE), check=_gone(marks=False)),
    Case("h2-declared-and-reset", "G1", ASKED_2, 502, "upstream_failed", SENT_2, FAILED, check=_gone(marks=False),
         reply=Reply((ECHO, End.ABORT), Framing.CHUNKED, 200, (("content-length", "99"),))),
    Case("h2-agent-of-an-old-upstream", "G1", http2(frames.headers(*frames.head(path="/a"))), 200, "OK", SENT,
         reply=_head(*FIELDS.values(), body=TOKEN), check=_gone()),
)  # fmt: skip

# Codings


def _zlib(data: bytes, bits: int) -> bytes:
    engine = zlib.compressobj(wbits=bits)
    return engine.compress(data) + engine.flush()


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _raw_deflate(data: bytes) -> bytes:
    return _zlib(data, -15)


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def _named_gzip(data: bytes) -> bytes:
    """Return gzip with the secret as the file's name (RFC 1952 §2.3.1)."""
    whole = _gzip(data)
    return whole[:3] + b"\x08" + whole[4:10] + TOKEN.encode() + b"\0" + whole[10:]


Coder = Callable[[bytes], bytes]
CODERS: dict[str, tuple[str, Coder]] = {
    "gzip": ("gzip", _gzip),
    "x-gzip": ("x-gzip", _gzip),
    "gzip-in-capitals": ("GZIP", _gzip),
    "zlib": ("deflate", zlib.compress),
    "raw-deflate": ("deflate", _raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", _zstd),
    "identity": ("identity", bytes),
    "gzip-twice": ("gzip, gzip", lambda data: _gzip(_gzip(data))),
    "gzip-then-br": ("gzip, br", lambda data: brotli.compress(_gzip(data))),
    "br-then-zstd": ("br,zstd", lambda data: _zstd(brotli.compress(data))),
    "three": ("gzip, br, zstd", lambda data: _zstd(brotli.compress(_gzip(data)))),
    "gzip-and-identity": ("gzip, identity", _gzip),
    "empty-names": (", gzip,,", _gzip),
    "two-members": ("gzip", lambda data: _gzip(data[:15]) + _gzip(data[15:])),
    "two-frames": ("zstd", lambda data: _zstd(data[:15]) + _zstd(data[15:])),
    "stored-blocks": ("deflate", lambda data: _zlib_stored(data)),
    "name-in-the-header": ("gzip", _named_gzip),
}


def _zlib_stored(data: bytes) -> bytes:
    """Return zlib whose blocks, of five bytes each, hold the data as it is."""
    blocks = [
        bytes([start * 5 + 5 >= len(data)])
        + len(piece).to_bytes(2, "little")
        + (len(piece) ^ 0xFFFF).to_bytes(2, "little")
        + piece
        for start, piece in enumerate(_cut_by(data, 5))
    ]
    return b"\x78\x01" + b"".join(blocks) + zlib.adler32(data).to_bytes(4, "big")


def _coded(coding: str, body: bytes, *, size: int = 0) -> Reply:
    headers = [("Content-Encoding", coding)] if coding else []
    return chunked(*_cut_by(body, size), headers=headers) if size else reply(body, headers=headers)


NOISE = base64.b85encode(bytes(byte * 7 % 256 for byte in range(251)) * 8)  # enough that nothing is compressed away
LONG = b"\n".join([NOISE, ECHO, NOISE])
CODED = (
    *(Case(f"coding-{name}", "G1", ASKED, 200, "OK", SENT, reply=_coded(label, code(ECHO)), body=CLEAN, check=_gone())
        for name, (label, code) in CODERS.items()),
    *(Case(f"coding-{name}-byte-by-byte", "G1", ASKED, 200, "OK", SENT, reply=_coded(label, code(ECHO), size=1), body=CLEAN,
        check=_gone())
        for name, (label, code) in CODERS.items()),
    *(Case(f"coding-{name}-of-base64", "G1", ASKED, 200, "OK", SENT, check=_gone(*WORDS),
        reply=_coded(label, code(BEFORE.encode() + PLAIN["base64-2"](TOKEN) + AFTER.encode()), size=11))
        for name, (label, code) in CODERS.items()),
    Case("coding-in-two-lines", "G1", ASKED, 200, "OK", SENT, body=CLEAN,
         reply=reply(brotli.compress(_gzip(ECHO)), headers=[("Content-Encoding", "gzip"), ("Content-Encoding", "br")])),
    *(_fails(f"coding-unknown-{label.lower().replace(', ', '-')}", _coded(label, ECHO), basis="RFC 9110 §8.4.1") for label in
        ("compress", "snappy", "aes128gcm", "dcb", "dcz", "exi", "pack200-gzip", "gzip;q=1", "gzip br", "utf-8", "*",
            "gzip, foo")),
    _fails("coding-four-times", _coded("gzip, gzip, gzip, gzip", _gzip(_gzip(_gzip(_gzip(ECHO))))), basis="CVE-2022-32206"),
    *(_fails(f"coding-{made}-labelled-{label}", _coded(label, CODERS[made][1](LONG))) for made, label in (
        ("gzip", "br"), ("gzip", "zstd"), ("gzip", "deflate"), ("br", "gzip"), ("zstd", "gzip"), ("raw-deflate", "gzip"),
        ("zlib", "gzip"), ("identity", "gzip"), ("identity", "br"), ("identity", "zstd"), ("identity", "deflate"))),
    *(_cut(f"coding-{made}-labelled-{label}-in-chunks", _coded(label, CODERS[made][1](LONG), size=50)) for made, label in (
        ("gzip", "br"), ("br", "gzip"), ("zstd", "gzip"), ("identity", "zstd"), ("identity", "deflate"))),
    *(_fails(f"coding-{name}-truncated", _coded(CODERS[name][0], CODERS[name][1](LONG)[:-9])) for name in
        ("gzip", "zlib", "raw-deflate", "br", "zstd", "gzip-then-br", "two-members")),
    *(_cut(f"coding-{name}-truncated-in-chunks", _coded(CODERS[name][0], CODERS[name][1](LONG)[:-9], size=70)) for name in
        ("gzip", "zlib", "raw-deflate", "br", "zstd")),
    *(_fails(f"coding-{name}-corrupt", _coded(CODERS[name][0], CODERS[name][1](LONG)[:-6] + b"\0\1\2\3\4\5")) for name in
        ("gzip", "zlib", "zstd")),
    *(_fails(f"coding-{name}-and-more", _coded(CODERS[name][0], CODERS[name][1](LONG) + ECHO)) for name in
        ("gzip", "zlib", "raw-deflate", "br", "zstd")),
    *(_fails(f"coding-{name}-unlabelled", _coded("", CODERS[name][1](LONG))) for name in ("gzip", "zlib", "zstd", "two-members",
        "two-frames")),
    *(_fails(f"coding-{name}-labelled-identity", _coded("identity", CODERS[name][1](LONG))) for name in ("gzip", "zlib", "zstd")),
    *(_cut(f"coding-{name}-unlabelled-in-chunks", _coded("", CODERS[name][1](LONG), size=40)) for name in ("gzip", "zlib",
        "zstd")),
    _fails("coding-unlabelled-and-cut-off", _coded("", _gzip(LONG)[:-9]), basis="RFC 1952"),
    _comes("coding-unlabelled-with-a-name", _coded("", _named_gzip(b"clean")), marks=True, basis="RFC 1952 §2.3.1"),
    *(_fails(f"coding-{name}-bomb", _coded(CODERS[name][0], CODERS[name][1](bytes(48 * 1024 * 1024) + ECHO)[: 60 * 1024]),
        basis="Fifield, A better zip bomb (2019)") for name in ("br", "zstd")),
    # More than a few kilobytes of what is coded streams: what it decodes to is held nowhere, and so it is cut, not refused.
    _cut("coding-gzip-bomb", _coded("gzip", _gzip(bytes(48 * 1024 * 1024) + ECHO)[: 60 * 1024]),
        basis="Fifield, A better zip bomb (2019)"),
    _fails("coding-bomb-in-a-bomb", _coded("gzip, gzip", _gzip(_gzip(bytes(48 * 1024 * 1024) + ECHO))),
        basis="Fifield, A better zip bomb (2019)"),
    _cut("coding-bomb-in-chunks", _coded("gzip", _gzip(bytes(48 * 1024 * 1024) + ECHO), size=9000)),
    _fails("coding-bomb-unlabelled", _coded("", _gzip(bytes(48 * 1024 * 1024) + ECHO))),
    _cut("coding-members-without-end", _coded("gzip", _gzip(b"") * 3000 + _gzip(ECHO))),
    _fails("coding-zstd-with-a-huge-window", _coded("zstd", b"\x28\xb5\x2f\xfd\x00\xa0" + b"\x01\x00\x00")),
    Case("coding-without-a-body", "G1", ASKED, 200, "OK", SENT, reply=_coded("gzip", b""), body=b""),
    Case("coding-of-a-head", "G1", tunnel(request("/a", method="HEAD")), 200, "OK", (forwarded("/a", method="HEAD"),), body=b"",
         reply=f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nX-Echo: {TOKEN}\r\nContent-Length: 99\r\n\r\n".encode(),
             check=_gone()),
    *(_fails(f"transfer-coding-{name}", f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {name}, chunked\r\n\r\n".encode()
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(code(ECHO)), code(ECHO)), basis="RFC 9112 §7.2") for name, code in
        (("gzip", _gzip), ("deflate", _raw_deflate))),
    _fails("transfer-coding-br", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: br\r\n\r\n" + brotli.compress(ECHO), End.CLOSE),
        "upstream_failed", basis="RFC 9112 §7.2"),
)  # fmt: skip

# Cuts


def _events(*pieces: str) -> Reply:
    return chunked(*(piece.encode() for piece in pieces), headers=[("Content-Type", "text/event-stream")])


HALVES = TOKEN[:13], TOKEN[13:]
ENTITY = PLAIN["html-decimal"](TOKEN)
CUTS = (
    *(Case(f"cut-at-{at}-in-chunks", "G1", ASKED, 200, "OK", SENT, body=CLEAN, check=_gone(),
        reply=chunked(ECHO[: len(BEFORE) + at], ECHO[len(BEFORE) + at :])) for at in range(1, len(TOKEN))),
    *(Case(f"cut-at-{at}-in-frames", "G1", ASKED_2, 200, "OK", SENT_2, body=CLEAN, check=_gone(),
        reply=chunked(ECHO[: len(BEFORE) + at], ECHO[len(BEFORE) + at :])) for at in range(1, len(TOKEN))),
    *(_comes(f"cut-into-{size}-{name}", chunked(*_cut_by(BEFORE.encode() + PLAIN[name](TOKEN) + AFTER.encode(), size)), *WORDS)
        for size in (1, 2, 3) for name in ("raw", "percent-twice", "json-u-lower", "html-zeros", "base64-1", "base64-2-unpadded",
            "hex-colons", "json-in-json")),
    *(_comes(f"cut-until-close-{size}", until_close(*_cut_by(ECHO, size)), *WORDS, basis="RFC 9112 §6.3") for size in (1, 4, 99)),
    _comes("cut-http-1-0", raw(b"HTTP/1.0 200 OK\r\n\r\n", *_cut_by(ECHO, 6), End.CLOSE), *WORDS),
    _comes("cut-http-1-0-with-a-length", raw(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ECHO), ECHO, End.CLOSE),
        *WORDS),
    _comes("cut-events", _events("data: a\n\n", f"data: {HALVES[0]}", f"{HALVES[1]}\n\n", "data: b\n\n"), b"data: a\n\n",
        b"data: b\n\n"),
    _comes("cut-event-id", _events(f"id: {TOKEN}\nevent: {TOKEN}\nretry: 1\ndata: x\n\n"), b"retry: 1\ndata: x\n\n"),
    _comes("cut-event-of-json", _events('data: {"text":"', *(piece.decode() for piece in _cut_by(PLAIN["json-u-lower"](TOKEN),
        4)), '"}\n\n'),
        b'data: {"text":"'),
    *(_comes(f"after-{size}", chunked(*_cut_by(b"x" * size, 60_000), *_cut_by(ECHO, 9)), *WORDS) for size in
        (65_536 - len(BEFORE) - 5, 65_536, 131_072 - 13, 1_048_576, 1_048_576 + 13)),
    _comes("after-a-million-declared", reply(b"x" * 1_048_570 + ECHO), *WORDS),
    _comes("after-many-beginnings", reply(b"not-a-" * 20_000 + ECHO), *WORDS),
    Case("mark-does-not-tell-the-length", "G1", ASKED, 200, "OK", SENT, reply=reply(f"{TOKEN} {RICH} {PASSWORD}".encode()),
         body=b" ".join([MARK] * 3)),
    Case("two-side-by-side", "G1", ASKED, 200, "OK", SENT, reply=reply((TOKEN + RICH).encode()), check=_gone()),
    Case("one-inside-another", "G1", ASKED, 200, "OK", SENT, reply=reply(f"{TOKEN[:9]}{TOKEN}{TOKEN[9:]}".encode()),
         body=f"{TOKEN[:9]}{MARK.decode()}{TOKEN[9:]}".encode(),
         limit="a secret echoed inside itself leaves its two ends; whoever sends them so knows it already"),
    Case("stored-and-read-back", "G1", tunnel(request("/a"), request("/b")), 200, "OK", (forwarded("/a"), forwarded("/b")),
         reply=reply(ECHO), body=CLEAN),
    Case("kept-alive-and-clean-again", "G1", tunnel(request("/a"), request("/a?2")), 200, "OK", (forwarded("/a"),
        forwarded("/a?2")),
         reply=lambda asked: chunked(ECHO) if asked.target == "/a" else reply(b"plain"), body=b"plain"),
    *(Case(f"on-another-host-{host.partition('.')[0]}", "G1", tunnel(request("/a", host=host), to=f"{host}:443"), 200, "OK",
        (forwarded("/a", host=host, token=token),), reply=reply(ECHO + RICH.encode()), body=CLEAN + MARK, check=_gone())
        for host, token in (("tenant.example.com", TOKEN), ("renewed.example.com", TOKEN))),
    Case("basic-of-its-own-host", "G1", tunnel(request("/a", host="pair.example.com"), to="pair.example.com:443"), 200, "OK",
         (forwarded("/a", host="pair.example.com", token="").removesuffix(b"\r\n") + b"Authorization: Basic "
          + base64.b64encode(f"{USER}:{PASSWORD}".encode()) + b"\r\n\r\n",),
         reply=lambda asked: reply(b"\n".join(value for _, value in asked.headers)),
         body=b"\n".join([b"pair.example.com", b"identity", b"Basic " + MARK])),
)  # fmt: skip

# Broken answers

BROKEN = (
    *(_fails(f"broken-{name}", raw(answer.encode(), End.CLOSE), "upstream_failed", basis="RFC 9112") for name, answer in {
        "declared-body": f"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{TOKEN}",
        "first-line": f"{TOKEN}\r\n\r\n",
        "version": f"HTTP/{TOKEN} 200 OK\r\n\r\n",
        "status": f"HTTP/1.1 {TOKEN} OK\r\n\r\n",
        "field-without-a-colon": f"HTTP/1.1 200 OK\r\n{TOKEN}\r\n\r\n",
        "field-name": f"HTTP/1.1 200 OK\r\n{TOKEN} {TOKEN}: x\r\nContent-Length: 0\r\n\r\n",
        "length": f"HTTP/1.1 200 OK\r\nContent-Length: {TOKEN}\r\n\r\n",
        "two-lengths": f"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\nX: {TOKEN}\r\n\r\nab",
        "length-and-chunks": f"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nX: {TOKEN}\r\n\r\n0\r\n\r\n",
        "transfer-coding": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {TOKEN}\r\n\r\n",
        "head-without-end": f"HTTP/1.1 200 OK\r\nX-Echo: {TOKEN}\r\n",
        "http-2-preface": f"PRI * HTTP/2.0\r\n\r\n{TOKEN}",
        "tls-alert": f"\x15\x03\x03\x00\x02{TOKEN}",
        "nothing": "",
    }.items()),
    _fails("broken-reset", raw(f"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{TOKEN}".encode(), End.ABORT), "upstream_failed"),
    _fails("broken-oversized-head", raw(f"HTTP/1.1 200 OK\r\nX-Echo: {TOKEN}\r\n".encode() + b"X: y\r\n" * 60_000, End.CLOSE),
        "upstream_failed"),
    *(_cut(f"broken-{name}", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + answer, End.CLOSE), "upstream_failed")
        for name, answer in {
            "chunk-size": b"4\r\nabcd\r\n" + TOKEN.encode() + b"\r\n",
            "chunk-end": b"4\r\nabcd" + TOKEN.encode(),
            "chunk": b"%x\r\n%b" % (len(ECHO) + 9, ECHO),
            "chunks-without-end": b"%x\r\n%b\r\n" % (len(ECHO), ECHO),
            "chunk-cut-inside-the-secret": b"9\r\n%b\r\n" % TOKEN[:9].encode(),
            "trailer": b"2\r\nok\r\n0\r\n" + TOKEN.encode(),
        }.items()),
)  # fmt: skip

# As it was

BINARY = bytes(range(256)) * 40
KEPT = {
    "binary": BINARY,
    "gz-file": _gzip(NOISE),
    "gz-file-cut-off": _gzip(NOISE)[:-5],
    "gz-file-and-more": _gzip(NOISE) + BINARY,
    "zlib-file": zlib.compress(NOISE),
    "zst-file": _zstd(NOISE),
    "br-file": brotli.compress(NOISE),
    "zip-file": b"PK\x03\x04" + BINARY,
    "png-file": b"\x89PNG\r\n\x1a\n" + BINARY,
    "utf-16-text": "né d'où".encode("utf-16"),
    "invalid-utf-8": b"\xff\xfe\xc3\x28" + BINARY,
    "percent-text": b"100%25 %41 %zz %" * 20,
    "json-text": b'{"a": "\\u006eot-a \\/ \\n \\\\ \\"", "b": [1.0, 1e5]}' * 9,
    "html-text": b"<p>&amp; &#110; &lt; &bogus; &</p>" * 9,
    "base64-text": base64.encodebytes(BINARY),
    "half-the-secret": TOKEN[:-9].encode() + b"\n" + TOKEN[9:].encode(),
    "user-name": USER.encode(),
    "user-name-base64": base64.b64encode(USER.encode()),
    "user-name-in-capitals": USER.upper().encode(),
    "foreign-key": FOREIGN.encode(),
    "line-endings": b"a\r\nb\nc\r\r\n" * 9,
    "one-byte": b"%",
    "ends-in-a-beginning": b"x" * 50 + TOKEN[:-1].encode(),
}  # fmt: skip


def _field(name: str, value: str | None) -> Check:
    return lambda heard: "" if heard.header(name) == value else f"{name} is {heard.header(name)!r}, not {value!r}"


AS_IT_WAS = (
    *(Case(f"kept-{name}", "G1", ASKED, 200, "OK", SENT, reply=reply(body), body=body,
        check=_field("content-length", str(len(body)))) for name, body in KEPT.items()),
    *(Case(f"kept-{name}-in-chunks", "G1", ASKED, 200, "OK", SENT, reply=chunked(*_cut_by(body, 100)), body=body)
        for name, body in KEPT.items()),
    Case("kept-a-million", "G1", ASKED, 200, "OK", SENT, reply=reply(BINARY * 110), body=BINARY * 110),
    Case("kept-user-name-in-a-header", "G1", ASKED, 200, "OK", SENT, reply=_head(f"X-User: {USER}"), check=_field("x-user",
        USER)),
    *(Case(f"kept-{line.partition(':')[0].lower()}", "G1", ASKED, 200, "OK", SENT, reply=_head(line),
        check=_field(line.partition(":")[0], line.partition(": ")[2])) for line in (
            'ETag: W/"abc"', "Last-Modified: Mon, 05 Jan 2026 10:00:00 GMT", "Cache-Control: no-store", "Set-Cookie: a=b; Path=/",
            "Vary: Accept", "Location: /b", "Content-Type: application/json", "X-RateLimit-Remaining: 9")),
    *(Case(f"dropped-{line.partition(':')[0].lower()}", "G1", ASKED, 200, "OK", SENT, reply=_head(line),
        check=_field(line.partition(":")[0], None)) for line in (
            "Digest: sha-256=abc", "Content-MD5: abc", "Repr-Digest: sha-256=:abc:", "Content-Digest: sha-256=:abc:",
                'Alt-Svc: h3=":443"',
            "Trailer: X", "Proxy-Authenticate: Basic", "Outloop-Reason: OK", "Outloop_Reason: OK")),
    Case("audit-id-is-not-the-upstreams", "G5", ASKED, 200, "OK", SENT, reply=_head("Outloop-Audit-Id: 01FAKE"),
         check=lambda heard: "" if "01FAKE" not in repr(heard) else "the upstream set the audit id"),
    *(Case(f"range-{name}", "G1", tunnel(request("/a", *lines)), 200, "OK", SENT, reply=reply(ECHO), body=CLEAN,
        basis="RFC 9110 §14") for name, lines in {
            "one": ("Range: bytes=7-12",), "many": ("Range: bytes=0-1,7-12",), "if-range": ("Range: bytes=7-12", 'If-Range: "a"'),
            "capitals": ("RANGE: bytes=7-12",), "twice": ("Range: bytes=0-1", "Range: bytes=2-3"), "suffix": ("Range: bytes=-9",
                )}.items()),
    _comes("range-nobody-asked-for", _head(f"Content-Range: bytes 0-40/99{TOKEN}", body=ECHO.decode(), first="HTTP/1.1 206 X"),
           *WORDS, status=206),
    _comes("range-multipart", _head("Content-Type: multipart/byteranges; boundary=x",
        body=f"--x\r\nContent-Range: a\r\n\r\n{TOKEN}\r\n--x--",
           first="HTTP/1.1 206 X"), b"--x--", status=206),
)  # fmt: skip

# WebSockets

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ("Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}")
OPENS = tunnel(request("/socket", "Connection: Upgrade", "Upgrade: websocket", *UPGRADE))
OPENED = (forwarded("/socket", *UPGRADE).removesuffix(b"\r\n") + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",)
SWITCH = (
    "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
)  # fmt: skip
TEXT, BINARY_FRAME, MORE, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def _frame(opcode: int, payload: bytes, *, fin: bool = True, reserved: int = 0, mask: bytes = b"") -> bytes:
    """Return a WebSocket frame (RFC 6455 §5.2), of a server unless masked."""
    size = len(payload)
    length = (
        bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")
    )
    length = bytes([length[0] | (0x80 if mask else 0)]) + length[1:]
    return bytes([fin << 7 | reserved << 4 | opcode]) + length + mask + payload


def _bye(reason: bytes = b"", code: int = 1000) -> bytes:
    return _frame(CLOSE, code.to_bytes(2, "big") + reason)


def _socket(
    name: str,
    *pieces: bytes,
    lines: tuple[str, ...] = (),
    body: bytes | None = None,
    marks: bool = True,
    basis: str = "RFC 6455 §5",
) -> Case:
    head = "\r\n".join([*SWITCH, *lines, "", ""]).encode()
    answer = Reply((head, *pieces, End.CLOSE), Framing.RAW)
    return Case(
        f"socket-{name}", "G1", OPENS, 101, "OK", OPENED, reply=answer, body=body, check=_heard_frames(marks=marks), basis=basis
    )


def _heard_frames(*, marks: bool) -> Check:
    """As `_gone`, but reads a message from its fragments."""

    def check(heard: Heard) -> str:
        joined, rest = b"", heard.body
        while rest:
            size, start = rest[1], 2
            if size >= 126:
                start = 4 if size == 126 else 10
                size = int.from_bytes(rest[2:start], "big")
            joined, rest = joined + rest[start : start + size], rest[start + size :]
        return _gone(marks=False)(heard) or _gone(marks=marks)(replace(heard, body=joined))

    return check


def _in_fragments(opcode: int, pieces: list[bytes]) -> bytes:
    opcodes = [opcode, *[MORE] * (len(pieces) - 1)]
    last = len(pieces) - 1
    return b"".join(_frame(each, piece, fin=at == last) for at, (each, piece) in enumerate(zip(opcodes, pieces, strict=True)))


SOCKETS = (
    _socket("clean", _frame(TEXT, b"hello") + _frame(BINARY_FRAME, BINARY[128:228]), _bye(b"done"), marks=False,
        body=_frame(TEXT, b"hello") + _frame(BINARY_FRAME, BINARY[128:228]) + _bye(b"done")),
    *(_socket(f"{name}-in-text", _frame(TEXT, BEFORE.encode() + PLAIN[name](TOKEN) + AFTER.encode()), _bye()) for name in
        ("raw", "percent-upper", "percent-twice", "json-u-lower", "json-slash", "html-decimal", "base64-0", "base64-1-url",
         "base64-2-unpadded", "basic", "hex", "hex-colons", "reversed", "upper", "many")),
    *(_socket(f"{name}-in-binary", _frame(BINARY_FRAME, b"\xff\0" + form(RICH)), _bye()) for name, form in every(PLAIN,
        BODILY).items()
        if name in ("raw", "percent-reserved", "json-quoted", "base64-1", "hex", "utf-16-le", "utf-16-be", "bytes-beside")),
    *(_socket(f"fragments-of-{size}", _in_fragments(TEXT, _cut_by(ECHO, size)), _bye()) for size in (1, 2, 5, 20)),
    _socket("fragments-of-binary", _in_fragments(BINARY_FRAME, _cut_by(b"\xff" + ECHO, 4)), _bye()),
    _socket("fragments-with-empty-ones", _in_fragments(TEXT, [b"", TOKEN[:9].encode(), b"", TOKEN[9:].encode(), b" "]), _bye()),
    _socket("fragments-with-a-ping-between", _frame(TEXT, TOKEN[:9].encode(), fin=False) + _frame(PING, b"x")
        + _frame(MORE, TOKEN[9:].encode()), _bye()),
    _socket("long-message", _frame(TEXT, b"x" * 100_000 + ECHO), _bye()),
    *(_socket(f"byte-by-byte-{name}", *_cut_by(_frame(opcode, ECHO), 1), _bye()) for name, opcode in (("text", TEXT), ("binary",
        BINARY_FRAME))),
    *(_socket(f"{name}-{form}", _frame(opcode, PLAIN[form](TOKEN)) + _frame(TEXT, b"on"), _bye(), marks=False) for name, opcode in
        (("ping", PING), ("pong", PONG)) for form in ("raw", "base64-1", "hex", "reversed")),
    *(_socket(f"close-{form}", _frame(TEXT, b"on"), _bye(PLAIN[form](TOKEN)), marks=False) for form in ("raw", "base64-2",
        "hex", "upper")),
    _socket("close-that-is-not-text", _frame(TEXT, b"on"), _bye(b"\xff" + TOKEN.encode()), marks=False),
    _socket("close-with-a-code-nobody-has", _frame(TEXT, b"on"), _bye(TOKEN.encode(), code=4999), marks=False),
    _socket("head", _frame(TEXT, b"on"), _bye(), lines=(f"X-Echo: {TOKEN}", f"Sec-WebSocket-Protocol: {TOKEN}")),
    _socket("frame-beside-the-head", _frame(TEXT, ECHO) + _bye()),
    _socket("left-without-goodbye", _frame(TEXT, ECHO)),
    _socket("half-a-frame", _frame(TEXT, ECHO)[:-3], marks=False),
    _socket("half-a-message", _frame(TEXT, ECHO, fin=False), marks=False),
    *(_socket(f"invalid-{name}", frame, marks=False) for name, frame in {
        "text": _frame(TEXT, b"\xff\xfe" + TOKEN.encode()),
        "opcode": _frame(5, TOKEN.encode()),
        "control-opcode": _frame(11, TOKEN.encode()),
        "reserved-bits": _frame(TEXT, TOKEN.encode(), reserved=2),
        "deflated": _frame(TEXT, _raw_deflate(ECHO), reserved=4),
        "long-ping": _frame(PING, ECHO * 9),
        "fragmented-ping": _frame(PING, ECHO, fin=False),
        "lone-continuation": _frame(MORE, ECHO),
        "mask": _frame(TEXT, ECHO, mask=bytes(4)),
        "close-of-one-byte": _frame(CLOSE, b"\x03"),
        "close-code": _bye(ECHO, code=5),
        "bytes": ECHO * 9,
    }.items()),
    *(Case(f"socket-{name}", "G1", OPENS, 502, "scrub_failed", OPENED, REFUSED, check=_gone(marks=False), basis="RFC 7692",
        reply=raw("\r\n".join([*SWITCH, line, "", ""]).encode() + _frame(TEXT, _raw_deflate(ECHO), reserved=4), End.CLOSE))
        for name, line in (("deflate-nobody-offered", "Sec-WebSocket-Extensions: permessage-deflate"),
                           ("extension-nobody-offered", "Sec-WebSocket-Extensions: x-webkit-deflate-frame"))),
    Case("socket-deflate-is-not-offered", "G1", tunnel(request("/socket", "Connection: Upgrade", "Upgrade: websocket", *UPGRADE,
         "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")), 101, "OK", OPENED, check=_gone(),
             basis="RFC 7692",
         reply=Reply(("\r\n".join([*SWITCH, "", ""]).encode(), _frame(TEXT, ECHO), _bye(), End.CLOSE), Framing.RAW)),
    Case("socket-declined", "G1", OPENS, 403, "OK", OPENED, reply=_head(body=f"no: {TOKEN}", first="HTTP/1.1 403 No"),
        check=_gone(b"no: ")),
)  # fmt: skip

# Limits


def _passes(name: str, body: bytes, why: str, answer: Reply | None = None) -> Case:
    return Case(f"limit-{name}", "G1", ASKED, 200, "OK", SENT, reply=answer or reply(body), body=body, limit=why)


CIPHERED = "what the upstream ciphers, splits up or spells in a way of its own cannot be known from text"
SPLIT = "a message or event is scrubbed on its own: what an agent joins from several is not seen"
SPLIT_EVENTS = tuple(f"data: {half}\n\n" for half in HALVES)
LIMITS = (
    _passes("base64-twice", base64.b64encode(base64.b64encode(f"user:{TOKEN}".encode())), CIPHERED),
    _passes("base32", base64.b32encode(TOKEN.encode()), CIPHERED),
    _passes("base85", base64.b85encode(TOKEN.encode()), CIPHERED),
    _passes("rot13", TOKEN.translate(str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm")).encode(),
        CIPHERED),
    _passes("spaced", " ".join(TOKEN).encode(), CIPHERED),
    _passes("title-case", TOKEN.title().encode(), CIPHERED),
    _passes("utf-32", TOKEN.encode("utf-32-le"), CIPHERED),
    _passes("octal", "".join(f"\\{byte:03o}" for byte in TOKEN.encode()).encode(), CIPHERED),
    _passes("quoted-printable", "".join(f"={byte:02X}" for byte in TOKEN.encode()).encode(), CIPHERED),
    _passes("decimal-list", ",".join(map(str, TOKEN.encode())).encode(), CIPHERED),
    _passes("base64-of-reversed", base64.b64encode(TOKEN[::-1].encode()), CIPHERED),
    _passes("base64-of-gzip", base64.b64encode(_gzip(ECHO)), CIPHERED),
    _passes("raw-deflate-unlabelled", _raw_deflate(ECHO),
        "raw deflate and brotli begin with no magic: without a label they are any bytes"),
    _passes("br-unlabelled", brotli.compress(LONG),
        "raw deflate and brotli begin with no magic: without a label they are any bytes"),
    _passes("gzip-inside-a-file", b"header" + _gzip(LONG), "compressed data is looked into where it begins the body"),
    _passes("half-in-each-event", "".join(SPLIT_EVENTS).encode(), SPLIT, _events(*SPLIT_EVENTS)),
    Case("limit-half-in-each-message", "G1", OPENS, 101, "OK", OPENED, limit=SPLIT,
         reply=Reply(("\r\n".join([*SWITCH, "", ""]).encode(), *(_frame(TEXT, half.encode()) for half in HALVES), _bye(),
             End.CLOSE), Framing.RAW),
         body=b"".join(_frame(TEXT, half.encode()) for half in HALVES) + _bye()),
)  # fmt: skip

CASES = (*FORMS, *OTHERS, *PLACES, *MODERN_PLACES, *CODED, *CUTS, *BROKEN, *AS_IT_WAS, *SOCKETS, *LIMITS)
