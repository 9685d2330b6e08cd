"""How much of something may happen: a number at once, and so many a second after that."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Allowance:
    """A bucket of *burst* tokens that fills up by *per_s*. Times are in seconds of one monotonic clock."""

    burst: float
    per_s: float
    _left: float = field(init=False)
    _at_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._left = self.burst

    def take(self, now_s: float) -> bool:
        """Use one up, and tell whether there was one."""
        self._left = min(self.burst, self._left + max(0.0, now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
