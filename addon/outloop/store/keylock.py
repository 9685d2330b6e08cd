"""One process at a time exchanges or replaces a key's value: a refresh token that two of them used at once would be lost to both.

A file beside state.db stands for each key. The kernel lets go of the lock when its process dies.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from outloop.core.errors import KeyLocked

POLL_S = 0.02


@contextmanager
def held(home: Path, workspace: str, key: str, limit_s: float) -> Iterator[None]:
    """Hold the lock of a key of the home folder *home*, waiting at most *limit_s* for it. Raises KeyLocked."""
    give_up_at = time.monotonic() + limit_s
    with _opened(home, workspace, key) as handle:
        while not _taken(handle, give_up_at):
            time.sleep(POLL_S)
        yield


@asynccontextmanager
async def held_async(home: Path, workspace: str, key: str, limit_s: float) -> AsyncIterator[None]:
    """Do as `held` does, without holding up the event loop."""
    give_up_at = time.monotonic() + limit_s
    with _opened(home, workspace, key) as handle:
        while not _taken(handle, give_up_at):  # noqa: ASYNC110  (it is another process that lets go)
            await asyncio.sleep(POLL_S)
        yield


@contextmanager
def _opened(home: Path, workspace: str, key: str) -> Iterator[int]:
    try:
        folder = home / "locks"
        folder.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(folder / f"{workspace}.{key}", flags, 0o600)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise KeyLocked(f"the lock of the key {workspace}/{key} cannot be used: {reason}", f"look at {folder}") from error
    try:
        yield handle
    finally:
        os.close(handle)


def _taken(handle: int, give_up_at: float) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if time.monotonic() > give_up_at:
            raise KeyLocked("another process is busy with this key", "try again in a moment") from None
        return False
    return True
