"""What a shell offers while a command is being typed: workspaces, services, keys, agents, and recent ids.

Called at every press of the tab key: nothing is made, no policy is parsed, no keychain is opened, and whatever goes wrong is
answered with nothing. Only names come out, and only such as a shell can take as one word.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from outloop.core.errors import OutloopError
from outloop.core.ledger import inert
from outloop.store.home import Home

if TYPE_CHECKING:
    from outloop.store.state import State

Candidates = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
Found = Iterable[tuple[str, str]]  # a word and what it is

_RECENT_ROWS = 50
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _quietly(look: Callable[[Home, click.Context], Found]) -> Candidates:
    @wraps(look)
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            found = list(look(Home.locate(os.environ), ctx))
        except (OutloopError, OSError):
            return []
        return [
            CompletionItem(word, help=inert(what))
            for word, what in found
            if word.startswith(incomplete) and _WORD.fullmatch(word)
        ]

    return complete


@_quietly
def workspaces(home: Home, _: click.Context) -> Found:
    """The workspaces that have a file."""
    return ((name, "workspace") for name in _stems(home.policies))


@_quietly
def services(home: Home, _: click.Context) -> Found:
    """The services of the catalogue, and those that have a key."""
    from outloop.store.catalogue import shipped_folder

    with_keys = {key.service for key in _state(home).keys.values()} if home.state_db.exists() else set()
    return ((name, "service") for name in sorted({*_stems(shipped_folder()), *_stems(home.services), *with_keys}))


@_quietly
def keys(home: Home, ctx: click.Context) -> Found:
    """The keys of the workspace that was named, or all."""
    workspace = ctx.params.get("workspace")
    if not home.state_db.exists():
        return ()
    return _keys_of(_state(home), workspace)


@_quietly
def keys_and_decoys(home: Home, ctx: click.Context) -> Found:
    """The keys and decoys of the workspace that was named, or all."""
    workspace = ctx.params.get("workspace")
    if not home.state_db.exists():
        return ()
    state = _state(home)
    found = [*_keys_of(state, workspace)]
    found += [
        (decoy.name, f"{decoy.service} decoy of {decoy.workspace}")
        for decoy in state.decoys.values()
        if workspace in (None, decoy.workspace)
    ]
    return found


@_quietly
def agents(home: Home, ctx: click.Context) -> Found:
    """The agents of the workspace that was named, or all, that are not revoked."""
    workspace = ctx.params.get("workspace")
    if not home.state_db.exists():
        return ()
    found = [agent for agent in _state(home).agents.values() if workspace in (None, agent.workspace)]
    return ((agent.name, f"agent of {agent.workspace}") for agent in found)


@_quietly
def audit_ids(home: Home, _: click.Context) -> Found:
    """The short ids of the newest rows, newest first."""
    from outloop.store.records import SHORT_ID_LENGTH, Filters, Records

    newest_first = Records(home.audit_db).tail(Filters(), _RECENT_ROWS)[::-1] if home.audit_db.exists() else []
    return (
        (str(row["id"])[-SHORT_ID_LENGTH:], f"{row['method']} {row['host']}{row['path']} {row['decision']} {row['reason']}")
        for row in newest_first
    )


@_quietly
def approval_ids(home: Home, _: click.Context) -> Found:
    """The short ids of what waits for the operator or stands."""
    from outloop.store.approvals import ApprovalStore

    if not home.state_db.exists():
        return ()
    found = ApprovalStore(home.state_db).listed(time.time())
    return ((each.short_id, f"{each.status.value}: {each.asked.method} {each.asked.path}") for each in found)


def _keys_of(state: State, workspace: str | None) -> Found:
    found = [key for key in state.keys.values() if workspace in (None, key.workspace)]
    return ((key.name, f"{key.service} key of {key.workspace}, {'on' if key.runtime_access else 'off'}") for key in found)


def _stems(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("[!.]*.yaml")) if folder.is_dir() else []


def _state(home: Home) -> State:
    from outloop.store.state import StateStore

    store = StateStore(home.state_db)
    try:
        return store.snapshot()
    finally:
        store.close()
