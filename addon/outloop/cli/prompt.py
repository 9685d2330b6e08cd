"""`outloop prompt`: text to paste into an agent."""

from __future__ import annotations

import click

from outloop.cli.candidates import services
from outloop.cli.context import Context, pass_context
from outloop.cli.render import json_flag, record, workspace_option
from outloop.core.errors import UsageError


@click.command()
@click.argument("service", shell_complete=services)
@workspace_option()
@json_flag
@pass_context
def prompt(context: Context, service: str, workspace: str, as_json: bool) -> None:
    """Print a test prompt for an agent: one call to SERVICE, and the proof lines. It holds no secret.

    \b
    Example:
      outloop prompt calendly -w acme | claude -p
    """
    from outloop.operator.prompt import prompt_text

    text = prompt_text(context.service(service, workspace), workspace)
    if text is None:
        raise UsageError(f"{service} has no safe proof to ask an agent for", f"add `proof: GET /path` to it in {workspace}.yaml")
    if as_json:
        record({"workspace": workspace, "service": service, "prompt": text}, as_json)
    else:
        click.echo(text, nl=False)
