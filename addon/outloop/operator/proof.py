"""Making the safe proof and the safe next proof: one call as an agent's, then what its audit row says of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from outloop.core.errors import NoError, UsageError
from outloop.core.model import HostClaim, Probe, Service
from outloop.core.proof import Asked, AuditRow, Fault, Proof, proof_of, unseen
from outloop.operator.call import Answer

OUTCOME_TIMEOUT_S = 5.0
_ULID = re.compile("[0-9A-HJKMNP-TV-Z]{26}")
_NO_ENTRY = "audit entry exists: no"
_UNAUTHENTICATED = 407


class Call(Protocol):
    """How a request is sent (`operator/call.py`). Raises NoError when there is no usable answer."""

    def __call__(self, method: str, claim: HostClaim, target: str, body: Mapping[str, object] | None = None) -> Answer:
        """Send one request."""
        ...


class Record(Protocol):
    """What is needed of the audit record."""

    def get(self, audit_id: str) -> AuditRow:
        """Return the row. Raises UsageError when there is none."""
        ...

    def wait_outcome(self, audit_id: str, timeout_s: float) -> AuditRow | None:
        """Return the row with its outcome; None when there is none after *timeout_s*."""
        ...


def prove(call: Call, record: Record, service: Service, workspace: str, probe: Probe, now: Callable[[], datetime]) -> Proof:
    """Make the call of *probe* and return what its audit row proves.

    Every line comes from the record, none from the answer; only where there is no row is the answer's status shown.
    *now* is aware.
    """
    asked = Asked(probe, workspace, now())
    try:
        answer = call(probe.method, service.hosts[0], probe.target, probe.body)
    except NoError as error:
        return unseen(
            service.title, probe, None, Fault("HTTP no answer", error.message, error.hint or "see what the proxy printed")
        )
    if not _ULID.fullmatch(answer.audit_id):
        return unseen(service.title, probe, answer.status, _untraceable(answer, workspace))
    try:
        row = record.get(answer.audit_id)
    except UsageError as error:
        fault = Fault(
            _NO_ENTRY, f"not in this home's record: {error.message}", "restart the proxy with the same OUTLOOP_HOME as this shell"
        )
        return unseen(service.title, probe, answer.status, fault)
    row = record.wait_outcome(answer.audit_id, OUTCOME_TIMEOUT_S) or row
    return proof_of(row, service.title, asked)


def _untraceable(answer: Answer, workspace: str) -> Fault:
    if answer.status == _UNAUTHENTICATED:
        return Fault(_NO_ENTRY, "the proxy does not know this agent", f"outloop agent list; outloop env -w {workspace}")
    return Fault(
        _NO_ENTRY, "the answer did not come through Outloop", "name the proxy's port with --port, or start it: outloop up"
    )
