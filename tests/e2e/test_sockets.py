"""WebSockets through the bridge: what the agent sends, which the attack tables do not look at."""

from __future__ import annotations

import base64
import contextlib
import gzip
import socket
import ssl
import threading
from pathlib import Path

import pytest

from harness.operators import PATIENCE_S, Operator
from harness.proxy import running_proxy
from harness.raw_agent import tunnel
from harness.stage import AT, HOST, TOKEN, store_keys, stores
from outloop.attacks.upstream.certs import Authority
from outloop.core.secret import Secret

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
MORE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY, DECOY = TOKEN.encode(), b"planted-and-never-a-key-0246813579"


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


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """Return a client's frame (RFC 6455 §5.2) with a mask of zeros, which leaves the payload readable."""
    assert len(payload) < 126
    return bytes([fin << 7 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


@pytest.fixture
def listener(authority: Authority) -> Listener:
    return Listener(authority.server_context(HOST))


@pytest.fixture
def stored(operator: Operator) -> Operator:
    operator.write_policy("acme", POLICY)
    store_keys(operator, {"example": TOKEN})
    with stores(operator) as (state, keychain):
        keychain.set("acme", "acme-bait", {"token": Secret(DECOY)})
        state.add_decoy("acme", "acme-bait", "example", AT)
    return operator


def talk(operator: Operator, listener: Listener, upstream_ca: Path, *frames: bytes) -> list[tuple[int, bytes]]:
    """Open a socket, say *frames*, and return what the upstream got: the opcode and the payload of each frame."""
    with running_proxy(operator, {HOST: listener.port}, upstream_ca=upstream_ca) as proxy, tunnel(proxy, f"{HOST}:443") as agent:
        agent.send(OPENING)
        assert agent.head().status == 101
        with contextlib.suppress(OSError):  # cut while it was speaking
            for each in frames:
                agent.send(each)
        agent.everything()
        assert listener.is_over.wait(PATIENCE_S)
        operator.wait_for_rows(1)
    # mitmproxy masks anew: what arrived is read through the mask of each frame.
    heard, rest = [], listener.received
    while len(rest) >= 6:
        size, mask = rest[1] & 0x7F, rest[2:6]
        heard.append((rest[0] & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(rest[6 : 6 + size]))))
        rest = rest[6 + size :]
    return heard


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([frame(TEXT, b"and " + KEY)], id="message"),
        pytest.param([frame(BINARY, b"\xff" + KEY)], id="binary"),
        pytest.param([frame(TEXT, KEY[:9], fin=False), frame(MORE, KEY[9:])], id="fragments"),
        pytest.param([frame(TEXT, KEY[:9], fin=False), frame(PING, b"x"), frame(MORE, KEY[9:])], id="a-ping-between"),
        pytest.param([frame(TEXT, base64.b64encode(b"x" + KEY))], id="base64"),
        pytest.param([frame(BINARY, gzip.compress(b"and " + KEY, mtime=0))], id="compressed"),
        pytest.param([frame(PING, KEY)], id="ping"),
        pytest.param([frame(PONG, KEY.hex().encode())], id="pong"),
        pytest.param([frame(CLOSE, b"\x03\xe8" + KEY)], id="close"),
    ],
)
def test_a_frame_that_carries_the_key_does_not_reach_the_upstream(
    stored: Operator, listener: Listener, upstream_ca: Path, frames: list[bytes]
) -> None:
    heard = talk(stored, listener, upstream_ca, frame(TEXT, b"a plain word"), *frames, frame(TEXT, b"later"))

    assert heard[0] == (TEXT, b"a plain word")
    assert not any(piece in payload for _, payload in heard for piece in (KEY[9:], KEY.hex().encode(), b"later"))
    [row] = [row for row in stored.wait_for_rows(1) if row["method"] == "WEBSOCKET"]
    assert (row["decision"], row["reason"], row["status"]) == ("allow", "credential_misplaced", 101)
    [event] = [event for event in stored.rows("events") if event["kind"] == "credential_misplaced"]
    assert (event["workspace"], event["host"]) == ("acme", HOST)


@pytest.mark.parametrize(
    "spoken", [pytest.param(frame(TEXT, b"try " + DECOY), id="message"), pytest.param(frame(PING, DECOY), id="ping")]
)
def test_a_decoy_in_a_frame_rings_the_alarm_and_ends_the_connection(
    stored: Operator, listener: Listener, upstream_ca: Path, spoken: bytes
) -> None:
    heard = talk(stored, listener, upstream_ca, frame(TEXT, b"a plain word"), spoken)

    assert not any(DECOY in payload for _, payload in heard)
    [row] = [row for row in stored.wait_for_rows(1) if row["method"] == "WEBSOCKET"]
    assert (row["decision"], row["reason"]) == ("allow", "decoy_used")
    assert [event["detail"] for event in stored.rows("events") if event["kind"] == "decoy_used"] == ["acme/acme-bait"]


def test_control_frames_without_a_value_pass_as_they_are(stored: Operator, listener: Listener, upstream_ca: Path) -> None:
    heard = talk(stored, listener, upstream_ca, frame(PING, b"are you there"), frame(PONG, b"yes"), frame(CLOSE, b"\x03\xe8bye"))

    assert heard[:3] == [(PING, b"are you there"), (PONG, b"yes"), (CLOSE, b"\x03\xe8bye")]
