"""What a call proves, computed from its audit row alone: the proof lines, and the first of them that does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from outloop.core.model import Probe, Reason

AuditRow = Mapping[str, object]  # one row of the view `audit`: column name → value

_UNAUTHORIZED = 401
_FORBIDDEN = 403
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class Asked:
    """The call that an audit row must be of: made as *probe* says, for *workspace*, not before *since* (aware)."""

    probe: Probe
    workspace: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Fault:
    """The first proof line that does not hold: the line, why, and what the operator can do."""

    line: str
    message: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Proof:
    """The lines as people and agents read them, and what is wrong with them (None: access is verified)."""

    lines: tuple[str, ...]
    fault: Fault | None

    @property
    def text(self) -> str:
        """The lines, each with its line end."""
        return "".join(f"{line}\n" for line in self.lines)


def proof_of(row: AuditRow, title: str, asked: Asked | None = None) -> Proof:
    """Return what *row* proves about the service called *title*.

    With *asked* the row must be of that very call, with the status that its probe expects; without, any request that got a
    2xx proves itself.
    """
    _, call, status, decision, exposed, _, entry = _lines(row, title, verified=False)
    fault = (
        (_identity_fault(row, asked, entry) if asked else None)
        or _decision_fault(row, decision)
        or (_call_fault(row, asked.probe, call) if asked else None)
        or _status_fault(row, asked.probe if asked else None, status)
        or _exposure_fault(row, exposed)
    )
    return Proof(_lines(row, title, verified=fault is None), fault)


def unseen(title: str, probe: Probe, status: int | None, fault: Fault) -> Proof:
    """Return the proof of a call that left no audit row; *status* is what the caller got, None without an answer."""
    row: AuditRow = {"method": probe.method, "path": probe.target, "status": status}
    return Proof(_lines(row, title, verified=False), fault)


def _lines(row: AuditRow, title: str, *, verified: bool) -> tuple[str, ...]:
    exposed = {0: "false", 1: "true"}.get(row.get("secret_exposed"), "not measured")  # type: ignore[call-overload]
    decision = f"{row['decision']} / {row['reason']}" if row.get("decision") else "none"
    return (
        f"{title} API access through Outloop",
        f"{row['method']} {row['path']}",
        f"HTTP {'no answer' if row.get('status') is None else row['status']}",
        f"decision: {decision}",
        f"secret_exposed: {exposed}",
        f"runtime_verified: {'yes' if verified else 'no'}",
        f"audit entry exists: {row.get('id') or 'no'}",
    )


def _identity_fault(row: AuditRow, asked: Asked, line: str) -> Fault | None:
    workspace = row["workspace"]
    if workspace and workspace != asked.workspace:
        return Fault(
            line,
            f"the call was made for the workspace `{workspace}`, not `{asked.workspace}`",
            f"outloop env -w {asked.workspace} shows how to reach the right one",
        )
    # Rows carry milliseconds. An id that some other program answered with would name an old row.
    since = asked.since.astimezone(UTC)
    if datetime.fromisoformat(str(row["at"])).astimezone(UTC) < since.replace(microsecond=since.microsecond // 1000 * 1000):
        return Fault(line, "the audit row is older than the call", "see which program listens on the proxy's port")
    return None


def _decision_fault(row: AuditRow, line: str) -> Fault | None:
    if row["decision"] == "allow":
        return None
    reason = str(row["reason"])
    return Fault(line, f"Outloop refused the call: {reason}", _operator_step(reason, row))


def _call_fault(row: AuditRow, probe: Probe, line: str) -> Fault | None:
    wanted = f"{probe.method} {probe.target}"
    if line == wanted:
        return None
    return Fault(line, f"the audit row is of another call than `{wanted}`", f"outloop audit show {row['id']}")


def _status_fault(row: AuditRow, probe: Probe | None, line: str) -> Fault | None:
    status, reason = row.get("status"), str(row["reason"])
    if not isinstance(status, int):
        return Fault(line, "the call has no outcome in the record yet", f"outloop audit show {row['id']}")
    if status == _UNAUTHORIZED or reason == Reason.KEY_REJECTED:
        return Fault(
            line, f"{row['service']} rejected the key `{row['key']}`", f"outloop key rotate {row['key']} -w {row['workspace']}"
        )
    if reason != Reason.OK:
        return Fault(line, f"no answer could be passed on: {reason}", _operator_step(reason, row))
    if status == (probe.expect if probe else status) and 200 <= status < 300:
        return None
    if status == _FORBIDDEN:
        return Fault(line, f"{row['service']} accepted the key but not this call", "give the key the scopes that the call needs")
    if status == _TOO_MANY_REQUESTS:
        return Fault(line, f"{row['service']} is limiting requests", "wait a minute and run the proof again")
    expected = f"{probe.expect} was expected" if probe else "a 2xx was expected"
    return Fault(line, f"{row['service']} answered {status}; {expected}", f"outloop audit show {row['id']}")


def _exposure_fault(row: AuditRow, line: str) -> Fault | None:
    exposed = row.get("secret_exposed")
    if exposed == 0:
        return None
    if exposed == 1:
        return Fault(
            line, "part of the key reached the agent", f"replace it: outloop key rotate {row['key']} -w {row['workspace']}"
        )
    return Fault(line, "whether the answer held the key could not be measured", f"outloop audit show {row['id']}")


def _operator_step(reason: str, row: AuditRow) -> str:
    """What the operator, as opposed to the agent (core/refusal.py), does about *reason*."""
    workspace = f"-w {row['workspace']}"
    steps: dict[str, str] = {
        Reason.AGENT_UNKNOWN: "outloop agent list (this agent's token is wrong or revoked)",
        Reason.RUNTIME_ACCESS_OFF: f"outloop key enable {row['key']} {workspace}",
        Reason.KEY_MISSING: f"outloop key add {row['service']} {workspace}",
        Reason.KEY_LOCKED: "unlock the keychain, then run the proof again",
        Reason.RATE_LIMITED: "wait, then run the proof again",
        Reason.APPROVAL_PENDING: "an `ask` rule holds this call: run the proof again once it is approved",
        Reason.UPSTREAM_UNTRUSTED: "check OUTLOOP_UPSTREAM_CA and what stands between here and the service",
        Reason.UPSTREAM_FAILED: "check the network and the service's status, then run the proof again",
        Reason.INTERNAL_ERROR: "report it, with the audit id and what the proxy printed",
    }
    return steps.get(reason, f"outloop why {row['id']}")
