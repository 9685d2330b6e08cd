"""How facts are printed: rich tables on a terminal, plain columns in a pipe, JSON on request.

Cells are data: markup in them stays inert, and control characters (a hostile path) are shown escaped.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from outloop.cli.candidates import workspaces
from outloop.core.errors import UsageError
from outloop.core.ledger import inert

if TYPE_CHECKING:
    from rich.console import Console

Function = TypeVar("Function", bound=Callable[..., Any])

_STYLES = {
    **dict.fromkeys(("verified", "on", "allow", "approved", "granted"), "green"),
    **dict.fromkeys(("not claimed", "off", "pending"), "yellow"),
}
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")


def console(stderr: bool = False) -> Console:
    """Return a console that colours only on a terminal, honours NO_COLOR, and takes text as it is."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more of *total* are done; a terminal shows how far *what* has come."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def rows(
    title: str, columns: Sequence[str], records: Sequence[Mapping[str, object]], as_json: bool, *, empty: str = "nothing to show"
) -> None:
    """Print *records* as a table of *columns*; as JSON: an array of objects with the same names.

    A terminal gets a table that fits it, without columns that say nothing and with times in short; a pipe gets one unfolded line
    a record under a header.
    With no records people read *empty* on stderr.
    """
    if as_json:
        _print_json([{column: record.get(column) for column in columns} for record in records])
        return
    if not records:
        click.echo(empty, err=True)
        return
    cells = [[_cell(record.get(column)) for column in columns] for record in records]
    if sys.stdout.isatty():
        _print_table(title, columns, cells)
    else:
        _print_plain([list(columns), *cells])


def record(fields: Mapping[str, object], as_json: bool) -> None:
    """Print one thing: a line a field, folded on a terminal, or one JSON object."""
    cells = [[name, _cell(value)] for name, value in fields.items()]
    if as_json:
        _print_json(dict(fields))
    elif sys.stdout.isatty():
        _print_grid(cells)
    else:
        _print_plain(cells)


def prose(text: str) -> None:
    """Print a sentence: folded between words on a terminal, else as it is."""
    if sys.stdout.isatty():
        console().print(inert(text))
    else:
        click.echo(inert(text))


def json_flag(function: Function) -> Function:
    """Add ``--json`` (parameter `as_json`) to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(function)


def workspace_option(required: bool = True) -> Callable[[Function], Function]:
    """Return a decorator that adds ``-w/--workspace WS`` (parameter `workspace`, a valid name or None)."""
    return click.option(
        "-w",
        "--workspace",
        "workspace",
        required=required,
        metavar="WS",
        callback=_checked_workspace,
        shell_complete=workspaces,
        help="The workspace.",
    )


def port_option(description: str, default: int | None = None) -> Callable[[Function], Function]:
    """Return a decorator that adds ``--port N`` (parameter `port`, 1 to 65535)."""
    return click.option("--port", type=click.IntRange(1, 65535), metavar="N", default=default, help=description)


def checked_name(name: str, what: str) -> str:
    """Return *name* if it can name a *what* (a workspace, say): it becomes a file name, a user name and a URL part.

    Raises UsageError.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name {_with_article(what)}",
            "use up to 63 of a-z, 0-9, `-` and `_`, with a letter or digit at both ends",
        )
    return name


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _checked_workspace(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    return value if value is None or ctx.resilient_parsing else checked_name(value, "workspace")


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item) for item in value) or "-"
    return inert(str(value))


def _print_json(value: object) -> None:
    # Escaped to ASCII: whatever the locale, and nothing in it that a terminal would act upon.
    click.echo(json.dumps(value, indent=2, default=str))


def _print_plain(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))] if lines else []
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_table(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from outloop.cli.table import drawn, short_time

    today = datetime.now(UTC).date().isoformat()
    told = [index for index in range(len(columns)) if any(line[index].strip("-•") for line in cells)]
    shown = [[short_time(line[index], today) for index in told] for line in cells]
    screen = console()
    if title:
        screen.print(title, style="bold")
    screen.print(drawn([columns[index] for index in told], shown, screen.width, _STYLES))


def _print_grid(cells: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in cells:
        grid.add_row(Text(name), Text(value, overflow="fold"))
    console().print(grid)
