"""Death at every step: runs a script again and again, killed with SIGKILL before its first, second, third… step on the disk."""

from __future__ import annotations

import signal
from collections.abc import Iterator

from harness.children import child

# A step is a statement of SQLite's, or a call that writes, renames, syncs or removes a file.
_STEPS = """
import os, sqlite3, sys

_left = int(sys.argv.pop(1))
def _step(*_):
    global _left
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), 9)

def _counted(call):
    def counted(*arguments, **named):
        _step()
        return call(*arguments, **named)
    return counted

for _name in ("pwrite", "replace", "link", "unlink", "fsync", "ftruncate"):
    setattr(os, _name, _counted(getattr(os, _name)))
_connect = sqlite3.connect
def _traced(*arguments, **named):
    connection = _connect(*arguments, **named)
    connection.set_trace_callback(_step)
    return connection
sqlite3.connect = sqlite3.dbapi2.connect = _traced
"""


def killed_at_each_step(script: str, *arguments: str, stride: int = 1, limit: int = 400) -> Iterator[tuple[int, str]]:
    """Yield, after each death, at which step it came and what *script* had printed; at last, with 0, when it ran through.

    ``{step}`` in *arguments* is the step. Raises AssertionError for a script that fails by itself, or has more than *limit*
    steps.
    """
    for step in range(1, limit, stride):
        process = child(_STEPS + script, str(step), *(each.format(step=step) for each in arguments))
        printed = process.communicate(timeout=60)[0]
        if process.returncode == 0:
            yield 0, printed
            return
        assert process.returncode == -signal.SIGKILL, (step, process.returncode, printed)
        yield step, printed
    raise AssertionError(f"more than {limit} steps")
