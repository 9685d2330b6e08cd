"""`outloop init`: a home to start from."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from outloop.cli.context import Context, pass_context
from outloop.cli.render import json_flag, record


@click.command()
@json_flag
@pass_context
def init(context: Context, as_json: bool) -> None:
    """Make the home: its folders, its certificate authority, and the choice of the keychain. Safe to repeat.

    \b
    Example:
      outloop init
    """
    from outloop.store.authority import ensure_authority
    from outloop.store.trust import bundle

    authority = ensure_authority(context.home, datetime.now(UTC))
    fields = {
        "home": str(context.home.root),
        "policies": str(context.home.policies),
        "keychain": context.keychain().label,
        "bundle": str(bundle(context.home, context.environ)),
        "fingerprint": authority.fingerprint,
        "expires": authority.not_after.date().isoformat(),
    }
    record(fields, as_json)
    if not as_json:
        click.echo("\nNext: outloop workspace add acme --service calendly")
