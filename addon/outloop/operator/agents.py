"""Agents of a workspace: each with a token of its own, shown once."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from outloop.core.ledger import timestamp
from outloop.core.tokens import token_hash
from outloop.operator.keys import Clock, EventSink
from outloop.store.state import AgentRecord, StateStore, agent_taken


@dataclass(frozen=True, slots=True)
class NewAgent:
    """An agent just added, and its token, which exists nowhere else."""

    record: AgentRecord
    token: str = field(repr=False)

    def proxy_url(self, host: str, port: int) -> str:
        """Return what the agent's ``HTTPS_PROXY`` is set to. A token is URL-safe as it is."""
        shown = f"[{host}]" if ":" in host else host
        return f"http://{self.record.workspace}:{self.token}@{shown}:{port}"


def add_agent(state: StateStore, record_event: EventSink, now: Clock, token: str, workspace: str, name: str | None) -> NewAgent:
    """Add an agent that shows *token* (256 bits, URL-safe); without a *name* it gets the next free ``agent-N``.

    Raises UsageError when the workspace has an agent of that name.
    """
    taken = {agent.name for agent in state.snapshot().agents.values() if agent.workspace == workspace}
    chosen = name or next(free for number in count(1) if (free := f"agent-{number}") not in taken)
    if chosen in taken:
        raise agent_taken(workspace, chosen)  # before an event says otherwise
    record_event("agent_added", workspace=workspace, agent=chosen)
    return NewAgent(state.add_agent(workspace, chosen, token_hash(token), timestamp(int(now() * 1000))), token)


def revoke_agent(state: StateStore, record_event: EventSink, now: Clock, workspace: str, name: str) -> dict[str, object]:
    """End an agent, and return its row: from the next request on its token is unknown.

    Raises UsageError when there is none of that name.
    """
    at = timestamp(int(now() * 1000))
    if any((agent.workspace, agent.name) == (workspace, name) for agent in state.snapshot().agents.values()):
        record_event("agent_revoked", workspace=workspace, agent=name)
    state.revoke_agent(workspace, name, at)
    return next(row for row in list_agents(state, workspace, revoked_too=True) if (row["agent"], row["revoked_at"]) == (name, at))


def list_agents(state: StateStore, workspace: str | None, *, revoked_too: bool) -> list[dict[str, object]]:
    """Return a row for each agent, of all workspaces when *workspace* is None. Nothing of a token is in it."""
    return [
        {"workspace": agent.workspace, "agent": agent.name, "added_at": agent.created_at, "revoked_at": agent.revoked_at}
        for agent in state.agents()
        if workspace in (None, agent.workspace) and (revoked_too or agent.revoked_at is None)
    ]
