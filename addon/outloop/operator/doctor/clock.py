"""Is the clock behind? Rows are ordered by it, and certificates begin and end by it. The network is not asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from outloop.operator.doctor.finding import Finding, ok, skipped, warning
from outloop.operator.doctor.premises import Premises

_NAME = "clock"
_TOLERANCE = timedelta(minutes=1)


def check(premises: Premises) -> Iterator[Finding]:
    """Compare the clock with the newest row of the record (the authority's dates are that check's own)."""
    newest = premises.overview.newest_at() if premises.has_record else None
    if newest is None:
        yield skipped(_NAME, "nothing is on record yet to compare the clock with")
        return
    ahead = datetime.fromisoformat(newest) - premises.now
    if ahead > _TOLERANCE:
        lag = timedelta(seconds=round(ahead.total_seconds()))
        yield warning(_NAME, f"the clock is {lag} behind the newest row on record", "set the clock: date, or timedatectl")
    else:
        yield ok(_NAME, "the clock is not behind the record")
