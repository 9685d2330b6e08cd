"""`outloop service`: what can be bridged."""

from __future__ import annotations

import click

from outloop.cli.candidates import services
from outloop.cli.context import Context, pass_context
from outloop.cli.render import json_flag, record, rows
from outloop.core.ledger import inert

COLUMNS = ("service", "title", "hosts", "reads", "writes", "proof")


@click.group()
def service() -> None:
    """List and show the services of the catalogue.

    \b
    Example:
      outloop service list
    """


@service.command("list")
@json_flag
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """List the services, with the number of their documented reads and writes.

    \b
    Example:
      outloop service list --json
    """
    records = [
        {
            "service": entry.name,
            "title": entry.title,
            "hosts": list(entry.hosts),
            "reads": len(entry.reads),
            "writes": len(entry.writes),
            "proof": f"{entry.proof.method} {entry.proof.target}" if entry.proof else None,
        }
        for _, entry in sorted(context.catalogue().items())
    ]
    rows("Services", COLUMNS, records, as_json, empty="the catalogue is empty")


@service.command()
@click.argument("name", shell_complete=services)
@json_flag
@pass_context
def show(context: Context, name: str, as_json: bool) -> None:
    """Show what is known of a service, and the block that lets a workspace read it.

    \b
    Example:
      outloop service show calendly
    """
    from outloop.operator.setup import service_block

    entry = context.entry(name)
    fields: dict[str, object] = {
        "service": entry.name,
        "title": entry.title,
        "hosts": list(entry.hosts),
        "base": entry.base,
        "key_parts": [part.name for part in entry.auth.parts],
        "proof": f"{entry.proof.method} {entry.proof.target}" if entry.proof else None,
        "next_proof": f"{entry.next_proof.method} {entry.next_proof.target}" if entry.next_proof else None,
        "params": list(entry.params),
        "docs": entry.docs,
    }
    if as_json:
        fields["reads"] = [each.text for each in entry.reads]
        fields["writes"] = [each.text for each in entry.writes]
        fields |= {"limits": entry.limits, "scopes": entry.scopes, "pins": entry.pins, "gotchas": entry.gotchas}
        record(fields, as_json)
        return
    record(fields, as_json)
    for title, facts in (("Limits", entry.limits), ("Scopes", entry.scopes), ("Pins", entry.pins)):
        if facts:
            click.echo(f"\n{title}")
            record(facts, as_json)
    if entry.gotchas:
        click.echo("\nGood to know")
        for gotcha in entry.gotchas:
            click.echo(click.wrap_text(inert(gotcha), width=80, initial_indent="- ", subsequent_indent="  "))
    click.echo(f"\nIn a workspace file, under `services:`\n{service_block(entry)}", nl=False)
