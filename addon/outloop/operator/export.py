"""`outloop audit export`: the record as a file, in memory that does not grow with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from outloop.core.errors import UsageError
from outloop.core.spreadsheet import csv_line
from outloop.store.files import replacing
from outloop.store.records import VIEW_COLUMNS, Record

MEGABYTE = 1_000_000

Lines = Callable[[Iterable[Record]], Iterator[str]]


def json_lines(rows: Iterable[Record]) -> Iterator[str]:
    """Yield each row as one JSON object on a line of its own, in ASCII, named as the view's columns are."""
    spell = json.JSONEncoder(separators=(",", ":"), default=str).encode
    return (spell({column: row[column] for column in VIEW_COLUMNS}) + "\n" for row in rows)


def csv_lines(rows: Iterable[Record]) -> Iterator[str]:
    """Yield a header, then each row as comma-separated values."""
    yield csv_line(VIEW_COLUMNS)
    for row in rows:
        yield csv_line(row[column] for column in VIEW_COLUMNS)


FORMATS: Mapping[str, Lines] = {"jsonl": json_lines, "csv": csv_lines}


def write_file(path: Path, lines: Iterable[str], progress: Callable[[int], None]) -> None:
    """Write *lines* to *path* (mode 0600), whole or not at all; *progress* is told of each megabyte.

    Raises UsageError for a path that is no regular file, OSError.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a regular file", "without -o rows go to standard output")
    with replacing(path) as file:
        told = 0
        for line in lines:
            file.write(line.encode())
            if file.tell() // MEGABYTE > told:
                told = file.tell() // MEGABYTE
                progress(told)
