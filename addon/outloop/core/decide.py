"""The decision: a request, a workspace and the key's standing in; an effect, a reason and the rule that made it out.

It is total and pure, and denies by default. Reasons are tried in the order in which `Reason` lists them; among rules deny
beats ask beats allow, wherever they stand in the file.
"""

from __future__ import annotations

from functools import lru_cache

from outloop.core.body import read_body
from outloop.core.conditions import Subject, forbids, permits
from outloop.core.index import Candidate, covers_method, rule_index
from outloop.core.model import Decision, Effect, Egress, Reason, Request, Rule, Service, Source, Standing, Workspace
from outloop.core.paths import compile_pattern

APPROVAL_RETRY_AFTER_S = 30


def decide(request: Request, workspace: Workspace, standing: Standing) -> Decision:
    """Decide *request* for *workspace*. *standing* is that of the key which `service_for` leads to.

    A request to a host that no service claims is allowed without a service where the workspace lets such hosts pass: that is
    the decision about a tunnel. A body that `wants_body` asks for but that is None counts as unreadable.
    """
    claimants = workspace.claims.get(request.host)
    if claimants is None:
        return _decide_unclaimed(request, workspace)
    if not _is_expected_port(request, claimants):
        ports = sorted({claim.port for service in claimants for claim in service.hosts if claim.host == request.host})
        listed = " or ".join(map(str, ports))
        return _refusal(Reason.CLEARTEXT_REFUSED, f"{request.host} is reached over https on port {listed} only")
    service = service_for(request, workspace)
    if service is None:
        return _refusal(Reason.PATH_NOT_ALLOWED, f"no service of this workspace reaches that part of {request.host}")
    if not request.method.isupper():
        return _refusal(Reason.MALFORMED_REQUEST, "the method is not an upper-case word", service)
    if not service.encoded_slash and any("/" in segment for segment in request.path.segments):
        return _refusal(Reason.MALFORMED_REQUEST, f"{service.name} takes no %2F inside a path segment", service)
    return _decide_by_rules(request, service, standing)


def service_for(request: Request, workspace: Workspace) -> Service | None:
    """Return the service of *workspace* that claims the request's host, port and path; None when none does.

    Of several the one with the longest `base` is it; a base matches whole segments, with their case.
    """
    found: Service | None = None
    for service in workspace.claims.get(request.host, ()):
        listed = any(claim.host == request.host and claim.port == request.port for claim in service.hosts)
        is_longer = found is None or len(service.base) > len(found.base)
        if listed and is_longer and _is_under(service.base, request.path.segments):
            found = service
    return found


def wants_body(request: Request, service: Service) -> bool:
    """Tell whether the decision needs the body: a rule that could still match reads it, or holds it for approval."""
    candidates = rule_index(service).candidates(request.method, request.path.segments)
    if not any(candidate.reads_body or candidate.rule.effect is Effect.ASK for candidate in candidates):
        return False
    subject = Subject.of(request.query, None)
    could_match = [candidate for candidate in candidates if _holds(candidate, subject, ignoring=Source.BODY)]
    if any(candidate.rule.effect is Effect.DENY and not candidate.reads_body for candidate in could_match):
        return False
    return any(candidate.reads_body or candidate.rule.effect is Effect.ASK for candidate in could_match)


def _decide_unclaimed(request: Request, workspace: Workspace) -> Decision:
    if workspace.egress is Egress.PASSTHROUGH:
        return Decision(Effect.ALLOW, Reason.OK, detail=f"{request.host} is tunnelled unopened")
    return _refusal(Reason.HOST_NOT_ALLOWED, f"no service of this workspace claims {request.host}")


def _decide_by_rules(request: Request, service: Service, standing: Standing) -> Decision:
    candidates = rule_index(service).candidates(request.method, request.path.segments)
    body = None
    if any(candidate.reads_body for candidate in candidates):
        body = read_body(request.body, request.content_type, request.content_encoding)
    subject = Subject.of(request.query, body)
    holding: dict[Effect, list[Candidate]] = {Effect.DENY: [], Effect.ASK: [], Effect.ALLOW: []}
    for candidate in candidates:
        if _holds(candidate, subject):
            holding[candidate.rule.effect].append(candidate)
    if holding[Effect.DENY]:
        # A deny rule that needs no body is the better reason: one that does may hold only because the body was not read.
        rule = min(holding[Effect.DENY], key=lambda candidate: candidate.reads_body).rule
        why = f": {' '.join(rule.reason.split())}" if rule.reason else ""
        return _refusal(Reason.DENIED_BY_RULE, f"this workspace denies that call to {service.name}{why}", service, rule)
    granting = holding[Effect.ASK] or holding[Effect.ALLOW]
    if granting:
        return _decide_granted(service, granting[0].rule, standing)
    return _explain_no_match(request, service, candidates, subject)


def _decide_granted(service: Service, rule: Rule, standing: Standing) -> Decision:
    if not standing.access_on:
        return _refusal(Reason.RUNTIME_ACCESS_OFF, f"runtime access for {service.name} is switched off", service, rule)
    if standing.retry_after_s is not None:
        detail = f"the request limit for {service.name} is reached for the next {standing.retry_after_s} s"
        return Decision(Effect.DENY, Reason.RATE_LIMITED, service, rule, standing.retry_after_s, detail)
    if rule.effect is Effect.ASK:
        detail = f"that call to {service.name} waits for a person's approval"
        return Decision(Effect.ASK, Reason.APPROVAL_PENDING, service, rule, APPROVAL_RETRY_AFTER_S, detail)
    return Decision(Effect.ALLOW, Reason.OK, service, rule)


def _explain_no_match(request: Request, service: Service, candidates: list[Candidate], subject: Subject) -> Decision:
    if not covers_method(service.methods, request.method):
        detail = f"{request.method} is not among the methods this workspace allows for {service.name}"
        return _refusal(Reason.METHOD_NOT_ALLOWED, detail, service)
    near = [candidate for candidate in candidates if candidate.rule.effect is not Effect.DENY]
    if not near:
        detail = f"{request.method} is not allowed on that path of {service.name} in this workspace"
        return _refusal(Reason.PATH_NOT_ALLOWED, detail, service)
    on_resource = [candidate for candidate in near if _holds_on_path(candidate, subject)]
    if not on_resource:
        detail = f"that path names a resource of {service.name} that this workspace may not use"
        return _refusal(Reason.WRONG_RESOURCE, detail, service, near[0].rule)
    rule = on_resource[0].rule
    if subject.body is None and all(candidate.reads_body for candidate in on_resource):
        detail = "the body has no single safe reading: send one JSON object or a urlencoded form, as UTF-8 and uncompressed"
    else:
        detail = other_values_detail(service.name)
    return _refusal(Reason.BODY_NOT_ALLOWED, detail, service, rule)


def other_values_detail(service: str) -> str:
    """Return what an agent is told when its query or body holds what no rule allows."""
    return f"this workspace allows that call to {service} only with other values in its query or body"


def _holds(candidate: Candidate, subject: Subject, *, ignoring: Source | None = None) -> bool:
    test = forbids if candidate.rule.effect is Effect.DENY else permits
    return all(condition.source is ignoring or test(condition, candidate.names, subject) for condition in candidate.rule.where)


def _holds_on_path(candidate: Candidate, subject: Subject) -> bool:
    conditions = (condition for condition in candidate.rule.where if condition.source is Source.PATH)
    return all(permits(condition, candidate.names, subject) for condition in conditions)


def _is_expected_port(request: Request, claimants: tuple[Service, ...]) -> bool:
    if request.scheme != "https":
        return False
    return any(claim.host == request.host and claim.port == request.port for service in claimants for claim in service.hosts)


def _is_under(base: str, segments: tuple[str, ...]) -> bool:
    if not base:
        return True
    wanted = _base_segments(base)
    return segments[: len(wanted)] == wanted


@lru_cache(maxsize=1024)
def _base_segments(base: str) -> tuple[str | None, ...]:
    return tuple(step.literal for step in compile_pattern(base).runs[0])


def _refusal(reason: Reason, detail: str, service: Service | None = None, rule: Rule | None = None) -> Decision:
    return Decision(Effect.DENY, reason, service, rule, detail=detail)
