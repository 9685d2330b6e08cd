"""What is masked where an operator reads a request: values under telling names, and text that has the shape of a credential.

This is for values that Outloop does not know. Those it knows are found by value (core/scrub).
"""

from __future__ import annotations

import re

MASK = "***"

# Names whose values are credentials wherever they occur; an agent may send one that no key of ours equals.
_WORDS = frozenset(
    "token key secret password passwd pwd passphrase signature sig auth authorization code session jwt credential credentials "
    "cookie otp pin cvc cvv".split()
)
_ENDINGS = ("token", "key", "secret", "password", "signature", "credential", "credentials")
_JOINTS = re.compile(r"[-._\[\]\s]+")

# How issuers mark what they issue, so that it is found when it leaks (GitHub's secret scanning lists them).
_ISSUED = (
    r"(?:sk|pk|rk|whsec|ghp|gho|ghu|ghs|ghr|github_pat|glpat|shpat|shpss|npm|pypi|dop_v1|phc|phx|hf|ntn|secret|lin_api|figd|pat)"
    r"[_-][A-Za-z0-9_-]{12,}"
)
_SHAPES = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,40}-----)?"
    r"|\b(?:[Bb]earer|[Bb]asic|[Tt]oken) +[A-Za-z0-9._~+/=-]{8,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]{4,}"  # a JSON Web Token (RFC 7519)
    rf"|\b{_ISSUED}"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{8,}|\bA[KS]IA[A-Z0-9]{12,}|\bAIza[A-Za-z0-9_-]{20,}|\bya29\.[A-Za-z0-9_-]{8,}"
    r"|(?<=://)[^/\s:@]{1,256}:[^/\s@]{1,256}(?=@)"  # user and password of a URL (RFC 3986 §3.2.1)
)
# A value behind a name in text that nobody parses: `name: value`, `name=value`, a part of a multipart form (RFC 7578).
_ASSIGNED = re.compile(r"""([A-Za-z0-9_.-]{1,64})(["']?[ \t]*[:=][ \t]*)("[^"\r\n]*"|'[^'\r\n]*'|[^\s&,;]+)""")
_PART = re.compile(r"""(name="([^"\r\n]{1,64})"[^\r\n]*(?:\r?\n[^\r\n]+){0,4}\r?\n\r?\n)([^\r\n]+)""")


def is_telling(name: str) -> bool:
    """Tell whether a field, parameter or header called *name* holds a credential, by its name."""
    words = _JOINTS.split(name.lower())
    return any(word in _WORDS or word.endswith(_ENDINGS) for word in words)


def masked(text: str) -> str:
    """Return *text* without what has the shape of a credential."""
    return _SHAPES.sub(MASK, text)


def masked_prose(text: str) -> str:
    """Return *text*, which has no known form, without what has the shape of a credential or stands behind a telling name."""
    text = _PART.sub(lambda found: found[1] + (MASK if is_telling(found[2]) else found[3]), masked(text))
    return _ASSIGNED.sub(lambda found: f"{found[1]}{found[2]}{MASK if is_telling(found[1]) else found[3]}", text)
