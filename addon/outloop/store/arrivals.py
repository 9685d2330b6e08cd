"""New rows of a record, as they come: for whoever holds each of them against what it had done."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from outloop.store.records import Record
from outloop.store.schema import open_for_reading, unreadable

# By place in the chain, not by id: a row may be decided after one with a later id. Another writer's rows are always new.
_NEW = """
SELECT audit.*, decisions.writer, decisions.seq FROM decisions JOIN audit ON audit.id = decisions.id
WHERE decisions.writer = :writer AND decisions.seq > :seq OR decisions.writer < :writer OR decisions.writer > :writer
ORDER BY audit.id
"""
_ALARMS = "SELECT id, detail FROM events WHERE kind = 'decoy_used' AND id > :alarm ORDER BY id"


class Arrivals:
    """The rows of the record at *path* that one proxy writes; all are new until they are settled. For one thread.

    Raises UsageError when there is no record, AuditError when it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = open_for_reading(path)
        self._place: dict[str, object] = {"writer": "", "seq": 0}
        self._alarm = ""

    def rows(self) -> list[Record]:
        """Return the new rows of the view `audit`, by id, each with its `writer` and its place `seq` in the chain."""
        return self._read(_NEW, self._place)

    def settle(self, rows: Sequence[Record]) -> None:
        """Take *rows*, all that `rows` returned, for old."""
        if rows:
            last = max(rows, key=lambda row: int(row["seq"] or 0))
            self._place = {"writer": last["writer"], "seq": last["seq"]}

    def alarms(self) -> list[str]:
        """Return which decoys (``workspace/name``) were used since the last time this was asked."""
        found = self._read(_ALARMS, {"alarm": self._alarm})
        self._alarm = str(found[-1]["id"]) if found else self._alarm
        return [str(row["detail"]) for row in found]

    def _read(self, query: str, place: dict[str, object]) -> list[Record]:
        try:
            return list(self._db.query(query, place))
        except sqlite3.Error as error:
            raise unreadable(error, self._path) from error

    def close(self) -> None:
        """Close the record."""
        self._db.close()
