"""Where `outloop up` listens, and that it says so. Nothing of mitmproxy's is needed for that: a supervisor does without."""

from __future__ import annotations

import os
import socket

from outloop.core.errors import UsageError

HOST = "127.0.0.1"
BACKLOG = 1024


def bound(port: int) -> socket.socket:
    """Return a socket that listens on loopback at *port*. Raises UsageError when that cannot be had."""
    try:
        return socket.create_server((HOST, port), backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise UsageError(f"port {port} cannot be used: {reason}", "choose another with --port") from None


def announce(port: int, workers: int = 1) -> None:
    """Say on standard output that the proxy is ready."""
    crew = f" with {workers} workers" if workers > 1 else ""
    print(f"outloop: listening on http://{HOST}:{port}{crew} (stop with Ctrl-C)", flush=True)
