"""Rows as comma-separated values that stay data in a spreadsheet (RFC 4180; OWASP, "CSV Injection")."""

from __future__ import annotations

from collections.abc import Iterable

from outloop.core.ledger import Value

# A spreadsheet takes a cell for a formula that begins with one of the first; a text that begins with an apostrophe gets another,
# so that what was put before can be taken off again without a doubt.
_ACTIVE = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")


def csv_line(cells: Iterable[Value]) -> str:
    """Return *cells* as one line with its CRLF.

    Text stands in quotes, always: whatever separator a spreadsheet expects, none inside a text begins another cell. Text that it
    would act upon begins with an apostrophe. Numbers are bare, and what is not known is empty.
    """
    return ",".join(map(_cell, cells)) + "\r\n"


def _cell(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return repr(value)
    text = str(value)  # in a record that was edited from outside there may be bytes
    guarded = f"'{text}" if text.startswith(_ACTIVE) else text
    return '"' + guarded.replace('"', '""') + '"'
