"""`outloop doctor`: what stands in the way, and how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from outloop.cli.context import Context, no_workspace, pass_context
from outloop.cli.render import console, json_flag, port_option, rows, workspace_option
from outloop.core.errors import NoError, UsageError
from outloop.core.ledger import inert
from outloop.operator.doctor.attack import TABLES

if TYPE_CHECKING:
    from outloop.operator.doctor.finding import Finding

COLUMNS = ("check", "result", "finding", "fix")
_STYLES = {"ok": "green", "warning": "yellow", "failure": "bold red", "skipped": "dim"}


@click.command()
@workspace_option(required=False)
@port_option("The proxy's port, where it cannot be found.")
@click.option("--attack", "is_attack", is_flag=True, help="Attack this installation instead, on a throw-away home.")
@click.option("--only", "table", type=click.Choice(TABLES), metavar="TABLE", help=f"Only one table: {', '.join(TABLES)}.")
@json_flag
@pass_context
def doctor(context: Context, workspace: str | None, port: int | None, is_attack: bool, table: str | None, as_json: bool) -> None:
    """Check everything that a proof needs, as it is on this machine and in this shell. Exit 1 when something would stop it.

    With --attack, start this installation's proxy on a home, keys and upstreams that are thrown away, and hold it against
    every attack that Outloop is tested with, under a minute. Exit 1 when one of them is not met; nothing of yours is touched.

    \b
    Example:
      outloop doctor -w acme
      outloop doctor --attack --only calling    # all of them without --only
    """
    if is_attack:
        _attack(context, (workspace, port), table, as_json)
        return
    if table is not None:
        raise UsageError("--only chooses among attacks", "outloop doctor --attack --only " + table)
    from outloop.operator.doctor.examination import examine, stops_the_proof
    from outloop.operator.doctor.premises import Premises
    from outloop.operator.policy_files import read_policy_files
    from outloop.operator.route import find_listener
    from outloop.store.keychain import Keychain

    home, state = context.home, context.state()
    policies = read_policy_files(home.policies, home.services)
    if workspace is not None and workspace not in policies.names:
        raise no_workspace(workspace, policies.names)
    proxies = state.proxies()
    premises = Premises(
        home=home,
        environ=context.environ,
        now=datetime.now(UTC),
        workspace=workspace,
        policies=policies.of(workspace),
        state=state.snapshot(),
        proxies=proxies,
        listener=find_listener(proxies, port),
        open_keychain=lambda: Keychain.open(home, state, context.environ, may_choose=False),
        limit_wait_s=state.wait_s,
    )
    with console(stderr=True).status("examining"):
        findings = examine(premises)
    _show(findings, as_json)
    stops = stops_the_proof(findings)
    if stops:
        first, more = stops[0], f" (and {len(stops) - 1} more)" if len(stops) > 1 else ""
        raise NoError(f"this would stop the proof: {first.check}: {first.text}{more}", first.fix or None)


def _attack(context: Context, narrower: tuple[object, ...], table: str | None, as_json: bool) -> None:
    from outloop.cli.attack import attack_this

    if any(narrower):
        raise UsageError("--attack makes a workspace and a proxy of its own", "leave out -w and --port")
    attack_this(context.environ, table, as_json)


def _show(findings: Sequence[Finding], as_json: bool) -> None:
    shown = [
        {"check": each.check, "result": each.result.value, "finding": each.text, "fix": each.fix or None} for each in findings
    ]
    if as_json:
        rows("", COLUMNS, shown, as_json)
    elif sys.stdout.isatty():
        _print_grid(findings)
    else:
        for each in findings:
            line = f"{each.result.value:<8} {each.check:<9}  {each.text}{f'  fix: {each.fix}' if each.fix else ''}"
            click.echo(inert(line))


def _print_grid(findings: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for each in findings:
        result = each.result.value
        said = Text(inert(each.text), overflow="fold")
        if each.fix:
            said.append(f"\n→ {inert(each.fix)}", "bold")
        grid.add_row(Text(result, _STYLES[result]), Text(each.check), said)
    console().print(grid)
