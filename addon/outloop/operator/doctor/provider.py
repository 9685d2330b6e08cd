"""What did each service answer last: did it reject the key (401), refuse the call (403), or not answer at all?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from outloop.core.model import Reason, Service, Workspace
from outloop.operator.doctor.finding import Finding, failure, ok, skipped, warning
from outloop.operator.doctor.premises import Premises
from outloop.store.records import Record

_NAME = "provider"
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
# What the catalogue says of regions, hosts and plans explains a refusal that the key itself does not.
_ELSEWHERE = re.compile(r"\b(region|host|EU|US|data ?cent(?:er|re)|instance|subdomain)\b")
_REFUSED = re.compile(r"\b403\b")


def check(premises: Premises) -> Iterator[Finding]:
    """Look at the newest row that has an answer; one from before the key's present value says nothing of it."""
    wanted = list(premises.services)
    if not wanted or not premises.has_record:
        yield skipped(_NAME, "no service was called yet")
        return
    for workspace, service in wanted:
        row = premises.overview.newest_answer(workspace.name, service.name)
        value = premises.overview.newest_value(workspace.name, service.key)
        if row is None:
            yield skipped(_NAME, f"{service.name} of {workspace.name} was not called yet")
        elif value is not None and str(value["id"]) > str(row["id"]):
            yield skipped(_NAME, f"{service.name} of {workspace.name} was not called since {service.key} got its value")
        else:
            yield from _of_answer(premises, workspace, service, row)


def _of_answer(premises: Premises, workspace: Workspace, service: Service, row: Record) -> Iterator[Finding]:
    status, reason = row["status"], str(row["reason"])
    said = f"{service.name} of {workspace.name}"
    shown = f"(row {str(row['id'])[-8:]})"
    show = f"outloop audit show {str(row['id'])[-8:]}"
    if status == _UNAUTHORIZED or reason == Reason.KEY_REJECTED:
        is_services = status == _UNAUTHORIZED
        text = f"{said} rejected the key {service.key}: 401 {shown}"
        text = text if is_services else f"the token endpoint of {said} rejected the key {service.key} {shown}"
        yield failure(_NAME, text, f"outloop key rotate {service.key} -w {workspace.name}")
        yield from _hints(premises, service, _ELSEWHERE)
    elif reason == Reason.UPSTREAM_UNTRUSTED:
        text = f"{said}: the certificate of {row['host']} is not trusted {shown}"
        yield failure(_NAME, text, "check OUTLOOP_UPSTREAM_CA, and what stands between here and the service")
    elif reason == Reason.UPSTREAM_FAILED:
        yield failure(_NAME, f"{said}: {row['host']} gave no usable answer {shown}", f"check the network; {show}")
        yield from _hints(premises, service, _ELSEWHERE)
    elif status == _FORBIDDEN and reason == Reason.OK:
        text = f"{said} knows the key but refuses {row['method']} {row['path']}: 403 {shown}"
        yield warning(_NAME, text, f"give the key the scope or plan that it needs: outloop service show {service.name}")
        yield from _hints(premises, service, _REFUSED)
        yield from _hints(premises, service, _ELSEWHERE)
    elif reason != Reason.OK:
        yield warning(_NAME, f"{said}: the last answer was not passed on: {reason} {shown}", show)
    elif status == _NOT_FOUND and any(_ELSEWHERE.search(each) for each in _gotchas(premises, service)):
        yield ok(_NAME, f"{said} answered 404 {shown}")
        yield from _hints(premises, service, _ELSEWHERE)
    else:
        yield ok(_NAME, f"{said} accepts the key: {status} {shown}")


def _hints(premises: Premises, service: Service, about: re.Pattern[str]) -> Iterator[Finding]:
    for gotcha in _gotchas(premises, service):
        if about.search(gotcha):
            yield warning("region" if about is _ELSEWHERE else _NAME, gotcha, f"outloop service show {service.name}")


def _gotchas(premises: Premises, service: Service) -> tuple[str, ...]:
    entry = premises.policies.catalogue.get(service.name)
    return entry.gotchas if entry else ()
