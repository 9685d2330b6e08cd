"""What `outloop key` does with decoys."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from outloop.cli.context import Context
from outloop.cli.render import record as print_record
from outloop.core.errors import UsageError
from outloop.operator.decoys import DecoyKeeper, decoy_plan, made_up
from outloop.operator.keys import DECOY, MASK

if TYPE_CHECKING:
    from outloop.core.auth import Part
    from outloop.core.secret import Secret
    from outloop.operator.placement import Placement

STDIN_LIMIT_BYTES = 256 * 1024


def keeper(context: Context) -> DecoyKeeper:
    """Return who keeps the decoys of the home."""
    return DecoyKeeper(context.state(), context.keychain, context.record_event, time.time)


def plant(context: Context, placement: Placement, name: str | None, *, from_stdin: bool, as_json: bool) -> None:
    """Plant a decoy. What is made up is all that is printed on standard output, so that it can be piped where it should lie."""
    from outloop.operator.values import read_values

    plan_of_key, entries = placement.plan, context.catalogue()
    workspace = plan_of_key.workspace
    policy = context.policies().workspaces.get(workspace)
    placeholders = [text for entry in entries.values() for text in entry.placeholder.values()]
    policy_keys = [service.key for service in policy.services] if policy is not None else []
    plan = decoy_plan(plan_of_key, name, entries.get(plan_of_key.service), policy_keys, placeholders)
    decoys = keeper(context)
    decoys.refuse_taken(plan)
    if from_stdin and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("--stdin needs a file or a pipe to read from", "leave it away, and a value is made up")
    values = (
        read_values(plan.key.parts, sys.stdin.buffer.read(STDIN_LIMIT_BYTES)) if from_stdin else made_up(plan, secrets.choice)
    )
    label = decoys.plant(plan, values)
    shown = None if from_stdin else _texts(plan.key.parts, values)
    if as_json:
        row = {"workspace": workspace, "key": plan.key.name, "service": plan.key.service, "value": MASK, "runtime_access": DECOY}
        print_record({**row, "keychain": label, "planted": shown}, as_json)
        return
    click.echo(f"planted the decoy {plan.key.name} of workspace {workspace} in {label}: it opens nothing", err=True)
    click.echo("running proxies watch for it within seconds: whoever uses it is refused and reported", err=True)
    if shown is not None:
        click.echo("leave it where an agent should not look, such as a .env, a note or a chat, and nowhere else:", err=True)
        click.echo(json.dumps(shown) if len(shown) > 1 else next(iter(shown.values())))


def _texts(parts: Sequence[Part], values: Mapping[str, Secret]) -> dict[str, str]:
    return {part.name: values[part.name].reveal().decode() for part in parts}
