"""Request bodies as rules read them: JSON or a urlencoded form in exactly one reading, or not at all.

Two parsers that disagree on a body are a way past a rule ("An Exploration of JSON Interoperability Vulnerabilities", Bishop
Fox 2021), so whatever parsers are known to disagree on is unreadable: it matches no allow rule and every deny rule on a body.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

from outloop.core.errors import MalformedRequest
from outloop.core.paths import parse_query

MAX_JSON_DEPTH = 64
MAX_JSON_VALUES = 50_000

_CONTENT_TYPE = re.compile(
    r"""([a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+)[ \t]*(?:;[ \t]*charset=("?)utf-?8\2[ \t]*)?""", re.IGNORECASE
)
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json")
_FORM_TYPE = "application/x-www-form-urlencoded"
# RFC 3986 query characters and the brackets that clients leave raw: a JSON object can never pass for a form.
_FORM_TEXT = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/?%\[\]]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON body's value, in Python's types."""

    value: object


@dataclass(frozen=True, slots=True)
class Form:
    """A urlencoded form's pairs, decoded, in order."""

    pairs: tuple[tuple[str, str], ...]


Body = Json | Form


def read_body(body: bytes | None, content_type: str, content_encoding: str) -> Body | None:
    """Return what *body* says, or None when it has no single safe reading or was not read from the wire (None).

    The header values are raw. An empty body says nothing, whatever its type: it reads as a form without fields.
    """
    if body is None:
        return None
    if not body:
        return Form(())
    declared = _CONTENT_TYPE.fullmatch(content_type.strip(" \t"))
    if content_encoding.strip() or declared is None:
        return None
    media_type = declared[1].lower()
    if _JSON_TYPE.fullmatch(media_type):
        return read_json(body)
    return _read_form(body) if media_type == _FORM_TYPE else None


def read_json(body: bytes) -> Json | None:
    """Parse RFC 8259 JSON text in UTF-8; None for anything that parsers are known to read in more than one way.

    That is: a byte order mark, duplicate names, names with control characters, lone surrogates, NaN, Infinity and numbers
    beyond a double. And for what would take too long to look through: nesting deeper than `MAX_JSON_DEPTH`, more values than
    `MAX_JSON_VALUES`.
    """
    try:
        text = body.decode("utf-8")
        value: object = json.loads(
            text, object_pairs_hook=_unambiguous_object, parse_float=_finite_number, parse_constant=_finite_number
        )
        # One lone surrogate anywhere makes the encoder fail; without an escape there can be none.
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    return Json(value) if _is_small(value) else None


def _unambiguous_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs) or any(map(_CONTROL.search, members)):
        raise ValueError("ambiguous object")
    return members


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _is_small(value: object) -> bool:
    count, level = 1, [value]
    for _ in range(MAX_JSON_DEPTH + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return True
        level = [inner for item in containers for inner in (item.values() if isinstance(item, dict) else item)]
        count += len(level)
        if count > MAX_JSON_VALUES:
            return False
    return False


def _read_form(body: bytes) -> Form | None:
    try:
        text = body.decode("ascii")
        return Form(parse_query(text)) if _FORM_TEXT.fullmatch(text) else None
    except (UnicodeDecodeError, MalformedRequest):
        return None
