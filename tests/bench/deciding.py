"""A decision where there is much to decide by: 200 services with 50 rules each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random

from bench.report import Line, Spread, at_most, held_to
from harness.policies import workspace_of
from outloop.core.decide import decide, service_for, wants_body
from outloop.core.model import Request, Standing, Workspace
from outloop.core.paths import canonical_path, parse_query

SERVICES = 200
RULES = 50
REQUESTS = 1000
TARGET = at_most(50, " µs")

_KINDS = (
    ("an allowed read", "GET", "/v1/projects/{project}/things{rule}/{id}", ""),
    ("an allowed write with a query", "POST", "/v1/projects/p7/links{rule}", "tenant=acme"),
    ("a denied path", "GET", "/v1/admin{rule}/keys/{id}", ""),
    ("a path no rule knows", "GET", "/v2/nothing/of/that/kind/{id}", ""),
)


def deciding(rounds: int) -> Iterator[Line]:
    """Decide requests of four kinds, to services in no order."""
    workspace = workspace_of(_policy())
    random = Random(0)
    for what, method, path, query in _KINDS:
        requests = [_request(random, method, path, query) for _ in range(REQUESTS)]
        _decided_us(workspace, requests)
        taken = Spread.best_of((_decided_us(workspace, requests) for _ in range(rounds)), min)
        yield held_to(TARGET, f"deciding {what}, {SERVICES} services × {RULES} rules", taken, " µs", digits=1)


def _policy() -> str:
    """Return a policy whose rules are of the kinds that people write."""
    lines = ["workspace: acme", "services:"]
    for service in range(SERVICES):
        lines += [f"  service-{service}:", f"    hosts: [api-{service}.example.com]", "    auth: {type: bearer}", "    rules:"]
        for rule in range(RULES // 5):
            lines += [
                f"      - allow: GET /v1/projects/{{project}}/things{rule}/*",
                f"        where: {{project: p{service}}}",
                f"      - allow: GET /v1/lists{rule}/**",
                f"      - allow: POST /v1/projects/p7/links{rule}",
                "        where: {query.tenant: acme}",
                f"      - ask: DELETE /v1/things{rule}/*",
                f'      - deny: "* /v1/admin{rule}/**"',
            ]
    return "\n".join(lines) + "\n"


def _request(random: Random, method: str, path: str, query: str) -> Request:
    service, rule = random.randrange(SERVICES), random.randrange(RULES // 5)
    target = path.format(project=f"p{service}", rule=rule, id=random.getrandbits(32))
    host = f"api-{service}.example.com"
    return Request(method, "https", host, 443, canonical_path(target), parse_query(query))


def _decided_us(workspace: Workspace, requests: list[Request]) -> float:
    """Return what one request takes: its service, whether its body is wanted, the decision. Processor time, as nothing waits."""
    standing = Standing()
    start_s = time.process_time()
    for request in requests:
        service = service_for(request, workspace)
        assert service is not None
        wants_body(request, service)
        decide(request, workspace, standing)
    return (time.process_time() - start_s) / len(requests) * 1e6
