"""`outloop proof`: a call that goes the agents' way, and what its audit row says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from outloop.cli.access import access_for_one_call
from outloop.cli.candidates import services
from outloop.cli.context import Context, pass_context
from outloop.cli.render import console, json_flag, port_option, record, workspace_option
from outloop.core.errors import NoError, UsageError

if TYPE_CHECKING:
    from outloop.core.model import Probe, Service
    from outloop.core.proof import Proof
    from outloop.operator.proof import Call


@click.command()
@click.argument("service", shell_complete=services)
@workspace_option()
@port_option("The proxy's port, where it cannot be found.")
@click.option("--next", "is_next", is_flag=True, help="Make the next proof instead: a small write. Needs --approve.")
@click.option("--approve", is_flag=True, help="Yes, let the next proof write.")
@click.option("--with", "blanks", multiple=True, metavar="NAME=VALUE", help="Fill a blank of the next proof.")
@json_flag
@pass_context
def proof(
    context: Context,
    service: str,
    workspace: str,
    port: int | None,
    is_next: bool,
    approve: bool,
    blanks: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make SERVICE's safe proof through the proxy, as an agent would, and print what its audit row proves.

    \b
    Example:
      outloop proof calendly -w acme
    """
    from outloop.cli.approvals import decisions_of
    from outloop.operator.call import Caller
    from outloop.operator.consent import Consent
    from outloop.operator.next_proof import filled
    from outloop.operator.proof import prove
    from outloop.store.authority import ensure_authority

    _refuse_half_a_yes(is_next, approve, blanks)
    used = context.service(service, workspace)
    probe = _probe(used, workspace, is_next)
    values = dict(_name_and_value(blank) for blank in blanks)
    certificate = ensure_authority(context.home, datetime.now(UTC)).certificate
    shown = console(stderr=True).status(f"{probe.method} {probe.target.partition('?')[0]}")
    with shown, access_for_one_call(context, workspace, port, "proof") as granted:
        caller = Caller(granted.listener, certificate, workspace, granted.token)
        call: Call = caller
        if is_next:
            probe = filled(probe, values, caller, used)
            call = Consent(caller, decisions_of(context), workspace, granted.agent)
        made = prove(call, context.records(), used, workspace, probe, lambda: datetime.now(UTC))
    _show(made, as_json)
    if made.fault:
        raise NoError(f"`{made.fault.line}`: {made.fault.message}", made.fault.next_step)


def _refuse_half_a_yes(is_next: bool, approve: bool, blanks: tuple[str, ...]) -> None:
    if is_next and not approve:
        raise UsageError("the next proof writes, so it is never made without --approve", "add --approve if it may write now")
    if approve and not is_next:
        raise UsageError("--approve goes with --next", "the safe proof needs no approval: leave --approve out")
    if blanks and not is_next:
        raise UsageError("--with goes with --next", "the safe proof has no blanks: leave --with out")


def _probe(service: Service, workspace: str, is_next: bool) -> Probe:
    kind = "next_proof" if is_next else "proof"
    probe = service.next_proof if is_next else service.proof
    if probe is None:
        example = "POST /path" if is_next else "GET /path"
        raise UsageError(f"{service.name} has no `{kind}`", f"add `{kind}: {example}` to it in {workspace}.yaml")
    return probe


def _name_and_value(blank: str) -> tuple[str, str]:
    name, is_given, value = blank.partition("=")
    if not (name and is_given and value.isprintable() and value):
        raise UsageError(f"{blank!r} is not NAME=VALUE", "such as --with owner=https://api.calendly.com/event_types/AAAA")
    return name, value


def _show(proof: Proof, as_json: bool) -> None:
    if not as_json:
        click.echo(proof.text, nl=False)
        return
    fault = proof.fault
    record(
        {
            "verified": fault is None,
            "lines": list(proof.lines),
            "failed": fault.line if fault else None,
            "why": fault.message if fault else None,
            "next_step": fault.next_step if fault else None,
        },
        as_json,
    )
