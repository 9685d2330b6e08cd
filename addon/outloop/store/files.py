"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


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
