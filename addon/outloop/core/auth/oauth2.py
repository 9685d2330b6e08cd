"""An access token that a token endpoint gives for the key (OAuth 2.0, RFC 6749 §4.4 and §6), as a bearer token (RFC 6750)."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import ClassVar, NoReturn
from urllib.parse import quote_plus, urlencode, urlsplit

from outloop.core.auth.base import MINTED, Edits, Facts, Fields, Minted, Part, Parts, Plain
from outloop.core.errors import MintError, MintRefused
from outloop.core.secret import Secret

REFRESH_TOKEN = "refresh_token"  # noqa: S105  (a part's name, and the grant's)
CLIENT_CREDENTIALS = "client_credentials"
UNSTATED_LIFETIME_S = 3600  # RFC 6749 §5.1 lets an endpoint leave it out; a 401 ends the token sooner
LONGEST_LIFETIME_S = 366 * 86400

# RFC 6749 §5.2. What an endpoint says beside these is not repeated: it may quote what it was sent.
_REFUSALS = frozenset(
    "invalid_request invalid_client invalid_grant unauthorized_client unsupported_grant_type invalid_scope access_denied".split()
)
_TOKEN = re.compile(r"[!-~]{8,16384}")  # RFC 6749 appendix A.12; one that is shorter could not be scrubbed


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a token endpoint is: over https."""

    host: str
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A POST to a token endpoint. Values of `fields` and the form `body` hold the key."""

    endpoint: Endpoint
    fields: Fields
    body: bytes

    def __repr__(self) -> str:
        return f"TokenRequest({self.endpoint})"


@dataclass(frozen=True, slots=True)
class Granted:
    """What the endpoint gave: the access token and, where it changes with each use, the refresh token that follows."""

    minted: Minted
    refresh_token: Secret | None


@dataclass(frozen=True, slots=True)
class OAuth2(Plain):
    """The client authenticates by HTTP Basic, or `is_client_in_body`. `params` go into the form as they are."""

    mints: ClassVar[bool] = True

    grant: str
    token_url: str
    is_client_in_body: bool = False
    scopes: tuple[str, ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    header: str = "Authorization"
    prefix: str = "Bearer "
    stripped_query: frozenset[str] = frozenset({"access_token"})  # RFC 6750 §2.3

    @property
    def parts(self) -> tuple[Part, ...]:
        parts = (Part("client_id", is_secret=False), Part("client_secret"))
        return (*parts, Part(REFRESH_TOKEN)) if self.grant == REFRESH_TOKEN else parts

    @property
    def stripped_headers(self) -> frozenset[str]:
        return frozenset({self.header.lower()})

    @property
    def endpoint(self) -> Endpoint:
        """Where the policy's `token_url` leads."""
        url = urlsplit(self.token_url)
        return Endpoint(url.hostname or "", url.port or 443, (url.path or "/") + (f"?{url.query}" if url.query else ""))

    def edits(self, parts: Parts, facts: Facts) -> Edits:
        return Edits(headers=((self.header, Secret(self.prefix.encode() + parts[MINTED].reveal())),))

    def derived(self, parts: Parts) -> tuple[Secret, ...]:
        plain = base64.b64encode(parts["client_id"].reveal() + b":" + parts["client_secret"].reveal())
        return Secret(plain), Secret(_pair(parts))

    def token_request(self, parts: Parts) -> TokenRequest:
        """Return what asks for a token. Raises KeyError when a part is absent."""
        form = {"grant_type": self.grant, **dict(self.params)}
        if self.scopes:
            form["scope"] = " ".join(self.scopes)
        if self.grant == REFRESH_TOKEN:
            form[REFRESH_TOKEN] = _text(parts, REFRESH_TOKEN)
        fields = [(b"Content-Type", b"application/x-www-form-urlencoded"), (b"Accept", b"application/json")]
        if self.is_client_in_body:
            form |= {"client_id": _text(parts, "client_id"), "client_secret": _text(parts, "client_secret")}
        else:
            fields.append((b"Authorization", b"Basic " + _pair(parts)))
        return TokenRequest(self.endpoint, tuple(fields), urlencode(form).encode())

    def granted(self, status: int, body: bytes, now_s: float) -> Granted:
        """Return what the endpoint's answer grants. Raises MintError; MintRefused where it does not take the key."""
        answer = _object(body)
        error = answer.get("error")
        if error is not None or status != 200:
            _refuse(status, error)
        if str(answer.get("token_type", "bearer")).lower() != "bearer":
            raise MintError("the token endpoint gave a token that is no bearer token")
        token = _token(answer.get("access_token"))
        if token is None:
            raise MintError("the token endpoint's answer holds no usable access token")
        renewed = answer.get(REFRESH_TOKEN) if self.grant == REFRESH_TOKEN else None
        refresh_token = None if renewed in (None, "") else _token(renewed)
        if renewed and refresh_token is None:
            raise MintError("the token endpoint's answer holds no usable refresh token")
        return Granted(Minted(token, now_s + _lifetime_s(answer.get("expires_in"))), refresh_token)


def _pair(parts: Parts) -> bytes:
    """Return what Basic carries: each half form-encoded first (RFC 6749 §2.3.1)."""
    return base64.b64encode(f"{quote_plus(_text(parts, 'client_id'))}:{quote_plus(_text(parts, 'client_secret'))}".encode())


def _text(parts: Parts, name: str) -> str:
    return parts[name].reveal().decode()


def _object(body: bytes) -> dict[str, object]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _refuse(status: int, error: object) -> NoReturn:
    if isinstance(error, str) and error in _REFUSALS:
        raise MintRefused(f"the token endpoint does not take the key: {error}")
    if 300 <= status < 400:
        raise MintError("the token endpoint answered with a redirect, which is never followed")
    if status in (401, 403) or (error is not None and status < 500 and status != 429):
        raise MintRefused(f"the token endpoint does not take the key: it answered {status}")
    raise MintError(f"the token endpoint answered {status}")


def _token(value: object) -> Secret | None:
    return Secret(value.encode()) if isinstance(value, str) and _TOKEN.fullmatch(value) else None


def _lifetime_s(value: object) -> float:
    if value is None:
        return UNSTATED_LIFETIME_S
    if isinstance(value, str) and value.isascii() and value.isdecimal():  # some write it as text
        value = int(value[:12])
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise MintError("the token endpoint gave a token whose lifetime cannot be told")
    return min(float(value), LONGEST_LIFETIME_S)
