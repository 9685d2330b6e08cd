"""`outloop workspace`: one client's or project's world."""

from __future__ import annotations

import click

from outloop.cli.candidates import services
from outloop.cli.context import Context, pass_context
from outloop.cli.render import checked_name, json_flag, record, rows
from outloop.core.model import Egress

COLUMNS = ("workspace", "services", "egress", "file")


@click.group()
def workspace() -> None:
    """Add and list workspaces.

    \b
    Example:
      outloop workspace add acme --service calendly
    """


@workspace.command()
@click.argument("name", metavar="WS")
@click.option(
    "--service", metavar="S", shell_complete=services, help="A service of the catalogue; its documented reads are allowed."
)
@json_flag
@pass_context
def add(context: Context, name: str, service: str | None, as_json: bool) -> None:
    """Write the policy file of a new workspace.

    \b
    Example:
      outloop workspace add acme --service calendly
    """
    from outloop.operator.setup import add_workspace

    entry = context.entry(service) if service else None
    path = add_workspace(context.home.policies, checked_name(name, "workspace"), entry)
    if as_json:
        added = {"workspace": name, "services": [service] if service else [], "egress": Egress.DENY.value, "file": str(path)}
        record(added, as_json)
        return
    click.echo(f"wrote {path}")
    click.echo(f"Next: outloop key add {service or 'SERVICE'} -w {name}")


@workspace.command("list")
@json_flag
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """List the workspaces, with the services that each may reach.

    \b
    Example:
      outloop workspace list
    """
    records = [
        {
            "workspace": each.name,
            "services": [service.name for service in each.services],
            "egress": each.egress.value,
            "file": each.file,
        }
        for each in context.policies().workspaces.values()
    ]
    rows("Workspaces", COLUMNS, records, as_json, empty="no workspace yet: outloop workspace add acme --service calendly")
