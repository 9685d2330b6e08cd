"""What can be a key's value: checked where an operator hands it over, and never repeated in a message."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence

from outloop.core.auth import Part
from outloop.core.auth.forms import Form, key_bytes, private_key
from outloop.core.errors import KeyUnusable, UsageError
from outloop.core.secret import Secret

MIN_LENGTH = 8
MAX_LENGTH = 16 * 1024


def checked_value(part: Part, text: str) -> Secret:
    """Return *text* as the value of *part*. Raises UsageError, saying what is wrong but not what was given.

    A line break would end the header that carries the value (RFC 9110 §5.5). What is shorter than eight characters would
    also be scrubbed out of harmless text, and what cannot be seen was not meant.
    """
    what = "the value" if part.name == "token" else f"the value of `{part.name}`"
    if not text:
        raise UsageError(f"{what} is empty", "paste it as the service shows it")
    if part.form.is_pem:
        return _checked(part, text.strip() + "\n", what)
    if any(unicodedata.category(character).startswith("C") for character in text):
        raise UsageError(f"{what} holds a line break or another character that cannot be seen", "paste it on one line, as it is")
    if text != text.strip():
        raise UsageError(f"{what} begins or ends with a space", "paste it without the spaces around it")
    if text[:7].lower() == "bearer ":
        raise UsageError(f"{what} begins with the word Bearer", "store the token alone: Outloop adds the word")
    if part.is_secret and len(text) < MIN_LENGTH:
        raise UsageError(f"{what} is shorter than {MIN_LENGTH} characters", "look whether all of it was copied")
    return _checked(part, text, what)


def _checked(part: Part, text: str, what: str) -> Secret:
    """Return *text* as a secret of the form that *part* must have, and not too long."""
    if len(text) > MAX_LENGTH:
        raise UsageError(f"{what} is longer than {MAX_LENGTH} characters", "look whether only the value was copied")
    secret = Secret(text.encode())
    try:
        if part.form.is_pem:
            private_key(secret, part.form)
        elif part.form is not Form.TEXT:
            key_bytes(secret, part.form)
    except KeyUnusable as error:
        raise UsageError(f"{what} cannot be used: {error.message}", error.hint) from None
    return secret


def read_values(parts: Sequence[Part], data: bytes) -> dict[str, Secret]:
    """Return the values in *data*, what came on standard input: one part's text, or a JSON object with all of several.

    One line break at the end is not part of a text. Raises UsageError.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError("the value on standard input is not UTF-8 text", "paste it as the service shows it") from None
    if len(parts) == 1:
        return {parts[0].name: checked_value(parts[0], text.removesuffix("\n").removesuffix("\r"))}
    names = ", ".join(f"`{part.name}`{' (if there is one)' if part.is_optional else ''}" for part in parts)
    hint = f"one JSON object with the texts {names}"
    try:
        found = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        raise UsageError("standard input does not hold the parts of this key", hint) from None
    if not isinstance(found, Mapping) or not all(isinstance(value, str) for value in found.values()):
        raise UsageError("standard input does not hold the parts of this key", hint)
    wanted = {part.name for part in parts if not part.is_optional}
    if not wanted <= found.keys() <= {part.name for part in parts}:
        raise UsageError(f"this key has the parts {names}, and no other", hint)
    return {part.name: checked_value(part, found[part.name]) for part in parts if part.name in found}


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)
