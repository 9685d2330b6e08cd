"""Measures whether a secret stands in what is about to leave. Shares no code and no algorithm with the scrubber.

It covers the plain forms: the secret itself; base64 of it, alone or inside anything longer, in both alphabets, padded or not; hex
in either case; and each of these percent-encoded (once or twice), JSON-escaped, or both, in any mix of escaped and plain bytes.
The rarer forms (HTML entities, UTF-16, reversed, case-flipped, line-wrapped) are the scrubber's alone.

How: a needle of n bytes covers, wherever it stands, one whole sample of g bytes when samples are taken every n-g+1 bytes. So only
samples are looked up, in a set of all the g-byte pieces a needle has at its start: 1 to 2 ms per MiB for 20 secrets, where
`bytes.find` would take 0.2 ms for each of some 200 needles. Where a sample is known, the needle is compared there.
"""

from __future__ import annotations

import codecs
import re
import struct
from base64 import b64encode, urlsafe_b64encode
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes

from outloop.core.secret import Secret

_LONG_BYTES = 23
_FEW_NEEDLES = 16
_ESCAPES_MAXIMUM = 32
_PAD = ord("=")
_ESCAPED_BYTES = 18  # the longest that one byte becomes: \u0041 with every character of it percent-encoded, or the reverse
_PERCENT = re.compile(rb"%[0-9A-Fa-f][0-9A-Fa-f]")
_CODE = rb"\\u00([0-9A-Fa-f]{2})"
_ASCII_CODE = rb"\\u00([0-7][0-9A-Fa-f])"  # which leaves out the letters that JSON is full of, as \u00e9
_CROWDED_BYTES = 64


class _Samples:
    """The pieces of some needles, as integers, and the one pass that looks samples of a text up among them."""

    def __init__(self, needles: list[bytes]) -> None:
        shortest = min(map(len, needles))
        letter, self._width = ("Q", 8) if shortest >= _LONG_BYTES else ("I", 4)
        self._stride = min(shortest - self._width + 1, 64)
        pieces: defaultdict[int, list[tuple[bytes, int]]] = defaultdict(list)
        for needle in needles:
            for offset in range(self._stride):
                pieces[int.from_bytes(needle[offset : offset + self._width], "little")].append((needle, offset))
        self._pieces = dict(pieces)
        self._known = frozenset(pieces)
        step = f"{letter}{self._stride - self._width}x"
        # Blocks of many samples for pieces of a body, of few for a header or a small reply.
        self._blocks = [(count, struct.Struct("<" + step * (count - 1) + letter)) for count in (128, 8)]

    def found_in(self, text: bytes) -> bool:
        """Tell whether a needle stands in *text*."""
        (count, block), small = self._blocks
        if len(text) < block.size:
            count, block = small
            text = text.ljust(block.size, b"\0")
        last = len(text) - block.size
        for start in (*range(0, last, self._stride * count), last):
            samples = block.unpack_from(text, start)
            if not self._known.isdisjoint(samples) and self._is_at(text, start, samples):
                return True
        return False

    def _is_at(self, text: bytes, start: int, samples: tuple[int, ...]) -> bool:
        for number, sample in enumerate(samples):
            for needle, offset in self._pieces.get(sample, ()):
                begin = start + number * self._stride - offset
                if begin >= 0 and text.startswith(needle, begin):
                    return True
        return False


@dataclass(frozen=True, slots=True, repr=False)
class Needles:
    """The plain forms of some secrets, prepared for looking. Immutable: made once per change of keys."""

    few: tuple[bytes, ...]
    samples: tuple[_Samples, ...]
    longest_bytes: int
    has_backslash: bool
    code: re.Pattern[bytes]
    escape: re.Pattern[bytes]

    @classmethod
    def compile(cls, secrets: Iterable[Secret]) -> Needles:
        """Prepare *secrets*; empty ones are left out."""
        needles = sorted({needle for secret in secrets if secret for needle in _needles(secret.reveal())})
        short = [needle for needle in needles if len(needle) < _LONG_BYTES]
        long = [needle for needle in needles if len(needle) >= _LONG_BYTES]
        few = short if len(short) <= _FEW_NEEDLES else []
        sampled = [group for group in (long, [] if few else short) if group]
        every = b"".join(needles)
        code = _ASCII_CODE if every.isascii() else _CODE
        return cls(
            few=tuple(few),
            samples=tuple(map(_Samples, sampled)),
            longest_bytes=max(map(len, needles), default=0),
            has_backslash=b"\\" in every,
            code=re.compile(code),
            escape=re.compile(code + rb"|\\/"),
        )

    def with_signatures(self, signatures: Iterable[Secret]) -> Needles:
        """Return needles for *signatures* as well, for one exchange: a few more to look for, with nothing prepared."""
        added = tuple(needle for signature in signatures for needle in dict.fromkeys(_needles(signature.reveal())))
        if not added:
            return self
        has_backslash = self.has_backslash or any(b"\\" in needle for needle in added)
        longest_bytes = max(self.longest_bytes, *map(len, added))
        return replace(self, few=self.few + added, longest_bytes=longest_bytes, has_backslash=has_backslash)

    def stand_in(self, text: bytes) -> bool:
        """Tell whether a secret stands in *text*, plain or escaped."""
        if not self.has_backslash and text.count(b"\\") > len(text) // _CROWDED_BYTES:
            text = text.replace(b"\\/", b"/")  # parts no needle that was whole before, so that one look is enough
        return self._bare_in(text) or any(self._bare_in(reading) for reading in self._readings(text))

    def _bare_in(self, text: bytes) -> bool:
        return any(needle in text for needle in self.few) or any(samples.found_in(text) for samples in self.samples)

    def _readings(self, text: bytes) -> Iterator[bytes]:
        """Yield what surrounds the escapes in *text* with those undone."""
        if b"%" in text and (coded := self._surroundings(text, _PERCENT)):
            once = _unquoted(coded)
            yield once
            if _PERCENT.search(once):
                yield _unquoted(once)
            if self.escape.search(once):
                yield self._unescaped(once)
        if b"\\" in text and (coded := self._surroundings(text, self.escape)):
            plain = self._unescaped(coded)
            yield plain
            if _PERCENT.search(plain):
                yield _unquoted(plain)

    def _unescaped(self, text: bytes) -> bytes:
        return self.code.sub(lambda match: bytes.fromhex(match[1].decode()), text.replace(b"\\/", b"/"))

    def _surroundings(self, text: bytes, escape: re.Pattern[bytes]) -> bytes:
        """Return the parts of *text* near enough to an *escape* to hold a needle with one in it, kept apart by line feeds.

        Between two escapes in a needle stand at most its own bytes, so that its parts join up. Where there are many escapes,
        it is all of *text*.
        """
        reach = self.longest_bytes
        parts: list[tuple[int, int]] = []
        for count, match in enumerate(escape.finditer(text)):
            if count == _ESCAPES_MAXIMUM:
                return text
            start, stop = max(match.start() - reach, 0), match.end() + reach
            if parts and start <= parts[-1][1]:
                parts[-1] = parts[-1][0], stop
            else:
                parts.append((start, stop))
        return b"\n".join([text[start:stop] for start, stop in parts])


def _needles(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield secret.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for before in range(3):
        for encode in (b64encode, urlsafe_b64encode):
            # What neither neighbours of zeros nor of ones can change is the secret's own.
            pair = (encode(unit * before + secret + unit * 2) for unit in (b"\x00", b"\xff"))
            yield bytes(one for one, other in zip(*pair, strict=True) if one == other != _PAD)


def _unquoted(text: bytes) -> bytes:
    """Return *text* with percent-encodings undone once.

    Read as the escapes of a Python literal, which is C's work at once; a sign that begins none is an error there, and then each
    is looked at by itself.
    """
    last = text.rfind(b"%")
    cut = last if last >= len(text) - 2 and last >= 0 else len(text)  # one that is not whole yet, as a stream is cut anywhere
    text, rest = text[:cut], text[cut:]
    try:
        plain = bytes(codecs.escape_decode(text.replace(b"\\", b"\\\\").replace(b"%", b"\\x"))[0])
    except ValueError:
        plain = unquote_to_bytes(text)
    return plain + rest


class ExposureCheck:
    """Watches one stream. Carries over enough of what has been fed to see a secret that was split between pieces.

    After a hit, `seen` is the text in which it stood and `reached_back` tells whether part of it stood in an earlier piece.
    """

    __slots__ = ("_carried", "_carry_bytes", "_needles", "reached_back", "seen")

    def __init__(self, needles: Needles) -> None:
        self._needles = needles
        self._carry_bytes = max(needles.longest_bytes * _ESCAPED_BYTES - 1, 0)
        self._carried = b""
        self.reached_back = False
        self.seen = b""

    def feed(self, piece: bytes) -> bool:
        """Tell whether a secret stands in what has been fed up to and with *piece*."""
        if not self._carry_bytes:
            return False
        text = self._carried + piece
        if self._needles.stand_in(text):
            self.reached_back = not self._needles.stand_in(piece)
            self.seen = text
            return True
        self._carried = text[-self._carry_bytes :]
        return False
