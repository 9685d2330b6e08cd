"""One call through a proxy, made as an agent makes it: over a real socket and real TLS."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from harness.proxy import free_port
from outloop.core.errors import NoError
from outloop.core.model import HostClaim
from outloop.operator.call import ANSWER_LIMIT, Caller, Listener

CLAIM = HostClaim("api.calendly.com")
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"
GOOD = b'HTTP/1.1 200 OK\r\nOutloop-Audit-Id: 01J\r\nContent-Length: 8\r\n\r\n{"a": 1}'


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    return made, path


def read_head(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n") and (piece := sock.recv(1)):
        head += piece
    return head


@contextmanager
def proxying(serve: Callable[[socket.socket], None]) -> Iterator[Listener]:
    """Accept one connection and let *serve* have it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def once() -> None:
            raw, _ = server.accept()
            with raw:
                try:
                    serve(raw)
                except OSError:  # the caller hung up, as it should on what it does not trust
                    return

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        yield Listener("127.0.0.1", server.getsockname()[1])
        thread.join(10)


def opened(made: trustme.CA, answer: bytes, heads: list[bytes], name: str = CLAIM.host) -> Callable[[socket.socket], None]:
    """Open the tunnel, be *name* inside it, and answer with *answer*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert(name).configure_cert(context)

    def serve(raw: socket.socket) -> None:
        heads.append(read_head(raw))
        raw.sendall(OPENED)
        with context.wrap_socket(raw, server_side=True) as wrapped:
            heads.append(read_head(wrapped))
            if b"Content-Length: 22\r\n" in heads[1]:
                heads.append(wrapped.recv(22))
            wrapped.sendall(answer)

    return serve


def test_a_call_is_an_agents_call(authority: tuple[trustme.CA, Path]) -> None:
    made, path = authority
    heads: list[bytes] = []
    with proxying(opened(made, GOOD, heads)) as listener:
        answer = Caller(listener, path)("GET", CLAIM, "/users/me")
    assert (answer.status, answer.audit_id, answer.json()) == (200, "01J", {"a": 1})
    assert heads[0] == b"CONNECT api.calendly.com:443 HTTP/1.1\r\nHost: api.calendly.com:443\r\n\r\n"
    assert heads[1].startswith(b"GET /users/me HTTP/1.1\r\n")
    assert heads[1].count(b"Host: api.calendly.com\r\n") == heads[1].lower().count(b"host:") == 1
    assert b"uthorization" not in heads[0] + heads[1]


def test_a_token_is_shown_to_the_proxy_alone(authority: tuple[trustme.CA, Path]) -> None:
    made, path = authority
    heads: list[bytes] = []
    with proxying(opened(made, GOOD, heads)) as listener:
        Caller(listener, path, "acme", "t0ken")("GET", HostClaim("api.calendly.com", 8443), "/users/me")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"acme:t0ken") in heads[0]
    assert b"uthorization" not in heads[1]
    assert b"Host: api.calendly.com:8443\r\n" in heads[1]


def test_an_address_stands_in_brackets(authority: tuple[trustme.CA, Path]) -> None:
    made, path = authority
    heads: list[bytes] = []
    with proxying(opened(made, GOOD, heads, "::1")) as listener:
        Caller(listener, path)("GET", HostClaim("::1", 8443), "/")
    assert heads[0].startswith(b"CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n")
    assert b"Host: [::1]:8443\r\n" in heads[1]


def test_a_body_is_sent_as_json(authority: tuple[trustme.CA, Path]) -> None:
    made, path = authority
    heads: list[bytes] = []
    with proxying(opened(made, GOOD, heads)) as listener:
        Caller(listener, path)("POST", CLAIM, "/scheduling_links", {"max_event_count": 1})
    assert b"Content-Type: application/json\r\n" in heads[1]
    assert heads[2] == b'{"max_event_count": 1}'


def test_a_refusal_of_the_tunnel_is_the_answer(authority: tuple[trustme.CA, Path]) -> None:
    def serve(raw: socket.socket) -> None:
        read_head(raw)
        raw.sendall(b"HTTP/1.1 403 Forbidden\r\nOutloop-Audit-Id: 01K\r\nContent-Length: 2\r\n\r\n{}")

    with proxying(serve) as listener:
        answer = Caller(listener, authority[1])("GET", CLAIM, "/users/me")
    assert (answer.status, answer.audit_id) == (403, "01K")


def test_nothing_listens(authority: tuple[trustme.CA, Path]) -> None:
    port = free_port()
    with pytest.raises(NoError, match=f"no proxy listens on 127.0.0.1:{port}") as caught:
        Caller(Listener("127.0.0.1", port), authority[1])("GET", CLAIM, "/")
    assert caught.value.hint is not None
    assert "outloop up" in caught.value.hint


@pytest.mark.parametrize(
    "name", [pytest.param(CLAIM.host, id="another-authority"), pytest.param("example.com", id="another-name")]
)
def test_a_certificate_that_is_not_this_homes_is_not_believed(authority: tuple[trustme.CA, Path], name: str) -> None:
    stranger = trustme.CA() if name == CLAIM.host else authority[0]
    with (
        proxying(opened(stranger, GOOD, [], name)) as listener,
        pytest.raises(NoError, match="this home's certificate authority"),
    ):
        Caller(listener, authority[1])("GET", CLAIM, "/")


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another-protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, id="an-endless-header"),
        pytest.param(OPENED + b"not TLS at all", id="no-tls-in-the-tunnel"),
    ],
)
def test_what_is_no_proxy_is_said_in_one_line(authority: tuple[trustme.CA, Path], said: bytes) -> None:
    def serve(raw: socket.socket) -> None:
        read_head(raw)
        raw.sendall(said)

    with proxying(serve) as listener, pytest.raises(NoError, match="no usable answer from") as caught:
        Caller(listener, authority[1])("GET", CLAIM, "/")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 abc\r\n\r\n", id="no-status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", id="a-cut-chunk"),
    ],
)
def test_a_broken_answer_inside_the_tunnel_is_said_in_one_line(authority: tuple[trustme.CA, Path], said: bytes) -> None:
    with proxying(opened(authority[0], said, [])) as listener, pytest.raises(NoError, match="no usable answer from"):
        Caller(listener, authority[1])("GET", CLAIM, "/")


def test_an_answer_without_end_is_cut(authority: tuple[trustme.CA, Path]) -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (ANSWER_LIMIT + 1)
    with proxying(opened(authority[0], endless, [])) as listener:
        answer = Caller(listener, authority[1])("GET", CLAIM, "/")
    assert len(answer.body) == ANSWER_LIMIT
    assert answer.json() is None


def test_neither_a_token_nor_a_body_shows_in_a_repr(authority: tuple[trustme.CA, Path]) -> None:
    assert "t0ken" not in repr(Caller(Listener("127.0.0.1", 1), authority[1], "acme", "t0ken"))
