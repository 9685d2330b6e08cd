"""`outloop env`: what an agent's shell needs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from outloop.cli.access import Access, access
from outloop.cli.context import Context, pass_context
from outloop.cli.render import json_flag, port_option, record, workspace_option


@click.command()
@workspace_option()
@port_option("The proxy's port, where it cannot be found.")
@json_flag
@pass_context
def env(context: Context, workspace: str, port: int | None, as_json: bool) -> None:
    """Print the variables that send an agent's programs through the proxy and let them trust it.

    \b
    Example:
      eval "$(outloop env -w acme)" && claude
    """
    from outloop.operator.environment import agent_environment, proxy_url
    from outloop.store.authority import ensure_authority
    from outloop.store.trust import bundle, wget_settings

    granted = access(context, workspace, port)
    ensure_authority(context.home, datetime.now(UTC))
    policy = context.policies().workspaces.get(workspace)
    trusted = bundle(context.home, context.environ)
    has_wgetrc = "WGETRC" in context.environ or Path(context.environ.get("HOME", "/nonexistent"), ".wgetrc").exists()
    made = agent_environment(
        proxy_url(granted.listener.host, granted.listener.port, workspace, granted.token),
        trusted,
        context.environ,
        policy.claims if policy else (),
        None if has_wgetrc else wget_settings(trusted),
    )
    if as_json:
        record({**made.variables, **dict.fromkeys(made.removed)}, as_json)
    else:
        for line in made.shell_lines():
            click.echo(line)
    _say_on_the_side(granted, workspace)


def _say_on_the_side(granted: Access, workspace: str) -> None:
    if not granted.listener.is_found:
        click.echo(f"outloop: hint: no running proxy found; start it: outloop up --port {granted.listener.port}", err=True)
    if granted.agent:
        click.echo(
            f"outloop: hint: made the agent `{granted.agent}`, whose token is above and is not shown again;"
            f" end it: outloop agent revoke {granted.agent} -w {workspace}",
            err=True,
        )
