"""`outloop approvals --watch`: the list on a live screen, decided on with keys."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from outloop.cli.render import console
from outloop.cli.screen import BACKSPACE, DOWN, ENTER, ESCAPE, UP, Deed, Screen
from outloop.core.approvals import Status
from outloop.core.errors import NoError, UsageError

if TYPE_CHECKING:
    from outloop.operator.approvals import Decisions

LOOK_S = 0.25
_KEYS = {
    "\x1b[A": UP, "\x1bOA": UP, "\x1b[B": DOWN, "\x1bOB": DOWN, "\r": ENTER, "\n": ENTER,
    "\x1b": ESCAPE, "\x7f": BACKSPACE, "\x08": BACKSPACE, "\x04": "q",
}  # fmt: skip
_KEY = re.compile(r"\x1b\[[0-9;]*[@-~]|\x1bO.|.", re.DOTALL)  # ECMA-48 §5.4: what a terminal sends for one key


def watch(decisions: Decisions) -> None:
    """Show what waits until q is pressed. Raises UsageError without a terminal."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stdout.isatty()):  # None: closed by whoever started this
        raise UsageError("--watch needs a terminal", "`outloop approvals` prints the list once, --json for programs")
    from rich.console import Group
    from rich.live import Live

    from outloop.cli.panel import panel

    screen = Screen()
    live = Live(console=console(), screen=True, auto_refresh=False)
    with _ending_well(), _single_keys(sys.stdin.fileno()) as read, live:
        while not screen.is_over:
            known = {approval.id for approval in screen.approvals}
            screen = screen.shows(decisions.waiting(), time.monotonic())
            if any(approval.id not in known for approval in screen.approvals if approval.status is Status.PENDING):
                live.console.bell()
            width, height = live.console.size
            live.update(Group(*panel(screen, time.time(), width, height, live.console.encoding)), refresh=True)
            for key in read(LOOK_S):
                screen, deed = screen.pressed(key, time.monotonic())
                if deed is not None:
                    screen = replace(screen, note=_done(decisions, deed))
                    break  # what was pressed further was meant for another list


def _done(decisions: Decisions, deed: Deed) -> str:
    try:
        done = decisions.approve(deed.approval.id) if deed.is_yes else decisions.refuse(deed.approval.id, deed.because)
    except (NoError, UsageError) as error:
        return error.message
    return f"{done.status.value}: {done.asked.method} {done.asked.path}"


@contextmanager
def _single_keys(terminal: int) -> Iterator[_Keys]:
    """Have the terminal hand on each key as it is pressed, and show none; as it was when the block ends."""
    try:
        import termios
        import tty
    except ImportError:
        raise UsageError("--watch needs a POSIX terminal", "use `outloop approvals`, `approve` and `refuse`") from None
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSAFLUSH)
        yield _Keys(terminal)
    finally:
        with suppress(termios.error):  # a terminal that has gone needs no setting
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


@contextmanager
def _ending_well() -> Iterator[None]:
    """Leave the terminal as it was also when told to end; Ctrl-Z, which would leave it half drawn, does nothing."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Keys:
    """Reads keys; what a terminal sends for one of them may be several bytes."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal

    def __call__(self, timeout_s: float) -> list[str]:
        """Return the keys pressed by now; wait for the first at most *timeout_s*. The end of input is q."""
        if not select.select([self._terminal], [], [], timeout_s)[0]:
            return []
        pressed = os.read(self._terminal, 1024)
        if not pressed:
            return ["q"]
        return [_KEYS.get(key, key) for key in _KEY.findall(pressed.decode("utf-8", "ignore"))]
