"""One connection and one request on their way through the proxy: what was decided, what may leave, what came back.

An exchange is the only thing the wire believes: without one that was released, no byte goes upstream (proxy/wire.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from mitmproxy import http

from outloop.core.auth import Edits, Fields
from outloop.core.cleaning import BodyCleaner
from outloop.core.model import Agent, Decision, Reason, Request, Service, Workspace
from outloop.core.outgoing import Outgoing
from outloop.core.scrub import ScrubSet
from outloop.core.secret import Secret
from outloop.proxy.vault import Opened


class Lane(Enum):
    """What a CONNECT was opened for."""

    BRIDGED = "bridged"
    TUNNELLED = "tunnelled"
    INTERNAL = "internal"


@dataclass(slots=True)
class Connection:
    """One agent's connection to the proxy after its CONNECT; `address` is the one resolved address of a tunnel."""

    agent: Agent
    token_hash: str
    host: str
    port: int
    lane: Lane
    address: tuple[str, int] | None = None
    exchange: Exchange | None = None


class Phase(Enum):
    """How far a request has come. Only a RELEASED one passes the wire, once."""

    DECIDING = "deciding"
    AWAITING_BODY = "awaiting body"
    REFUSED = "refused"
    RELEASED = "released"
    SENT = "sent"
    CLOSED = "closed"


@dataclass(slots=True)
class Release:
    """What goes onto the wire: the request that policy matched, as stripped fields, and the credential to join it."""

    request: Request
    fields: Fields
    query: str
    edits: Edits
    static: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Said:
    """The request line in the agent's own words: what the record shows where nothing canonical could be had."""

    method: str
    scheme: str
    host: str
    port: int
    target: str


@dataclass(slots=True)
class Exchange:
    """One request. Times are in seconds of a monotonic clock.

    `decoys` are the labels of those it used; of what is `unrepeatable` no value may be told, not even in its row; `dropped` is
    told of body bytes that go nowhere.
    """

    id: str
    agent: Agent
    said: Said
    started_s: float
    workspace: Workspace | None = None
    service: Service | None = None
    request: Request | None = None
    decision: Decision | None = None
    phase: Phase = Phase.DECIDING
    outgoing: Outgoing | None = None
    release: Release | None = None
    retry_after_s: int | None = None
    stripped: int = 0
    cleaner: BodyCleaner | None = None
    opened: Opened | None = None
    token: Secret | None = None
    scrubbed: int = 0
    streamed_hits: int = 0
    secret_exposed: int | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    status: int | None = None
    sent_s: float | None = None
    answered_s: float | None = None
    reason: Reason | None = None
    error: str | None = None
    row_written: bool = False
    approval: str | None = None
    has_used_approval: bool = False
    has_left: bool = False
    body_overflow: bool = False
    body_since_s: float | None = None
    stream: Callable[[bytes], Iterator[bytes]] | None = None
    is_coded: bool = False
    is_cut: bool = False
    decoys: list[str] = field(default_factory=list)
    unrepeatable: list[ScrubSet] = field(default_factory=list)
    dropped: Callable[[bytes], None] | None = None
    answer: http.Response | None = None
