"""WebSockets through the bridge: what the agent sends, which the attack tables do not look at."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.operators import PATIENCE_S, Operator
from harness.proxy import running_proxy
from harness.raw_agent import tunnel
from harness.stage import HOST, TOKEN, store_keys
from outloop.attacks.upstream.certs import Authority

POLICY = f"""\
workspace: acme
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - allow: WEBSOCKET /socket
"""
OPENING = (
    f"GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
TEXT, CLOSE = 1, 8


class Listener:
    """An upstream that switches protocols and keeps what comes then, unmasked, until its peer leaves."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.received = b""
        self.is_over = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        accepted, _ = self._server.accept()
        with contextlib.suppress(OSError), self._context.wrap_socket(accepted, server_side=True) as peer:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += peer.recv(65536)
            peer.sendall(SWITCH)
            while piece := peer.recv(65536):
                self.received += piece
        self.is_over.set()


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame (RFC 6455 §5.2) with a mask of zeros, which leaves the payload readable."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


@pytest.fixture
def listener(authority: Authority) -> Listener:
    return Listener(authority.server_context(HOST))


@pytest.fixture
def bridged(operator: Operator, listener: Listener, upstream_ca: Path) -> Iterator[Operator]:
    operator.write_policy("acme", POLICY)
    store_keys(operator, {"example": TOKEN})
    with running_proxy(operator, {HOST: listener.port}, upstream_ca=upstream_ca) as proxy, tunnel(proxy, f"{HOST}:443") as agent:
        agent.send(OPENING)
        assert agent.head().status == 101
        agent.send(frame(TEXT, b"a plain word"))
        agent.send(frame(TEXT, f"and {TOKEN}".encode()))
        agent.send(frame(CLOSE, b"\x03\xe8"))
        agent.everything()
        assert listener.is_over.wait(PATIENCE_S)
        yield operator


def test_a_message_that_carries_the_key_does_not_reach_the_upstream(bridged: Operator, listener: Listener) -> None:
    # mitmproxy masks anew: what arrived is read through the mask of each frame.
    words, rest = [], listener.received
    while len(rest) >= 6:
        size, mask = rest[1] & 0x7F, rest[2:6]
        words.append(bytes(byte ^ mask[at % 4] for at, byte in enumerate(rest[6 : 6 + size])))
        rest = rest[6 + size :]

    assert b"a plain word" in words
    assert not any(TOKEN.encode() in word for word in words)
    [row] = [row for row in bridged.wait_for_rows(1) if row["method"] == "WEBSOCKET"]
    assert (row["decision"], row["reason"], row["status"]) == ("allow", "credential_misplaced", 101)
    [event] = [event for event in bridged.rows("events") if event["kind"] == "credential_misplaced"]
    assert (event["workspace"], event["host"]) == ("acme", HOST)
