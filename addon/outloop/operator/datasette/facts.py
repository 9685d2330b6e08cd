"""What the pages say beside the rows: the state of things at one look, and all that belongs to one request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from outloop.core.approvals import LIFE_S
from outloop.core.proof import proof_of
from outloop.store.confinement import first_id

Record = Mapping[str, object]

_NEIGHBOURS = 5
_DAY_S = 86_400
_AROUND_S = 300
_COLUMNS = "id, at, workspace, agent, service, method, path, decision, reason, status"

_TODAY = """
SELECT count(*) AS requests, sum(decision = 'deny') AS denied, count(DISTINCT workspace) AS workspaces
FROM decisions WHERE id >= days_ago(1) AND at >= date('now')
"""
_KEYS = """
SELECT sum(kind = 'key_enabled') AS keys_on, sum(kind <> 'key_removed') AS keys_kept FROM (
    SELECT kind, max(id) FROM events
    WHERE kind IN ('key_added', 'key_enabled', 'key_disabled', 'key_removed') GROUP BY workspace, key)
"""
# An approval's events begin with its id. What was asked for and not yet decided waits, for as long as requests can.
_PENDING = """
SELECT count(*) AS pending FROM (
    SELECT kind, max(id) FROM events
    WHERE id >= days_ago(:days) AND kind GLOB 'approval_*' GROUP BY substr(detail, 1, 26))
WHERE kind = 'approval_requested'
"""


async def overview(database: Any) -> dict[str, object]:
    """Return what a newcomer asks first: requests and denials today, claims, keys that are on, what waits for the operator."""
    found: dict[str, object] = {}
    for sql, parameters in ((_TODAY, {}), (_KEYS, {}), (_PENDING, {"days": LIFE_S / _DAY_S})):
        found |= (await _rows(database, sql, parameters))[0]
    found = {name: value or 0 for name, value in found.items()}
    claims = await _rows(database, "SELECT workspace, service, access, claim, audit_id, at, why FROM claims")
    verified = [claim for claim in claims if claim["claim"] == "verified"]
    newest = await _rows(database, f"SELECT {_COLUMNS} FROM audit ORDER BY id DESC LIMIT 8")  # noqa: S608  (our own names)
    return found | {"verified": len(verified), "claims": len(claims), "newest": newest}


async def of_request(database: Any, audit_id: str) -> dict[str, object] | None:
    """Return a request's row, the lines that it proves, its approval, what happened around it, and its neighbours; or None."""
    rows = await _rows(database, "SELECT * FROM audit WHERE id = :id", {"id": audit_id})
    if not rows:
        return None
    row = rows[0]
    proof = proof_of(row, str(row["service"] or row["host"]))
    return {
        "request": row,
        "proof": proof.lines,
        "proof_fault": proof.fault
        and {"line": proof.fault.line, "message": proof.fault.message, "next_step": proof.fault.next_step},
        "approval_events": await _approval_events(database, row),
        "events": await _events(database, row),
        "before": await _neighbours(database, row, "<", "DESC"),
        "after": await _neighbours(database, row, ">", "ASC"),
    }


async def _approval_events(database: Any, row: Record) -> Sequence[Record]:
    if not row["approval"]:
        return ()
    sql = "SELECT id, at, kind, detail FROM events WHERE kind GLOB 'approval_*' AND substr(detail, 1, 26) = :approval ORDER BY id"
    return await _rows(database, sql, {"approval": row["approval"]})


async def _events(database: Any, row: Record) -> Sequence[Record]:
    """Return events of the ten minutes around the request that concern its workspace, or all."""
    sql = (
        "SELECT id, at, kind, workspace, agent, service, key, detail FROM events"
        " WHERE id BETWEEN :first AND :last AND (workspace IS NULL OR workspace = :workspace) ORDER BY id LIMIT 30"
    )
    return await _rows(database, sql, _around(row, _AROUND_S) | {"workspace": row["workspace"]})


async def _neighbours(database: Any, row: Record, side: str, order: str) -> Sequence[Record]:
    """Return the nearest requests of the same agent, or of the same `outloop run`, within a day."""
    sql = (
        f"SELECT {_COLUMNS} FROM audit WHERE id {side} :id AND id BETWEEN :first AND :last"  # noqa: S608  (our own names)
        " AND workspace IS :workspace AND agent IS :agent AND (:session IS NULL OR session = :session)"
        f" ORDER BY id {order} LIMIT {_NEIGHBOURS}"
    )
    parameters = {name: row[name] for name in ("id", "workspace", "agent", "session")}
    found = await _rows(database, sql, _around(row, _DAY_S) | parameters)
    return found if order == "ASC" else found[::-1]


def _around(row: Record, seconds: int) -> dict[str, object]:
    """Return the lowest ids of the moments that long before and after *row*."""
    at = datetime.fromisoformat(str(row["at"])).astimezone(UTC).timestamp()
    return {"first": first_id(int((at - seconds) * 1000)), "last": first_id(int((at + seconds) * 1000))}


async def _rows(database: Any, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, object]]:
    return [dict(row) for row in (await database.execute(sql, dict(parameters or {}))).rows]
