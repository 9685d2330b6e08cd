"""The forms in which a credential may be echoed, and an ear that hears it in any of them.

The ear shares nothing with the scrubber: it undoes what an agent would undo, as often as an agent would, and looks for a piece.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from urllib.parse import quote, unquote_to_bytes

Form = Callable[[str], bytes]
PIECE_BYTES = 9  # so much of a secret may not be read anywhere
BEFORE, AFTER = "before ", " after"


def _each(template: str) -> Form:
    return lambda text: "".join(template.format(byte) for byte in text.encode()).encode()


def _odd(form: Form) -> Form:
    """Spell every other character so."""
    return lambda text: b"".join(each.encode() if number % 2 else form(each) for number, each in enumerate(text))


def _base64(before: str, after: str, *, url: bool = False, padded: bool = True) -> Form:
    def spelled(text: str) -> bytes:
        encode = base64.urlsafe_b64encode if url else base64.b64encode
        coded = encode(f"{before}{text}{after}".encode())
        return coded if padded else coded.rstrip(b"=")

    return spelled


def _wrapped(width: int, end: str, before: int) -> Form:
    def spelled(text: str) -> bytes:
        coded = base64.b64encode(b"#" * before + text.encode() + b"#" * 40).decode()
        return end.join(coded[start : start + width] for start in range(0, len(coded), width)).encode()

    return spelled


def _json(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode()


PLAIN: dict[str, Form] = {
    "raw": str.encode,
    "percent-reserved": lambda text: quote(text, safe="").encode(),
    "percent-upper": _each("%{:02X}"),
    "percent-lower": _each("%{:02x}"),
    "percent-every-other": _odd(_each("%{:02X}")),
    "percent-twice": _each("%25{:02X}"),
    "percent-thrice": _each("%2525{:02X}"),
    "json-quoted": _json,
    "json-slash": lambda text: _json(text).replace(b"/", b"\\/"),
    "json-u-lower": _each("\\u{:04x}"),
    "json-u-upper": _each("\\u{:04X}"),
    "json-u-every-other": _odd(_each("\\u{:04x}")),
    "json-in-json": lambda text: _json(_each("\\u{:04x}")(text).decode()),
    "json-x": _each("\\x{:02x}"),
    "json-of-percent": lambda text: _each("\\u{:04x}")(quote(text, safe="")),
    "percent-of-json": lambda text: quote(_each("\\u{:04x}")(text), safe="").encode(),
    "html-named": lambda text: html.escape(text).replace("+", "&plus;").replace("/", "&sol;").encode(),
    "html-decimal": _each("&#{};"),
    "html-hex": _each("&#x{:x};"),
    "html-hex-capital": _each("&#X{:X};"),
    "html-zeros": _each("&#{:06};"),
    "html-every-other": _odd(_each("&#{};")),
    "html-in-html": _each("&amp;#{};"),
    "hex": lambda text: text.encode().hex().encode(),
    "hex-upper": lambda text: text.encode().hex().upper().encode(),
    "hex-colons": lambda text: text.encode().hex(":").encode(),
    "hex-spaces": lambda text: text.encode().hex(" ").encode(),
    "reversed": lambda text: text[::-1].encode(),
    "upper": lambda text: text.upper().encode(),
    "lower": lambda text: text.lower().encode(),
    "swapped": lambda text: text.swapcase().encode(),
    **{
        f"base64-{len(before)}{'-url' if url else ''}{'' if padded else '-unpadded'}": _base64(before, after, url=url,
            padded=padded)
        for before, after in (("", ""), ("?", ""), ("??", ""), ("???>", "~"))
        for url in (False, True)
        for padded in (False, True)
    },
    "basic": lambda text: b"Basic " + base64.b64encode(f"user:{text}".encode()),
    "basic-percent": lambda text: quote(base64.b64encode(f"user:{text}".encode()), safe="").encode(),
    "base64-json-u": lambda text: _each("\\u{:04x}")(base64.b64encode(text.encode()).decode()),
    "twice": lambda text: f"{text}{text}".encode(),
    "many": lambda text: " ".join([text] * 40).encode(),
}  # fmt: skip
# Only where any byte may stand.
BODILY: dict[str, Form] = {
    "utf-16-le": lambda text: text.encode("utf-16-le"),
    "utf-16-be": lambda text: text.encode("utf-16-be"),
    "utf-16-mark": lambda text: text.encode("utf-16"),
    **{
        f"base64-lines-{width}-{name}-{before}": _wrapped(width, end, before)
        for width in (64, 76)
        for name, end in (("lf", "\n"), ("crlf", "\r\n"), ("json", "\\n"))
        for before in (30, 44)
    },
    "nul-beside": lambda text: b"\0" + text.encode() + b"\0",
    "bytes-beside": lambda text: b"\xff\xfe\x80" + text.encode() + b"\x80\xff",
}  # fmt: skip


def heard_in(data: bytes, *secrets: str) -> str:
    """Return which piece of *secrets* can be read in *data* and how it was found, "" where none can."""
    pieces = _pieces(secrets)
    for reading, depth in _readings(data):
        windows = [reading[start : start + PIECE_BYTES] for start in range(len(reading) - PIECE_BYTES + 1)]
        if not pieces.isdisjoint(windows):
            return f"{next(filter(pieces.__contains__, windows))!r} can be read in {data[:300]!r}, {depth} step(s) deep"
    return ""


@cache
def _pieces(secrets: tuple[str, ...]) -> frozenset[bytes]:
    wholes = [secret.encode() for secret in secrets]
    texts = {text for whole in wholes for text in (whole, whole[::-1], whole.upper(), whole.lower(), whole.swapcase())}
    return frozenset(text[start : start + PIECE_BYTES] for text in texts for start in range(len(text) - PIECE_BYTES + 1))


def _readings(data: bytes) -> Iterator[tuple[bytes, int]]:
    seen = {data}
    now = [data]
    for depth in range(4):
        yield from ((reading, depth) for reading in now)
        now = list(dict.fromkeys(each for reading in now for each in _undone(reading) if each not in seen))
        seen.update(now)


def _undone(data: bytes) -> Iterator[bytes]:
    if b"%" in data:
        yield unquote_to_bytes(data)
    if b"\\" in data:
        plain = re.sub(rb"\\(?:u00|x)([0-9A-Fa-f]{2})", lambda match: bytes.fromhex(match[1].decode()), data)
        yield re.sub(rb"\\(.)", lambda match: b"" if match[1] in b"nr" else match[1], plain)
    if b"&" in data:
        yield html.unescape(data.decode("latin-1")).encode("utf-8")
    if b"\0" in data:
        yield data.replace(b"\0", b"")
    joined = re.sub(rb"[\r\n]+|\\n", b"", data)
    for run in set(re.findall(rb"[A-Za-z0-9+/_-]{12,}", joined)):
        for skip in range(4):
            coded = run[skip:].translate(bytes.maketrans(b"-_", b"+/"))
            yield base64.b64decode(coded[: len(coded) // 4 * 4])
    for run in set(re.findall(rb"(?:[0-9A-Fa-f]{2}[: ]?){9,}", data)):
        digits = re.sub(rb"[: ]", b"", run).decode()
        for skip in range(2):
            yield bytes.fromhex(digits[skip : skip + (len(digits) - skip) // 2 * 2])


def every(*tables: dict[str, Form]) -> dict[str, Form]:
    """Return the forms of all *tables*."""
    return dict(itertools.chain.from_iterable(table.items() for table in tables))
