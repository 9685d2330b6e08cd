"""Frozen facts and decisions: the nouns that every other room speaks in.

Words are those of the README's glossary. Nothing here touches a clock, a file, a network or a keychain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType

from outloop.core.auth import Scheme
from outloop.core.paths import CanonicalPath, PathPattern

HTTPS_PORT = 443
BODY_LIMIT = 1024 * 1024
HOLD_S = 30
INTERNAL_HOST = "outloop.internal"


class Effect(StrEnum):
    """What a rule does."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class Egress(StrEnum):
    """What happens to a host that no service claims."""

    DENY = "deny"
    PASSTHROUGH = "passthrough"


class Reason(StrEnum):
    """Why a request got the answer it got. The order is the order of precedence: first that applies."""

    MALFORMED_REQUEST = "malformed_request"
    AGENT_UNKNOWN = "agent_unknown"
    HOST_MISMATCH = "host_mismatch"
    HOST_NOT_ALLOWED = "host_not_allowed"
    DESTINATION_NOT_ALLOWED = "destination_not_allowed"
    CLEARTEXT_REFUSED = "cleartext_refused"
    CREDENTIAL_MISPLACED = "credential_misplaced"
    DECOY_USED = "decoy_used"
    DENIED_BY_RULE = "denied_by_rule"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    PATH_NOT_ALLOWED = "path_not_allowed"
    WRONG_RESOURCE = "wrong_resource"
    BODY_NOT_ALLOWED = "body_not_allowed"
    BODY_TOO_LARGE = "body_too_large"
    RUNTIME_ACCESS_OFF = "runtime_access_off"
    RATE_LIMITED = "rate_limited"
    APPROVAL_PENDING = "approval_pending"
    APPROVAL_REFUSED = "approval_refused"
    APPROVAL_EXPIRED = "approval_expired"
    KEY_MISSING = "key_missing"
    KEY_LOCKED = "key_locked"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    INTERNAL_ERROR = "internal_error"
    UPSTREAM_UNTRUSTED = "upstream_untrusted"
    UPSTREAM_FAILED = "upstream_failed"
    KEY_REJECTED = "key_rejected"
    SCRUB_FAILED = "scrub_failed"
    OK = "OK"


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a policy file; line and column are 1-based."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Request:
    """What is being asked, in canonical form: exactly what is matched and what is forwarded.

    `method` is an upper-case token (``WEBSOCKET`` for a WebSocket upgrade). `host` and `port` are the dialled ones.
    `query` holds decoded pairs in order. `body` is None until it was read; `content_type` is the raw header value.
    """

    method: str
    scheme: str
    host: str
    port: int
    path: CanonicalPath
    query: tuple[tuple[str, str], ...] = ()
    content_type: str = ""
    content_encoding: str = ""
    body: bytes | None = None

    @property
    def authority(self) -> str:
        """The host, with its port unless that is what https means."""
        return self.host if self.port == HTTPS_PORT else f"{self.host}:{self.port}"


class Source(StrEnum):
    """Where a condition looks."""

    PATH = "path"
    QUERY = "query"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Expected:
    """One acceptable value of a condition.

    `quoted` text equals text only. A plain scalar equals exactly the JSON value it spells (`json`) and, in path, query and
    form, its `text`. `is_glob` text matches with ``*`` and ``?``.
    """

    text: str
    json: str | int | float | bool | None
    quoted: bool
    is_glob: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of a rule's ``where``: `keys` is ``("project",)`` for a path name, ``("x", "y")`` for ``body.x.y``."""

    source: Source
    keys: tuple[str, ...]
    accepted: tuple[Expected, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of policy. `methods` None means ``*`` (every method but WEBSOCKET)."""

    effect: Effect
    methods: frozenset[str] | None
    pattern: PathPattern
    place: Place
    text: str
    where: tuple[Condition, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """A method and path pattern of a service's documented surface."""

    method: str
    pattern: PathPattern
    text: str


@dataclass(frozen=True, slots=True)
class Probe:
    """A service's safe proof or safe next proof: the exact request, its JSON body, and the status that proves it."""

    method: str
    target: str
    expect: int = 200
    body: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class RequestLimit:
    """At most `count` requests in any `period_s` seconds."""

    count: int
    period_s: int


@dataclass(frozen=True, slots=True)
class HostClaim:
    """A host and port that a service claims."""

    host: str
    port: int = HTTPS_PORT


@dataclass(frozen=True)
class Service:
    """A service as one workspace uses it: catalogue entry or custom bridge, with the workspace's rules."""

    name: str
    title: str
    hosts: tuple[HostClaim, ...]
    auth: Scheme
    key: str
    rules: tuple[Rule, ...] = ()
    base: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    limit: RequestLimit | None = None
    proof: Probe | None = None
    next_proof: Probe | None = None
    reads: tuple[Operation, ...] = ()
    writes: tuple[Operation, ...] = ()
    encoded_slash: bool = False
    body_limit: int = BODY_LIMIT
    place: Place | None = None

    @cached_property
    def methods(self) -> frozenset[str] | None:
        """The methods that some allow or ask rule has; None when one of them has ``*``."""
        named: set[str] = set()
        for rule in self.rules:
            if rule.effect is Effect.DENY:
                continue
            if rule.methods is None:
                return None
            named |= rule.methods
        return frozenset(named)


@dataclass(frozen=True)
class Workspace:
    """One client's world: everything that decides a request of its agents."""

    name: str
    services: tuple[Service, ...] = ()
    egress: Egress = Egress.DENY
    egress_private: bool = False
    hold_s: int = HOLD_S
    digest: str = ""
    file: str = ""

    @cached_property
    def claims(self) -> Mapping[str, tuple[Service, ...]]:
        """Canonical host → the services that claim it (several only where their `base` differs)."""
        found: dict[str, list[Service]] = {}
        for service in self.services:
            for host in dict.fromkeys(claim.host for claim in service.hosts):
                found.setdefault(host, []).append(service)
        return MappingProxyType({host: tuple(services) for host, services in found.items()})

    def service(self, name: str) -> Service | None:
        """Return the service called *name*, or None."""
        return next((service for service in self.services if service.name == name), None)


class KeyStanding(StrEnum):
    """Whether a service's key can be used now, in words for an agent."""

    ON = "ready"
    OFF = "runtime access is off"
    MISSING = "not stored"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the stores say about a key at this moment."""

    access_on: bool = True
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A value, its reason, and the rule that made it. `effect` is ASK for a request that an ``ask`` rule holds."""

    effect: Effect
    reason: Reason
    service: Service | None = None
    rule: Rule | None = None
    retry_after_s: int | None = None
    detail: str = ""

    @property
    def allowed(self) -> bool:
        """Tell whether the request may go upstream."""
        return self.effect is Effect.ALLOW


@dataclass(frozen=True, slots=True)
class Agent:
    """Who is asking: `name` within `workspace`; an empty name is the token-less agent on loopback."""

    workspace: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an agent is told when the answer is no (RFC 9457 problem details)."""

    reason: Reason
    detail: str
    next_step: str
    audit_id: str
    service: str | None = None
    retry_after_s: int | None = None
    headers: tuple[tuple[str, str], ...] = field(default=())
