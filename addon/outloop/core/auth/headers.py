"""A credential in several headers, such as an application id beside its key."""

from __future__ import annotations

from dataclasses import dataclass

from outloop.core.auth.base import Edits, Facts, Part, Parts, Plain


@dataclass(frozen=True, slots=True)
class Headers(Plain):
    """Each of `names` is a header and a part of the key; those in `public` identify and are not scrubbed."""

    names: tuple[str, ...]
    public: frozenset[str] = frozenset()
    stripped_query: frozenset[str] = frozenset()

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(Part(name, is_secret=name not in self.public) for name in self.names)

    @property
    def stripped_headers(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self.names)

    def edits(self, parts: Parts, facts: Facts) -> Edits:
        return Edits(headers=tuple((name, parts[name]) for name in self.names))

    def derived(self, parts: Parts) -> tuple[()]:
        return ()
