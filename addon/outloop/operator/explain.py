"""How a decision comes about, and what would alter it: for a request that might be sent, and for one on record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outloop.core.decide import decide, wants_body
from outloop.core.errors import MalformedRequest, UsageError
from outloop.core.model import Decision, Effect, Reason, Request, Rule, Source, Standing, Workspace
from outloop.core.policy import CatalogueEntry
from outloop.operator.hypothetical import hypothetical_request
from outloop.operator.suggestion import Change, smallest_change

Catalogue = Mapping[str, CatalogueEntry]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision in full. `rule` and `place` are those of the rule that made it or came nearest; `advice` is one line each.

    `decision` is ``allow`` or ``deny``: what the audit row says, or would say.
    """

    request: str
    workspace: str
    decision: str
    reason: str
    detail: str
    service: str | None = None
    rule: str | None = None
    place: str | None = None
    changes: tuple[Change, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        """Tell whether the request may go upstream."""
        return self.decision == Effect.ALLOW


def explain(
    workspace: Workspace,
    method: str,
    url: str,
    *,
    body: object = None,
    has_body: bool = False,
    catalogue: Catalogue,
    standing: Standing | None = None,
) -> Explanation:
    """Explain what *workspace* would make of *method* *url*; with *has_body*, *body* is the JSON it sends.

    Without *standing* the key's runtime access counts as on and its limits as unspent. Raises UsageError for what is no URL.
    """
    line = f"{method} {url}"
    try:
        request = hypothetical_request(method, url, body, has_body=has_body)
    except MalformedRequest as error:
        advice = (error.hint,) if error.hint else ()
        return Explanation(line, workspace.name, "deny", Reason.MALFORMED_REQUEST, error.message, advice=advice)
    decision = decide(request, workspace, standing or Standing())
    return _explained(line, request, workspace, decision, catalogue)


def why(record: Mapping[str, object], workspaces: Mapping[str, Workspace], catalogue: Catalogue) -> Explanation:
    """Explain the request on *record*, a row of the view `audit`, and what would alter the answer under today's policy.

    Bodies are never on record: where a rule reads one, the row's own decision is told and no change is worked out.
    """
    name, reason = _text(record, "workspace"), _text(record, "reason")
    line = f"{_text(record, 'method')} {_url(record)}"
    workspace, request = workspaces.get(name), _recorded_request(record)
    changes: tuple[Change, ...] = ()
    advice = _advice(reason, name, _text(record, "service"))
    rule: Rule | None = None
    if workspace is None:
        advice.append(f"the workspace `{name}` has no policy file today")
    elif request is not None and _text(record, "decision") == "deny":
        today = decide(request, workspace, Standing())
        rule = _rule_at(workspace, _text(record, "rule"))
        if today.service is not None and wants_body(request, today.service):
            advice.append("bodies are not on record: `outloop policy explain METHOD URL --body JSON` tells with one")
            advice += _demands(rule)
        elif today.allowed:
            advice.append("today's policy would allow it")
        else:
            changes = smallest_change(request, workspace, today, catalogue)
        advice += _person_set(rule, changes)
    return Explanation(
        request=line,
        workspace=name,
        decision=_text(record, "decision"),
        reason=reason,
        detail=_history(record),
        service=_text(record, "service") or None,
        rule=rule.text if rule else None,
        place=_text(record, "rule") or None,
        changes=changes,
        advice=tuple(advice),
    )


def _explained(line: str, request: Request, workspace: Workspace, decision: Decision, catalogue: Catalogue) -> Explanation:
    changes = () if decision.allowed else smallest_change(request, workspace, decision, catalogue)
    service = decision.service.name if decision.service else None
    advice = _advice(decision.reason, workspace.name, service)
    if not decision.allowed and not changes:
        advice += _demands(decision.rule)
    return Explanation(
        request=line,
        workspace=workspace.name,
        decision="allow" if decision.allowed else "deny",
        reason=decision.reason,
        detail=decision.detail,
        service=service,
        rule=decision.rule.text if decision.rule else None,
        place=str(decision.rule.place) if decision.rule else None,
        changes=changes,
        advice=tuple(advice),
    )


_ADVICE: Mapping[str, tuple[str, ...]] = {
    Reason.MALFORMED_REQUEST: ("no policy changes this: the request has to be sent in another form",),
    Reason.AGENT_UNKNOWN: ("the proxy did not know the agent: `outloop env -w {workspace}` prints what it needs",),
    Reason.HOST_MISMATCH: ("no policy changes this: Host or SNI named another host than the one being dialled",),
    Reason.HOST_NOT_ALLOWED: (
        "or let every host that no service claims pass unopened and without a key: `egress: passthrough`",
        "a service needs a key as well: `outloop key add {service} -w {workspace}`",
    ),
    Reason.DESTINATION_NOT_ALLOWED: ("a tunnel to a private address needs `egress_private: true` in the workspace's file",),
    Reason.CLEARTEXT_REFUSED: ("ask over https, on a port that the service's `hosts` name (443 unless they say another)",),
    Reason.CREDENTIAL_MISPLACED: ("no policy changes this: a credential stood where it does not belong",),
    Reason.DECOY_USED: ("somebody used a planted key: find out how the agent came to have it",),
    Reason.BODY_TOO_LARGE: ("a rule reads the body: a larger one needs `body_limit: BYTES` on the service",),
    Reason.RUNTIME_ACCESS_OFF: ("switch it on: `outloop key enable {service} -w {workspace}`",),
    Reason.RATE_LIMITED: ("wait, or raise `limits` of the service in the workspace's file if it is that which is spent",),
    Reason.APPROVAL_REFUSED: ("a person refused it",),
    Reason.APPROVAL_EXPIRED: ("nobody approved it in time: send it again",),
    Reason.KEY_MISSING: ("store the key: `outloop key add {service} -w {workspace}`",),
    Reason.KEY_LOCKED: ("unlock the keychain, then send it again",),
    Reason.AUDIT_UNAVAILABLE: ("the record could not be written: look at free space and at who owns audit.db",),
    Reason.INTERNAL_ERROR: ("a fault of Outloop, which refuses when in doubt",),
    Reason.UPSTREAM_UNTRUSTED: ("the service's certificate did not verify: OUTLOOP_UPSTREAM_CA names further roots to trust",),
    Reason.UPSTREAM_FAILED: ("the service did not answer: the error says how",),
    Reason.KEY_REJECTED: ("the service refused the key: `outloop key rotate {service} -w {workspace}` stores another",),
    Reason.SCRUB_FAILED: ("the answer could not be proved free of credentials",),
}


def _advice(reason: str, workspace: str, service: str | None) -> list[str]:
    return [line.format(workspace=workspace, service=service or "SERVICE") for line in _ADVICE.get(reason, ())]


def _demands(rule: Rule | None) -> tuple[str, ...]:
    """What the nearest rule asks of query and body."""
    if rule is None or rule.effect is Effect.DENY or all(condition.source is Source.PATH for condition in rule.where):
        return ()
    return (f"the rule at {rule.place} wants: {rule.text.partition(' where ')[2]}",)


def _person_set(rule: Rule | None, changes: tuple[Change, ...]) -> tuple[str, ...]:
    if rule is None or rule.effect is Effect.ALLOW or any(change.person_set for change in changes):
        return ()
    return (f"a person set the {rule.effect} rule at {rule.place}",)


def _rule_at(workspace: Workspace, place: str) -> Rule | None:
    return next((rule for service in workspace.services for rule in service.rules if str(rule.place) == place), None)


def _recorded_request(record: Mapping[str, object]) -> Request | None:
    method = _text(record, "method")
    # A CONNECT that was refused tells its host alone; masked query values no longer say what was asked.
    url = _url(record) if method != "CONNECT" else f"https://{_text(record, 'host')}:{record.get('port')}/"
    for candidate in (url, url.partition("?")[0]):
        try:
            return hypothetical_request("GET" if method == "CONNECT" else method, candidate)
        except (MalformedRequest, UsageError):
            continue
    return None


def _url(record: Mapping[str, object]) -> str:
    scheme, host, port = _text(record, "scheme") or "https", _text(record, "host"), record.get("port")
    at = f"[{host}]" if ":" in host else host
    shown = at if port in (None, 443 if scheme == "https" else 80) else f"{at}:{port}"
    return f"{scheme}://{shown}{_text(record, 'path') or '/'}"


def _history(record: Mapping[str, object]) -> str:
    who = f"agent `{_text(record, 'agent')}`" if _text(record, "agent") else "the agent on this machine"
    status = f", answered {record['status']}" if record.get("status") is not None else ""
    error = f" ({_text(record, 'error')})" if _text(record, "error") else ""
    return f"{_text(record, 'at')}: asked by {who} of {_text(record, 'workspace') or 'no workspace'}{status}{error}"


def _text(record: Mapping[str, object], column: str) -> str:
    value = record.get(column)
    return "" if value is None else str(value)
