"""`outloop key`: credentials, and the switch that lets agents use them."""

from __future__ import annotations

import sys
import time
from string import ascii_lowercase
from typing import TYPE_CHECKING

import click

from outloop.cli.candidates import keys as key_names
from outloop.cli.candidates import keys_and_decoys, services
from outloop.cli.context import Context, pass_context
from outloop.cli.render import checked_name, json_flag, rows, workspace_option
from outloop.cli.render import record as print_record
from outloop.core.errors import NoError, UsageError

if TYPE_CHECKING:
    from outloop.core.secret import Secret
    from outloop.operator.keys import KeyPlan, Keys
    from outloop.operator.placement import Placement

COLUMNS = ("workspace", "key", "service", "value", "runtime_access", "added_at", "last_used", "last_status")
STDIN_LIMIT_BYTES = 256 * 1024
TERMINAL_LINE_LIMIT = 4095  # what Linux hands on of one typed or pasted line (termios(3), canonical mode)
GRACE = "1h"
UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
LONGEST_GRACE_S = 30 * 86400

stdin_option = click.option("--stdin", "from_stdin", is_flag=True, help="Read the value from standard input, not from a prompt.")
shared_option = click.option("--shared-ok", is_flag=True, help="Accept a value that another workspace has too.")


@click.group()
def key() -> None:
    """Store keys and switch their runtime access. A value is never an argument: it would show in `ps` and in history.

    \b
    Example:
      outloop key add calendly -w acme
      outloop key enable calendly -w acme
    """


@key.command()
@click.argument("service", shell_complete=services)
@workspace_option()
@click.option("--name", metavar="N", help="What to call the key; default: as the policy says, else WS-SERVICE.")
@stdin_option
@shared_option
@click.option("--decoy", "is_decoy", is_flag=True, help="Plant a value that opens nothing: whoever uses it raises an alarm.")
@json_flag
@pass_context
def add(
    context: Context,
    service: str,
    workspace: str,
    name: str | None,
    from_stdin: bool,
    shared_ok: bool,
    is_decoy: bool,
    as_json: bool,
) -> None:
    """Store a key for SERVICE in the keychain. Agents cannot use it until `outloop key enable`.

    With --decoy a value is made up, stored and printed, to be left where an agent should not look: in a .env, a note, a chat.

    \b
    Example:
      outloop key add calendly -w acme
      outloop key add calendly -w acme --decoy
      pass show acme/calendly | outloop key add calendly -w acme --stdin
    """
    placement = _placement(context, workspace, service, checked_name(name, "key") if name is not None else None)
    if is_decoy:
        from outloop.cli.decoys import plant

        if shared_ok:
            raise UsageError("a decoy is nowhere else: --shared-ok says nothing about it")
        plant(context, placement, name, from_stdin=from_stdin, as_json=as_json)
        return
    keys = _keys(context)
    plan = placement.plan
    keys.refuse_taken(plan)
    _refuse_unreadable(from_stdin)
    if not from_stdin:
        click.echo(f"at {plan.title}, name the token `{plan.provider_name}`; here it is the key `{plan.name}`", err=True)
    label = keys.add(plan, _values(plan, from_stdin), shared_ok=shared_ok)
    if as_json:
        wrote = placement.policy_key is None and placement.create_file()
        to_paste = placement.block if placement.policy_key is None and not wrote else ""
        _print_key(keys, workspace, plan.name, keychain=label, policy=str(placement.file), to_paste=to_paste or None)
        return
    click.echo(f"stored the key {plan.name} of workspace {workspace} in {label}")
    if from_stdin:
        click.echo(f"at {plan.title}, name the token `{plan.provider_name}`, so that both sides show which is which")
    _tell_policy(placement)
    click.echo("runtime access is OFF: no agent can use this key until you run")
    click.echo(f"  outloop key enable {plan.name} -w {workspace}")


@key.command("list")
@workspace_option(required=False)
@json_flag
@pass_context
def list_(context: Context, workspace: str | None, as_json: bool) -> None:
    """List keys with their switch and last use, and decoys. Values stay in the keychain.

    \b
    Example:
      outloop key list -w acme
    """
    from outloop.store.overview import Overview

    has_record = context.home.audit_db.exists()
    uses = context.records().key_uses() if has_record else []
    decoy_uses = Overview(context.home.audit_db).decoy_uses() if has_record else []
    records = _keys(context).listed(workspace, uses, decoy_uses)
    rows("Keys", COLUMNS, records, as_json, empty="no key yet: outloop key add SERVICE -w WS")


@key.command()
@click.argument("key_name", metavar="KEY|SERVICE", shell_complete=key_names)
@workspace_option()
@json_flag
@pass_context
def enable(context: Context, key_name: str, workspace: str, as_json: bool) -> None:
    """Let agents of the workspace use a key, from the very next request.

    \b
    Example:
      outloop key enable calendly -w acme
    """
    _switch(context, workspace, key_name, True, as_json)


@key.command()
@click.argument("key_name", metavar="KEY|SERVICE", shell_complete=key_names)
@workspace_option()
@json_flag
@pass_context
def disable(context: Context, key_name: str, workspace: str, as_json: bool) -> None:
    """Take a key away from agents, from the very next request.

    \b
    Example:
      outloop key disable calendly -w acme
    """
    _switch(context, workspace, key_name, False, as_json)


@key.command()
@click.argument("key_name", metavar="KEY|SERVICE", shell_complete=key_names)
@workspace_option()
@stdin_option
@click.option("--grace", default=GRACE, show_default=True, metavar="TIME", help="How long the old value is still scrubbed.")
@shared_option
@json_flag
@pass_context
def rotate(context: Context, key_name: str, workspace: str, from_stdin: bool, grace: str, shared_ok: bool, as_json: bool) -> None:
    """Give a key a new value. Its switch stays as it is; running proxies use the new value from the next request.

    \b
    Example:
      outloop key rotate calendly -w acme
    """
    grace_s = _seconds(grace)
    keys = _keys(context)
    record = keys.find(workspace, key_name)
    plan = _placement(context, workspace, record.service, record.name).plan
    _refuse_unreadable(from_stdin)
    label = keys.rotate(plan, _values(plan, from_stdin), grace_s, shared_ok=shared_ok)
    if as_json:
        _print_key(keys, workspace, record.name, keychain=label, old_value_scrubbed_s=grace_s)
        return
    click.echo(f"stored the new value of {record.name} in {label}; runtime access is {'on' if record.runtime_access else 'OFF'}")
    if grace_s:
        click.echo(f"the old value is scrubbed for another {grace}: revoke it at {plan.title} meanwhile")


@key.command()
@click.argument("key_name", metavar="KEY|DECOY|SERVICE", shell_complete=keys_and_decoys)
@workspace_option()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_flag
@pass_context
def remove(context: Context, key_name: str, workspace: str, yes: bool, as_json: bool) -> None:
    """Delete a key or a decoy from the keychain. Its rows stay in the audit record.

    \b
    Example:
      outloop key remove calendly -w acme
    """
    from outloop.cli.decoys import keeper

    keys, decoys = _keys(context), keeper(context)
    decoy = decoys.find(workspace, key_name)
    record = decoy or keys.find(workspace, key_name)
    if not yes:
        if not _has_terminal():
            raise UsageError("there is no terminal to ask on", "--yes removes without asking")
        if not click.confirm(f"Remove the {'decoy' if decoy else 'key'} {record.name} of workspace {workspace}?"):
            raise NoError("nothing was removed")
    if decoy is not None:
        decoys.remove(decoy)
    else:
        keys.remove(record)
    if as_json:
        print_record({"workspace": workspace, "key": record.name, "service": record.service, "removed": True}, as_json)
        return
    if decoy is not None:
        click.echo(f"removed the decoy {record.name} of workspace {workspace}: whoever uses it from now on goes unnoticed")
        return
    click.echo(f"removed the key {record.name} of workspace {workspace}; it still works wherever else it is used until revoked")


def _keys(context: Context) -> Keys:
    from outloop.operator.keys import Keys

    return Keys(context.state(), context.keychain, context.record_event, time.time)


def _placement(context: Context, workspace: str, service: str, name: str | None) -> Placement:
    from outloop.operator.placement import place

    policy = context.policies().workspaces.get(workspace)
    return place(workspace, service, name, context.home.policies, policy, context.entry)


def _switch(context: Context, workspace: str, named: str, on: bool, as_json: bool) -> None:
    keys = _keys(context)
    record = keys.find(workspace, named)
    changed = keys.switch(record, on)
    if as_json:
        _print_key(keys, workspace, record.name)
        return
    click.echo(f"runtime access of {record.name} {'is now' if changed else 'was already'} {'on' if on else 'OFF'}")


def _print_key(keys: Keys, workspace: str, name: str, **more: object) -> None:
    [row] = [row for row in keys.listed(workspace, ()) if row["key"] == name]
    print_record({**row, **more}, True)


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()  # None: closed by whoever started this


def _refuse_unreadable(from_stdin: bool) -> None:
    if from_stdin and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("--stdin needs a file or a pipe to read from", "leave it away: the prompt does not show what you type")
    if not from_stdin and not _has_terminal():
        raise UsageError("there is no terminal to ask on", "--stdin takes the value from standard input")


def _values(plan: KeyPlan, from_stdin: bool) -> dict[str, Secret]:
    from outloop.operator.values import checked_value, read_values

    if from_stdin:
        return read_values(plan.parts, sys.stdin.buffer.read(STDIN_LIMIT_BYTES))
    for part in plan.parts:
        if part.form.is_pem:
            raise UsageError(
                f"{part.form.value} has several lines, and a prompt takes one", "--stdin < key.pem takes it from a file"
            )
    values = {}
    for part in plan.parts:
        shown = "" if len(plan.parts) == 1 else f" {part.name}{' (Enter: none)' if part.is_optional else ''}"
        blank = "" if part.is_optional else None
        typed = click.prompt(f"{plan.title} key{shown}", hide_input=part.is_secret, default=blank, show_default=False, err=True)
        if part.is_optional and not typed:
            continue
        if len(typed.encode(errors="replace")) >= TERMINAL_LINE_LIMIT:
            raise UsageError("a terminal cuts lines of this length", "--stdin takes the value from a file or a pipe")
        values[part.name] = checked_value(part, typed)
    return values


def _tell_policy(placement: Placement) -> None:
    plan = placement.plan
    if placement.policy_key is not None:
        if placement.policy_key != plan.name:
            click.echo(f"{placement.file} uses the key {placement.policy_key} for {plan.service}: to use this one, set")
            click.echo(f"    key: {plan.name}")
    elif placement.create_file():
        click.echo(f"wrote {placement.file}: agents of {plan.workspace} may make {plan.title}'s documented reads")
    else:
        click.echo(f"{placement.file} does not use {plan.service} yet: paste this under `services:`")
        click.echo(placement.block, nl=False)


def _seconds(text: str) -> int:
    digits = text.rstrip(ascii_lowercase)
    unit_s = UNITS_S.get(text[len(digits) :])
    if digits == "0" and text == digits:
        return 0
    if not digits.isascii() or not digits.isdecimal() or unit_s is None or len(digits) > 9:
        raise UsageError(f"{text!r} is not a length of time", "write 30min, 1h, 2d or 0")
    if int(digits) * unit_s > LONGEST_GRACE_S:
        raise UsageError(f"a grace of {text} is longer than 30 days", "a value that is scrubbed for longer belongs revoked")
    return int(digits) * unit_s
