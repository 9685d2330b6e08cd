"""The ends of the chains, kept beside the database: without them nobody could tell that the last rows were cut off."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from outloop.core.ledger import FIRST_HASH

SLOT_BYTES = 128
_SLOT = re.compile(rb"([0-9A-HJKMNP-TV-Z]{26}) (\d{20}) ([0-9a-f]{64}) *\n")


@dataclass(frozen=True, slots=True)
class Head:
    """The last append of a writer: its place (0 before the first) and its hash."""

    seq: int = 0
    hash: str = FIRST_HASH


class HeadFile:
    """One writer's slot in the file of heads: 128 bytes that only this writer ever writes."""

    def __init__(self, path: Path, writer: str) -> None:
        self._writer = writer
        self._file = FileIO(os.open(path, os.O_CREAT | os.O_RDWR, 0o600), "r+")
        self._slot_at: int | None = None

    def claim(self) -> None:
        """Take a slot at the end. Called inside a write transaction of the database, which keeps other writers out.

        Raises OSError when it cannot be written.
        """
        if self._slot_at is None:
            # A slot that a full disk cut short stays as it is: the next one starts on the next boundary.
            slot_at = -(-os.fstat(self._file.fileno()).st_size // SLOT_BYTES) * SLOT_BYTES
            self._write(slot_at, Head())
            self._slot_at = slot_at

    def update(self, head: Head) -> None:
        """Write the head, after its rows were committed: the database may be ahead of the file, never behind it."""
        if self._slot_at is None:
            raise RuntimeError("the slot was not claimed")
        self._write(self._slot_at, head)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, slot_at: int, head: Head) -> None:
        # Not synced, and one page at most: a killed process leaves the old slot or the new one.
        line = f"{self._writer} {head.seq:020d} {head.hash}".ljust(SLOT_BYTES - 1) + "\n"
        if os.pwrite(self._file.fileno(), line.encode(), slot_at) != SLOT_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_heads(path: Path) -> dict[str, Head]:
    """Return every writer's head. A file that is not there holds none; slots that cannot be read are left out.

    Raises OSError.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    slots = (_SLOT.fullmatch(content, start, start + SLOT_BYTES) for start in range(0, len(content), SLOT_BYTES))
    return {slot[1].decode(): Head(int(slot[2]), slot[3].decode()) for slot in slots if slot}
