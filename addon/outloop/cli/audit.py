"""`outloop audit`: read and verify the record, whether or not a proxy is running."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from itertools import chain

import click

from outloop.cli.candidates import audit_ids, services
from outloop.cli.context import Context, pass_context
from outloop.cli.export import export
from outloop.cli.moments import Moment
from outloop.cli.prune import prune
from outloop.cli.render import json_flag, port_option, record, rows, workspace_option
from outloop.cli.verify import verify
from outloop.core.ledger import inert
from outloop.store.records import SHORT_ID_LENGTH, Filters, Record

COLUMNS = ("time", "id", "workspace", "service", "request", "status", "decision")
_WIDTHS = (14, SHORT_ID_LENGTH, 10, 10, 34, 6, 0)
_LIMITS = {"workspace": 16, "service": 20, "request": 72}  # on a terminal, so that a row takes a few lines; `show` has it all


@click.group()
def audit() -> None:
    """Read and verify the record.

    \b
    Example, why requests of the last hour were denied:
      outloop audit tail --denied --since 1h
    """


for command in (verify, export, prune):
    audit.add_command(command)


@audit.command()
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many rows.")
@click.option("--denied", is_flag=True, help="Only what policy denied.")
@click.option("--since", type=Moment(), metavar="AGE|TIME", help="Only rows since then: 30m, 12h, 7d, or a date (UTC).")
@workspace_option(required=False)
@click.option("--service", metavar="SERVICE", shell_complete=services, help="Only this service.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new rows as they come; with --json, one object a line.")
@json_flag
@pass_context
def tail(
    context: Context,
    limit: int,
    denied: bool,
    since: str | None,
    workspace: str | None,
    service: str | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Show the last rows, oldest first; times are UTC.

    \b
    Example:
      outloop audit tail --workspace acme --follow
    """
    records = context.records()
    filters = Filters(workspace, service, denied, since)
    ends = records.ends() if follow else {}
    last = records.tail(filters, limit)
    if follow:
        known = {row["id"] for row in last}
        for row in chain(last, (row for row in records.follow(filters, ends) if row["id"] not in known)):
            click.echo(json.dumps(row) if as_json else _line(row))
    elif as_json:
        rows("", tuple(last[0]) if last else (), last, True)
    else:
        today = len({str(row["at"])[:10] for row in last}) == 1
        shown = [_shown(row, today) for row in last]
        if sys.stdout.isatty():
            shown = [{column: _clipped(column, value) for column, value in row.items()} for row in shown]
        rows("audit", COLUMNS, shown, False, empty="no audit row passes these filters")


@audit.command()
@click.argument("audit_id", metavar="ID", shell_complete=audit_ids)
@json_flag
@pass_context
def show(context: Context, audit_id: str, as_json: bool) -> None:
    """Show one row completely. ID is a row's id, or enough of its beginning or end.

    \b
    Example:
      outloop audit show 7Q2M0ABC
    """
    record(context.records().get(audit_id), as_json)


@audit.command()
@port_option("Listen on 127.0.0.1 at this port.", default=8001)
@json_flag
@pass_context
def browse(context: Context, port: int, as_json: bool) -> None:
    """Look at the record in a browser: requests, claims, ready queries and charts. Needs pip install 'outloop[browse]'.

    The address that it prints signs in once, whoever opens it first. Ctrl-C ends it.

    \b
    Example:
      outloop audit browse --port 8001
    """
    from outloop.operator.browse import listening, serve, site

    context.records().ends()  # a record that is missing or broken is better explained here
    listener = listening(port)
    pages = site(context.home.audit_db, port)
    if as_json:
        record({"sign_in": pages.sign_in, "address": pages.address, "pid": os.getpid()}, True)
    else:
        click.echo(f"{pages.sign_in}\nopens the audit record, once; Ctrl-C ends it")
    serve(pages, listener)


def _shown(row: Record, today: bool) -> Mapping[str, object]:
    at = str(row["at"])
    decision, reason = str(row["decision"]), str(row["reason"])
    return {
        "time": at[11:19] if today else f"{at[5:10]} {at[11:19]}",
        "id": str(row["id"])[-SHORT_ID_LENGTH:],
        "workspace": row["workspace"],
        "service": row["service"] or row["host"],
        "request": f"{row['method']} {row['path']}".strip(),
        "status": row["status"],
        "decision": decision if reason == "OK" else f"{decision} {reason}",
    }


def _clipped(column: str, value: object) -> object:
    limit = _LIMITS.get(column)
    text = inert(str(value))
    return f"{text[: limit - 1]}…" if limit and len(text) > limit else value


def _line(row: Record) -> str:
    shown = _shown(row, today=False)
    cells = (inert(str(shown[column])) if shown[column] not in (None, "") else "-" for column in COLUMNS)
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()
