"""`outloop audit export`: the record as JSON lines, comma-separated values, or OpenTelemetry logs."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from outloop.cli.candidates import services
from outloop.cli.context import Context, pass_context
from outloop.cli.moments import Moment
from outloop.cli.render import console, workspace_option
from outloop.core.errors import NoError, UsageError
from outloop.store.records import Filters


@click.command()
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), help="How rows are written (default: jsonl).")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write this file, whole or not at all.")
@click.option("--since", type=Moment(), metavar="AGE|TIME", help="Only rows since then: 30m, 12h, 7d, or a date (UTC).")
@click.option("--until", type=Moment(), metavar="AGE|TIME", help="Only rows before then.")
@click.option("--denied", is_flag=True, help="Only what policy denied.")
@workspace_option(required=False)
@click.option("--service", metavar="SERVICE", shell_complete=services, help="Only this service.")
@click.option("--otlp", metavar="URL", help="Send rows and events to this OpenTelemetry collector: those it has not got yet.")
@click.option("--header", "headers", multiple=True, metavar="NAME=env:VAR", help="With --otlp: a header; also NAME=file:PATH.")
@click.option("-f", "--follow", is_flag=True, help="With --otlp: go on with what comes.")
@pass_context
def export(
    context: Context,
    form: str | None,
    output: Path | None,
    since: str | None,
    until: str | None,
    denied: bool,
    workspace: str | None,
    service: str | None,
    otlp: str | None,
    headers: tuple[str, ...],
    follow: bool,
) -> None:
    """Write rows as JSON, one object a line, or as CSV, oldest first; or send them to an OpenTelemetry collector.

    In CSV a text that a spreadsheet would take for a formula begins with an apostrophe; JSON has it as it is.

    \b
    Example:
      outloop audit export --format csv --since 30d -o audit.csv
      outloop audit export --otlp http://127.0.0.1:4318 --follow
    """
    if otlp is not None:
        if form or output or since or until or denied or service:
            raise UsageError("--otlp goes with --workspace, --header and --follow alone", "a collector filters what it gets")
        _send(context, otlp, headers, workspace, follow)
    elif headers or follow:
        raise UsageError("--header and --follow go with --otlp", "`outloop audit tail --follow --json` prints rows as they come")
    else:
        _write(context, form or "jsonl", output, Filters(workspace, service, denied, since, until))


def _write(context: Context, form: str, output: Path | None, filters: Filters) -> None:
    from outloop.operator.export import FORMATS, write_file

    lines = FORMATS[form](context.records().each(filters))
    if output is None:
        # As bytes: lines end as their format says, whatever the terminal's encoding.
        for line in lines:
            sys.stdout.buffer.write(line.encode())
        return
    with console(stderr=True).status("exporting") as status:
        write_file(output, lines, lambda megabytes: status.update(f"exporting: {megabytes} MB"))
    click.echo(f"wrote {output}", err=True)


def _send(context: Context, url: str, headers: tuple[str, ...], workspace: str | None, follow: bool) -> None:
    from outloop.operator.collector import Collector, read_headers
    from outloop.operator.delivery import Delivery
    from outloop.store.outbox import Deliveries, Outbox

    collector = Collector(url, read_headers(headers, context.environ))
    delivery = Delivery(
        Outbox(context.home.audit_db, time.monotonic, workspace),
        collector,
        Deliveries(context.home.state_db),
        f"{collector.url} {workspace}" if workspace else collector.url,
        lambda line: click.echo(f"outloop: {line}", err=True),
    )
    with console(stderr=True).status("sending"):
        delivery.run(follow=follow)
    click.echo(f"sent {delivery.sent} rows to {collector.url}")
    if delivery.rejected:
        raise NoError(f"the collector dropped {delivery.rejected} of them", "its own log should say why; they stay in the record")
