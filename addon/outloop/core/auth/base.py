"""What every authentication scheme offers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol
from urllib.parse import quote

from outloop.core.auth.forms import Form
from outloop.core.secret import Secret

Parts = Mapping[str, Secret]
Fields = tuple[tuple[bytes, bytes], ...]

MINTED = "minted token"  # among a key's parts, beside those that are stored: a token made from them, which stands for a while


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a credential. Secret parts, and every value derived from one, are scrubbed; public parts never."""

    name: str
    is_secret: bool = True
    form: Form = Form.TEXT
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """The request as it is sent, but for its credential: what a signature covers.

    `method` and `authority` are those on the wire, `path` is canonical and `query` raw, as forwarded. `kept` are the agent's
    fields, `static` the policy's. `body` is None where it streams. `now_s` is in seconds since the epoch.
    """

    method: str
    authority: str
    path: str
    query: str
    kept: Fields
    static: tuple[tuple[str, str], ...]
    body: bytes | None
    now_s: float

    @property
    def fields(self) -> Fields:
        """The header fields, in order."""
        return fields_with(self.kept, ((name, value.encode()) for name, value in self.static))


@dataclass(frozen=True, slots=True)
class Edits:
    """What the wire adds to a request whose own credentials were stripped. Values are secret: they exist only there.

    `signatures` are the values among them that hold for this request alone, and that its response is scrubbed of.
    """

    headers: tuple[tuple[str, Secret], ...] = ()
    query: tuple[tuple[str, Secret], ...] = ()
    cookies: tuple[tuple[str, Secret], ...] = ()
    signatures: tuple[Secret, ...] = ()


@dataclass(frozen=True, slots=True)
class Minted:
    """A token made from a key, and until when it stands, in seconds since the epoch."""

    token: Secret
    expires_s: float


class Scheme(Protocol):
    """A way to present a credential.

    `parts` is what the operator stores. `stripped_*` name the places (lower case) where this scheme's service would honour a
    credential, beyond the ones that are stripped for every service. Where it `mints`, a token has to be among the parts, under
    `MINTED`, before there are edits.
    """

    mints: ClassVar[bool]

    @property
    def parts(self) -> tuple[Part, ...]: ...
    @property
    def stripped_headers(self) -> frozenset[str]: ...
    @property
    def stripped_query(self) -> frozenset[str]: ...

    def signs_body(self, host: str) -> bool:
        """Tell whether the credential covers a request's body, so that the body has to be known first."""
        ...

    def edits(self, parts: Parts, facts: Facts) -> Edits:
        """Return what the wire adds. Raises KeyError when a part is absent, KeyUnusable for one that is not what it must be."""
        ...

    def derived(self, parts: Parts) -> tuple[Secret, ...]:
        """Return the values, other than the parts themselves, that would give the credential away."""
        ...


class Plain:
    """A scheme whose credential stands by itself, whatever it is sent with."""

    __slots__ = ()

    mints: ClassVar[bool] = False

    def signs_body(self, host: str) -> bool:
        return False


def fields_with(fields: Fields, added: Iterable[tuple[str, bytes]]) -> Fields:
    """Return *fields* with *added* behind them, which replace those of their names."""
    behind = [(name.encode(), value) for name, value in added]
    replaced = {name.lower() for name, _ in behind}
    return (*(field for field in fields if field[0].lower() not in replaced), *behind)


def query_with(query: str, pairs: Iterable[tuple[str, bytes]]) -> str:
    """Return the raw *query* with *pairs* behind it."""
    pieces = [query] if query else []
    return "&".join(pieces + [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs])
