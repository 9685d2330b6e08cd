"""`outloop agent`: programs that act for a workspace, each with a token of its own."""

from __future__ import annotations

import secrets
import time

import click

from outloop.cli.candidates import agents
from outloop.cli.context import Context, pass_context
from outloop.cli.render import checked_name, json_flag, port_option, record, rows, workspace_option

COLUMNS = ("workspace", "agent", "added_at", "revoked_at")
TOKEN_BYTES = 32


@click.group()
def agent() -> None:
    """Add, list and revoke agents.

    \b
    Example:
      outloop agent add -w acme reviewer
    """


@agent.command()
@click.argument("name", required=False)
@workspace_option()
@port_option("The proxy's port, where it cannot be found.")
@json_flag
@pass_context
def add(context: Context, name: str | None, workspace: str, port: int | None, as_json: bool) -> None:
    """Add an agent and print its HTTPS_PROXY, token and all. The token is shown this once: only its hash is kept.

    \b
    Example:
      export HTTPS_PROXY=$(outloop agent add -w acme reviewer)
    """
    from outloop.operator.agents import add_agent
    from outloop.operator.route import find_listener

    state, token = context.state(), secrets.token_urlsafe(TOKEN_BYTES)
    chosen = checked_name(name, "agent") if name is not None else None
    new = add_agent(state, context.record_event, time.time, token, workspace, chosen)
    listener = find_listener(state.proxies(), port)
    url = new.proxy_url(listener.host, listener.port)
    if as_json:
        record({"workspace": workspace, "agent": new.record.name, "proxy_url": url}, as_json)
        return
    click.echo(url)
    click.echo(f"that is HTTPS_PROXY for the agent {new.record.name} of {workspace}, shown this once", err=True)
    if not listener.is_found:
        click.echo(
            f"no proxy is running: the port is the usual one; `outloop up --port {listener.port}` starts it there", err=True
        )


@agent.command("list")
@workspace_option(required=False)
@click.option("--revoked", is_flag=True, help="Show revoked agents too.")
@json_flag
@pass_context
def list_(context: Context, workspace: str | None, revoked: bool, as_json: bool) -> None:
    """List agents. Tokens cannot be shown again.

    \b
    Example:
      outloop agent list -w acme
    """
    from outloop.operator.agents import list_agents

    records = list_agents(context.state(), workspace, revoked_too=revoked)
    rows("Agents", COLUMNS, records, as_json, empty="no agent yet: outloop agent add -w WS")


@agent.command()
@click.argument("name", shell_complete=agents)
@workspace_option()
@json_flag
@pass_context
def revoke(context: Context, name: str, workspace: str, as_json: bool) -> None:
    """End an agent: from the very next request its token is unknown.

    \b
    Example:
      outloop agent revoke reviewer -w acme
    """
    from outloop.operator.agents import revoke_agent

    revoked = revoke_agent(context.state(), context.record_event, time.time, workspace, name)
    if as_json:
        record(revoked, as_json)
        return
    click.echo(f"revoked the agent {name} of workspace {workspace}")
