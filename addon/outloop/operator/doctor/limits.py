"""Is a limit running that would stop the proof?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from outloop.operator.doctor.finding import Finding, failure, ok
from outloop.operator.doctor.premises import Premises

_NAME = "limits"


def check(premises: Premises) -> Iterator[Finding]:
    """Look at the silences that services asked for."""
    now = premises.now.timestamp()
    running = [
        (workspace, service, until)
        for (workspace, service), until in premises.state.cooldowns.items()
        if until > now and premises.workspace in (None, workspace)
    ]
    for workspace, service, until in running:
        ends = datetime.fromtimestamp(until, UTC)
        text = f"{service} of {workspace} asked for silence until {ends:%H:%M:%S} UTC ({until - now:.0f} s)"
        yield failure(_NAME, text, "wait: requests are answered 429 until then")
    if not running:
        yield ok(_NAME, "no service asked for silence")
