"""What an operator does with requests that wait: approve one, approve all that its rule asks for a time, refuse, end a grant.

Every decision is an audit event first and takes effect second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from outloop.core.approvals import Approval, Status
from outloop.core.errors import NoError, UsageError
from outloop.core.ledger import inert, timestamp
from outloop.store.approvals import ApprovalStore

LONGEST_GRANT_S = 86400
LONGEST_BECAUSE = 500


class EventSink(Protocol):
    """Writes an event row and returns when it is on disk; raises AuditError when it is not."""

    def __call__(
        self, kind: str, *, workspace: str, agent: str | None, service: str | None, host: str | None, detail: str | None
    ) -> None:
        """Write a row of that kind."""
        ...


class Decisions:
    """Decides on approvals. *now* returns seconds since the epoch; *place* says where the operator sits, for the record.

    Whoever decides without a terminal is on record as such: an agent that found a way to this command is noticed.
    """

    def __init__(self, store: ApprovalStore, record_event: EventSink, now: Callable[[], float], place: str) -> None:
        self._store = store
        self._record_event = record_event
        self._now = now
        self._place = place

    def waiting(self) -> tuple[Approval, ...]:
        """Return what waits for a decision or stands, oldest first; what ran out is expired."""
        if self._store.has_ended(self._now()):
            for expired in self._store.sweep(self._now()):
                self._record("approval_expired", expired, expired.line())
        return self._store.listed(self._now())

    def approve(self, named: str) -> Approval:
        """Let the request pass once. *named* is an id, or enough of its beginning or end.

        Raises UsageError when there is none of that name, NoError when it does not wait any more.
        """
        found = self._found(named, (Status.PENDING,))
        self._record("approval_approved", found, f"{found.line()}; {self._place}")
        return _still(self._store.approve(found.id, self._now()), found)

    def grant(self, named: str, for_s: int) -> Approval:
        """Let every request of that agent pass that the same rule holds, for *for_s* seconds. Raises as `approve`."""
        if not 0 < for_s <= LONGEST_GRANT_S:
            raise UsageError("a grant lasts from a second to a day", "what is always right belongs in the policy, as `allow`")
        found = self._found(named, (Status.PENDING, Status.APPROVED))
        until = self._now() + for_s
        detail = f"{found.line()}; {found.asked.rule_text} until {timestamp(int(until * 1000))}; {self._place}"
        self._record("approval_granted", found, detail)
        return _still(self._store.grant(found.id, self._now(), until), found)

    def refuse(self, named: str, because: str) -> Approval:
        """Say no to what waits or was not used yet; end a grant. The agent is told *because*. Raises as `approve`."""
        found = self._found(named, (Status.PENDING, Status.APPROVED, Status.GRANTED))
        said = inert(" ".join(because.split()))[:LONGEST_BECAUSE]
        is_grant = found.status is Status.GRANTED
        why = f"; because: {said}" if said else ""
        self._record("approval_revoked" if is_grant else "approval_refused", found, f"{found.line()}{why}; {self._place}")
        change = self._store.revoke if is_grant else self._store.refuse
        return _still(change(found.id, self._now(), said), found)

    def _found(self, named: str, statuses: tuple[Status, ...]) -> Approval:
        found = self._store.named(named)
        if found.status not in statuses or not found.stands(self._now()):
            raise _over(found, self._now())
        return found

    def _record(self, kind: str, approval: Approval, detail: str) -> None:
        asked = approval.asked
        self._record_event(
            kind, workspace=asked.workspace, agent=asked.agent or None, service=asked.service, host=asked.host, detail=detail
        )


def as_row(approval: Approval, now: float) -> Mapping[str, object]:
    """Return the facts about *approval* at *now*, for people and programs. Nothing that it is bound by can be told from them."""
    asked = approval.asked
    return {
        "id": approval.id,
        "asked_at": timestamp(int(approval.asked_at * 1000)),
        "age_s": max(0, int(now - approval.asked_at)),
        "workspace": asked.workspace,
        "agent": asked.agent or None,
        "service": asked.service,
        "method": asked.method,
        "host": asked.host,
        "path": asked.path,
        "headers": asked.headers,
        "body": asked.body,
        "body_bytes": asked.body_bytes,
        "rule": asked.rule,
        "rule_text": asked.rule_text,
        "status": approval.status.value,
        "until": timestamp(int(approval.until * 1000)),
    }


def _still(changed: Approval | None, found: Approval) -> Approval:
    if changed is None:
        raise NoError(f"approval {found.short_id} was decided meanwhile", "`outloop approvals` shows how things stand")
    return changed


_PAST = {
    Status.APPROVED: "is approved already",
    Status.GRANTED: "is a grant already",
    Status.REFUSED: "was refused",
    Status.CONSUMED: "was used",
    Status.REVOKED: "was revoked",
}


def _over(found: Approval, now: float) -> NoError:
    past = _PAST.get(found.status, "has expired") if found.stands(now) else "has expired"
    return NoError(f"approval {found.short_id} {past}", "`outloop approvals` lists what waits")
