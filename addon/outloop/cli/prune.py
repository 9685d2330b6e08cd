"""`outloop audit prune`: let go of old rows without letting go of what they prove."""

from __future__ import annotations

import getpass
import platform
import sys
import time
from typing import TYPE_CHECKING

import click

from outloop.cli.context import Context, pass_context
from outloop.cli.moments import Age
from outloop.cli.render import console, json_flag, progress, record
from outloop.core.errors import NoError, UsageError
from outloop.core.ledger import inert

if TYPE_CHECKING:
    from outloop.operator.pruning import Pruned, Pruning
    from outloop.store.prune_plan import Plan


@click.command()
@click.option("--keep", type=Age(), required=True, metavar="AGE", help="How much to keep, such as 90d or 52w; at least 7d.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--undelivered", is_flag=True, help="Also what a collector (export --otlp) has not got yet.")
@json_flag
@pass_context
def prune(context: Context, keep: int, yes: bool, undelivered: bool, as_json: bool) -> None:
    """Remove rows older than AGE. The chain stays verifiable: signed checkpoints stand for what went.

    What claims, keys and agents are made of stays however old it is, and so does a request without an outcome. Proxies may run
    meanwhile.

    \b
    Example:
      outloop audit prune --keep 90d --yes
    """
    pruning = _pruning(context)
    with progress("verifying", context.records().appends()) as passed:
        plan = pruning.plan(keep, passed)
    if not undelivered:
        _refuse_undelivered(context, plan)
    if plan.appends and not yes:
        _ask(plan)
    _print(plan, _carried_out(pruning, plan), as_json)


def _pruning(context: Context) -> Pruning:
    from outloop.operator.pruning import Pruning

    def record_event(kind: str, detail: str) -> None:
        audit = context.audit()
        audit.append_now(audit.event(kind, detail=detail))

    return Pruning(
        path=context.home.audit_db,
        witnesses=context.witnesses(),
        keychain=context.keychain,
        record_event=record_event,
        made_by=inert(f"{getpass.getuser()}@{platform.node()}"),
        is_running=bool(context.state().proxies()),
        now=time.time(),
    )


def _refuse_undelivered(context: Context, plan: Plan) -> None:
    from outloop.store.outbox import Deliveries

    for target, places in Deliveries(context.home.state_db).targets().items():
        if count := plan.beyond(places):
            raise NoError(
                f"nothing was pruned: {count} appends were not sent to {target} yet",
                "send them with `outloop audit export --otlp`; --undelivered prunes them all the same",
            )


def _ask(plan: Plan) -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on", "--yes prunes without asking")
    if not click.confirm(f"Remove {plan.appends} appends from before {plan.cutoff}?"):
        raise NoError("nothing was pruned")


def _carried_out(pruning: Pruning, plan: Plan) -> Pruned:
    with progress("pruning", plan.appends) as passed:
        for appends in pruning.carry_out(plan):
            passed(appends)
    with console(stderr=True).status("giving space back"):
        return pruning.give_back()


def _print(plan: Plan, done: Pruned, as_json: bool) -> None:
    if as_json:
        fields: dict[str, object] = {"removed": plan.appends, "cutoff": plan.cutoff, "kept": plan.kept}
        fields |= {table: plan.taken.get(table, 0) for table in ("decisions", "outcomes", "events")}
        fields |= {"freed_bytes": done.freed_bytes, "free_bytes": done.free_bytes}
        record(fields, True)
        return
    stay = f"; {plan.kept} older ones stay: claims, keys and agents rest on them, or they are undecided" if plan.kept else ""
    if not plan.appends:
        click.echo(f"nothing from before {plan.cutoff} to prune{stay}")
        return
    parts = ", ".join(f"{count} {table}" for table, count in sorted(plan.taken.items()))
    click.echo(f"removed {plan.appends} appends from before {plan.cutoff} ({parts}){stay}")
    later = f"; {_size(done.free_bytes)} more are free inside it, for rows to come" if done.free_bytes else ""
    click.echo(f"the file is {_size(done.freed_bytes)} smaller{later}")


def _size(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB"
