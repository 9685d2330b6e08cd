"""What `outloop approvals --watch` draws: at every size, the title, some of the list, what is chosen, and what the keys do.

What an agent sent is cut to its place, and says so: however long it is, it pushes neither the rule nor the keys off the screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.text import Text

from outloop.cli.screen import Screen, age
from outloop.core.approvals import Approval, Status
from outloop.core.ledger import inert

LEAST_ROWS = 3
NARROW = 64  # columns: below, age and status are told of the chosen one alone
WHO_COLUMNS = 26
NAME_COLUMNS = 9
MOST_LINES = {"asks": 4, "from": 2, "rule": 2, "body": 6, "headers": 2}
CUT = "  … (a larger terminal shows the rest)"
MORE = "… (all of it: outloop approvals --json)"
_STYLES = {Status.PENDING: "bold yellow", Status.APPROVED: "green", Status.GRANTED: "green"}


def panel(screen: Screen, now: float, width: int, height: int, encoding: str = "utf-8") -> list[Text]:
    """Return the lines of *screen*, at most *height* of them and none wider than *width*, in what *encoding* can say."""
    footer = [*_footer(screen, width, encoding)]
    if not screen.approvals:
        return [Text(_clipped("Nothing waits for you.", width), "bold"), Text(""), *footer][:height]
    room = max(0, height - len(footer) - 4)  # title, head, and the air around what is chosen
    choice = screen.choice
    details = [*_details(choice, now, width, encoding)] if choice else []
    rows = max(1, min(len(screen.approvals), room, max(LEAST_ROWS, room - len(details))))
    details = _cut(details, max(0, room - rows), _clipped(_sayable(CUT, encoding), width))
    lines = [Text(_clipped(_title(screen), width), "bold"), Text(_row(("", "id", "age", "status", "who", "request"), width))]
    for approval in screen.around_choice(rows):
        is_chosen = approval.id == screen.chosen
        style = f"{_STYLES[approval.status]} reverse" if is_chosen else _STYLES[approval.status]
        lines.append(Text(_row(_cells(approval, now, encoding, is_chosen=is_chosen), width), style))
    body = [*lines, Text(""), *details, Text("")][: max(0, height - len(footer))]
    return [*body, *footer][:height]


def _title(screen: Screen) -> str:
    waiting = sum(approval.status is Status.PENDING for approval in screen.approvals)
    place = [approval.id for approval in screen.approvals].index(screen.chosen) + 1 if screen.choice else 0
    return f"Approvals: {waiting} {'waits' if waiting == 1 else 'wait'} for you ({place} of {len(screen.approvals)} chosen)"


def _cells(approval: Approval, now: float, encoding: str, *, is_chosen: bool) -> tuple[str, ...]:
    asked, since = approval.asked, age(now - approval.asked_at)
    cells = (approval.short_id, since, approval.status.value, _who(approval), f"{asked.method} {asked.path}")
    return (">" if is_chosen else "", *(_sayable(cell, encoding) for cell in cells))


def _who(approval: Approval) -> str:
    return f"{approval.asked.workspace}/{approval.asked.agent or '-'}"


def _row(cells: Sequence[str], width: int) -> str:
    mark, short_id, since, status, who, request = cells
    left = [(mark, 1), (short_id, 8), *([] if width < NARROW else [(since, 4), (status, 8)])]
    begin = " ".join(set_cell_size(text, columns) for text, columns in left)
    room = max(0, width - cell_len(begin) - 1)
    who_columns = min(WHO_COLUMNS, room // 2)
    named = set_cell_size(_clipped(who, who_columns), who_columns)
    return _clipped(f"{begin} {named} {_clipped(request, room - who_columns - 1)}", width)


def _details(approval: Approval, now: float, width: int, encoding: str) -> Iterator[Text]:
    asked = approval.asked
    facts = {
        "asks": f"{asked.method} https://{asked.host}{'' if asked.port == 443 else f':{asked.port}'}{asked.path}",
        "from": f"{asked.agent or 'an agent without a token'} of {asked.workspace}, for {asked.service}",
        "rule": f"{asked.rule_text} ({asked.rule})",
        "is": f"{approval.status.value}, ends in {age(approval.until - now)}",
        "body": asked.body or "none",
        "headers": asked.headers,
    }
    for name, value in facts.items():
        if value:
            yield from _fact(name, _sayable(value, encoding), width, _sayable(MORE, encoding))


def _fact(name: str, value: str, width: int, more: str) -> Iterator[Text]:
    room = max(1, width - NAME_COLUMNS - 2)
    folded = chop_cells(value, room)
    most = MOST_LINES.get(name, 1)
    if len(folded) > most:
        folded = [*folded[: most - 1], f"{_clipped(folded[most - 1], max(0, room - cell_len(more)), '')}{more}"]
    for place, line in enumerate(folded):
        shown = Text(f"{name if place == 0 else '':>{NAME_COLUMNS}}  ", "dim")
        yield shown.append(_clipped(line, room), "not dim")


def _cut(lines: list[Text], room: int, cut: str) -> list[Text]:
    """Return at most *room* of *lines*; where some are left out, *cut* stands last and says so."""
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], Text(cut, "dim")] if room else []


def _footer(screen: Screen, width: int, encoding: str) -> Iterator[Text]:
    if screen.because is not None:
        keys = "Enter refuses, Esc goes back"
        # The end of what is being typed is what its writer looks at.
        typed = _sayable(screen.because, encoding)
        room = max(1, width - len("refuse because: _"))
        yield Text(f"refuse because: {chop_cells(typed[::-1], room)[0][::-1] if typed else ''}_", "bold")
    else:
        keys = "j/k choose   a approve once   r refuse or end   q leave"
        if screen.note:
            yield Text(_clipped(_sayable(screen.note, encoding), width))
    yield from (Text(line.strip(), "dim") for line in _words(keys, width))


def _words(keys: str, width: int) -> Iterator[str]:
    line = ""
    for part in keys.split("   "):
        if line and cell_len(line) + 3 + cell_len(part) > width:
            yield line
            line = ""
        line = f"{line}   {part}" if line else _clipped(part, width)
    yield line


def _clipped(text: str, room: int, mark: str = "~") -> str:
    """Return *text* in at most *room* columns; where it was longer, its last one is *mark*."""
    if cell_len(text) <= room:
        return text
    return (chop_cells(text, room - len(mark))[0] if room > len(mark) else "") + (mark if room > 0 else "")


def _sayable(text: str, encoding: str) -> str:
    return inert(text).encode(encoding, "backslashreplace").decode(encoding)
