"""httpbin behind TLS: an upstream nobody here wrote.

Used so:

    with httpbin(authority.server_context("httpbin.test")) as port: …
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from httpbin.core import app
from werkzeug.serving import WSGIRequestHandler, make_server


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive, and chunks for what is streamed

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def httpbin(context: ssl.SSLContext | None) -> Iterator[int]:
    """Serve httpbin on 127.0.0.1 and yield its port. *context* None is cleartext."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever, name="httpbin", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
