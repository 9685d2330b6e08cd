"""The audit record in a browser: Datasette, read-only, on loopback, for whoever holds the address printed at start."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from outloop.core.errors import UsageError

FOLDER = Path(__file__).parent / "datasette"

SETTINGS = {
    "allow_download": "off",  # the file holds every workspace's rows
    "default_cache_ttl": "0",  # rows keep coming
    "default_page_size": "50",
    "facet_time_limit_ms": "2000",
    "sql_time_limit_ms": "10000",
    "suggest_facets": "off",
}


def datasette_command(audit_db: Path, port: int) -> list[str]:
    """Return the command that serves the record at *audit_db*; it prints an address that signs its opener in, once.

    Datasette opens the file ``mode=ro``. Not as immutable: it would overlook the write-ahead log of a proxy that runs.
    Raises UsageError where Datasette is not installed.
    """
    if find_spec("datasette") is None:
        raise UsageError("datasette is not installed", "pip install 'outloop[browse]'")
    command = [sys.executable, "-m", "datasette", "serve", str(audit_db), "--host", "127.0.0.1", "--port", str(port), "--root"]
    command += ["--metadata", str(FOLDER / "metadata.yaml"), "--plugins-dir", str(FOLDER / "plugins")]
    for name, value in SETTINGS.items():
        command += ["--setting", name, value]
    return command
