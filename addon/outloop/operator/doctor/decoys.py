"""Was a decoy used of late, and does a running proxy watch for every one of them?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from outloop.core.ledger import inert
from outloop.operator.doctor.finding import Finding, ok, skipped, warning
from outloop.operator.doctor.premises import Premises

_NAME = "decoys"
_LOOKED_BACK = timedelta(days=7)


def check(premises: Premises) -> Iterator[Finding]:
    """A decoy stops no proof, so there are warnings alone; its use counts whichever workspace's agent it was."""
    planted = [
        f"{record.workspace}/{record.name}"
        for record in premises.state.decoys.values()
        if premises.workspace in (None, record.workspace)
    ]
    if not planted:
        yield skipped(_NAME, "none is planted")
        return
    warnings = list(_used(premises, planted)) + list(_unwatched(premises, planted)) if premises.has_record else []
    yield from warnings
    if not warnings:
        yield ok(_NAME, f"{len(planted)} planted, and none used in the last {_LOOKED_BACK.days} days")


def _used(premises: Premises, planted: list[str]) -> Iterator[Finding]:
    since_ms = int((premises.now - _LOOKED_BACK).timestamp() * 1000)
    for row in premises.overview.decoy_uses(since_ms):
        if row["decoy"] in planted:
            who = "/".join(str(row[name]) for name in ("workspace", "agent") if row[name]) or "an unknown agent"
            times = "once" if row["uses"] == 1 else f"{row['uses']} times, last"
            text = f"the decoy {row['decoy']} was used by {who} {times} for {row['last_host']} at {str(row['last_used'])[:16]}"
            yield warning(_NAME, inert(text), f"find out how {inert(who)} came by it, then plant another in its place")


def _unwatched(premises: Premises, planted: list[str]) -> Iterator[Finding]:
    if not premises.proxies:
        return
    for decoy, why in premises.overview.unwatched_decoys().items():
        if decoy in planted:
            workspace, _, name = decoy.partition("/")
            fix = f"unlock the keychain, or take it away: outloop key remove {name} -w {workspace}"
            yield warning(_NAME, inert(f"the proxy does not watch for the decoy {decoy}: {why}"), fix)
