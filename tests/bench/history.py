"""A record as months of work leave it: many proxies one after the other, several workspaces, most of it one of them's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from outloop.core.ledger import DecisionRow, EventRow, OutcomeRow, Row, UlidFactory, timestamp
from outloop.store.appender import Appender

DAYS = 90
BATCH_REQUESTS = 1000
PROXIES_A_DAY = 2

_DAY_MS = 86_400_000
# Requests by hour of the day, UTC: an agent works while its operator does, and a little at night.
_HOURS = (1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 18, 16, 12, 16, 18, 18, 16, 12, 8, 5, 3, 2, 1, 1)
_DENIED = ("method_not_allowed", "path_not_allowed", "denied_by_rule", "host_not_allowed", "rate_limited", "runtime_access_off")
_CALLS = (
    ("GET", "/scheduled_events?user=https%3A%2F%2Fapi.example.com%2Fusers%2F{id}&count=50", "read"),
    ("GET", "/scheduled_events/{id}/invitees", "read"),
    ("GET", "/users/me", "read"),
    ("GET", "/api/projects/{id}/insights/?limit=100&offset=200", "read"),
    ("POST", "/api/projects/{id}/query/", "write"),
    ("PATCH", "/v1/pages/{id}", "write"),
)


@dataclass(frozen=True, slots=True)
class _Tenant:
    """A workspace, its share of the requests, and what it uses."""

    workspace: str
    share: int
    services: tuple[str, ...]
    agents: tuple[str, ...]


_TENANTS = (
    _Tenant("acme", 6000, ("calendly", "posthog", "notion"), ("claude", "codex", "nightly")),
    _Tenant("globex", 2500, ("calendly", "github"), ("claude", "")),
    _Tenant("initech", 1200, ("posthog", "stripe", "linear"), ("claude", "cron")),
    _Tenant("umbrella", 299, ("notion",), ("claude",)),
    _Tenant("pico", 1, ("calendly",), ("claude",)),
)


def history(path: Path, requests: int, now_ms: int, seed: int = 7) -> None:
    """Write a record of about *requests* requests at *path*, the last of them at *now_ms*, as proxies and commands would have."""
    chance = Random(seed)
    spans = DAYS * PROXIES_A_DAY
    for span in range(spans):
        start_ms = now_ms - _DAY_MS * (spans - span) // PROXIES_A_DAY
        clock = _Clock(start_ms)
        ids = UlidFactory(clock, chance.randbytes)
        appender = Appender(path, ids.next(), busy_timeout_s=30.0)
        appender.append(list(_beginning(ids, clock, first=span == 0, rotates=span % 60 == 30)))
        hours = _busy(start_ms)
        share = round(requests / DAYS * sum(hours) / sum(_HOURS))
        offsets_ms = sorted(_offset_ms(chance, hours) for _ in range(share))
        for first in range(0, share, BATCH_REQUESTS):
            rows: list[Row] = []
            for offset_ms in offsets_ms[first : first + BATCH_REQUESTS]:
                clock.now_ms = start_ms + offset_ms
                rows += _request(chance, ids, clock.now_ms)
            appender.append(rows)
            appender.checkpoint()
        appender.close()


class _Clock:
    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def _busy(start_ms: int) -> list[int]:
    """Return how busy the hours are in which the proxy runs that starts then."""
    first = start_ms // 3_600_000 % 24
    return [_HOURS[(first + hour) % 24] for hour in range(24 // PROXIES_A_DAY)]


def _offset_ms(chance: Random, hours: list[int]) -> int:
    (hour,) = chance.choices(range(len(hours)), hours)
    return hour * 3_600_000 + chance.randrange(3_600_000)


def _beginning(ids: UlidFactory, clock: _Clock, *, first: bool, rotates: bool) -> Iterator[EventRow]:
    at = timestamp(clock.now_ms)
    for tenant in _TENANTS:
        yield EventRow(id=ids.next(), at=at, kind="policy_loaded", workspace=tenant.workspace, detail="0123456789abcdef")
        for service in tenant.services:
            key = f"{tenant.workspace}-{service}"
            kinds = ("key_added", "key_enabled") if first else ("key_rotated",) if rotates else ()
            for kind in kinds:
                yield EventRow(id=ids.next(), at=at, kind=kind, workspace=tenant.workspace, service=service, key=key)
        for agent in filter(None, tenant.agents if first else ()):
            yield EventRow(id=ids.next(), at=at, kind="agent_added", workspace=tenant.workspace, agent=agent)
    yield EventRow(id=ids.next(), at=at, kind="ca_distrusted", workspace="acme", agent="claude", host="api.calendly.com")


def _request(chance: Random, ids: UlidFactory, now_ms: int) -> Iterator[DecisionRow | OutcomeRow]:
    (tenant,) = chance.choices(_TENANTS, [each.share for each in _TENANTS])
    service, agent = chance.choice(tenant.services), chance.choice(tenant.agents)
    method, path, mode = chance.choices(_CALLS, (30, 25, 20, 14, 8, 3))[0]
    is_denied, is_proof = chance.random() < 0.04, path == "/users/me" and chance.random() < 0.01
    reason = chance.choice(_DENIED) if is_denied else "OK"
    claimed = None if reason == "host_not_allowed" else service
    decision = DecisionRow(
        id=ids.next(),
        at=timestamp(now_ms),
        workspace=tenant.workspace,
        agent=agent,
        service=claimed,
        key=claimed and f"{tenant.workspace}-{claimed}",
        method=method,
        scheme="https",
        host=f"api.{service}.com",
        port=443,
        path=path.format(id=chance.randbytes(8).hex()),
        decision="deny" if is_denied else "allow",
        reason=reason,
        rule=f"{tenant.workspace}.yaml:{chance.randrange(5, 40)}" if claimed else None,
        runtime_mode=mode,
        proof=int(is_proof),
        approval=ids.next() if mode == "write" and not is_denied and chance.random() < 0.05 else None,
        stripped=int(chance.random() < 0.02),
        policy="0123456789abcdef",
        session=f"S{now_ms // 7_200_000:x}" if agent == "claude" else None,
    )
    yield decision
    upstream_ms = 0.0 if is_denied else round(chance.lognormvariate(4.5, 0.7), 3)
    status = 403 if is_denied else chance.choices((200, 201, 404, 401, 502), (930, 40, 20, 4, 6))[0]
    yield OutcomeRow(
        decision_id=decision.id,
        at=timestamp(now_ms + int(upstream_ms)),
        status=status,
        reason={401: "key_rejected", 502: "upstream_failed"}.get(status),
        scrubbed=int(chance.random() < 0.01),
        secret_exposed=None if chance.random() < 0.01 else 0,
        request_bytes=0 if mode == "read" else chance.randrange(100, 4000),
        response_bytes=chance.randrange(200, 40_000),
        duration_ms=upstream_ms + 2.0,
        upstream_ms=None if is_denied else upstream_ms,
        error="connection refused" if status == 502 else None,
    )
