"""A request signed with a shared secret (HMAC, RFC 2104), in the way that a policy describes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from outloop.core.auth.base import Edits, Facts, Part, Parts, Plain, query_with
from outloop.core.auth.forms import Form, key_bytes
from outloop.core.secret import Secret

HASHES = ("sha256", "sha512", "sha1")
PLACEHOLDERS = ("method", "host", "path", "query", "target", "body", "body_sha256", "timestamp", "key_id")
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

CLOCKS: dict[str, Callable[[float], str]] = {
    "seconds": lambda now_s: str(int(now_s)),
    "milliseconds": lambda now_s: str(int(now_s * 1000)),
    "iso8601": lambda now_s: datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
}


@dataclass(frozen=True, slots=True)
class Spot:
    """Where in the request a value goes: a header, with what stands before the value in it, or a query parameter."""

    name: str
    in_query: bool = False
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Hmac(Plain):
    """`sign` is the text that is signed, with ``{placeholders}``; ``{query}`` has in it what else of this goes into the query.

    `clock` is one of `CLOCKS`, `secret_form` what the text of the secret stands for; the signature is in base64 or in hex.
    """

    sign: str
    signature: Spot
    hash: str = "sha256"
    is_base64: bool = False
    secret_form: Form = Form.TEXT
    timestamp: Spot | None = None
    clock: str = "seconds"
    key_id: Spot | None = None
    passphrase: Spot | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        parts = [Part("secret", form=self.secret_form)]
        if self.key_id is not None or "{key_id}" in self.sign:
            parts.insert(0, Part("key_id", is_secret=False))
        if self.passphrase is not None:
            parts.append(Part("passphrase"))
        return tuple(parts)

    @property
    def stripped_headers(self) -> frozenset[str]:
        return frozenset(spot.name.lower() for spot in self._spots() if not spot.in_query)

    @property
    def stripped_query(self) -> frozenset[str]:
        return frozenset(spot.name.lower() for spot in self._spots() if spot.in_query)

    def signs_body(self, host: str) -> bool:
        return "{body" in self.sign

    def edits(self, parts: Parts, facts: Facts) -> Edits:
        moment = CLOCKS[self.clock](facts.now_s)
        values = [(self.key_id, parts["key_id"].reveal())] if self.key_id else []
        values += [(self.timestamp, moment.encode())] if self.timestamp else []
        values += [(self.passphrase, parts["passphrase"].reveal())] if self.passphrase else []
        query = query_with(facts.query, [(spot.name, value) for spot, value in values if spot.in_query])
        digest = hmac.digest(key_bytes(parts["secret"], self.secret_form), self._text(parts, facts, query, moment), self.hash)
        signature = base64.b64encode(digest) if self.is_base64 else digest.hex().encode()
        values.append((self.signature, signature))
        return Edits(
            headers=tuple((spot.name, Secret(spot.prefix.encode() + value)) for spot, value in values if not spot.in_query),
            query=tuple((spot.name, Secret(value)) for spot, value in values if spot.in_query),
            signatures=(Secret(signature),),
        )

    def derived(self, parts: Parts) -> tuple[Secret, ...]:
        return ()

    def _spots(self) -> Iterator[Spot]:
        return (spot for spot in (self.signature, self.timestamp, self.key_id, self.passphrase) if spot is not None)

    def _text(self, parts: Parts, facts: Facts, query: str, moment: str) -> bytes:
        body = facts.body or b""
        known: dict[str, Callable[[], bytes]] = {
            "method": lambda: facts.method.encode(),
            "host": lambda: facts.authority.encode(),
            "path": lambda: facts.path.encode(),
            "query": lambda: query.encode(),
            "target": lambda: f"{facts.path}?{query}".encode() if query else facts.path.encode(),
            "body": lambda: body,
            "body_sha256": lambda: hashlib.sha256(body).hexdigest().encode(),
            "timestamp": lambda: moment.encode(),
            "key_id": lambda: parts["key_id"].reveal(),
        }
        # Every other piece is a name: re.split keeps what the pattern's group found.
        pieces = PLACEHOLDER.split(self.sign)
        return b"".join(known[piece]() if number % 2 else piece.encode() for number, piece in enumerate(pieces))
