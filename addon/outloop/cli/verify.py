"""`outloop audit verify`: whether the record is whole, and what vouches for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from outloop.cli.context import Context, pass_context
from outloop.cli.render import json_flag, progress, record
from outloop.core.errors import NoError

if TYPE_CHECKING:
    from outloop.operator.attestation import Attestation

_KEEP = "keep a copy of audit.db, audit.head and audit.anchor as they are, and find out who can write to the home folder"


@click.command()
@click.option("--without-keychain", is_flag=True, help="Do not ask the keychain for its anchor, where there is none to reach.")
@json_flag
@pass_context
def verify(context: Context, without_keychain: bool, as_json: bool) -> None:
    """Tell whether any append was edited, removed, reordered or cut off; exit 1 if so.

    Also whether the record holds what was anchored in the keychain. Exit 1 where that cannot be asked: what was not checked is
    not called whole.

    \b
    Example:
      outloop audit verify
    """
    from outloop.operator.attestation import attest

    with progress("verifying", context.records().appends()) as passed:
        found = attest(context.home.audit_db, None if without_keychain else context.witnesses(), passed)
    if as_json:
        record(_fields(found), True)
    elif found.verification.ok:
        for line in _lines(found):
            click.echo(line)
    _refuse(found)


def _fields(found: Attestation) -> dict[str, object]:
    chains, anchor = found.verification, found.anchor
    bad = chains.first_bad
    return {
        "ok": found.ok,
        "appends": chains.rows,
        "writers": chains.writers,
        "first_bad": bad and {"writer": bad.writer, "seq": bad.seq, "table": bad.table, "id": bad.id, "fault": bad.fault},
        "pruned": sum(each.removed for each in chains.checkpoints),
        "checkpoints": len(chains.checkpoints),
        "anchor": {
            "standing": found.standing.value,
            "at": anchor and anchor.at,
            "appends": anchor and anchor.appends,
            "writers": anchor and len(anchor.heads),
            "newer": found.newer,
            "note": found.note or None,
        },
    }


def _lines(found: Attestation) -> list[str]:
    from outloop.operator.attestation import Standing

    chains, anchor = found.verification, found.anchor
    lines = [f"{chains.rows} appends by {chains.writers} writers: none edited, removed, reordered or cut off"]
    if chains.checkpoints:
        pruned = sum(each.removed for each in chains.checkpoints)
        lines.append(f"{pruned} more were pruned, the last at {chains.checkpoints[-1].at}: {len(chains.checkpoints)} checkpoints")
    if anchor is not None and found.standing is Standing.ATTESTED:
        lines.append(
            f"anchored in the keychain at {anchor.at}: all {anchor.appends} appends from then are there; {found.newer} came since"
        )
    elif found.standing in (Standing.NONE, Standing.UNASKED):
        lines.append(f"not held against an anchor in the keychain: {found.note}")
    return lines


def _refuse(found: Attestation) -> None:
    from outloop.operator.attestation import Standing

    bad = found.verification.first_bad
    if bad is not None:
        what = f"{bad.table} row {bad.id}, " if bad.id else ""
        where = f"append {bad.seq} of writer {bad.writer}: " if bad.writer else ""
        raise NoError(f"the record is not whole: {what}{where}{bad.fault}", _KEEP)
    if found.standing is Standing.CONTRADICTED:
        raise NoError(f"the record is not what was anchored in the keychain: {found.note}", _KEEP)
    if found.standing is Standing.UNCHECKED:
        raise NoError(
            f"the record agrees with its own hashes, but its anchor could not be checked: {found.note}",
            f"{found.hint or 'unlock the keychain and try again'}; --without-keychain leaves the anchor out",
        )
