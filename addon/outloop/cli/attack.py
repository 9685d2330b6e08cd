"""`outloop doctor --attack`: progress, the table, and what was found."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING

import click

from outloop.cli.render import console, rows
from outloop.core.errors import NoError
from outloop.core.ledger import inert
from outloop.operator.doctor.attack import PROMISES, TABLES, Failure, Group, attack

if TYPE_CHECKING:
    from rich.progress import Progress

COLUMNS = ("table", "promise", "about", "cases", "passed", "failed", "limits")
_HINT = "let no agent use this installation before it is mended; what changed in Python, mitmproxy, options or variables?"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def attack_this(environ: Mapping[str, str], table: str | None, as_json: bool) -> None:
    """Attack this installation with one *table*, or with all. Raises NoError where an attack was not met."""
    begin_s = time.monotonic()
    with _leaving_in_order(), _progress() as progress:
        groups = attack([table] if table else TABLES, environ, progress.begin, progress.advance)
    _show(groups, as_json)
    cases, passed = sum(group.cases for group in groups), sum(group.passed for group in groups)
    failed = sum(len(group.failures) for group in groups)
    if passed < cases:
        untried = f", and {cases - passed - failed} were not tried after that" if cases > passed + failed else ""
        raise NoError(f"{failed} of {cases} attacks were not met as they should be{untried}", _HINT)
    limits = sum(group.limits for group in groups)
    took = f"in {time.monotonic() - begin_s:.0f} s"
    click.echo(f"{passed} attacks were met as they should be, {took}; {limits} of them document a limit", err=True)


@contextmanager
def _leaving_in_order() -> Iterator[None]:
    """Turn the signals that end a program into exceptions, the first of them alone: what was started is ended, once."""

    def leave(number: int, _: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Shown:
    """How far it is, on standard error: a bar on a terminal, else a line at the beginning."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("attacking", total=None, failed=0)
        self._failed = 0

    def begin(self, count: int) -> None:
        """Say how many cases there are."""
        self._bar.update(self._task, total=count)
        if self._bar.disable:
            click.echo(f"attacking this installation, with {count} cases", err=True)

    def advance(self, is_met: bool) -> None:
        """Count one case."""
        self._failed += not is_met
        self._bar.update(self._task, advance=1, failed=self._failed)


@contextmanager
def _progress() -> Iterator[_Shown]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    out = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"))
    with Progress(*columns, TimeElapsedColumn(), console=out, transient=True, disable=not out.is_terminal) as bar:
        yield _Shown(bar)


def _show(groups: Sequence[Group], as_json: bool) -> None:
    shown = [
        {
            "table": group.table,
            "promise": group.promise,
            "about": PROMISES[group.promise],
            "cases": group.cases,
            "passed": group.passed,
            "failed": len(group.failures),
            "limits": group.limits,
            "failures": [asdict(failure) for failure in group.failures],
        }
        for group in groups
    ]
    rows("Attacks on this installation", (*COLUMNS, "failures") if as_json else COLUMNS, shown, as_json)
    if not as_json:
        for failure in (failure for group in groups for failure in group.failures):
            _tell(failure)


def _tell(failure: Failure) -> None:
    click.echo(f"\n{failure.table}/{failure.case} ({failure.promise})")
    lines = [("expected", failure.expected), *(("evidence", said) for said in failure.evidence), ("known as", failure.basis)]
    for name, text in lines:
        for number, line in enumerate(text.splitlines()):
            click.echo(f"  {'' if number else name:<8}  {inert(line)}")
