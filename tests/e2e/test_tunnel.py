"""Hosts that no service claims, where the workspace lets them pass: relayed unopened, with a row."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.operators import Operator
from harness.proxy import free_port
from harness.raw_agent import RawAgent, cleartext, connect_request, connected, tunnel
from harness.stage import HOST, TOKEN, Stage, running_stage, store_keys
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import chunked, reply

POLICY = f"""\
workspace: acme
egress: passthrough
egress_private: true
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - allow: GET /**
"""


@pytest.fixture(scope="module")
def foreign(authority: Authority) -> Iterator[Recorder]:
    """A server on this machine that no service claims."""
    with Recorder(authority.server_context("localhost")) as recorder:
        yield recorder


@pytest.fixture(scope="module")
def open_egress(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    module_operator.write_policy("acme", POLICY)
    store_keys(module_operator, {"example": TOKEN})
    with (
        Recorder(authority.server_context(HOST)) as upstream,
        running_stage(module_operator, upstream, [HOST], upstream_ca=upstream_ca) as stage,
    ):
        yield stage


@pytest.fixture
def stage(open_egress: Stage) -> Stage:
    return open_egress.view()


def test_a_tunnel_is_unopened_the_agent_speaks_to_the_server_itself(
    stage: Stage, foreign: Recorder, authority: Authority
) -> None:
    foreign.on("GET /tunnelled", reply(b"its own answer", headers=[("X-Echo", TOKEN)]))
    with (
        connected(stage.proxy, f"localhost:{foreign.port}") as raw,
        authority.client_context().wrap_socket(raw.connection, server_hostname="localhost") as wrapped,
    ):
        # Verified against the server's own authority: the proxy's would have failed here.
        answer = RawAgent(wrapped).ask(
            b"GET /tunnelled HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer mine\r\nConnection: close\r\n\r\n"
        )

    [sent] = [each for each in foreign.requests if each.path == "/tunnelled"]
    assert (answer.status, answer.body, answer.header("x-echo")) == (200, b"its own answer", TOKEN)
    assert sent.header("authorization") == b"Bearer mine"
    assert answer.header("outloop-audit-id") is None
    row = stage.wait_for_row(host="localhost", port=foreign.port)
    assert {name: row[name] for name in "workspace service key method scheme path decision reason status".split()} == {
        "workspace": "acme", "service": None, "key": None, "method": "CONNECT", "scheme": "", "path": "",
        "decision": "allow", "reason": "OK", "status": 200,
    }  # fmt: skip
    assert row["secret_exposed"] is None
    assert row["error"] is None


def test_a_large_transfer_passes_a_tunnel_byte_for_byte(stage: Stage, foreign: Recorder, upstream_ca: Path) -> None:
    body = bytes(range(256)) * 20_000
    foreign.on("GET /large", chunked(body))

    answer = stage.proxy.curl(f"https://localhost:{foreign.port}/large", "--cacert", str(upstream_ca))

    assert (answer.exit_code, answer.status) == (0, 200)
    assert answer.body == body


def test_a_bridged_host_is_opened_whatever_egress_says(stage: Stage) -> None:
    answer = stage.curl("/bridged")

    assert stage.arrived[-1].all("authorization") == [f"Bearer {TOKEN}".encode()]
    assert stage.row(answer.header("outloop-audit-id"))["service"] == "example"


def test_an_sni_does_not_turn_a_bridged_host_into_a_tunnel(stage: Stage) -> None:
    with tunnel(stage.proxy, f"{HOST}:443", sni="localhost") as agent:
        answer = agent.ask(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())

    assert (answer.status, answer.header("outloop-reason"), stage.arrived) == (421, "host_mismatch", [])


def test_a_tunnel_to_a_bridged_hosts_address_gets_no_key(stage: Stage) -> None:
    with (
        connected(stage.proxy, f"127.0.0.1:{stage.upstream.port}") as raw,
        _trusting_nobody().wrap_socket(raw.connection, server_hostname=HOST) as wrapped,
    ):
        RawAgent(wrapped).ask(f"GET /around HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())

    [sent] = stage.wait_for(1)
    assert sent.all("authorization") == []


def _trusting_nobody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_bytes_that_are_no_tls_pass_a_tunnel(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with connected(stage.proxy, f"127.0.0.1:{port}") as agent:
            agent.send(b"SSH-2.0-agent\r\n")
            accepted, _ = server.accept()
            with accepted:
                assert accepted.recv(100) == b"SSH-2.0-agent\r\n"
                accepted.sendall(b"SSH-2.0-server\r\n")
                assert agent.connection.recv(100) == b"SSH-2.0-server\r\n"

    row = stage.wait_for_row(host="127.0.0.1", port=port)
    assert (row["decision"], row["reason"], row["status"]) == ("allow", "OK", 200)


def test_a_server_that_speaks_first_is_heard(stage: Stage) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        connected(stage.proxy, f"127.0.0.1:{server.getsockname()[1]}") as agent,
    ):
        agent.connection.settimeout(5)
        server.settimeout(5)
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(b"220 ready\r\n")
            assert agent.connection.recv(100) == b"220 ready\r\n"


def test_a_server_that_cannot_be_reached_is_said_in_the_row(stage: Stage) -> None:
    port = free_port()
    with cleartext(stage.proxy) as agent:
        agent.send(connect_request(f"localhost:{port}"))
        agent.head("HEAD")
        agent.send(b"\x16\x03\x01\x00\x05hello")
        agent.everything()

    row = stage.wait_for_row(host="localhost", port=port)
    assert (row["decision"], row["reason"]) == ("allow", "upstream_failed")
    assert row["error"]


def test_a_name_that_does_not_resolve_is_refused(stage: Stage) -> None:
    with cleartext(stage.proxy) as agent:
        answer = agent.ask(connect_request("nowhere.invalid:443"))

    assert (answer.status, answer.header("outloop-reason")) == (502, "upstream_failed")
    assert stage.row(answer.header("outloop-audit-id"))["reason"] == "upstream_failed"


def test_plain_http_is_not_passed_on(stage: Stage, foreign: Recorder) -> None:
    answer = stage.proxy.curl(f"http://localhost:{foreign.port}/")

    assert (answer.status, answer.json()["reason"]) == (403, "host_not_allowed")
    assert "https" in str(answer.json()["detail"])


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:443",
        "localhost:443",
        "[::1]:443",
        "169.254.169.254:443",
        "10.0.0.1:443",
        "100.64.0.1:443",
        "[::ffff:127.0.0.1]:443",
        "0.0.0.0:443",
    ],
)
def test_a_tunnel_to_a_private_address_is_refused(authority: Authority, upstream_ca: Path, private: Stage, target: str) -> None:
    with cleartext(private.proxy) as agent:
        answer = agent.ask(connect_request(target))

    assert (answer.status, answer.header("outloop-reason")) in ((403, "destination_not_allowed"), (400, "malformed_request"))
    row = private.row(answer.header("outloop-audit-id"))
    assert (row["decision"], row["method"]) == ("deny", "CONNECT")


def test_the_proxy_itself_is_no_destination(private: Stage) -> None:
    with cleartext(private.proxy) as agent:
        answer = agent.ask(connect_request(f"127.0.0.1:{private.proxy.port}"))

    assert answer.header("outloop-reason") == "destination_not_allowed"


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    """A workspace whose tunnels reach public addresses alone."""
    operator = Operator(tmp_path_factory.mktemp("private"))
    operator.write_policy("acme", POLICY.replace("egress_private: true\n", ""))
    with (
        Recorder(authority.server_context(HOST)) as upstream,
        running_stage(operator, upstream, [HOST], upstream_ca=upstream_ca) as stage,
    ):
        yield stage
