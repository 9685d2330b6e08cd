"""WebSockets between a client and a server that nobody here wrote (`websockets`), and the Autobahn test suite on both sides.

`OUTLOOP_TEST_WSTEST` names Autobahn's program `wstest` (PyPI: autobahntestsuite, which runs on Python 2.7 alone).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from harness.operators import PATIENCE_S, Operator
from harness.proxy import Proxy, free_port, running_proxy
from harness.raw_agent import tunnel
from harness.stage import HOST, MARK, TOKEN, store_keys
from outloop.attacks.upstream.certs import Authority

POLICY = f"""\
workspace: acme
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - allow: WEBSOCKET /socket/**
      - allow: WEBSOCKET /runCase
      - allow: WEBSOCKET /getCaseCount
      - allow: WEBSOCKET /updateReports
"""
# Of Autobahn's catalogue: 9.* measures limits and time, 12.* and 13.* compression, which is not negotiated.
LEFT_OUT = ["9.*", "12.*", "13.*"]


def echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        for message in connection:
            if message == "say the key":
                message = f"{connection.request.headers['Authorization'] if connection.request else ''}"
            connection.send(message)


@pytest.fixture(scope="module")
def bridged(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[tuple[Proxy, int]]:
    """A proxy, and the port where the server of `HOST` may be put."""
    module_operator.write_policy("acme", POLICY)
    store_keys(module_operator, {"example": TOKEN})
    port = free_port()
    with running_proxy(module_operator, {HOST: port}, upstream_ca=upstream_ca) as proxy:
        yield proxy, port


@pytest.fixture
def proxy(bridged: tuple[Proxy, int], authority: Authority) -> Iterator[Proxy]:
    """The proxy, with an echo server behind it."""
    with serve(echo, "127.0.0.1", bridged[1], ssl=authority.server_context(HOST), max_size=2**26) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield bridged[0]
        server.shutdown()
        thread.join(PATIENCE_S)


def open_socket(proxy: Proxy, path: str = "/socket/a") -> ClientConnection:
    context = ssl.create_default_context(cafile=str(proxy.operator.certificate))
    return connect(f"wss://{HOST}{path}", proxy=proxy.url(), ssl=context, max_size=2**26, open_timeout=PATIENCE_S)


@pytest.mark.parametrize("message", ["", "text", "ünïcode ✓", b"", b"\0\xff", "x" * 70_000, b"\xfe" * 1_000_000], ids=range(7))
def test_a_message_comes_back_as_it_was(proxy: Proxy, message: str | bytes) -> None:
    with open_socket(proxy) as agent:
        agent.send(message)
        assert agent.recv(PATIENCE_S) == message


def test_a_message_in_fragments_comes_back_whole(proxy: Proxy) -> None:
    with open_socket(proxy) as agent:
        agent.send(["one ", "two ", "", "three"])
        assert agent.recv(PATIENCE_S) == "one two three"


def test_the_key_does_not_come_back(proxy: Proxy) -> None:
    with open_socket(proxy) as agent:
        agent.send("say the key")
        assert agent.recv(PATIENCE_S) == f"Bearer {MARK}"


def test_pings_and_pongs_go_through(proxy: Proxy) -> None:
    with open_socket(proxy) as agent:
        assert agent.ping(b"payload").wait(PATIENCE_S)
        agent.send("after")
        assert agent.recv(PATIENCE_S) == "after"


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 3000, 4999])
def test_a_close_ends_both_sides_with_its_code(proxy: Proxy, code: int) -> None:
    agent = open_socket(proxy)
    agent.close(code, "bye")

    assert (agent.close_code, agent.close_reason) == (code, "bye")


def test_no_rule_no_socket(proxy: Proxy) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(proxy, "/elsewhere")

    assert refused.value.response.status_code == 403


def test_compression_is_not_negotiated(proxy: Proxy) -> None:
    with open_socket(proxy) as agent:
        assert agent.response is not None
        assert agent.response.headers.get("Sec-WebSocket-Extensions") is None


# Autobahn


@pytest.fixture
def wstest() -> str:
    program = os.environ.get("OUTLOOP_TEST_WSTEST", "")
    if not program:
        pytest.skip("wstest is not installed (PyPI autobahntestsuite on Python 2.7, and set OUTLOOP_TEST_WSTEST to it)")
    return program


@contextlib.contextmanager
def _door(proxy: Proxy) -> Iterator[int]:
    """A port that leads through the proxy into TLS with `HOST`: Autobahn knows no proxy, and names the host it dials."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve_one, args=(server.accept()[0],), daemon=True).start()

    def serve_one(inner: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += inner.recv(65536) or b"\r\n\r\n"
        with contextlib.suppress(OSError), tunnel(proxy, f"{HOST}:443") as outer:
            outer.connection.sendall(head.replace(f"Host: 127.0.0.1:{port}".encode(), f"Host: {HOST}".encode()))
            back = threading.Thread(target=_copy, args=(outer.connection, inner), daemon=True)
            back.start()
            _copy(inner, outer.connection)
            back.join(PATIENCE_S)
        inner.close()

    threading.Thread(target=accept, daemon=True).start()
    yield port
    server.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        source.shutdown(socket.SHUT_RDWR)


def _verdicts(folder: Path) -> dict[str, str]:
    [of_agent] = json.loads((folder / "index.json").read_text()).values()
    return {case: result["behavior"] for case, result in of_agent.items()}


def test_autobahn_as_the_agent(wstest: str, proxy: Proxy, tmp_path: Path) -> None:
    with _door(proxy) as port:
        spec = {
            "outdir": str(tmp_path / "out"), "cases": ["*"], "exclude-cases": LEFT_OUT, "exclude-agent-cases": {},
            "servers": [{"agent": "outloop", "url": f"ws://127.0.0.1:{port}/socket/a"}], "options": {"failByDrop": False},
        }  # fmt: skip
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        subprocess.run(
            [wstest, "-m", "fuzzingclient", "-s", "spec.json"], cwd=tmp_path, check=True, capture_output=True, timeout=900
        )

    verdicts = _verdicts(tmp_path / "out")
    assert len(verdicts) > 200
    assert {case: verdict for case, verdict in verdicts.items() if verdict == "FAILED"} == {}


@contextlib.contextmanager
def _in_tls(context: ssl.SSLContext, port: int, behind: int) -> Iterator[None]:
    """Serve on *port* with TLS what is served in cleartext on *behind*, which insists on being named with its port."""
    server = socket.create_server(("127.0.0.1", port))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve_one, args=(server.accept()[0],), daemon=True).start()

    def serve_one(accepted: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            context.wrap_socket(accepted, server_side=True) as outer,
            socket.create_connection(("127.0.0.1", behind)) as inner,
        ):
            head = b""
            while b"\r\n\r\n" not in head:
                head += outer.recv(65536) or b"\r\n\r\n"
            inner.sendall(head.replace(f"Host: {HOST}".encode(), f"Host: 127.0.0.1:{behind}".encode()))
            back = threading.Thread(target=_copy, args=(inner, outer), daemon=True)
            back.start()
            _copy(outer, inner)
            back.join(PATIENCE_S)

    threading.Thread(target=accept, daemon=True).start()
    yield
    server.close()


def test_autobahn_as_the_upstream(wstest: str, bridged: tuple[Proxy, int], authority: Authority, tmp_path: Path) -> None:
    proxy, port = bridged
    behind = free_port()
    spec = {"url": f"ws://127.0.0.1:{behind}", "outdir": "out", "cases": ["*"], "exclude-cases": LEFT_OUT,
            "exclude-agent-cases": {}, "options": {"failByDrop": False}}  # fmt: skip
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([wstest, "-m", "fuzzingserver", "-s", "spec.json", "-u", "0"], cwd=tmp_path,
                                  stdout=log, stderr=log)  # fmt: skip
    with _in_tls(authority.server_context(HOST), port, behind):
        count = _run_cases(proxy, server, behind)

    verdicts = _verdicts(tmp_path / "out")
    assert len(verdicts) == count > 200
    assert {case: verdict for case, verdict in verdicts.items() if verdict == "FAILED"} == {}


def _run_cases(proxy: Proxy, server: subprocess.Popen[bytes], port: int) -> int:
    try:
        _wait_for(port)
        with open_socket(proxy, "/getCaseCount") as agent:
            count = int(agent.recv(PATIENCE_S))
        for number in range(1, count + 1):
            with open_socket(proxy, f"/runCase?case={number}&agent=outloop") as agent, contextlib.suppress(ConnectionClosed):
                while True:
                    agent.send(agent.recv(PATIENCE_S))
        with open_socket(proxy, "/updateReports?agent=outloop") as agent, contextlib.suppress(ConnectionClosed):
            agent.recv(PATIENCE_S)
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
    return count


def _wait_for(port: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < end, "it does not listen"
        time.sleep(0.1)
