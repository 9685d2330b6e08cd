"""The slow search: whether a secret can be read out of some bytes by somebody who tries everything there is to try.

Obvious and not fast, and apart from the scrubber and the check in every line: all readings of the bytes are made, then all
readings of those, and a secret is looked for in each of them, in any case, forwards and backwards.
"""

from __future__ import annotations

import gzip
import html
import re
import zlib
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import unquote_to_bytes

import brotli
import zstandard

DEPTH = 3
SHORTEST = 8
_CODED_RUN = re.compile(rb"[A-Za-z0-9+/_-]{11,}")
_HEX_RUN = re.compile(rb"(?:[0-9A-Fa-f]{2}[: ]?){8,}")
_BACKSLASH = re.compile(rb"\\+(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|([/\"'\\nrt]))")
_NAMED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_SEPARATORS = bytes(range(0x21)) + b":"


def found_in(data: bytes, secrets: Iterable[bytes]) -> set[bytes]:
    """Return those of *secrets* that can be read out of *data*."""
    wanted = {secret: secret.lower() for secret in secrets}
    found = set()
    for reading in readings(data):
        folded = reading.lower()
        turned = folded[::-1]
        found |= {secret for secret, text in wanted.items() if text in folded or text in turned}
    return found


def readings(data: bytes) -> Iterator[bytes]:
    """Yield *data*, unpacked up to `DEPTH` times, and everything that reads as after up to `DEPTH` other changes, each once."""
    level = packed = [data]
    for _ in range(DEPTH):
        packed = [inside for each in packed for inside in _unpacked(each) if len(inside) >= SHORTEST]
        level = level + packed
    seen = set(level)
    yield from level
    for _ in range(DEPTH):
        fresh = dict.fromkeys(after for before in level for change in CHANGES for after in change(before))
        level = [reading for reading in fresh if len(reading) >= SHORTEST and reading not in seen]
        seen.update(level)
        yield from level


def _unpacked(data: bytes) -> Iterator[bytes]:
    attempts: list[Callable[[bytes], bytes]] = [
        gzip.decompress,
        lambda coded: zlib.decompressobj().decompress(coded),
        lambda coded: zlib.decompressobj(-15).decompress(coded),
        brotli.decompress,
        lambda coded: zstandard.ZstdDecompressor().decompressobj().decompress(coded),
    ]
    for attempt in attempts:
        try:
            yield attempt(data)
        except (OSError, EOFError, zlib.error, brotli.error, zstandard.ZstdError):
            continue


def _unquoted(data: bytes) -> Iterator[bytes]:
    if b"%" in data:
        yield unquote_to_bytes(data)


def _unescaped(data: bytes) -> Iterator[bytes]:
    def value(found: re.Match[bytes]) -> bytes:
        code, byte, named = found.groups()
        if named:
            return _NAMED.get(named, named)
        return chr(int(code or byte, 16)).encode("utf-8", "surrogatepass")

    if b"\\" in data:
        yield _BACKSLASH.sub(value, data)


def _unreferenced(data: bytes) -> Iterator[bytes]:
    if b"&" in data:
        yield html.unescape(data.decode("latin-1")).encode("latin-1", "ignore")


def _unwrapped(data: bytes) -> Iterator[bytes]:
    yield data.translate(None, b"\r\n\t ")


def _decoded(data: bytes) -> Iterator[bytes]:
    """Base64 in either alphabet, whatever stands before it: at each of the four places where a group may begin."""
    runs = [run.translate(bytes.maketrans(b"+/", b"-_")) for run in _CODED_RUN.findall(data)]
    for start in range(4) if runs else ():
        parts = [run[start:] for run in runs]
        yield b"\n".join(urlsafe_b64decode(part[: len(part) - 1 if len(part) % 4 == 1 else None] + b"==") for part in parts)


def _digits(data: bytes) -> Iterator[bytes]:
    runs = [run.translate(None, _SEPARATORS) for run in _HEX_RUN.findall(data)]
    for start in range(2) if runs else ():
        yield b"\n".join(bytes.fromhex(run[start : len(run) - (len(run) - start) % 2].decode()) for run in runs)


def _halves(data: bytes) -> Iterator[bytes]:
    """UTF-16, of either byte order, from either side of any byte."""
    if b"\0" in data:
        yield data[0::2]
        yield data[1::2]


CHANGES = (_unquoted, _unescaped, _unreferenced, _unwrapped, _decoded, _digits, _halves)
