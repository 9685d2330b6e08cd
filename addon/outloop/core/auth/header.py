"""A credential in a header of the service's own, such as ``X-Api-Key``."""

from __future__ import annotations

from dataclasses import dataclass

from outloop.core.auth.base import Edits, Facts, Part, Parts, Plain
from outloop.core.secret import Secret


@dataclass(frozen=True, slots=True)
class Header(Plain):
    """``<name>: <prefix><token>``."""

    name: str
    prefix: str = ""
    parts: tuple[Part, ...] = (Part("token"),)
    stripped_query: frozenset[str] = frozenset()

    @property
    def stripped_headers(self) -> frozenset[str]:
        return frozenset({self.name.lower()})

    def edits(self, parts: Parts, facts: Facts) -> Edits:
        return Edits(headers=((self.name, Secret(self.prefix.encode() + parts["token"].reveal())),))

    def derived(self, parts: Parts) -> tuple[Secret, ...]:
        return ()
