"""Is a limit running that would stop the proof?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from outloop.operator.doctor.finding import Finding, failure, ok
from outloop.operator.doctor.premises import Premises

_NAME = "limits"


def check(premises: Premises) -> Iterator[Finding]:
    """Look at the silences that services asked for, and at the limits of the policy. Nothing is counted."""
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
    full = False
    for workspace_, service_ in premises.services:
        wait_s = premises.wait_s(workspace_, service_)
        if wait_s is not None:
            full = True
            text = f"{service_.name} of {workspace_.name}: the policy's limit is used up for another {wait_s} s"
            yield failure(_NAME, text, f"wait, or raise `limits` in {workspace_.file}: requests are answered 429 until then")
    if not running and not full:
        yield ok(_NAME, "no service asked for silence, and no limit is used up")
