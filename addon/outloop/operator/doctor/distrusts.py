"""Which agents did not trust the certificate authority of late?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from outloop.core.ledger import inert
from outloop.core.model import INTERNAL_HOST
from outloop.operator.doctor.finding import Finding, ok, skipped, warning
from outloop.operator.doctor.premises import Premises

_NAME = "distrust"
_LOOKED_BACK = timedelta(days=1)


def check(premises: Premises) -> Iterator[Finding]:
    """Such a call fails within the agent and leaves an event, but no row. Doctor's own probes leave some too."""
    if not premises.has_record:
        yield skipped(_NAME, "nothing is on record yet")
        return
    since_ms = int((premises.now - _LOOKED_BACK).timestamp() * 1000)
    found = [row for row in premises.overview.distrusts(since_ms, premises.workspace) if row["host"] != INTERNAL_HOST]
    for row in found:
        who = f"the agent {row['agent']}" if row["agent"] else "an agent without a token"
        text = f"{who} of {row['workspace']} did not trust the certificate for {row['host']}, last at {str(row['at'])[11:19]} UTC"
        yield warning(_NAME, inert(text), f'start it with: eval "$(outloop env -w {row["workspace"]})"')
    if not found:
        yield ok(_NAME, "no agent distrusted the certificate authority in the last day")
