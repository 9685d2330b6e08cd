"""Request paths and queries in the one form that is both matched and forwarded, and the patterns that match them.

RFC 3986 §6.2.2 names the spellings that mean the same; those are brought into one. Spellings that servers are known to read
in different ways (dot segments, empty segments, double encoding, ``;``, backslashes) are refused, never repaired.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from outloop.core.errors import MalformedRequest

MAX_PATH_LENGTH = 8 * 1024
MAX_SEGMENTS = 256
MAX_PARAMETERS = 5000

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9\-_~][A-Za-z0-9\-._~]*)+/?")  # the common case: nothing to bring into form
_CUT = re.compile(r"[?#]|::\$")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_DOUBLE_ENCODED = re.compile(r"%25[0-9A-Fa-f]{2}")
_REFUSED_IN_PATH = re.compile(r"[^!-~]|[\\#;?]")
_REFUSED_ESCAPE = re.compile(r"%(?:[01][0-9A-F]|7F|5C|3B)")
# Printable, but no `pchar` of RFC 3986 §3.3: browsers and curl disagree on whether to escape them, so they always are.
_UNWISE = re.compile(r"[\"<>\[\]^`{|}]")
_REFUSED_IN_QUERY = re.compile(r"[^!-~]|#")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class CanonicalPath:
    """A path: `text` is what is forwarded, `segments` are its decoded segments, without the empty one of a trailing slash."""

    text: str
    segments: tuple[str, ...]


def canonical_path(raw: str, *, keep_encoded_slash: bool = False) -> CanonicalPath:
    """Bring *raw*, the path of an origin-form target without its query, into its one form.

    Escaped unreserved characters are decoded, other escapes keep upper-case hex, and characters that RFC 3986 does not allow
    raw are escaped. With *keep_encoded_slash* ``%2F`` is data inside its segment. Raises MalformedRequest for a path that has
    no single safe reading.
    """
    if len(raw) > MAX_PATH_LENGTH or raw.count("/") > MAX_SEGMENTS:
        raise MalformedRequest(f"the path is longer than {MAX_PATH_LENGTH} bytes or {MAX_SEGMENTS} segments")
    if _PLAIN_PATH.fullmatch(raw):
        return CanonicalPath(raw, tuple(raw.strip("/").split("/")))
    if not raw.startswith("/"):
        raise MalformedRequest("the path does not start with a slash")
    text = _canonical_text(raw)
    if "%2F" in text and not keep_encoded_slash:
        raise MalformedRequest("the path holds an encoded slash", "this service takes no %2F inside a path segment")
    return CanonicalPath(text, tuple(map(_decoded_segment, _raw_segments(text))))


def split_target(raw: str) -> tuple[str, str]:
    """Split an origin-form request target (RFC 9112 §3.2.1) into its path and its query without the ``?``, both still raw.

    Raises MalformedRequest when it does not start with a slash or holds a fragment.
    """
    if not raw.startswith("/") or "#" in raw:
        raise MalformedRequest("the request target is not a path and query")
    path, _, query = raw.partition("?")
    return path, query


def parse_query(raw: str) -> tuple[tuple[str, str], ...]:
    """Decode a raw query (or urlencoded form) into its pairs, in order: split on ``&`` alone, ``+`` is a space, UTF-8.

    Raises MalformedRequest for a bad escape, an encoded NUL, invalid UTF-8, ``#``, raw spaces, controls or non-ASCII, and for
    more than `MAX_PARAMETERS` of what some server would take for a parameter.
    """
    if not raw:
        return ()
    if sum(raw.count(separator) for separator in ("&", ";", "%3B", "%3b")) >= MAX_PARAMETERS:
        raise MalformedRequest(f"the query holds more than {MAX_PARAMETERS} parameters")
    if _REFUSED_IN_QUERY.search(raw) or _BAD_PERCENT.search(raw) or "%00" in raw:
        raise MalformedRequest("the query holds a character or escape that is not allowed there", "percent-encode it as utf-8")
    pairs = []
    for piece in raw.split("&"):
        if piece:
            name, _, value = piece.replace("+", " ").partition("=")
            pairs.append((_decoded(name), _decoded(value)))
    return tuple(pairs)


def fold(text: str) -> str:
    """Return *text* without differences of case and of compatibility form (Unicode §3.13 D146): how deny rules compare."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def fold_segment(text: str) -> str:
    """Return *text*, a decoded segment, as the most careless server would read it: how deny rules compare paths.

    Beside what `fold` does, this leaves out what stands behind an encoded question mark or hash (Apache httpd before 2.4.60 cut
    there), the name of an NTFS stream, and dots and spaces at the end (CWE-42, CWE-46).
    """
    folded = fold(text)
    if folded.isalnum():
        return folded
    if "/" not in text:  # one that is there only by its compatibility form
        folded = folded.partition("/")[0] or folded
    return _CUT.split(folded, maxsplit=1)[0].rstrip(". ") or folded


@dataclass(frozen=True, slots=True)
class Step:
    """What one segment must be: `literal` text, or anything (None), which `name` remembers."""

    literal: str | None
    folded: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A compiled path pattern; made by `compile_pattern`.

    `runs` are the steps between the ``**`` of the pattern: the first run stands at the start of the path, the last one at its
    end. `positions` tell where each name stands, counted from the end (negative) after a ``**``. No name stands between two
    ``**``, so that a path binds it in one way only.
    """

    text: str
    runs: tuple[tuple[Step, ...], ...]
    positions: tuple[tuple[str, int], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names it binds, in order."""
        return tuple(name for name, _ in self.positions)

    def match(self, segments: Sequence[str], *, fold_case: bool = False) -> dict[str, str] | None:
        """Return the segments that its names stand for if the pattern covers all *segments* (decoded), else None.

        *fold_case* compares as `fold_segment` does; the segments returned are as they came.
        """
        compared = tuple(map(fold_segment, segments)) if fold_case else segments
        return self.bind(segments) if self.covers(compared, folded=fold_case) else None

    def covers(self, segments: Sequence[str], *, folded: bool = False) -> bool:
        """Tell whether the pattern covers all *segments*, which the caller has folded if *folded*. Linear in their number."""
        runs, length = self.runs, len(segments)
        head, tail = runs[0], runs[-1]
        if len(runs) == 1:
            return length == len(head) and _fits(head, segments, 0, folded)
        end = length - len(tail)
        if end < len(head) or not _fits(head, segments, 0, folded) or not _fits(tail, segments, end, folded):
            return False
        at = len(head)
        for run in runs[1:-1]:
            # The leftmost place leaves most room to the rest, so that no place has to be tried again.
            while at + len(run) <= end and not _fits(run, segments, at, folded):
                at += 1
            at += len(run)
        return at <= end

    def bind(self, segments: Sequence[str]) -> dict[str, str]:
        """Return what its names stand for in *segments*, which it covers."""
        return {name: segments[at] for name, at in self.positions}


def compile_pattern(text: str) -> PathPattern:
    """Compile a path pattern: ``*`` is one segment, ``**`` zero or more, ``{name}`` one named segment.

    A trailing slash is ignored. Literal segments may be written decoded or percent-encoded. Raises ValueError with a message
    for the person who wrote the pattern.
    """
    if not text.startswith("/"):
        raise ValueError("a path starts with a slash")
    if "?" in text:
        raise ValueError("a path pattern has no query: use `where: {query.name: value}`")
    runs: list[list[Step]] = [[]]
    names: set[str] = set()
    for segment in _raw_segments(text):
        if segment == "**":
            if runs[-1] or len(runs) == 1:  # two ** in a row are one
                runs.append([])
            continue
        step = _compile_step(segment)
        if step.name in names:
            raise ValueError(f"the name {{{step.name}}} stands twice in the path")
        if step.name:
            names.add(step.name)
        runs[-1].append(step)
    if any(step.name for run in runs[1:-1] for step in run):
        raise ValueError("a {name} between two ** could be any segment: name it before the first ** or after the last")
    last = len(runs) - 1
    positions = [(step.name, at) for at, step in enumerate(runs[0])]
    positions += [(step.name, at - len(runs[last])) for at, step in enumerate(runs[last]) if last]
    return PathPattern(text, tuple(map(tuple, runs)), tuple((name, at) for name, at in positions if name))


def _raw_segments(text: str) -> list[str]:
    """Return the segments of a path, without the empty one of the root or of a trailing slash."""
    inside = text[1:]
    return inside.removesuffix("/").split("/") if inside else []


def _canonical_text(raw: str) -> str:
    if _REFUSED_IN_PATH.search(raw):
        raise MalformedRequest("the path holds a character that is not allowed in a path", "percent-encode it as utf-8")
    if _BAD_PERCENT.search(raw):
        raise MalformedRequest("the path holds a percent sign that starts no escape", "write %25 for a percent sign")
    text = _ESCAPE.sub(_canonical_escape, _UNWISE.sub(lambda found: f"%{ord(found[0]):02X}", raw))
    if _REFUSED_ESCAPE.search(text):
        raise MalformedRequest("the path holds an encoded control character, backslash or semicolon")
    # Looked for when escapes are in form: %25%32%65 becomes %252e only now.
    if _DOUBLE_ENCODED.search(text):
        raise MalformedRequest("the path is percent-encoded twice")
    return text


def _canonical_escape(found: re.Match[str]) -> str:
    character = chr(int(found[0][1:], 16))
    return character if character in _UNRESERVED else found[0].upper()


def _decoded_segment(segment: str) -> str:
    decoded = _decoded(segment)
    if not decoded:
        raise MalformedRequest("the path holds an empty segment")
    # A kept %2F is data here, but an upstream that decodes before it resolves would climb: no part of it may be a dot segment.
    if any(part in (".", "..") for part in decoded.split("/")):
        raise MalformedRequest("the path holds a dot segment", "send the path already resolved")
    return decoded


def _decoded(text: str) -> str:
    if "%" not in text:
        return text
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequest("the request target is not utf-8 when decoded") from None


def _compile_step(segment: str) -> Step:
    if segment == "*":
        return Step(None)
    if segment.startswith("{") and segment.endswith("}") and _NAME.fullmatch(segment[1:-1]):
        return Step(None, name=segment[1:-1])
    if any(mark in segment for mark in "*{}"):
        raise ValueError(f"`{segment}` is neither a literal segment nor *, ** or {{name}}: a wildcard stands for a whole segment")
    try:
        literal = canonical_path("/" + quote(segment, safe="%"), keep_encoded_slash=True).segments
    except MalformedRequest as error:
        raise ValueError(f"`{segment}` can never match: {error.message}") from None
    if not literal:
        raise ValueError("a path has no empty segment (//)")
    return Step(literal[0], fold_segment(literal[0]))


def _fits(run: Sequence[Step], segments: Sequence[str], at: int, folded: bool) -> bool:
    for step in run:
        if step.literal is not None and (step.folded if folded else step.literal) != segments[at]:
            return False
        at += 1
    return True
