"""The audit record in a browser: Datasette, read-only, on loopback, for whoever holds the address printed at start."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from outloop.core.errors import UsageError
from outloop.operator.datasette.guard import Application, Guard

FOLDER = Path(__file__).parent / "datasette"
HOST = "127.0.0.1"
# Others that happen to be installed get no hand on the record and its pages.
PLUGINS = frozenset({"datasette-dashboards", "datasette-leaflet", "datasette-render-markdown"})
# Prints a traceback with every local, rows among them, whenever somebody mistypes a query; plugins/errors.py stands in for it.
_TALKATIVE = "datasette.handle_exception"

SETTINGS: dict[str, object] = {
    "allow_download": False,  # the file holds every workspace's rows
    "default_cache_ttl": 0,  # rows keep coming
    "default_page_size": 50,
    "facet_time_limit_ms": 1000,
    "sql_time_limit_ms": 5000,
    "suggest_facets": False,
    "truncate_cells_html": 300,
}


@dataclass(frozen=True, slots=True)
class Site:
    """The record as pages: *application* serves them, *sign_in* lets in whoever opens it first, *address* is where they are."""

    application: Application
    address: str
    sign_in: str


def listening(port: int) -> socket.socket:
    """Return a socket that listens on loopback at *port*. Raises UsageError when that cannot be."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise UsageError(
            f"port {port} of {HOST} cannot be listened on: {(error.strerror or 'unknown error').lower()}",
            "another `outloop audit browse` may run; --port names another port",
        ) from error


def site(audit_db: Path, port: int) -> Site:
    """Return the pages of the record at *audit_db*, to be served at *port*.

    Datasette opens the file ``mode=ro``. Not as immutable: it would overlook the write-ahead log of a proxy that runs.
    Raises UsageError where Datasette is not installed.
    """
    if find_spec("datasette") is None or find_spec("datasette_dashboards") is None:
        raise UsageError("datasette and its charts are not installed", "pip install 'outloop[browse]'")
    from datasette.app import Datasette  # type: ignore[import-untyped]
    from datasette.plugins import pm  # type: ignore[import-untyped]
    from datasette.utils import parse_metadata  # type: ignore[import-untyped]

    for plugin, distribution in pm.list_plugin_distinfo():
        if distribution.project_name not in PLUGINS and pm.is_registered(plugin):
            pm.unregister(plugin)
    if pm.has_plugin(_TALKATIVE):
        pm.unregister(name=_TALKATIVE)
    base = f"/{secrets.token_urlsafe(16)}/"
    pages = Datasette(
        [str(audit_db)],
        metadata=parse_metadata((FOLDER / "metadata.yaml").read_text()),
        template_dir=str(FOLDER / "templates"),
        plugins_dir=str(FOLDER / "plugins"),
        static_mounts=[("outloop", str(FOLDER / "static"))],
        settings={**SETTINGS, "base_url": base},
    )
    address = f"http://{HOST}:{port}{base}"
    # Datasette forgets its token with the first sign-in.
    return Site(Guard(pages.app(), port, base), address, f"{address}-/auth-token?token={pages._root_token}")


def serve(pages: Site, listener: socket.socket) -> None:
    """Serve *pages* on *listener* until the process is told to end."""
    import uvicorn

    # Its access log would repeat the sign-in address, and a terminal is no place for hostile paths.
    config = uvicorn.Config(pages.application, log_level="warning", lifespan="on", server_header=False, date_header=False)
    uvicorn.Server(config).run(sockets=[listener])
