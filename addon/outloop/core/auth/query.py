"""A credential in the query, where a service offers nothing better."""

from __future__ import annotations

from dataclasses import dataclass

from outloop.core.auth.base import Edits, Facts, Part, Parts, Plain
from outloop.core.secret import Secret


@dataclass(frozen=True, slots=True)
class Query(Plain):
    """``?<param>=<token>``."""

    param: str
    parts: tuple[Part, ...] = (Part("token"),)
    stripped_headers: frozenset[str] = frozenset()

    @property
    def stripped_query(self) -> frozenset[str]:
        return frozenset({self.param.lower()})

    def edits(self, parts: Parts, facts: Facts) -> Edits:
        return Edits(query=((self.param, parts["token"]),))

    def derived(self, parts: Parts) -> tuple[Secret, ...]:
        return ()
