"""Is the policy valid, and the one that the proxy has?"""

from __future__ import annotations

from collections.abc import Iterator

from outloop.operator.doctor.finding import Finding, failure, ok, warning
from outloop.operator.doctor.premises import Premises

_NAME = "policy"
_RELOAD = "it is taken within two seconds; if not, see what the proxy printed"


def check(premises: Premises) -> Iterator[Finding]:
    """Every problem of every file, and files that the proxy has an earlier version of."""
    policies = premises.policies
    for problem in (*policies.problems, *(problem for file in policies.files for problem in file.problems)):
        yield failure(_NAME, str(problem), problem.hint or "outloop policy check")
    if not policies.files:
        yield failure(_NAME, "no workspace has a policy: nothing is allowed", "outloop workspace add acme --service calendly")
    loaded = premises.overview.loaded_policies() if premises.has_record and premises.proxies else {}
    for workspace in policies.workspaces:
        rules = sum(len(service.rules) for service in workspace.services)
        if loaded.get(workspace.name) not in (None, workspace.digest):
            yield warning(_NAME, f"{workspace.name}: the proxy has an earlier version of the file", _RELOAD)
        elif not rules:
            yield failure(
                _NAME, f"{workspace.name}: no rule allows anything", f"outloop service list; then edit {workspace.file}"
            )
        else:
            yield ok(_NAME, f"{workspace.name}: valid, {rules} rules")
