"""The spellings that are undone before literal forms are looked for.

Percent-encoding (RFC 3986 §2.1), backslash escapes (RFC 8259 §7, and ``\\xHH``), HTML character references, and line breaks
inside base64 (RFC 2045 §6.8). Only escapes for a byte of interest, one that some form contains, are undone: others change
nothing.
"""

from __future__ import annotations

import html.entities
import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby, product
from operator import itemgetter

from outloop.core.scrub.undoing import percent_value, undone_by_kind
from outloop.core.scrub.views import Spelling

ESCAPE_STARTERS = (b"%", b"\\", b"&")
LONGEST_ESCAPE_BYTES = 24
ESCAPE_LEVELS = 4
CONTEXT_BYTES = 64

_ENTITIES = {
    name[:-1].encode(): character.encode()
    for name, character in html.entities.html5.items()
    if name.endswith(";") and len(character) == 1 and character.isascii()
}
_CODED_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
# Bytes that may spell the start of another escape, or the line break of wrapped base64.
_ALWAYS_WANTED = frozenset(b"%\\&#;\r\n")
# What may turn into an escape when more bytes come.
_UNDECIDED = re.compile(
    rb"(?:%(?:25)*[0-9A-Fa-f]?|\\+(?:u[0-9A-Fa-f]{0,3}|x[0-9A-Fa-f]?)?|&(?:amp;)*(?:\#[xX]?[0-9A-Fa-f]*|[A-Za-z]*))\Z"
)
# A line of wrapped base64 (64 or 76 wide) is full, so a break inside it follows a long run. Asking for one lets prose pass
# line by line.
_RUN = rb"[A-Za-z0-9+/_%\\-]{16}"
_AFTER_BREAK = rb"[ \t]*[A-Za-z0-9+/_%\\&-]"
_BREAK_AT_END = re.compile(rb"(?<=" + _RUN + rb")(?:\r\n?|\n|\\r(?:\\n)?|\\n)[ \t]{0,32}\Z")


def undecided_from(text: bytes) -> int:
    """Return where an escape that *text* leaves unfinished begins; its length when there is none.

    An unfinished escape may yet spell the middle of the one before it, as deep as escapes are undone.
    """
    end = text[-2 * LONGEST_ESCAPE_BYTES :]
    if b"%" in end or b"\\" in end or b"&" in end:
        before = len(text) - len(end)
        for _ in range(ESCAPE_LEVELS):
            found = _UNDECIDED.search(end)
            if found is None:
                break
            end = end[: found.start()]
        return before + len(end)
    return len(text)


def break_from(text: bytes, context: bytes) -> int:
    """Return where a line break that may stand inside wrapped base64 begins at the end of *text*; its length when there is none.

    *context* is the end of what came before *text*.
    """
    if text[-1:] not in b"\r\n \t" and text[-2:] not in (b"\\n", b"\\r"):
        return len(text)
    window = (context + text)[-CONTEXT_BYTES:]
    found = _BREAK_AT_END.search(window)
    return max(len(text) - len(window) + found.start(), 0) if found else len(text)


def breaks() -> tuple[Spelling, ...]:
    """Return the line breaks of wrapped base64, bare and as JSON escapes."""
    return tuple(
        Spelling(
            starts=(start,),
            # What is literal stands outside of the look-ahead: it is searched for quickly.
            trigger=re.compile(first + rb"(?=" + rest + rb"(?<=" + _RUN + whole + rb")" + _AFTER_BREAK + rb")"),
            token=re.compile(token + rb"[ \t]*"),
            value=b"",
            outside=rb"[^\r\n\t \\rn]",
            undo=undo,
        )
        for start, first, rest, whole, token, undo in (
            (b"\n", rb"\n", rb"", rb"\n", rb"\n", partial(_without, b"\n")),
            (b"\n", rb"\n", rb"", rb"\r\n", rb"\r\n", partial(_without, b"\r\n")),
            (b"\\n", rb"\\n", rb"", rb"\\n", rb"\\(?:r\\)?n", None),
        )
    )


def _without(line_break: bytes, text: bytes) -> bytes:
    """Return *text* without *line_break* and the blanks that follow it."""
    if line_break + b" " in text or line_break + b"\t" in text:
        return re.sub(re.escape(line_break) + rb"[ \t]*", b"", text)
    return text.replace(line_break, b"")


def escapes(secret_bytes: Iterable[int]) -> tuple[Spelling, ...]:
    """Return the escapes for *secret_bytes*, for the bytes of their coded forms, and for those that may spell another escape.

    A trigger asks that four bytes before or after the escape could belong to a form as well, or that the data ends there: an
    escape inside a form of eight or more bytes has at least that many to one side. Random data passes.
    """
    own = _CODED_BYTES | frozenset(secret_bytes)
    wanted = sorted(own | _ALWAYS_WANTED)
    near = b"[A-Za-z0-9#;" + re.escape(bytes(sorted(own | _ALWAYS_WANTED))) + b"]"
    # Percent-encoding last: a bare ``%`` in JSON or HTML must not swallow digits before those two were undone and searched.
    return _slash(near), _backslash(own, wanted, near), _reference(own, wanted, near), _percent(wanted, near)


def _trigger(sign: bytes, rest: bytes, near: bytes, following: int) -> re.Pattern[bytes]:
    """Return the pattern of *sign* and *rest* that has four *near* bytes before it, or *following* after, as far as data goes."""
    beside = b"(?:(?<=%b{4}%b)|(?=%b{%d}|%b{0,%d}\\Z))" % (near, sign, near, following, near, following - 1)
    return re.compile(sign + b"(?=" + rest + b")" + beside)


def _pairs(wanted: list[int]) -> bytes:
    """Return the pattern of the two hex digits of a byte in *wanted* (sorted), in either case."""
    by_high = groupby((f"{byte:02x}" for byte in wanted), key=itemgetter(0))
    halves = ((high, {digit for pair in pairs for digit in (pair[1], pair[1].upper())}) for high, pairs in by_high)
    # Both cases written out: where a pattern ignores case, it is matched at half the speed.
    return (
        b"(?:"
        + "|".join(f"[{''.join(sorted({high, high.upper()}))}][{''.join(sorted(low))}]" for high, low in halves).encode()
        + b")"
    )


def _slash(near: bytes) -> Spelling:
    """Return the escape that some servers put into every URL in their JSON: worth a way of its own."""
    trigger = _trigger(rb"\\", rb"/", near, 5)
    return Spelling(
        (b"\\/",), trigger, re.compile(rb"\\/"), b"/", outside=rb"[^\\]", undo=lambda text: text.replace(b"\\/", b"/")
    )


def _percent(wanted: list[int], near: bytes) -> Spelling:
    heads = [b"%" + pair for pair in _cased(wanted)]
    token = re.compile(b"%" + _pairs(wanted))
    return Spelling(
        starts=tuple(sorted({head[:2] for head in heads})),
        trigger=_trigger(b"%", _pairs(wanted), near, 6),
        token=token,
        value=percent_value,
        outside=rb"[^%]{2}",
        heads=heads,
        undo=partial(undone_by_kind, token, percent_value),
    )


def _cased(wanted: list[int]) -> Iterator[bytes]:
    """Yield the two hex digits of each byte in *wanted*, in every mix of cases."""
    for byte in wanted:
        yield from {"".join(digits).encode() for digits in product(*({digit, digit.upper()} for digit in f"{byte:02x}"))}


def _backslash(own: frozenset[int], wanted: list[int], near: bytes) -> Spelling:
    """Return the spelling of JSON and C: backslashes before the last one are those of JSON inside JSON."""
    code = rb"u(?:00" + _pairs(wanted) + (rb"|[0-9A-Fa-f]{4}" if max(own) >= 0x80 else b"") + rb")"
    last = code + b"|x" + _pairs(wanted) + b"|[/" + bytes(sorted(own & set(b"\"'"))) + b"]"
    doubled = rb"|\\\\" if b"\\"[0] in own else b""

    def value(match: re.Match[bytes]) -> bytes:
        """Return the byte or character; what is left of nothing but backslashes is one."""
        token = match[0].lstrip(b"\\")
        if token[:1] == b"u":
            return chr(int(token[1:], 16)).encode(errors="surrogatepass")
        if token[:1] == b"x":
            return bytes.fromhex(token[1:].decode())
        return token or b"\\"

    single = [b"\\" + bytes([byte]) for byte in own & set(b"\"'\\")]
    token = re.compile(rb"\\{1,8}(?:" + last + rb")" + doubled)
    pairs = list(_cased(wanted))
    return Spelling(
        starts=(b"\\u00" if max(own) < 0x80 else b"\\u", b"\\x", *single),
        trigger=_trigger(rb"\\", last + (rb"|\\" if doubled else b""), near, 5),
        token=token,
        value=value,
        heads=[
            *([b"\\u00" + pair for pair in pairs] if max(own) < 0x80 else [b"\\u"]),
            *(b"\\x" + pair for pair in pairs),
            b"\\/",
            *single,
        ],
        outside=rb"[^\\]{6}",
        undo=partial(undone_by_kind, token, value),
    )


def _reference(own: frozenset[int], wanted: list[int], near: bytes) -> Spelling:
    """Return the spelling of HTML and XML; ``amp;`` before the last reference is that of HTML inside HTML."""
    numbers = b"|".join(b"%d" % byte for byte in wanted)
    names = b"|".join(name for name, character in _ENTITIES.items() if character[0] in own)
    last = rb"\#(?:0{0,7}(?:" + numbers + rb")|[xX]0{0,7}(?:" + _pairs(wanted) + rb"|[aAdD]))"
    if max(own) >= 0x80:  # text beyond ASCII is spelled by code point, not by byte
        last += rb"|\#(?:[0-9]{1,6}|[xX][0-9A-Fa-f]{1,5})"
    last += b"|" + names  # plus and others: never empty

    def value(match: re.Match[bytes]) -> bytes:
        """Return the byte or character."""
        token = match[0][:-1].rsplit(b"&", 1)[-1].rsplit(b";", 1)[-1]
        if token[:2] in (b"#x", b"#X"):
            return chr(int(token[2:], 16)).encode(errors="surrogatepass")
        return chr(int(token[1:])).encode() if token[:1] == b"#" else _ENTITIES[token]

    token = b"&(?:amp;){0,3}(?:" + last + b");"
    own_names = [name for name, character in _ENTITIES.items() if character[0] in own]
    codes = [b"#%d" % byte for byte in wanted] + [b"#" + sign + pair for sign in (b"x", b"X") for pair in _cased(wanted)]
    codes += [b"#0", *(b"#" + pair for pair in (b"x0", b"X0", b"xa", b"xA", b"Xa", b"XA", b"xd", b"xD", b"Xd", b"XD"))]
    if max(own) >= 0x80:
        codes = [b"#"]
    return Spelling(
        starts=tuple(sorted({b"&#", b"&amp;", *(b"&" + name[:2] for name in own_names)})),
        trigger=_trigger(b"&", token[1:], near, 7),
        token=re.compile(token),
        value=value,
        heads=[b"&" + amp + head for amp in (b"", b"amp;") for head in (*codes, *own_names, b"amp;#", b"amp;amp;")],
        outside=rb"[^&\#;A-Za-z0-9]",
        undo=partial(undone_by_kind, re.compile(token), value),
    )
