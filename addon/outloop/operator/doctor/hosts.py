"""Which hosts do several workspaces claim?

Within one workspace two services that claim the same are a problem of the policy, which its check shows.
"""

from __future__ import annotations

from collections.abc import Iterator

from outloop.operator.doctor.finding import Finding, ok, warning
from outloop.operator.doctor.premises import Premises

_NAME = "hosts"


def check(premises: Premises) -> Iterator[Finding]:
    """A host of several workspaces is fine as long as each agent says whose it is, which takes a token."""
    claimed: dict[str, list[str]] = {}
    for workspace in premises.policies.workspaces:
        for host in workspace.claims:
            claimed.setdefault(host, []).append(workspace.name)
    shared = {host: names for host, names in claimed.items() if len(names) > 1}
    with_agents = {agent.workspace for agent in premises.state.agents.values()}
    for host, names in shared.items():
        without = [name for name in names if name not in with_agents]
        if without:
            text = f"{host} is claimed by {', '.join(names)}; no agent has a token for {', '.join(without)}"
            yield warning(_NAME, text, f"outloop agent add -w {without[0]}")
        else:
            yield ok(_NAME, f"{host} is claimed by {', '.join(names)}: each agent's token says whose key is used")
    if not shared:
        yield ok(_NAME, "no host is claimed twice")
