"""A command of the operator's on a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import termios

from harness.operators import Operator

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(operator: Operator, *arguments: str, columns: int = 80, **variables: str) -> str:
    """Run ``outloop ARGUMENTS`` and return what was drawn on stdout, styles and all. A variable that is "" is taken away."""
    screen, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    environ = {name: value for name, value in {**operator.variables, "TERM": "xterm", **variables}.items() if value}
    command = [sys.executable, "-m", "outloop", *arguments]
    process = subprocess.Popen(command, env=environ, stdin=terminal, stdout=terminal, stderr=subprocess.DEVNULL)
    os.close(terminal)
    drawn = b""
    # Linux answers EIO once the last holder of the terminal's other end is gone.
    with os.fdopen(screen, "rb", buffering=0) as file, contextlib.suppress(OSError):
        while piece := file.read(65536):
            drawn += piece
    process.wait()
    return drawn.decode(errors="replace").replace("\r\n", "\n")


def widest(drawn: str) -> int:
    """Return how many columns the longest line of *drawn* takes."""
    return max(len(_STYLE.sub("", line)) for line in drawn.splitlines())
