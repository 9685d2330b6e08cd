"""A credential in a cookie."""

from __future__ import annotations

from dataclasses import dataclass

from outloop.core.auth.base import Edits, Facts, Part, Parts, Plain
from outloop.core.secret import Secret


@dataclass(frozen=True, slots=True)
class Cookie(Plain):
    """``Cookie: <name>=<token>``; every cookie the agent sent is dropped."""

    name: str
    parts: tuple[Part, ...] = (Part("token"),)
    stripped_headers: frozenset[str] = frozenset()
    stripped_query: frozenset[str] = frozenset()

    def edits(self, parts: Parts, facts: Facts) -> Edits:
        return Edits(cookies=((self.name, parts["token"]),))

    def derived(self, parts: Parts) -> tuple[Secret, ...]:
        return ()
