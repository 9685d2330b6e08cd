"""Quick ways to undo escapes: what a regular expression with a callback gives, byte for byte, without a call for each.

Dense data is what makes the difference: JSON and forms that spell every tenth byte or more otherwise.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

_KINDS_MAXIMUM = 24


def percent_value(match: re.Match[bytes]) -> bytes:
    """Return the byte that a percent-encoding stands for."""
    return bytes.fromhex(match[0][1:].decode())


def undone_by_kind(token: re.Pattern[bytes], value: Callable[[re.Match[bytes]], bytes], text: bytes) -> bytes:
    """Return `token.sub(value, text)`. Most data spells few bytes, each many times: those are replaced one kind at a time."""
    found = Counter(token.findall(text))
    if len(found) > _KINDS_MAXIMUM:
        return _one_by_one(token, value, text)
    plain, length = text, len(text)
    for kind in sorted(found, key=len, reverse=True):  # a longer one may end in a shorter one
        match = token.fullmatch(kind)
        if match is None:  # only what stands beside it makes it one
            return _one_by_one(token, value, text)
        meant = value(match)
        plain = plain.replace(kind, meant)
        length -= found[kind] * (len(kind) - len(meant))
    # Shorter than that, and a replacement has made up another token, which is for the next view.
    return plain if len(plain) == length else _one_by_one(token, value, text)


def _one_by_one(token: re.Pattern[bytes], value: Callable[[re.Match[bytes]], bytes], text: bytes) -> bytes:
    known: dict[bytes, bytes] = {}

    def meant(match: re.Match[bytes]) -> bytes:
        kind = match[0]
        if kind not in known:
            known[kind] = value(match)
        return known[kind]

    return token.sub(meant, text)
