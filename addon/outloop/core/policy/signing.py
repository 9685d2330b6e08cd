"""Credentials that are made from a key: a signature over the request, and tokens that are signed or fetched."""

from __future__ import annotations

import re

from outloop.core.auth import Form, Hmac, Jwt, OAuth2
from outloop.core.auth.hmac import PLACEHOLDER, PLACEHOLDERS, Spot
from outloop.core.auth.jwt import ALGORITHMS, LIFETIME_S, Claim
from outloop.core.policy.addresses import filled, params_of, read_token_url
from outloop.core.policy.document import Fields, Listing, Node, Scalar
from outloop.core.policy.problems import Problems, nearest, shown
from outloop.core.policy.spots import read_bearer, read_spot, text_at

_STAND_IN = "x"  # fills a {param} where only the form is checked
_OWN_CLAIMS = frozenset({"exp", "iat", "nbf"})
_OWN_PARAMS = frozenset({"grant_type", "scope", "client_id", "client_secret", "refresh_token", "client_assertion", "password"})
_SCOPE = re.compile(r"[!#-\[\]-~]+")  # RFC 6749 §3.3
_SIGNABLE = re.compile(r"[\x20-\x7e\n]*")
_PARAM_TEXT = re.compile(r"[ -~]+")


def read_hmac(node: Fields, problems: Problems) -> Hmac | None:
    """Return the scheme at *node*; None where a part of it is missing."""
    sign, timestamp_node = node.get("sign"), node.get("timestamp")
    spots = {name: read_spot(node.get(name), problems) for name in ("signature", "timestamp", "key_id", "passphrase")}
    _report_twice(node, spots, problems)
    signature = spots["signature"]
    if not isinstance(sign, Scalar) or signature is None:
        return None
    _check_template(sign, problems)
    if "{timestamp}" in sign.text and timestamp_node is None:
        problems.add(sign, "`{timestamp}` is signed, and sent nowhere", "add `timestamp: {header: X-Timestamp}`")
    return Hmac(
        sign=sign.text,
        signature=signature,
        hash=text_at(node, "hash") or "sha256",
        is_base64=text_at(node, "encoding") == "base64",
        secret_form=_form(node),
        timestamp=spots["timestamp"],
        clock=text_at(timestamp_node, "format") or "seconds",
        key_id=spots["key_id"],
        passphrase=spots["passphrase"],
    )


def read_jwt(node: Fields, problems: Problems) -> Jwt | None:
    """Return the scheme at *node*; None where a part of it is missing."""
    alg = text_at(node, "alg")
    if alg is None or alg not in ALGORITHMS:
        return None
    encoding = node.key("secret_encoding")
    if encoding is not None and ALGORITHMS[alg].is_pem:
        problems.add(encoding, f"{alg} signs with a private key in PEM", "`secret_encoding` is for HS256, HS384 and HS512")
    kid = node.get("kid")
    if isinstance(kid, Scalar) and not _PARAM_TEXT.fullmatch(kid.text):
        problems.add(kid, "a key's id is printable ascii")
    lifetime = node.get("lifetime")
    lifetime_s = lifetime.value if isinstance(lifetime, Scalar) else None
    header, prefix = read_bearer(node, problems)
    return Jwt(
        alg=alg,
        claims=_read_claims(node.get("claims"), problems),
        kid=text_at(node, "kid") or "",
        lifetime_s=lifetime_s if isinstance(lifetime_s, int) else LIFETIME_S,
        header=header,
        prefix=prefix,
        secret_form=_form(node),
    )


def read_oauth2(node: Fields, problems: Problems) -> OAuth2 | None:
    """Return the scheme at *node*; None where a part of it is missing."""
    grant, url = text_at(node, "grant"), node.get("token_url")
    if grant is None or not isinstance(url, Scalar) or not url.text:
        return None
    read_token_url(url, filled(url.text, dict.fromkeys(params_of(url.text), _STAND_IN)), problems)
    header, prefix = read_bearer(node, problems)
    return OAuth2(
        grant=grant,
        token_url=url.text,
        is_client_in_body=text_at(node, "client_auth") == "body",
        scopes=_read_scopes(node.get("scopes"), problems),
        params=_read_params(node.get("params"), problems),
        header=header,
        prefix=prefix,
    )


def _form(node: Fields) -> Form:
    return {"base64": Form.BASE64, "hex": Form.HEX}.get(text_at(node, "secret_encoding") or "", Form.TEXT)


def _check_template(sign: Scalar, problems: Problems) -> None:
    for name in PLACEHOLDER.findall(sign.text):
        if name not in PLACEHOLDERS:
            close = nearest(name, PLACEHOLDERS)
            hint = f"did you mean `{{{close}}}`?" if close else f"known here: {', '.join(PLACEHOLDERS)}"
            problems.add(sign, f"unknown placeholder {shown('{' + name + '}')}", hint)
    rest = PLACEHOLDER.sub("", sign.text)
    if "{" in rest or "}" in rest:
        problems.add(sign, "a brace that belongs to no {placeholder}")
    if not _SIGNABLE.fullmatch(rest):
        problems.add(sign, "what is signed is printable ascii and line feeds", 'a line feed is "\\n" in double quotes')
    if rest == sign.text:
        problems.add(sign, "what is signed says nothing of the request", 'such as `sign: "{timestamp}{method}{target}{body}"`')


def _report_twice(node: Fields, spots: dict[str, Spot | None], problems: Problems) -> None:
    seen: set[tuple[str, bool]] = set()
    for name, spot in spots.items():
        if spot is not None and (spot.name.lower(), spot.in_query) in seen:
            problems.add(node.get(name) or node, f"{shown(spot.name)} is to hold two values", "give each a place of its own")
        elif spot is not None:
            seen.add((spot.name.lower(), spot.in_query))


def _read_claims(node: Node | None, problems: Problems) -> tuple[tuple[str, Claim], ...]:
    claims: list[tuple[str, Claim]] = []
    for key, value in node if isinstance(node, Fields) else ():
        if key.text in _OWN_CLAIMS:
            problems.add(key, f"Outloop sets the claim `{key.text}` in each token", "`lifetime: SECONDS` says how long it stands")
        elif isinstance(value, Scalar):
            claims.append((key.text, value.value))
    return tuple(claims)


def _read_scopes(node: Node | None, problems: Problems) -> tuple[str, ...]:
    items = [item for item in (node.items if isinstance(node, Listing) else ()) if isinstance(item, Scalar)]
    for item in items:
        if not _SCOPE.fullmatch(item.text):
            problems.add(item, f"{shown(item.text)} is not one scope", "a list has one scope in each entry: `[a, b]`")
    return tuple(item.text for item in items)


def _read_params(node: Node | None, problems: Problems) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for key, value in node if isinstance(node, Fields) else ():
        if key.text in _OWN_PARAMS:
            hint = (
                "`scopes: [a, b]`" if key.text == "scope" else "`outloop key add` stores the key's parts; `grant` says the rest"
            )
            problems.add(key, f"the parameter `{key.text}` is Outloop's to send", hint)
        elif isinstance(value, Scalar) and not (_PARAM_TEXT.fullmatch(key.text) and _PARAM_TEXT.fullmatch(value.text)):
            problems.add(value, f"the parameter {shown(key.text)} is not printable ascii")
        elif isinstance(value, Scalar):
            found.append((key.text, value.text))
    return tuple(found)
