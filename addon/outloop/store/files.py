"""Files that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LOCK_RETRY_S = 0.02


def create_file(path: Path, content: bytes, mode: int) -> bool:
    """Write a new file. False, and the file untouched, when another process has made it meanwhile."""
    written = _write_aside(path, content, mode)
    try:
        os.link(written, path)
    except FileExistsError:
        return False
    finally:
        written.unlink()
    return True


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file that readers see either as it was or whole; unchanged content leaves it untouched."""
    if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
        return
    _write_aside(path, content, mode).replace(path)


@contextmanager
def locked(path: Path, patience_s: float) -> Iterator[None]:
    """Hold the lock file at *path*, made where need be. The kernel lets go of it when a process dies.

    Raises BlockingIOError when another process holds it for longer than *patience_s*.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        give_up_at = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(LOCK_RETRY_S)
        yield
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file (mode 0600) that takes the place of *path* when the block ends well, and otherwise was never there."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    written = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise


def _write_aside(path: Path, content: bytes, mode: int) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    written = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.chmod(mode)
    except OSError:
        written.unlink()
        raise
    return written
