"""`outloop ca`: the certificate authority that agents trust."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from outloop.cli.context import Context, pass_context
from outloop.cli.render import json_flag, record


@click.group()
def ca() -> None:
    """Show the certificate authority.

    \b
    Example:
      outloop ca show --json
    """


@ca.command()
@json_flag
@pass_context
def show(context: Context, as_json: bool) -> None:
    """Show where the certificates are, and the SHA-256 fingerprint to compare with.

    \b
    Example:
      curl --cacert "$(outloop ca show --json | jq -r .bundle)" https://api.calendly.com/users/me
    """
    from outloop.store.authority import ensure_authority
    from outloop.store.trust import bundle

    authority = ensure_authority(context.home, datetime.now(UTC))
    fields = {
        "bundle": str(bundle(context.home, context.environ)),
        "certificate": str(authority.certificate),
        "fingerprint": authority.fingerprint,
    }
    record(fields, as_json)
