"""Every literal form in which a credential may come back.

Forms here are plain byte strings. Spellings that vary from one character to the next (percent-encoding, JSON and HTML
escapes, line breaks inside base64) are not enumerated: they are undone first, so they combine with every form below.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from outloop.core.scrub.spellings import ESCAPE_STARTERS, escapes, undecided_from

FLIPPED_MINIMUM_BYTES = 16
SHORTEST_REMAINS_BYTES = 6  # less than this is somebody's plain words
STANDARD_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_URL_ALPHABET = bytes.maketrans(b"+/", b"-_")
_EVERY_ESCAPE = escapes(range(256))


@dataclass(frozen=True, slots=True, repr=False)
class Form:
    """A byte string to find, and the neighbours that carry bits of the secret when they stand next to it.

    `leads` and `trails` are the bytes which, right before or after `value`, share bits with it (base64 only). After a trail up to
    `pads` signs ``=`` belong to the form, so that what remains does not tell the secret's length.
    """

    value: bytes
    leads: frozenset[int] = frozenset()
    trails: frozenset[int] = frozenset()
    pads: int = 0


def forms_of(secrets: Iterable[bytes]) -> tuple[Form, ...]:
    """Return every literal form of *secrets*, each value once."""
    merged: dict[bytes, Form] = {}
    for form in (form for secret in secrets for form in _forms(secret)):
        same = merged.get(form.value, form)
        merged[form.value] = Form(form.value, form.leads | same.leads, form.trails | same.trails, max(form.pads, same.pads))
    return tuple(merged.values())


def signature_forms(signature: bytes) -> tuple[Form, ...]:
    """Return the literal forms of *signature*, which is made and searched for within one exchange: the few that take no time.

    Left out is what a stray ``%`` or ``\\`` before it may swallow of it while escapes within it are undone.
    """
    return (*map(Form, _plain(signature)), *_base64(signature))


def _forms(secret: bytes) -> list[Form]:
    forms = [*map(Form, _plain(secret)), *_base64(secret)]
    return forms + [Form(value) for form in forms for value in _swallowed(form.value)]


def _plain(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield from _utf16(secret)
    for separator in ("", ":", " "):
        digits = (secret.hex(separator) if separator else secret.hex()).encode()
        yield digits
        yield digits.upper()
    if len(secret) >= FLIPPED_MINIMUM_BYTES:  # shorter ones are too likely to be somebody's plain words
        yield secret[::-1]
        yield secret.upper()
        yield secret.lower()
        yield secret.swapcase()


def _utf16(secret: bytes) -> Iterator[bytes]:
    """Yield both byte orders without the outer zero byte: which side it stands on cannot be known from within a stream."""
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        text = secret.decode("latin-1")
    yield text.encode("utf-16-le").removesuffix(b"\0")
    yield text.encode("utf-16-be").removeprefix(b"\0")


def _base64(secret: bytes) -> Iterator[Form]:
    """Yield the stable core of *secret* in base64 (RFC 4648 §4 and §5) after 0, 1 or 2 unknown bytes.

    The core is what depends on the secret alone. The character before it holds its low bits, the one after it its high bits.
    """
    for unknown in range(3):
        encoded = base64.b64encode(bytes(unknown) + secret).rstrip(b"=")
        start = -(-8 * unknown // 6)
        stop = 8 * (unknown + len(secret)) // 6
        lead_bits = 6 * start - 8 * unknown
        trail_bits = 8 * (unknown + len(secret)) - 6 * stop
        leads: bytes = b""
        trails: bytes = b""
        if lead_bits:
            low = STANDARD_ALPHABET.index(encoded[start - 1])
            leads = bytes(STANDARD_ALPHABET[high << lead_bits | low] for high in range(1 << (6 - lead_bits)))
        if trail_bits:
            high = STANDARD_ALPHABET.index(encoded[stop])
            trails = bytes(STANDARD_ALPHABET[high | low] for low in range(1 << (6 - trail_bits)))
        pads = {0: 0, 2: 2, 4: 1}[trail_bits]
        core = encoded[start:stop]
        yield Form(core, frozenset(leads), frozenset(trails), pads)
        yield Form(
            core.translate(_TO_URL_ALPHABET),
            frozenset(leads.translate(_TO_URL_ALPHABET)),
            frozenset(trails.translate(_TO_URL_ALPHABET)),
            pads,
        )


def _swallowed(value: bytes) -> Iterator[bytes]:
    """Yield what undoing escapes leaves of *value* where its own bytes, or the byte before it, read as an escape.

    Without these a stray ``%`` before a value that begins with two hex digits would hide every escaped spelling of it.
    """
    found = set()
    for starter, spelling in product((b"", *ESCAPE_STARTERS), _EVERY_ESCAPE):
        joined = starter + value
        remains = spelling.token.sub(spelling.value, joined)
        if remains != joined:
            found.add(remains.removeprefix(starter) if remains.startswith(starter) else remains)
    if b"\\" in value:  # right before an escape with a backslash they read as that escape's own
        found.add(value.replace(b"\\", b""))
    if value[-1:] in (b"%", b"\\") or value[-2:-1] == b"%":
        found.add(value[: undecided_from(value)])
    yield from (remains for remains in found if len(remains) >= SHORTEST_REMAINS_BYTES)
