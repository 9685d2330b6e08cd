"""`outloop status`: how things stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import click

from outloop.cli.context import Context, no_workspace, pass_context
from outloop.cli.render import console, json_flag, prose, record, rows, workspace_option

_TITLES = {
    "claims": ("Claims", "none: no workspace uses a service"),
    "listeners": ("Listeners", "no proxy is running: outloop up"),
    "policies": ("Policies", "no workspace yet: outloop workspace add acme --service calendly"),
    "keys": ("Keys", "no key yet: outloop key add SERVICE -w WS"),
    "decoys": ("Decoys", "none: outloop key add SERVICE -w WS --decoy"),
    "approvals": ("Pending approvals", "none"),
    "today": ("Requests today (UTC)", "none"),
}
_SHORT_ID = 8


@click.command()
@workspace_option(required=False)
@json_flag
@pass_context
def status(context: Context, workspace: str | None, as_json: bool) -> None:
    """Show what is proved and what is not, then listeners, policies, keys, decoys, approvals and today's requests. UTC.

    \b
    Example:
      outloop status -w acme
    """
    from outloop.operator.policy_files import read_policy_files
    from outloop.operator.status import SECTIONS
    from outloop.operator.status import status as look
    from outloop.store.approvals import ApprovalStore
    from outloop.store.overview import Overview

    home = context.home
    policies = read_policy_files(home.policies, home.services)
    has_record = home.audit_db.exists()
    if workspace is not None and workspace not in policies.names:
        raise no_workspace(workspace, policies.names)
    with console(stderr=True).status("looking"):
        found = look(
            context.state(),
            Overview(home.audit_db) if has_record else None,
            context.records().key_uses() if has_record else (),
            policies,
            ApprovalStore(home.state_db),
            datetime.now(UTC),
            workspace,
        )
    if as_json:
        complete = {
            name: [{column: row.get(column) for column in SECTIONS[name]} for row in section]
            for name, section in found.sections.items()
        }
        record({"summary": found.summary, **complete}, as_json)
        return
    prose(found.summary)
    for name, section in found.sections.items():
        title, empty = _TITLES[name]
        click.echo(f"\n{title}")
        if section:
            _show(SECTIONS[name], section)
        else:
            prose(f"  {empty}")


def _show(columns: Sequence[str], section: Sequence[Mapping[str, object]]) -> None:
    shown = [{name: _short(name, value) for name, value in row.items()} for row in section]
    told = [column for column in columns if any(row.get(column) not in (None, "", []) for row in shown)]
    rows("", told, shown, False)


def _short(column: str, value: object) -> object:
    """Ids by the end that names them, so that a row fits a terminal; `--json` has them whole."""
    return value[-_SHORT_ID:] if column in ("audit_id", "id") and isinstance(value, str) else value
