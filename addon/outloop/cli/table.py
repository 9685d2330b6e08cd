"""How records are drawn on a terminal: as a table while that can be read, else with the widest fields under each line.

Names, times and states stand whole; up to two columns of prose or paths fold into what is left. Where that is too little (many
columns, a narrow terminal), columns of three letters a line would help nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

GAP = 2
LEAST_FOLDED = 18  # columns: what folds to less is not read but deciphered
MOST_FOLDED = 2
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)(?:\.\d+)?Z")


def widths_within(natural: Sequence[int], room: int) -> list[int] | None:
    """Return the width of each column so that all fit *room*: the widest fold, the others keep their *natural* one.

    None where more than MOST_FOLDED would have to, or to less than LEAST_FOLDED.
    """
    room -= GAP * (len(natural) - 1)
    if sum(natural) <= room:
        return list(natural)
    widest = sorted(range(len(natural)), key=lambda index: -natural[index])
    for count in range(1, MOST_FOLDED + 1):
        folded = widest[:count]
        left = room - sum(width for index, width in enumerate(natural) if index not in folded)
        if left >= LEAST_FOLDED * count:
            shares = _shares([natural[index] for index in folded], left)
            return [shares[folded.index(index)] if index in folded else width for index, width in enumerate(natural)]
    return None


def _shares(wanted: Sequence[int], left: int) -> list[int]:
    """Split *left* evenly, widest first, but give none more than it wants."""
    shares: list[int] = []
    for place, width in reversed(list(enumerate(wanted))):  # the narrowest first: what it does not take is for the others
        shares.insert(0, min(width, (left - sum(shares)) // (place + 1)))
    return shares


def standing_within(natural: Sequence[int], room: int) -> list[int]:
    """Return which columns stay in the line where not all fit *room*: all but the widest; the first one always."""
    standing = list(range(len(natural)))
    while len(standing) > 1 and sum(natural[index] + GAP for index in standing) - GAP > room:
        standing.remove(max(standing[1:], key=lambda index: natural[index]))
    return standing


def short_time(text: str, today: str) -> str:
    """Return UTC ISO 8601 as people read it: the time where it was *today* (its date), else date and time to the minute."""
    found = _ISO.fullmatch(text)
    if found is None:
        return text
    return f"{found[2]}{found[3]}" if found[1] == today else f"{found[1]} {found[2]}"


def drawn(columns: Sequence[str], cells: Sequence[Sequence[str]], room: int, styles: Mapping[str, str]) -> RenderableType:
    """Return *cells* as a table that takes *room* columns of the terminal. *styles* goes by what a cell says."""
    from rich.cells import cell_len
    from rich.console import Group

    natural = [
        max(*(cell_len(word) for word in column.split("_")), *(cell_len(line[index]) for line in cells))
        for index, column in enumerate(columns)
    ]
    widths = widths_within(natural, room)
    if widths is not None:
        return _table(columns, cells, widths, styles)
    standing = standing_within(natural, room)
    return Group(
        _table([columns[index] for index in standing], [], [min(natural[index], room) for index in standing], styles),
        *chain.from_iterable(_line_and_more(columns, line, natural, standing, styles) for line in cells),
    )


def _table(
    columns: Sequence[str], cells: Sequence[Sequence[str]], widths: Sequence[int], styles: Mapping[str, str]
) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name, width in zip(columns, widths, strict=True):
        table.add_column(Text(name.replace("_", " "), "bold"), overflow="fold", width=width)
    for line in cells:
        table.add_row(*(Text(cell, styles.get(cell, "")) for cell in line))
    return table


def _line_and_more(
    columns: Sequence[str], line: Sequence[str], natural: Sequence[int], standing: Sequence[int], styles: Mapping[str, str]
) -> Iterator[RenderableType]:
    """Yield one record: what stands in the line, aligned as under the head, then each field that does not, with its name."""
    from rich.cells import set_cell_size
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    first = Text(overflow="fold")
    for index in standing:
        is_last = index == standing[-1]
        cell = line[index] if is_last else set_cell_size(line[index], natural[index] + GAP)
        first.append(cell, styles.get(line[index], ""))
    yield first
    more = Table.grid(padding=(0, GAP, 0, 0))
    more.add_column(no_wrap=True, style="dim")
    more.add_column(overflow="fold")
    for index, cell in enumerate(line):
        if index not in standing and cell != "-":
            more.add_row(Text(columns[index].replace("_", " ")), Text(cell, styles.get(cell, "")))
    if more.row_count:
        yield Padding(more, (0, 0, 0, GAP))
