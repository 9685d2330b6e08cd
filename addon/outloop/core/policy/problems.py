"""Faults collected while a policy file is read, so that all of them are reported at once."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Collection

from outloop.core.errors import PolicyError, Problem
from outloop.core.policy.document import Document, Node

MOST_PROBLEMS = 100  # beyond this a person fixes, and checks again
_SHOWN_LENGTH = 60

_KNOWN_SECRET = re.compile(
    r"(?i:bearer|basic)\s+\S{8,}|-----BEGIN |eyJ[\w-]{8,}\.|AKIA[0-9A-Z]{12,}|AIza[\w-]{20,}|"
    r"(?:sk|pk|rk|whsec|ghp|gho|ghs|ghu|github_pat|glpat|xox[abprse]|shpat|npm|pypi|hf|SG|phx)[-_.][\w-]{8,}"
)
_SCHEME = re.compile(r"(?i:(\b(?:bearer|basic)\s+))([^\s\"'{}\[\],]+)")
_WORDS = re.compile(r"""([\s"'`{}\[\],]+)""")
# Ids that people write down come in shorter runs (a UUID's are at most 12 long) or without digits; keys do not.
_RUN = re.compile(r"[A-Za-z0-9]{16,}")
_FEWEST_DIGITS = 2
_LEAST_BITS = 3.0  # a character, by Shannon's measure; random hex comes near 4, base64 beyond


class Problems:
    """The faults of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._found: dict[tuple[int, int, str], Problem] = {}

    def add(self, node: Node, message: str, hint: str | None = None) -> None:
        """Note a fault at *node*; the same fault at the same place counts once."""
        if not self.is_full:
            # Whatever was quoted of the file, a key that someone pasted into it is not said again.
            message, hint = masked(message), masked(hint) if hint else None
            problem = Problem(self._document.file, node.line, node.column, message, hint)
            self._found.setdefault((node.line, node.column, message), problem)

    @property
    def is_full(self) -> bool:
        """Tell whether further faults would not be told: looking for more is then of no use."""
        return len(self._found) >= MOST_PROBLEMS

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_any(self) -> None:
        """Raise PolicyError with all faults in file order, if there is one."""
        if self._found:
            raise PolicyError(tuple(self._found[key] for key in sorted(self._found)))


def nearest(name: str, valid: Collection[str]) -> str | None:
    """Return the one of *valid* that *name* most likely meant, or None."""
    spelled = {choice.lower(): choice for choice in valid}
    close = difflib.get_close_matches(name[:_SHOWN_LENGTH].lower(), spelled, n=1, cutoff=0.6)
    return spelled[close[0]] if close else None


def suggestion(name: str, valid: Collection[str]) -> str | None:
    """Return a hint: the nearest of *valid*, else all of them."""
    close = nearest(name, valid)
    if close is not None:
        return f"did you mean `{close}`?"
    return f"known here: {', '.join(sorted(valid))}" if valid else None


def shown(text: str) -> str:
    """Return *text* for a message: in backticks, on one line, cut, and never a secret."""
    if looks_secret(text):
        return "a secret-looking value"
    line = " ".join(text.split())
    return f"`{line if len(line) <= _SHOWN_LENGTH else line[: _SHOWN_LENGTH - 1] + '…'}`"


def looks_secret(text: str) -> bool:
    """Tell whether *text* holds what looks like a credential: a known prefix, or a long random-looking run of characters."""
    text = text[:4096]
    return bool(_KNOWN_SECRET.search(text)) or any(map(_looks_random, _RUN.findall(text)))


def masked(text: str) -> str:
    """Return *text*, a line of a file, with bullets over each word that looks secret; its length stays."""
    text = _SCHEME.sub(lambda found: found[1] + "•" * len(found[2]), text)
    return "".join("•" * len(word) if looks_secret(word) else word for word in _WORDS.split(text))


def _looks_random(run: str) -> bool:
    if sum(map(str.isdigit, run)) < _FEWEST_DIGITS or run.isdigit():
        return False
    counts = Counter(run)
    bits = -sum(count / len(run) * math.log2(count / len(run)) for count in counts.values())
    return bits > _LEAST_BITS
