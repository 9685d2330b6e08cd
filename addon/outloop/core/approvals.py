"""What an operator's approval is bound to, how long it stands, and what of a request the operator is shown.

An approval is for one request: the same agent, method, host, path, query and body under the same rule, sent once. A grant is for
every request of one agent that one rule holds, for a time. Times are in seconds since the epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

from outloop.core.body import Form, Json, read_body
from outloop.core.ledger import inert
from outloop.core.masking import MASK, is_telling, masked, masked_prose
from outloop.core.model import Agent, Request, Rule, Service

LIFE_S = 600
MOST_PENDING = 20
SHORT_ID_LENGTH = 8
# Two processes of one machine read one clock, but it may be set back a little between them.
CLOCK_STEP_S = 5
SHOWN_CHARACTERS = 2000
_SHOWN_OF_A_TEXT = 300
_MARGIN_CHARACTERS = 512  # longer than what has the shape of a credential, as a rule

# Fields that vary from one attempt to the next and do not say what is asked for. All others are bound: a field such as
# Stripe-Account says on whose behalf.
_PASSING = frozenset(
    "accept accept-charset accept-encoding accept-language user-agent content-length date cache-control pragma dnt priority "
    "origin referer idempotency-key x-idempotency-key x-request-id x-correlation-id request-id traceparent tracestate baggage b3 "
    "sentry-trace x-amzn-trace-id x-cloud-trace-context x-requested-with".split()
)
_PASSING_BEGINNINGS = ("x-b3-", "x-stainless-", "x-datadog-", "sec-fetch-", "sec-ch-", "amz-sdk-")


class Status(StrEnum):
    """Where an approval stands. Only an APPROVED one lets a request pass, once; a GRANTED one lets many, until it ends."""

    PENDING = "pending"
    APPROVED = "approved"
    GRANTED = "granted"
    REFUSED = "refused"
    EXPIRED = "expired"
    CONSUMED = "consumed"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that a rule holds. `binding` and `rule_mark` are SHA-256 in hex; `path`, `headers` and `body` are for people,
    with secrets masked; `rule` is file:line.
    """

    workspace: str
    agent: str
    service: str
    method: str
    host: str
    port: int
    path: str
    headers: str
    body: str
    body_bytes: int
    rule: str
    rule_text: str
    rule_mark: str
    binding: str


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval that was asked for: `since` is when its status last changed, `until` when that ends."""

    id: str
    asked: Asked
    status: Status
    asked_at: float
    since: float
    until: float
    because: str = ""

    @property
    def short_id(self) -> str:
        """How people name it."""
        return self.id[-SHORT_ID_LENGTH:]

    def stands(self, now: float) -> bool:
        """Tell whether its status holds at *now*: it began, and has not ended. A clock that was set back ends it."""
        return self.since - CLOCK_STEP_S <= now < self.until

    def line(self) -> str:
        """Return it as it stands in the record: its id, and what is asked for."""
        return f"{self.id} {self.asked.method} {self.asked.path}"


def asked_of(
    agent: Agent, service: Service, rule: Rule, request: Request, query: str, fields: Iterable[tuple[bytes, bytes]], path: str
) -> Asked:
    """Return what *agent* asks: *request* with the raw *query* and *fields* as they would be sent, without the credential.

    *path* is path and query for people. Raises ValueError when the body was not read.
    """
    if request.body is None:
        raise ValueError("a request without its body cannot be bound")
    mark = rule_mark(service, rule)
    bound = bound_fields(fields)
    return Asked(
        workspace=agent.workspace,
        agent=agent.name,
        service=service.name,
        method=request.method,
        host=request.host,
        port=request.port,
        path=path,
        headers=_shown_fields(bound),
        body=summary(request.body, request.content_type, request.content_encoding),
        body_bytes=len(request.body),
        rule=str(rule.place),
        rule_text=rule.text,
        rule_mark=mark,
        binding=_digest(
            agent.workspace, agent.name, request.method, request.host, request.port, request.path.text, query, bound,
            hashlib.sha256(request.body).hexdigest(), mark,
        ),
    )  # fmt: skip


def rule_mark(service: Service, rule: Rule) -> str:
    """Return what tells *rule* of *service* from every other, wherever it stands in the file.

    By what it says and not by its line: an edit above it must not hand its approvals to another rule.
    """
    return _digest(service.name, rule.effect.value, rule.text, repr(rule.where))


def bound_fields(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return the header fields that an approval is bound to, sorted, with names in lower case."""
    plain = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in fields)
    return sorted((name, value) for name, value in plain if name not in _PASSING and not name.startswith(_PASSING_BEGINNINGS))


def summary(body: bytes, content_type: str, content_encoding: str) -> str:
    """Return at most some `SHOWN_CHARACTERS` characters of *body* for people, secrets masked; it says what was left out."""
    if not body:
        return ""
    kind = content_type.partition(";")[0].strip() or "no content type"
    match read_body(body, content_type, content_encoding):
        case Json(value):
            text, is_whole = _bounded(_json_pieces(value))
        case Form(pairs):
            text, is_whole = _bounded(_form_pieces(pairs))
        case None:
            text, is_whole = _preview(body)
            text = f"({kind}) {text}" if text else f"({kind}, not text)"
    return inert(text if is_whole else f"{text} … ({len(body)} bytes in all, not all of it shown)")


def _shown_fields(bound: Iterable[tuple[str, str]]) -> str:
    shown = (f"{name}: {MASK if is_telling(name) else masked(value)[:_SHOWN_OF_A_TEXT]}" for name, value in bound)
    return inert("; ".join(shown)[:SHOWN_CHARACTERS])


def _bounded(pieces: Iterator[str]) -> tuple[str, bool]:
    found: list[str] = []
    room = SHOWN_CHARACTERS
    for piece in pieces:
        found.append(piece[:room])
        room -= len(piece)
        if room <= 0:
            return "".join(found), room == 0 and next(pieces, None) is None
    return "".join(found), True


def _json_pieces(value: object, name: str = "") -> Iterator[str]:
    if is_telling(name) and value not in (None, True, False, ""):
        yield f'"{MASK}"'
    elif isinstance(value, dict):
        yield "{"
        for place, (key, inner) in enumerate(value.items()):
            yield f"{', ' if place else ''}{json.dumps(_shown(key), ensure_ascii=False)}: "
            yield from _json_pieces(inner, key)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for place, inner in enumerate(value):
            yield ", " if place else ""
            yield from _json_pieces(inner)
        yield "]"
    else:
        yield json.dumps(_shown(value) if isinstance(value, str) else value, ensure_ascii=False)


def _form_pieces(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    return chain.from_iterable(
        ("&" if place else "", f"{_shown(name)}={MASK if is_telling(name) and value else _shown(value)}")
        for place, (name, value) in enumerate(pairs)
    )


def _shown(text: str) -> str:
    window = masked(text[: _SHOWN_OF_A_TEXT + _MARGIN_CHARACTERS])
    hidden = len(text) - _SHOWN_OF_A_TEXT
    return window if hidden <= 0 else f"{window[:_SHOWN_OF_A_TEXT]}…[+{hidden}]"


def _preview(body: bytes) -> tuple[str, bool]:
    """Return the beginning of a body that rules cannot read, and whether that is all of it; "" for what is no text."""
    beginning = body[: SHOWN_CHARACTERS + _MARGIN_CHARACTERS]
    text = beginning.decode("utf-8", "replace")
    if text.count("�") > len(text) // 100:
        return "", True
    return masked_prose(text)[:SHOWN_CHARACTERS], len(body) <= SHOWN_CHARACTERS


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()
