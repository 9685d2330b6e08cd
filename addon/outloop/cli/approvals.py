"""`outloop approvals`, `approve` and `refuse`: the operator decides on requests that a rule holds."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from outloop.cli.candidates import approval_ids
from outloop.cli.context import Context, pass_context
from outloop.cli.key import UNITS_S
from outloop.cli.render import json_flag, record, rows
from outloop.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outloop.core.approvals import Approval
    from outloop.operator.approvals import Decisions

COLUMNS = ("id", "age", "status", "workspace", "agent", "service", "request", "body")
_LIMITS = {"request": 60, "body": 60}  # so that a row takes a line or two; --json and --watch have it all
_LENGTH_DIGITS = 6


class Length(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.3
    """A length of time such as ``10m``, as seconds."""

    name = "length"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds."""
        text = str(value)
        digits = text.rstrip("".join(UNITS_S))
        unit_s = UNITS_S.get(text[len(digits) :])
        if unit_s is None or not digits.isascii() or not digits.isdecimal() or len(digits) > _LENGTH_DIGITS:
            self.fail(f"{text!r} is not a length of time such as 30s, 10m or 2h", param, ctx)
        return int(digits) * unit_s


@click.command()
@click.option("--watch", is_flag=True, help="Keep the list on the screen and decide with keys: a approves, r refuses, q ends.")
@json_flag
@pass_context
def approvals(context: Context, watch: bool, as_json: bool) -> None:
    """Show the requests that wait for you, what you approved but was not used yet, and grants in force.

    \b
    Example:
      outloop approvals --watch
    """
    from outloop.operator.approvals import as_row

    decisions = decisions_of(context)
    if watch:
        if as_json:
            raise UsageError(
                "--watch and --json do not go together", "ask again with `outloop approvals --json` as often as you like"
            )
        from outloop.cli.watch import watch as watch_

        watch_(decisions)
        return
    now = time.time()
    found = decisions.waiting()
    if as_json:
        facts = [as_row(approval, now) for approval in found]
        rows("", tuple(facts[0]) if facts else (), facts, True)
        return
    rows("approvals", COLUMNS, [_shown(approval, now) for approval in found], False, empty="nothing waits for you")


@click.command()
@click.argument("approval_id", metavar="ID", shell_complete=approval_ids)
@click.option(
    "--for",
    "for_s",
    type=Length(),
    metavar="TIME",
    help="Also all else that the same rule asks of this agent: 10m, 2h; a day at most.",
)
@json_flag
@pass_context
def approve(context: Context, approval_id: str, for_s: int | None, as_json: bool) -> None:
    """Let the waiting request pass, once. ID is its id, or enough of its beginning or end.

    It passes at once if the agent still waits, else when the agent sends the very same request again within ten minutes.

    \b
    Example:
      outloop approve 7Q2M0ABC
      outloop approve 7Q2M0ABC --for 10m
    """
    decisions = decisions_of(context)
    done = decisions.approve(approval_id) if for_s is None else decisions.grant(approval_id, for_s)
    asked = done.asked
    if for_s is None:
        _say(done, f"approved {done.short_id}: {asked.method} {asked.path}, once, within ten minutes", as_json)
    else:
        who = asked.agent or "the agent without a token"
        _say(done, f"granted {done.short_id}: `{asked.rule_text}` for {who} of {asked.workspace}", as_json)


@click.command()
@click.argument("approval_id", metavar="ID", shell_complete=approval_ids)
@click.option("--because", default="", metavar="TEXT", help="Why; the agent is told.")
@json_flag
@pass_context
def refuse(context: Context, approval_id: str, because: str, as_json: bool) -> None:
    """Say no to a waiting request, take back an approval that was not used yet, or end a grant.

    \b
    Example:
      outloop refuse 7Q2M0ABC --because "not before Monday"
    """
    done = decisions_of(context).refuse(approval_id, because)
    _say(done, f"{done.status.value} {done.short_id}: {done.asked.method} {done.asked.path}", as_json)


def decisions_of(context: Context) -> Decisions:
    """Return what the operator can do here and now."""
    from outloop.operator.approvals import Decisions

    context.audit()  # made on the command's own thread, which closes it; a decision may be taken on another
    return Decisions(context.approvals(), context.record_event, time.time, _place())


def _place() -> str:
    try:
        return f"at {os.ttyname(sys.stdin.fileno())}"
    except (OSError, ValueError, AttributeError):
        return "not at a terminal"


def _say(approval: Approval, line: str, as_json: bool) -> None:
    from outloop.core.ledger import inert
    from outloop.operator.approvals import as_row

    if as_json:
        record(as_row(approval, time.time()), True)
    else:
        click.echo(inert(line))


def _shown(approval: Approval, now: float) -> Mapping[str, object]:
    from outloop.cli.screen import age

    asked = approval.asked
    cells: dict[str, object] = {
        "id": approval.short_id,
        "age": age(now - approval.asked_at),
        "status": approval.status.value,
        "workspace": asked.workspace,
        "agent": asked.agent,
        "service": asked.service,
        "request": f"{asked.method} {asked.path}",
        "body": asked.body,
    }
    return {name: _clipped(name, value) for name, value in cells.items()}


def _clipped(name: str, value: object) -> object:
    limit = _LIMITS.get(name)
    text = str(value)
    return f"{text[: limit - 1]}…" if limit and len(text) > limit else value
