"""`outloop up`: the proxy."""

from __future__ import annotations

import os

import click

from outloop.cli.context import Context, pass_context
from outloop.cli.render import port_option


@click.command()
@port_option("Listen on 127.0.0.1 at this port.", default=8080)
@click.option(
    "--workers", type=click.IntRange(1, 64), metavar="N", default=1, show_default=True, help="How many processes answer there."
)
@click.option(
    "--upstream-ca",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
    metavar="PEM",
    help="Trust these certificates upstream too, as OUTLOOP_UPSTREAM_CA does.",
)
@pass_context
def up(context: Context, port: int, workers: int, upstream_ca: str | None) -> int:
    """Run the proxy until it is interrupted.

    \b
    Example:
      outloop up --port 8080 --workers 2
    """
    if upstream_ca is not None:
        os.environ["OUTLOOP_UPSTREAM_CA"] = upstream_ca  # where the addon reads it, under mitmdump as well
    if workers > 1:
        from outloop.proxy import supervisor

        return supervisor.run(context.home, port, workers)
    from outloop.proxy import launcher

    return launcher.run(context.home, port)
