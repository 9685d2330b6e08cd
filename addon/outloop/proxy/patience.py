"""How long, and how many at once, agents may keep connections open that ask nothing: slow heads, slow bodies, hoards.

A connection *waits* from its start, and from the end of each request on it, to the whole head of the next one, TLS and all. One
that waits too long is closed. When too many wait, the one that has waited longest gives way, so that whoever holds hundreds of
half-open connections does not keep others out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

WAIT_S = 120.0  # above the 90 s after which Go's client drops an idle connection by itself
BODY_S = 120.0  # for a body that has to be whole before anything is decided
MAX_WAITING = 512
MAX_OF_AN_AGENT = 1024  # connections, waiting or not
SWEEP_INTERVAL_S = 1.0


class Patience:
    """Keeps the time of every agent's connection. Times are in seconds of one monotonic clock.

    *is_busy* tells whether something is under way on a connection; *body_since_s* since when a body has been collected on it.
    """

    def __init__(self, is_busy: Callable[[str], bool], body_since_s: Callable[[str], float | None]) -> None:
        self._is_busy = is_busy
        self._body_since_s = body_since_s
        self._since_s: dict[str, float] = {}

    def touch(self, client_id: str, now_s: float) -> None:
        """Begin to count anew: the connection has come, or a request on it has begun or ended."""
        self._since_s.pop(client_id, None)
        self._since_s[client_id] = now_s

    def left(self, client_id: str) -> None:
        """Forget a connection."""
        self._since_s.pop(client_id, None)

    def surplus(self) -> str | None:
        """Return the connection that has waited longest, where too many wait, else None."""
        if len(self._since_s) <= MAX_WAITING:
            return None
        waiting = list(self._waiting())
        return waiting[0] if len(waiting) > MAX_WAITING else None

    def overdue(self, now_s: float) -> list[str]:
        """Return every connection whose time is up."""
        for client_id in list(self._since_s):
            if self._is_busy(client_id):
                self.touch(client_id, now_s)
        late = [client_id for client_id in self._waiting() if now_s - self._since_s[client_id] > WAIT_S]
        begun = ((client_id, self._body_since_s(client_id)) for client_id in self._since_s)
        return late + [client_id for client_id, since_s in begun if since_s is not None and now_s - since_s > BODY_S]

    def _waiting(self) -> Iterator[str]:
        return (client_id for client_id in self._since_s if not self._is_busy(client_id))
