"""Rows for a record, as a proxy would write them."""

from __future__ import annotations

import itertools

from outloop.core.ledger import DecisionRow, EventRow, OutcomeRow, UlidFactory, timestamp

NOW_MS = 1_767_225_600_000  # 2026-01-01
_clock = itertools.count(NOW_MS, 1000)
IDS = UlidFactory(lambda: next(_clock), bytes)


def decision(**changes: object) -> DecisionRow:
    """Return an allowed read of Calendly, a second after the one before, with *changes*."""
    audit_id = IDS.next()
    fields: dict[str, object] = {
        "id": audit_id,
        "at": at(audit_id),
        "workspace": "acme",
        "agent": "claude",
        "service": "calendly",
        "key": "acme-calendly",
        "method": "GET",
        "scheme": "https",
        "host": "api.calendly.com",
        "port": 443,
        "path": "/users/me",
        "decision": "allow",
        "reason": "OK",
        "rule": "acme.yaml:7",
        "runtime_mode": "read",
        "policy": "0123456789abcdef",
    }
    return DecisionRow(**(fields | changes))  # type: ignore[arg-type]


def outcome(of: DecisionRow, **changes: object) -> OutcomeRow:
    """Return the outcome of a request that went well, with *changes*."""
    fields: dict[str, object] = {
        "decision_id": of.id,
        "at": of.at,
        "status": 200,
        "secret_exposed": 0,
        "request_bytes": 0,
        "response_bytes": 512,
        "duration_ms": 12.5,
        "upstream_ms": 10.0,
    }
    return OutcomeRow(**(fields | changes))  # type: ignore[arg-type]


def event(kind: str, **changes: object) -> EventRow:
    """Return an event of workspace acme, with *changes*."""
    audit_id = IDS.next()
    return EventRow(**({"id": audit_id, "at": at(audit_id), "kind": kind, "workspace": "acme"} | changes))  # type: ignore[arg-type]


def at(audit_id: str) -> str:
    """Return the time that stands in an id."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    clock_ms = 0
    for character in audit_id[:10]:
        clock_ms = clock_ms * 32 + alphabet.index(character)
    return timestamp(clock_ms)
