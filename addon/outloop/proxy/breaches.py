"""What breaks the rules of its protocol has no request to refuse: it leaves an event, and a flood of it a bounded number."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from outloop.core.allowance import Allowance
from outloop.proxy.exchange import Connection

KIND = "protocol_error"
AT_ONCE, PER_S = 10, 1 / 6
MAX_DETAIL = 120

_QUOTED = re.compile(r"(?:\bb['\"]|['\"{<\[(]|[^ -~]).*", re.DOTALL)


@dataclass(slots=True)
class _Count:
    allowance: Allowance = field(default_factory=lambda: Allowance(AT_ONCE, PER_S))
    unsaid: int = 0


class Breaches:
    """Notes breaches as events, `AT_ONCE` for each agent and then `PER_S`; the next event says how many were left out."""

    def __init__(self, event: Callable[..., None]) -> None:
        self._event = event
        self._counts: dict[tuple[str, str], _Count] = {}

    def note(self, opened: Connection | None, what: str, now_s: float) -> str:
        """Note *what* happened on the connection that was *opened*, and return it without what it quotes.

        *opened* is None where nobody is known to have opened it.
        """
        detail = plain(what)
        agent = opened.agent if opened else None
        key = (agent.workspace, agent.name or "") if agent else ("", "")
        count = self._counts.setdefault(key, _Count())
        if not count.allowance.take(now_s):
            count.unsaid += 1
            return detail
        more = f" (and {count.unsaid} more before)" if count.unsaid else ""
        count.unsaid = 0
        self._event(KIND, workspace=key[0] or None, agent=key[1] or None, host=opened.host if opened else None,
                    detail=detail + more)  # fmt: skip
        return detail


def plain(message: str) -> str:
    """Return *message* of a protocol library's without what it quotes of the agent's bytes."""
    return _QUOTED.sub("", message)[:MAX_DETAIL].rstrip(" :,.")
