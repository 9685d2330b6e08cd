"""What every authentication scheme offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from outloop.core.secret import Secret

Parts = Mapping[str, Secret]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a credential. Secret parts, and every value derived from one, are scrubbed; public parts never."""

    name: str
    is_secret: bool = True


@dataclass(frozen=True, slots=True)
class Edits:
    """What the wire adds to a request whose own credentials were stripped. Values are secret: they exist only there."""

    headers: tuple[tuple[str, Secret], ...] = ()
    query: tuple[tuple[str, Secret], ...] = ()
    cookies: tuple[tuple[str, Secret], ...] = ()


class Scheme(Protocol):
    """A way to present a credential.

    `parts` is what the operator stores. `stripped_*` name the places (lower case) where this scheme's service would honour a
    credential, beyond the ones that are stripped for every service.
    """

    @property
    def parts(self) -> tuple[Part, ...]: ...
    @property
    def stripped_headers(self) -> frozenset[str]: ...
    @property
    def stripped_query(self) -> frozenset[str]: ...

    def edits(self, parts: Parts) -> Edits:
        """Return what the wire adds. Raises KeyError when a part is absent."""
        ...

    def derived(self, parts: Parts) -> tuple[Secret, ...]:
        """Return the values, other than the parts themselves, that would give the credential away."""
        ...
