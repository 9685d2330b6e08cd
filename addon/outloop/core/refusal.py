"""What an agent is told when the answer is no: an RFC 9457 problem document that names a safe next step.

A document never holds a key's value, a rule's text or another workspace; and it asks the agent not to look for another way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from outloop.core.model import Reason, Refusal

CONTENT_TYPE = "application/problem+json"
AUDIT_HEADER = "Outloop-Audit-Id"
REASON_HEADER = "Outloop-Reason"
CHALLENGE = ("Proxy-Authenticate", 'Basic realm="outloop"')

STATUS: Mapping[Reason, tuple[int, str]] = MappingProxyType(
    {
        Reason.MALFORMED_REQUEST: (400, "Request is ambiguous or unsafe"),
        Reason.AGENT_UNKNOWN: (407, "Agent is not known"),
        Reason.HOST_MISMATCH: (421, "Host names do not agree"),
        Reason.HOST_NOT_ALLOWED: (403, "Host not allowed by policy"),
        Reason.DESTINATION_NOT_ALLOWED: (403, "Destination address not allowed"),
        Reason.CLEARTEXT_REFUSED: (403, "Only https on the service's own port is bridged"),
        Reason.CREDENTIAL_MISPLACED: (403, "A credential stands where it does not belong"),
        Reason.DECOY_USED: (403, "A decoy credential was used"),
        Reason.DENIED_BY_RULE: (403, "Denied by a rule"),
        Reason.METHOD_NOT_ALLOWED: (403, "Method not allowed by policy"),
        Reason.PATH_NOT_ALLOWED: (403, "Path not allowed by policy"),
        Reason.WRONG_RESOURCE: (403, "Resource not allowed by policy"),
        Reason.BODY_NOT_ALLOWED: (403, "Body not allowed by policy"),
        Reason.BODY_TOO_LARGE: (413, "Body too large for policy to read"),
        Reason.RUNTIME_ACCESS_OFF: (403, "Runtime access is off"),
        Reason.RATE_LIMITED: (429, "Too many requests"),
        Reason.APPROVAL_PENDING: (403, "Waiting for the operator's approval"),
        Reason.APPROVAL_REFUSED: (403, "The operator refused"),
        Reason.APPROVAL_EXPIRED: (403, "The approval has expired"),
        Reason.KEY_MISSING: (403, "Key is not in the keychain"),
        Reason.KEY_LOCKED: (503, "Keychain cannot be read"),
        Reason.AUDIT_UNAVAILABLE: (503, "Audit record cannot be written"),
        Reason.INTERNAL_ERROR: (500, "Internal error"),
        Reason.UPSTREAM_UNTRUSTED: (502, "Upstream identity not verified"),
        Reason.UPSTREAM_FAILED: (502, "Upstream gave no usable answer"),
        # Where it is the service that says so, its own answer passes.
        Reason.KEY_REJECTED: (502, "Key not accepted by the token endpoint"),
        Reason.SCRUB_FAILED: (502, "Response could not be proved clean"),
    }
)

_STAY = "Do not look for another way around this."


def status(reason: Reason) -> int:
    """Return the HTTP status with which *reason* is answered."""
    return STATUS[reason][0]


def next_step(reason: Reason, workspace: str = "", service: str = "", key: str = "", audit_id: str = "") -> str:
    """Return a safe next step for the agent: what to change itself, or what to ask the operator for."""
    named = f"-w {workspace}" if workspace else "-w WORKSPACE"
    steps = {
        Reason.MALFORMED_REQUEST: "Send the request in its plain form: one Host, no dot segments, no double encoding.",
        Reason.AGENT_UNKNOWN: "Ask the operator to run: outloop env -w WORKSPACE (and use the proxy address it prints).",
        Reason.HOST_MISMATCH: "Send the request to the host you connect to; leave Host and SNI to your HTTP client.",
        Reason.HOST_NOT_ALLOWED: "Use a service listed at https://outloop.internal/ or ask the operator to add this host.",
        Reason.DESTINATION_NOT_ALLOWED: "Use a public host; private addresses need the operator's egress_private.",
        Reason.CLEARTEXT_REFUSED: "Use https:// and the service's own port.",
        Reason.CREDENTIAL_MISPLACED: "Remove the credential from the request; Outloop adds it where it belongs.",
        Reason.DECOY_USED: "Stop and tell the operator where this credential came from.",
        Reason.RATE_LIMITED: "Wait for the number of seconds in Retry-After, then send the same request again.",
        Reason.APPROVAL_PENDING: f"Ask the operator to run: outloop approvals; then send the same request again. {_STAY}",
        Reason.APPROVAL_REFUSED: f"The operator said no to this request; choose a different task. {_STAY}",
        Reason.APPROVAL_EXPIRED: "Send the request again and ask the operator to approve it.",
        Reason.RUNTIME_ACCESS_OFF: f"Ask the operator to run: outloop key enable {key or 'KEY'} {named}",
        Reason.KEY_MISSING: f"Ask the operator to run: outloop key add {service or 'SERVICE'} {named}",
        Reason.KEY_REJECTED: f"Ask the operator to run: outloop key rotate {key or 'KEY'} {named}",
        Reason.KEY_LOCKED: "Ask the operator to unlock the keychain, then send the request again.",
        Reason.AUDIT_UNAVAILABLE: "Ask the operator to run: outloop audit verify (nothing is sent without a record).",
        Reason.INTERNAL_ERROR: "Tell the operator the audit id; nothing was sent.",
        Reason.UPSTREAM_UNTRUSTED: "Tell the operator: the service's certificate could not be verified.",
        Reason.UPSTREAM_FAILED: "Try again later; if it stays, tell the operator the audit id.",
        Reason.SCRUB_FAILED: "Ask for the resource in another form, or tell the operator the audit id.",
        Reason.BODY_TOO_LARGE: "Send a smaller body.",
    }
    default = f"Ask the operator to run: outloop why {audit_id or 'AUDIT-ID'}. {_STAY}"
    return steps.get(reason, default)


def document(refusal: Refusal) -> bytes:
    """Return the problem document (RFC 9457) of *refusal* as UTF-8 JSON."""
    code, title = STATUS[refusal.reason]
    fields: dict[str, object] = {
        "type": "about:blank",
        "title": title,
        "status": code,
        "detail": refusal.detail or title,
        "decision": "deny",
        "reason": refusal.reason.value,
        "service": refusal.service,
        "next_step": refusal.next_step,
        "audit_id": refusal.audit_id or None,
    }
    if refusal.retry_after_s is not None:
        fields["retry_after"] = refusal.retry_after_s
    return json.dumps(fields, ensure_ascii=True).encode() + b"\n"


def headers(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    """Return the response header fields that go with the document."""
    fields = [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store"), (REASON_HEADER, refusal.reason.value)]
    if refusal.audit_id:
        fields.append((AUDIT_HEADER, refusal.audit_id))
    if refusal.retry_after_s is not None:
        fields.append(("Retry-After", str(refusal.retry_after_s)))
    if refusal.reason is Reason.AGENT_UNKNOWN:
        fields.append(CHALLENGE)
    return tuple(fields)
