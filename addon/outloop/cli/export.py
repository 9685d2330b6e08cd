"""`outloop audit export`: the record as JSON lines, comma-separated values, or OpenTelemetry logs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from outloop.cli.candidates import services
from outloop.cli.context import Context, pass_context
from outloop.cli.moments import Moment
from outloop.cli.render import console, workspace_option
from outloop.store.records import Filters


@click.command()
@click.option(
    "--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True, help="How rows are written."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write this file, whole or not at all.")
@click.option("--since", type=Moment(), metavar="AGE|TIME", help="Only rows since then: 30m, 12h, 7d, or a date (UTC).")
@click.option("--until", type=Moment(), metavar="AGE|TIME", help="Only rows before then.")
@click.option("--denied", is_flag=True, help="Only what policy denied.")
@workspace_option(required=False)
@click.option("--service", metavar="SERVICE", shell_complete=services, help="Only this service.")
@pass_context
def export(
    context: Context,
    form: str,
    output: Path | None,
    since: str | None,
    until: str | None,
    denied: bool,
    workspace: str | None,
    service: str | None,
) -> None:
    """Write rows as JSON, one object a line, or as CSV, oldest first.

    In CSV a text that a spreadsheet would take for a formula begins with an apostrophe; JSON has it as it is.

    \b
    Example:
      outloop audit export --format csv --since 30d -o audit.csv
    """
    from outloop.operator.export import FORMATS, write_file

    lines = FORMATS[form](context.records().each(Filters(workspace, service, denied, since, until)))
    if output is None:
        # As bytes: lines end as their format says, whatever the terminal's encoding.
        for line in lines:
            sys.stdout.buffer.write(line.encode())
        return
    with console(stderr=True).status("exporting") as status:
        write_file(output, lines, lambda megabytes: status.update(f"exporting: {megabytes} MB"))
    click.echo(f"wrote {output}", err=True)
