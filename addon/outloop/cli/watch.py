"""`outloop approvals --watch`: the list on a live screen, decided on with keys."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from outloop.cli.render import console
from outloop.cli.screen import BACKSPACE, DOWN, ENTER, ESCAPE, UP, Deed, Screen, age
from outloop.core.approvals import Approval, Status
from outloop.core.errors import NoError, UsageError
from outloop.core.ledger import inert

if TYPE_CHECKING:
    from rich.console import ConsoleDimensions, RenderableType

    from outloop.operator.approvals import Decisions

LOOK_S = 0.25
LEAST_ROWS = 3
TABLE_LINES = 8  # title, head, footer, and the air between
BODY_LINES = 6
DETAIL_LINES = BODY_LINES + 6
_KEYS = {
    "\x1b[A": UP, "\x1bOA": UP, "\x1b[B": DOWN, "\x1bOB": DOWN, "\r": ENTER, "\n": ENTER,
    "\x1b": ESCAPE, "\x7f": BACKSPACE, "\x08": BACKSPACE, "\x04": "q",
}  # fmt: skip
_KEY = re.compile(r"\x1b\[[0-9;]*[@-~]|\x1bO.|.", re.DOTALL)  # ECMA-48 §5.4: what a terminal sends for one key
_STYLES = {Status.PENDING: "bold yellow", Status.APPROVED: "green", Status.GRANTED: "green"}


def watch(decisions: Decisions) -> None:
    """Show what waits until q is pressed. Raises UsageError without a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("--watch needs a terminal", "`outloop approvals` prints the list once, --json for programs")
    from rich.live import Live

    screen = Screen()
    with _single_keys(sys.stdin.fileno()) as read, Live(console=console(), screen=True, auto_refresh=False) as live:
        while not screen.is_over:
            known = {approval.id for approval in screen.approvals}
            screen = screen.shows(decisions.waiting(), time.monotonic())
            if any(approval.id not in known for approval in screen.approvals if approval.status is Status.PENDING):
                live.console.bell()
            live.update(_drawn(screen, time.time(), live.console.size), refresh=True)
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
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


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


def _drawn(screen: Screen, now: float, size: ConsoleDimensions) -> RenderableType:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not screen.approvals:
        return Group(Text("Nothing waits for you.", style="bold"), Text(""), _footer(screen))
    table = Table(title=Text(_title(screen)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    for name in ("", "id", "age", "status", "workspace", "agent", "service", "request", "body"):
        wide = name in ("request", "body")
        table.add_column(Text(name), overflow="ellipsis", no_wrap=True, ratio=2 if wide else None)
    for approval in screen.around_choice(max(LEAST_ROWS, size.height - DETAIL_LINES - TABLE_LINES)):
        asked, is_chosen = approval.asked, approval.id == screen.chosen
        cells = (
            "›" if is_chosen else " ", approval.short_id, age(now - approval.asked_at), approval.status.value, asked.workspace,
            asked.agent or "-", asked.service, f"{asked.method} {asked.path}", asked.body or "-",
        )  # fmt: skip
        table.add_row(*(Text(inert(cell)) for cell in cells), style="reverse" if is_chosen else _STYLES[approval.status])
    choice = screen.choice
    return Group(table, *(_details(choice, now, size.width * BODY_LINES) if choice else ()), Text(""), _footer(screen))


def _title(screen: Screen) -> str:
    waiting = sum(approval.status is Status.PENDING for approval in screen.approvals)
    return f"Approvals: {waiting} {'waits' if waiting == 1 else 'wait'} for you"


def _details(approval: Approval, now: float, room: int) -> Iterator[RenderableType]:
    from rich.text import Text

    asked = approval.asked
    lines = {
        "asks": f"{asked.method} https://{asked.host}{'' if asked.port == 443 else f':{asked.port}'}{asked.path}",
        "headers": asked.headers,
        "body": asked.body or "none",
        "rule": f"{asked.rule_text} ({asked.rule})",
        "ends": f"in {age(approval.until - now)}",
    }
    for name, value in lines.items():
        if value:
            shown = inert(value)
            shown = shown if len(shown) <= room else f"{shown[:room]}… (all of it: outloop approvals --json)"
            yield Text(f"{name:>8}  ", style="dim").append(shown, style="not dim")


def _footer(screen: Screen) -> RenderableType:
    from rich.text import Text

    if screen.because is not None:
        return Text(f"refuse because: {inert(screen.because)}▏  (Enter refuses, Esc goes back)", style="bold")
    note = f"{inert(screen.note)}\n" if screen.note else ""
    return Text(note).append("↑↓ choose   a approve once   r refuse or end   q leave", style="dim")
