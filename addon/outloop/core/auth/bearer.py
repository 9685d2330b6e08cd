"""Bearer tokens (RFC 6750 §2.1)."""

from __future__ import annotations

from dataclasses import dataclass

from outloop.core.auth.base import Edits, Facts, Part, Parts, Plain
from outloop.core.secret import Secret


@dataclass(frozen=True, slots=True)
class Bearer(Plain):
    """``Authorization: Bearer <token>``. RFC 6750 §2.3 lets a server take ``access_token`` in the query: it is stripped."""

    parts: tuple[Part, ...] = (Part("token"),)
    stripped_headers: frozenset[str] = frozenset()
    stripped_query: frozenset[str] = frozenset({"access_token"})

    def edits(self, parts: Parts, facts: Facts) -> Edits:
        return Edits(headers=(("Authorization", Secret(b"Bearer " + parts["token"].reveal())),))

    def derived(self, parts: Parts) -> tuple[Secret, ...]:
        return ()
