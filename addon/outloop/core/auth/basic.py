"""HTTP Basic (RFC 7617)."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from outloop.core.auth.base import Edits, Facts, Part, Parts, Plain
from outloop.core.secret import Secret


@dataclass(frozen=True, slots=True)
class Basic(Plain):
    """``Authorization: Basic base64(username:password)``; the user name is public, the password and the pair are not."""

    parts: tuple[Part, ...] = (Part("username", is_secret=False), Part("password"))
    stripped_headers: frozenset[str] = frozenset()
    stripped_query: frozenset[str] = frozenset()

    def edits(self, parts: Parts, facts: Facts) -> Edits:
        return Edits(headers=(("Authorization", Secret(b"Basic " + _pair(parts))),))

    def derived(self, parts: Parts) -> tuple[Secret, ...]:
        return (Secret(_pair(parts)),)


def _pair(parts: Parts) -> bytes:
    return base64.b64encode(parts["username"].reveal() + b":" + parts["password"].reveal())
