"""How `env` and `proof` get to the proxy as an agent of a workspace."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from outloop.cli.agent import TOKEN_BYTES
from outloop.cli.context import Context

if TYPE_CHECKING:
    from outloop.operator.call import Listener


@dataclass(frozen=True, slots=True)
class Access:
    """A proxy, and the agent that was minted for it: `agent` and `token` are empty where it needs none."""

    listener: Listener
    agent: str = ""
    token: str = field(default="", repr=False)


def access(context: Context, workspace: str, port: int | None) -> Access:
    """Find the proxy and, where an agent of *workspace* needs a token there, mint one.

    Raises UsageError when there is no such workspace.
    """
    from outloop.operator.route import find_listener

    return _access(context, workspace, find_listener(context.state().proxies(), port), None)


@contextmanager
def access_for_one_call(context: Context, workspace: str, port: int | None, name: str) -> Iterator[Access]:
    """As `access`; the agent, called *name* and a number, ends with the block. None is minted when nothing listens."""
    from outloop.operator.agents import revoke_agent
    from outloop.operator.route import find_listener, is_listening

    listener = find_listener(context.state().proxies(), port)
    named = f"{name}-{secrets.token_hex(3)}"
    granted = _access(context, workspace, listener, named) if is_listening(listener) else Access(listener)
    try:
        yield granted
    finally:
        if granted.agent:
            revoke_agent(context.state(), context.record_event, time.time, workspace, granted.agent)


def _access(context: Context, workspace: str, listener: Listener, name: str | None) -> Access:
    from outloop.operator.agents import add_agent
    from outloop.operator.route import needs_token

    if not needs_token(listener, workspace, context.policies().workspaces):
        return Access(listener)
    context.workspace(workspace)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    minted = add_agent(context.state(), context.record_event, time.time, token, workspace, name)
    return Access(listener, minted.record.name, token)
