"""Agents that keep connections and ask nothing: slow heads, slow bodies, hoards. Nobody else is kept waiting."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import hurry
from harness.bridge import ON_UPSTREAM, POLICY, http2, request
from harness.operators import PATIENCE_S, Operator
from harness.raw_agent import RawAgent, cleartext, connect_request, connected, tunnel
from harness.raw_http2 import head
from harness.stage import HOST, TOKEN, Stage, running_stage, store_keys
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import Gate, raw

WAIT_S, WAITING, OF_AN_AGENT = 3.0, 40, 20


@pytest.fixture(scope="module")
def hurried(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    """A proxy with little patience."""
    module_operator.write_policy("acme", POLICY)
    store_keys(module_operator, {"example": TOKEN})
    limits = {"patience.WAIT_S": WAIT_S, "patience.BODY_S": WAIT_S, "patience.MAX_WAITING": WAITING}
    limits |= {"patience.MAX_OF_AN_AGENT": OF_AN_AGENT}
    options = ["-s", hurry.__file__]
    for name, number in limits.items():
        options += ["--set", f"hurry={name}={number}"]
    with (
        Recorder(authority.server_context(HOST)) as upstream,
        running_stage(module_operator, upstream, ON_UPSTREAM, upstream_ca=upstream_ca, options=options) as stage,
    ):
        yield stage


@pytest.fixture
def stage(hurried: Stage) -> Stage:
    return hurried.view()


def ends(agent: RawAgent, drip: bytes = b"") -> bytes:
    """Return what comes until the proxy closes; *drip* is said again and again meanwhile."""
    got = b""
    end = time.monotonic() + PATIENCE_S
    agent.connection.settimeout(0.2)
    while time.monotonic() < end:
        try:
            if drip:
                agent.send(drip)
            piece = agent.connection.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return got
        if not piece:
            return got
        got += piece
    raise AssertionError(f"the proxy did not close: {got!r}")


def test_a_head_that_drips_is_not_waited_for(stage: Stage) -> None:
    with cleartext(stage.proxy) as agent:
        agent.send(b"GET http://outloop.internal/ HTTP/1.1\r\nX: ")
        assert ends(agent, drip=b"a") == b""


def test_a_head_that_drips_in_a_tunnel_is_not_waited_for(stage: Stage) -> None:
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        agent.send(b"GET / HTTP/1.1\r\nX: ")
        assert ends(agent, drip=b"a") == b""


def test_a_handshake_that_does_not_go_on_is_not_waited_for(stage: Stage) -> None:
    with connected(stage.proxy, f"{HOST}:443") as agent:
        agent.send(b"\x16\x03\x01\x02\x00\x01")
        ends(agent)


def test_an_http2_head_that_does_not_end_is_not_waited_for(stage: Stage) -> None:
    with tunnel(stage.proxy, f"{HOST}:443", protocols=["h2"]) as agent:
        agent.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        agent.send(b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82")  # HEADERS without END_HEADERS
        ends(agent)


def test_a_connection_that_idles_after_an_answer_is_closed(stage: Stage) -> None:
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        assert agent.ask(request("/a")).status == 200
        assert ends(agent) == b""


@pytest.mark.parametrize(
    ("framing", "drip"),
    [("Content-Length: 1000", b" "), ("Transfer-Encoding: chunked", b"1\r\n \r\n")],
    ids=["declared", "chunked"],
)
def test_a_body_that_drips_for_a_rule_is_refused_with_its_row(stage: Stage, framing: str, drip: bytes) -> None:
    before = {row["id"] for row in stage.operator.rows()}
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        agent.send(request("/links", framing, "Content-Type: application/json", method="POST"))
        assert ends(agent, drip=drip) == b""

    end = time.monotonic() + PATIENCE_S
    while not (rows := [row for row in stage.operator.rows() if row["id"] not in before]):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert [(row["decision"], row["reason"], row["path"]) for row in rows] == [("deny", "malformed_request", "/links")]
    assert stage.arrived == []


def test_an_answer_that_takes_its_time_is_waited_for(stage: Stage) -> None:
    gate = Gate()
    stage.upstream.on("GET /slow", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsl", gate, b"ow"))
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        agent.send(request("/slow"))
        time.sleep(2 * WAIT_S)
        gate.open()
        assert agent.answer().body == b"slow"


def test_who_holds_hundreds_of_half_open_connections_keeps_nobody_out(stage: Stage) -> None:
    address = ("127.0.0.1", stage.proxy.port)
    with contextlib.ExitStack() as stack:
        hoard = []
        with tunnel(stage.proxy, f"{HOST}:443") as busy:
            gate = Gate()
            stage.upstream.on("GET /held", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhe", gate, b"ld"))
            busy.send(request("/held"))
            stage.wait_for(1)
            for _ in range(300):
                hoard.append(stack.enter_context(socket.create_connection(address, timeout=PATIENCE_S)))
                hoard[-1].sendall(b"GET http://outloop.internal/ HTTP/1.1\r\nX: ")
            with http2(stage) as other:
                assert [other.ask(head("GET", f"/{number}", HOST)).status for number in range(3)] == [200, 200, 200]
            gate.open()
            assert busy.answer().body == b"held"  # what asks for something does not give way
        with contextlib.suppress(ConnectionResetError):
            assert hoard[0].recv(1) == b""  # the oldest gave way


def test_one_agent_holds_a_bounded_number_of_connections(stage: Stage) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(OF_AN_AGENT):
            stack.enter_context(connected(stage.proxy, f"{HOST}:443"))
        with cleartext(stage.proxy) as one_more:
            answer = one_more.ask(connect_request(f"{HOST}:443"))
    assert (answer.status, answer.header("outloop-reason"), answer.header("retry-after")) == (429, "rate_limited", "1")
    assert stage.row(answer.header("outloop-audit-id"))["reason"] == "rate_limited"

    end = time.monotonic() + PATIENCE_S
    while stage.curl("/after").status != 200:
        assert time.monotonic() < end
        time.sleep(0.1)
