"""What several workers say, told once: each of them takes up the same policy, and refuses the same broken one."""

from __future__ import annotations

import re

TOGETHER_S = 5.0  # they read the home every half second, each by its own clock
_STAMP = re.compile(r"(?:\x1b\[[0-9;]*m)*\[\d\d:\d\d:\d\d\.\d{3}\](?:\x1b\[[0-9;]*m)* *")
_MOST_KEPT = 200


class Chorus:
    """Tells which lines are news. A line that the same worker says again is news again; times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, set[int]]] = {}

    def is_news(self, worker: int, line: str, now: float) -> bool:
        """Tell whether *line*, said by *worker* at *now*, was not just said by another. mitmproxy's time stamp does not count."""
        text = _STAMP.sub("", line, count=1)
        at, speakers = self._said.get(text, (float("-inf"), set()))
        if now - at <= TOGETHER_S and worker not in speakers:
            speakers.add(worker)
            return False
        self._said.pop(text, None)  # the newest stand last
        self._said[text] = (now, {worker})
        while len(self._said) > _MOST_KEPT:
            del self._said[next(iter(self._said))]
        return True
