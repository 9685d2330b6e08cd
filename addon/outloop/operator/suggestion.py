"""The smallest change to a policy file that would let a denied request pass, as YAML to paste."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote

from outloop.core.body import read_json
from outloop.core.decide import decide
from outloop.core.model import (
    HTTPS_PORT,
    Condition,
    Decision,
    Effect,
    Expected,
    Place,
    Reason,
    Request,
    Rule,
    Service,
    Source,
    Standing,
    Workspace,
)
from outloop.core.paths import compile_pattern
from outloop.core.policy import CatalogueEntry
from outloop.core.policy.models import NAME

_PLAIN_LINE = re.compile(r"[A-Z,]+ /[A-Za-z0-9/._~-]*")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_NO_RULE = frozenset({Reason.METHOD_NOT_ALLOWED, Reason.PATH_NOT_ALLOWED, Reason.WRONG_RESOURCE, Reason.BODY_NOT_ALLOWED})
_PLAIN_WORD = re.compile(r"-?[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Change:
    """One edit: `do` says what and where, `yaml` is what to write or to remove.

    `person_set` is true where it undoes what a person decided, and then `do` says so.
    """

    do: str
    yaml: str
    person_set: bool = False


def smallest_change(
    request: Request, workspace: Workspace, decision: Decision, catalogue: Mapping[str, CatalogueEntry]
) -> tuple[Change, ...]:
    """Return the edits to the file of *workspace* after which *request* would be allowed; () where no edit could do that.

    Every rule it proposes was tried: with it, `decide` allows the request.
    """
    if decision.reason is Reason.HOST_NOT_ALLOWED:
        return (_added_service(request, workspace, catalogue),)
    if decision.reason is Reason.DENIED_BY_RULE:
        return _without_denials(request, workspace, decision)
    if decision.reason is Reason.APPROVAL_PENDING and decision.rule is not None:
        return (_ask_to_allow(decision.rule),)
    if decision.reason in _NO_RULE and decision.service is not None:
        return _added_rule(request, workspace, decision, decision.service)
    return ()


def rule_yaml(rule: Rule) -> str:
    """Return *rule* as the list item that it is in its file."""
    line = f"{','.join(sorted(rule.methods)) if rule.methods else '*'} {rule.pattern.text}"
    item = f"- {rule.effect}: {_scalar(line)}"
    if not rule.where:
        return item
    return f"{item}\n  where: {{{', '.join(map(_condition_yaml, rule.where))}}}"


def _without_denials(request: Request, workspace: Workspace, decision: Decision) -> tuple[Change, ...]:
    changes = []
    while decision.reason is Reason.DENIED_BY_RULE and decision.service is not None and decision.rule is not None:
        denial, service = decision.rule, decision.service
        why = f" ({' '.join(denial.reason.split())})" if denial.reason else ""
        do = f"a person set the deny rule at {denial.place}{why}, and deny always wins: only that person should take it out"
        changes.append(Change(do, rule_yaml(denial), person_set=True))
        workspace = _with_rules(workspace, service, tuple(rule for rule in service.rules if rule is not denial))
        decision = decide(request, workspace, Standing())
    if decision.reason in _NO_RULE and decision.service is not None:
        changes += _added_rule(request, workspace, decision, decision.service)
    return tuple(changes)


def _ask_to_allow(rule: Rule) -> Change:
    do = f"a person set `ask` at {rule.place}, to see each of these requests: only that person should make it an `allow`"
    return Change(do, rule_yaml(replace(rule, effect=Effect.ALLOW)), person_set=True)


def _added_rule(request: Request, workspace: Workspace, decision: Decision, service: Service) -> tuple[Change, ...]:
    wanted = [condition for condition in (decision.rule.where if decision.rule else ()) if condition.source is not Source.PATH]
    where = [_as_sent(condition, request) for condition in wanted]
    # A field that the request lacks would have to be allowed to lack: that is another rule, and for a person to write.
    if None in where:
        return ()
    path = "/" + "/".join(quote(segment, safe="-._~!$&'()+,=:@") for segment in request.path.segments)
    rule = Rule(
        effect=Effect.ALLOW,
        methods=frozenset({request.method}),
        pattern=compile_pattern(path),
        place=Place(workspace.file, 1),
        text="",
        where=tuple(condition for condition in where if condition),
    )
    if not decide(request, _with_rules(workspace, service, (*service.rules, rule)), Standing()).allowed:
        return ()
    pinned = " (a person pinned it to its values)" if decision.reason is Reason.WRONG_RESOURCE else ""
    beside = f", beside the rule at {decision.rule.place}{pinned}" if decision.rule else ""
    return (Change(f"add to {workspace.file}, under services: {service.name}: rules{beside}", rule_yaml(rule)),)


def _added_service(request: Request, workspace: Workspace, catalogue: Mapping[str, CatalogueEntry]) -> Change:
    path = "/" + "/".join(quote(segment, safe="-._~!$&'()+,=:@") for segment in request.path.segments)
    rule = f"- allow: {_scalar(f'{request.method} {path}')}"
    at = request.host if request.port == HTTPS_PORT else f"{request.host}:{request.port}"
    known = next((entry for entry in catalogue.values() if at in entry.hosts and not entry.params), None)
    if known is not None:
        lines = [f"{known.name}:", "  rules:", f"    {rule}"]
    else:
        name = _name_for(request.host)
        lines = [f"{name}:", f"  hosts: [{_scalar(at)}]", "  auth: {type: bearer}", "  rules:", f"    {rule}"]
    return Change(f"add to {workspace.file}, under services", "\n".join(lines))


def _name_for(host: str) -> str:
    labels = [label for label in host.split(".") if label not in ("api", "www")]
    name = labels[-2] if len(labels) > 1 else labels[0]
    return name if re.fullmatch(NAME, name) else "service"


def _as_sent(wanted: Condition, request: Request) -> Condition | None:
    """Return *wanted* with the values that *request* holds; None where it holds none that a rule could name."""
    if wanted.source is Source.QUERY:
        values: list[object] = [value for name, value in request.query if name == wanted.keys[0]]
    else:
        values = list(_in_body(request, wanted.keys))
    if not values or any(isinstance(value, (dict, list)) for value in values):
        return None
    return replace(wanted, accepted=tuple(dict.fromkeys(map(_expected, values))))


def _in_body(request: Request, keys: tuple[str, ...]) -> Iterator[object]:
    read = read_json(request.body) if request.body else None
    value: object = read.value if read else None
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return
        value = value[key]
    yield value


def _expected(value: object) -> Expected:
    if isinstance(value, str):
        return Expected(value, value, quoted=True, is_glob=any(mark in value for mark in "*?"))
    return Expected(json.dumps(value), value if isinstance(value, (int, float)) else None, quoted=False)


def _with_rules(workspace: Workspace, service: Service, rules: tuple[Rule, ...]) -> Workspace:
    changed = replace(service, rules=rules)
    return replace(workspace, services=tuple(changed if each is service else each for each in workspace.services))


def _condition_yaml(condition: Condition) -> str:
    name = ".".join(condition.keys if condition.source is Source.PATH else (condition.source, *condition.keys))
    values = [json.dumps(expected.text) if expected.quoted else _scalar(expected.text) for expected in condition.accepted]
    key = name if _PLAIN_KEY.fullmatch(name) else json.dumps(name)
    return f"{key}: {values[0] if len(values) == 1 else '[' + ', '.join(values) + ']'}"


def _scalar(text: str) -> str:
    # A JSON string is a double-quoted YAML scalar as well.
    return text if _PLAIN_LINE.fullmatch(text) or _PLAIN_WORD.fullmatch(text) else json.dumps(text)
