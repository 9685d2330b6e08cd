"""WebSockets between a client and a server that nobody here wrote (`websockets`), and the Autobahn test suite on both sides.

`OUTLOOP_TEST_WSTEST` names Autobahn's program `wstest` (PyPI: autobahntestsuite, which runs on Python 2.7 alone). All of it is
asyncio: the threads of `websockets.sync` share one TLS connection, and now and then an answer is lost there under load.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from harness.operators import PATIENCE_S, Operator
from harness.proxy import Proxy, free_port, running_proxy
from harness.raw_agent import connect_request
from harness.stage import HOST, MARK, TOKEN, store_keys
from outloop.attacks.upstream.certs import Authority

AUTOBAHN = "autobahn.example.com"
POLICY = f"""\
workspace: acme
services:
  example:
    hosts: [{HOST}, {AUTOBAHN}]
    auth: {{type: bearer}}
    rules:
      - allow: WEBSOCKET /socket/**
      - allow: WEBSOCKET /runCase
      - allow: WEBSOCKET /getCaseCount
      - allow: WEBSOCKET /updateReports
"""
# Of Autobahn's catalogue: 9.* measures limits and time, 12.* and 13.* compression, which is not negotiated.
LEFT_OUT = ["9.*", "12.*", "13.*"]
MAX_BYTES = 2**26

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            if message == "say the key":
                assert connection.request is not None
                message = str(connection.request.headers["Authorization"])
            await connection.send(message)


@contextlib.contextmanager
def on_a_loop(start: Callable[[], Coroutine[Any, Any, Any]]) -> Iterator[None]:
    """Run the server that *start* makes, on a loop and a thread of its own, until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(start(), loop).result(PATIENCE_S)

    async def stop() -> None:
        server.close()
        await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if left:
            await asyncio.wait(left, timeout=1)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


@pytest.fixture(scope="module")
def bridged(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[tuple[Proxy, int]]:
    """A proxy with an echo server behind it, and the port where the server of `AUTOBAHN` may be put."""
    module_operator.write_policy("acme", POLICY)
    store_keys(module_operator, {"example": TOKEN})
    echoing, port = free_port(), free_port()

    async def start() -> object:
        return await serve(echo, "127.0.0.1", echoing, ssl=authority.server_context(HOST), max_size=MAX_BYTES)

    with (
        on_a_loop(start),
        running_proxy(module_operator, {HOST: echoing, AUTOBAHN: port}, upstream_ca=upstream_ca) as proxy,
    ):
        yield proxy, port


@pytest.fixture
def proxy(bridged: tuple[Proxy, int]) -> Proxy:
    """The proxy, with an echo server behind it."""
    return bridged[0]


def open_socket(proxy: Proxy, path: str = "/socket/a", host: str = HOST) -> connect:
    context = ssl.create_default_context(cafile=str(proxy.operator.certificate))
    return connect(f"wss://{host}{path}", proxy=proxy.url(), ssl=context, max_size=MAX_BYTES, open_timeout=4 * PATIENCE_S)


def with_socket(proxy: Proxy, talk: Callable[[ClientConnection], Awaitable[Any]], path: str = "/socket/a") -> ClientConnection:
    """Open a socket, *talk* over it, close it and return it. What *talk* waits for is waited for with patience."""

    async def run() -> ClientConnection:
        async with open_socket(proxy, path) as agent:
            await asyncio.wait_for(talk(agent), PATIENCE_S)
        return agent

    return asyncio.run(run())


@pytest.mark.parametrize("message", ["", "text", "ünïcode ✓", b"", b"\0\xff", "x" * 70_000, b"\xfe" * 1_000_000], ids=range(7))
def test_a_message_comes_back_as_it_was(proxy: Proxy, message: str | bytes) -> None:
    async def talk(agent: ClientConnection) -> None:
        await agent.send(message)
        assert await agent.recv() == message

    with_socket(proxy, talk)


def test_a_message_in_fragments_comes_back_whole(proxy: Proxy) -> None:
    async def talk(agent: ClientConnection) -> None:
        await agent.send(["one ", "two ", "", "three"])
        assert await agent.recv() == "one two three"

    with_socket(proxy, talk)


def test_the_key_does_not_come_back(proxy: Proxy) -> None:
    async def talk(agent: ClientConnection) -> None:
        await agent.send("say the key")
        assert await agent.recv() == f"Bearer {MARK}"

    with_socket(proxy, talk)


def test_pings_and_pongs_go_through(proxy: Proxy) -> None:
    async def talk(agent: ClientConnection) -> None:
        await (await agent.ping(b"payload"))
        await agent.send("after")
        assert await agent.recv() == "after"

    with_socket(proxy, talk)


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 3000, 4999])
def test_a_close_ends_both_sides_with_its_code(proxy: Proxy, code: int) -> None:
    agent = with_socket(proxy, lambda agent: agent.close(code, "bye"))

    assert (agent.close_code, agent.close_reason) == (code, "bye")


def test_no_rule_no_socket(proxy: Proxy) -> None:
    with pytest.raises(InvalidStatus) as refused:
        with_socket(proxy, lambda agent: agent.close(), "/elsewhere")

    assert refused.value.response.status_code == 403


def test_compression_is_not_negotiated(proxy: Proxy) -> None:
    agent = with_socket(proxy, lambda agent: agent.close())

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
def _relaying(
    opened: Callable[[], Coroutine[Any, Any, Streams]], named: tuple[str, str], context: ssl.SSLContext | None, port: int
) -> Iterator[None]:
    """Relay each connection to *port* over one that is *opened*, and name the first host of *named* as the second in its head.

    Where a *context* is given the port speaks TLS. Autobahn knows no proxy, and insists on being named as it was told.
    """

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            inner_reader, inner_writer = await opened()
            inner_writer.write(head.replace(f"Host: {named[0]}".encode(), f"Host: {named[1]}".encode()))
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))

    with on_a_loop(lambda: asyncio.start_server(serve_one, "127.0.0.1", port, ssl=context)):
        yield


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _through(proxy: Proxy) -> Streams:
    """Open TLS with `HOST` through *proxy*."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(connect_request(f"{HOST}:443"))
    await reader.readuntil(b"\r\n\r\n")
    context = ssl.create_default_context(cafile=str(proxy.operator.certificate))
    await writer.start_tls(context, server_hostname=HOST)
    return reader, writer


def _verdicts(folder: Path) -> dict[str, str]:
    [of_agent] = json.loads((folder / "index.json").read_text()).values()
    return {case: result["behavior"] for case, result in of_agent.items()}


def _judge(run: Callable[[list[str]], dict[str, str]]) -> None:
    """Fail where a case fails three times: Autobahn gives each a second, and a machine may be busier than that."""
    verdicts = run(["*"])
    assert len(verdicts) > 200
    for _ in range(2):
        if failed := [case for case, verdict in verdicts.items() if verdict == "FAILED"]:
            verdicts = run(failed)
    assert [case for case, verdict in verdicts.items() if verdict == "FAILED"] == []


def test_autobahn_as_the_agent(wstest: str, proxy: Proxy, tmp_path: Path) -> None:
    def run(cases: list[str]) -> dict[str, str]:
        door = free_port()
        servers = [{"agent": "outloop", "url": f"ws://127.0.0.1:{door}/socket/a"}]
        _write_spec(tmp_path, cases, servers=servers)
        with _relaying(lambda: _through(proxy), (f"127.0.0.1:{door}", HOST), None, door):
            command = [wstest, "-m", "fuzzingclient", "-s", "spec.json"]
            subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=900)
        return _verdicts(tmp_path / "out")

    _judge(run)


def test_autobahn_as_the_upstream(wstest: str, bridged: tuple[Proxy, int], authority: Authority, tmp_path: Path) -> None:
    proxy, port = bridged
    behind = free_port()

    def run(cases: list[str]) -> dict[str, str]:
        _write_spec(tmp_path, cases, url=f"ws://127.0.0.1:{behind}")
        command = [wstest, "-m", "fuzzingserver", "-s", "spec.json", "-u", "0"]
        with (tmp_path / "log").open("wb") as log:
            server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            _wait_for(behind)
            asyncio.run(_answer_cases(proxy))
        finally:
            server.terminate()
            server.wait(PATIENCE_S)
        return _verdicts(tmp_path / "out")

    named, context = (AUTOBAHN, f"127.0.0.1:{behind}"), authority.server_context(AUTOBAHN)
    with _relaying(lambda: asyncio.open_connection("127.0.0.1", behind), named, context, port):
        _judge(run)


def _write_spec(folder: Path, cases: list[str], **more: object) -> None:
    spec = {"outdir": "out", "cases": cases, "exclude-cases": LEFT_OUT, "exclude-agent-cases": {}, **more}
    (folder / "spec.json").write_text(json.dumps(spec | {"options": {"failByDrop": False}}))


async def _answer_cases(proxy: Proxy) -> None:
    async with open_socket(proxy, "/getCaseCount", AUTOBAHN) as agent:
        count = int(await agent.recv())
    for number in range(1, count + 1):
        async with open_socket(proxy, f"/runCase?case={number}&agent=outloop", AUTOBAHN) as agent:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await agent.send(await agent.recv())
    async with open_socket(proxy, "/updateReports?agent=outloop", AUTOBAHN) as agent:
        with contextlib.suppress(ConnectionClosed):
            await agent.recv()


def _wait_for(port: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < end, "it does not listen"
        time.sleep(0.1)
