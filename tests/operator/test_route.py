"""Where the proxy is, and whether an agent needs a token there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from harness.proxy import free_port
from outloop.operator.call import Listener
from outloop.operator.route import find_listener, needs_token
from outloop.store.state import ProxyRecord

OLD = ProxyRecord(1, "127.0.0.1", 8080, "2026-11-23T10:00:00Z")
NEW = ProxyRecord(2, "127.0.0.1", 8081, "2026-11-23T11:00:00Z")


@contextmanager
def answering(status: int, body: bytes) -> Iterator[Listener]:
    """Something on loopback that answers every GET alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield Listener("127.0.0.1", server.server_port)
        server.shutdown()
        thread.join(5)


@pytest.mark.parametrize(
    ("proxies", "port", "expected"),
    [
        pytest.param((NEW, OLD), None, Listener("127.0.0.1", 8081), id="the-newest"),
        pytest.param((NEW, OLD), 8080, Listener("127.0.0.1", 8080), id="the-one-on-the-port"),
        pytest.param((NEW, OLD), 9000, Listener("127.0.0.1", 9000, is_found=False), id="none-on-the-port"),
        pytest.param((), None, Listener("127.0.0.1", 8080, is_found=False), id="none-at-all"),
        pytest.param((ProxyRecord(1, "", 8080, ""),), None, Listener("127.0.0.1", 8080), id="every-address"),
        pytest.param((ProxyRecord(1, "0.0.0.0", 8080, ""),), None, Listener("127.0.0.1", 8080), id="every-ipv4-address"),
        pytest.param((ProxyRecord(1, "10.0.0.5", 8080, ""),), None, Listener("10.0.0.5", 8080), id="an-address-of-its-own"),
    ],
)
def test_the_proxy_is_found(proxies: tuple[ProxyRecord, ...], port: int | None, expected: Listener) -> None:
    assert find_listener(proxies, port) == expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(200, b'{"workspace": "acme"}', False, id="it-says-this-workspace"),
        pytest.param(200, b'{"workspace": "globex"}', True, id="it-says-another"),
        pytest.param(407, b"", True, id="it-challenges"),
    ],
)
@pytest.mark.parametrize("files", [("acme",), ("acme", "globex"), ()])
def test_a_running_proxy_is_believed_before_the_files(status: int, body: bytes, expected: bool, files: tuple[str, ...]) -> None:
    with answering(status, body) as listener:
        assert needs_token(listener, "acme", files) is expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(("acme",), False, id="the-only-one"),
        pytest.param(("acme", "globex"), True, id="one-of-two"),
        pytest.param(("globex",), True, id="another"),
        pytest.param((), True, id="none"),
    ],
)
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((200, b"<html>a development server</html>"), id="another-program"),
        pytest.param((200, b'["acme"]'), id="another-shape"),
        pytest.param((200, b'{"workspace": null}'), id="no-name"),
        pytest.param((404, b'{"workspace": "acme"}'), id="not-found"),
        pytest.param(None, id="nothing-listens"),
    ],
)
def test_without_a_word_from_a_proxy_the_files_decide(
    answer: tuple[int, bytes] | None, files: tuple[str, ...], expected: bool
) -> None:
    if answer is None:
        assert needs_token(Listener("127.0.0.1", free_port()), "acme", files) is expected
    else:
        with answering(*answer) as listener:
            assert needs_token(listener, "acme", files) is expected


@pytest.mark.parametrize("host", ["10.0.0.5", "192.168.1.2", "proxy.example.com", "2001:db8::1"])
def test_beyond_loopback_every_agent_needs_a_token(host: str) -> None:
    assert needs_token(Listener(host, 8080), "acme", ("acme",)) is True
