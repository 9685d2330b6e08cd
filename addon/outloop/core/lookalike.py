"""Values that look like a service's tokens and are none: what a decoy is made of.

A shape is literal text with ``{kind:length}`` for random characters: ``ghp_{alnum:36}``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits

MIN_BITS = 128
DEFAULT_SHAPE = "{alnum:40}"
DEFAULT_NAME_SHAPE = "{lower:9}"  # of a part that is no secret, such as a user name

_ALPHABETS = {
    "alnum": ascii_letters + digits,
    "base64url": ascii_letters + digits + "-_",
    "digits": digits,
    "hex": digits + "abcdef",
    "lower": ascii_lowercase,
    "upper": ascii_uppercase + digits,
}
_RANDOM = re.compile(r"\{(" + "|".join(_ALPHABETS) + r"):([1-9][0-9]{0,3})\}")


def shape_fault(shape: str) -> str:
    """Return what is wrong with *shape*, "" where it is sound: known kinds only, and 128 random bits or more."""
    if "{" in (rest := _RANDOM.sub("", shape)) or "}" in rest:
        return f"a random stretch is {{KIND:LENGTH}}, KIND one of {', '.join(_ALPHABETS)}"
    bits = sum(int(length) * math.log2(len(_ALPHABETS[kind])) for kind, length in _RANDOM.findall(shape))
    return "" if bits >= MIN_BITS else f"{MIN_BITS} random bits or more, so that none is met by chance: these are {bits:.0f}"


def lookalike(shape: str, choose: Callable[[str], str]) -> str:
    """Return a value of *shape*; *choose* picks one character of a text at random, as `secrets.choice` does."""
    return _RANDOM.sub(lambda found: "".join(choose(_ALPHABETS[found[1]]) for _ in range(int(found[2]))), shape)
