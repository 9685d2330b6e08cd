"""The bridge: what an agent sends, what reaches the upstream, what comes back, and the row it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.bridge import LOCAL, POLICY, http2, request
from harness.operators import Operator
from harness.raw_agent import cleartext, tunnel
from harness.raw_http2 import head
from harness.stage import HOST, MARK, TOKEN, Stage, running_stage, store_keys
from outloop.attacks.upstream.certs import HTTP2, Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import json_reply, reply


@pytest.fixture
def stage(bridge: Stage) -> Stage:
    return bridge.view()


def test_the_key_is_injected_and_what_the_agent_asked_is_sent_byte_for_byte(stage: Stage) -> None:
    stage.upstream.on("GET /a%20b", json_reply({"name": "Ada"}, headers=[("ETag", '"1"'), ("X-Other", "kept")]))

    answer = stage.curl("/a%20b?c=1&c=%2f+d&e", "-H", "X-Mine: 1", "-H", "Accept: application/json")

    [sent] = stage.wait_for(1)
    assert bytes(sent.raw).startswith(f"GET /a%20b?c=1&c=%2f+d&e HTTP/1.1\r\nHost: {HOST}\r\n".encode())
    assert sent.header("authorization") == f"Bearer {TOKEN}".encode()
    assert (sent.header("x-mine"), sent.header("accept"), sent.header("x-team")) == (b"1", b"application/json", b"growth")
    assert sent.sni == HOST
    assert (answer.status, answer.body) == (200, b'{"name": "Ada"}')
    assert (answer.header("etag"), answer.header("x-other")) == ('"1"', "kept")
    row = stage.row(answer.header("outloop-audit-id"))
    assert {name: row[name] for name in "workspace agent service key method scheme host port path decision reason".split()} == {
        "workspace": "acme", "agent": None, "service": "example", "key": "acme-example", "method": "GET", "scheme": "https",
        "host": HOST, "port": 443, "path": "/a%20b?c=1&c=%2f+d&e", "decision": "allow", "reason": "OK",
    }  # fmt: skip
    assert {name: row[name] for name in "runtime_mode proof status stripped scrubbed secret_exposed error".split()} == {
        "runtime_mode": "read", "proof": 0, "status": 200, "stripped": 0, "scrubbed": 0, "secret_exposed": 0, "error": None,
    }  # fmt: skip
    assert (row["request_bytes"], row["response_bytes"]) == (0, 15)
    assert str(row["rule"]).endswith("acme.yaml:9")


def test_a_request_over_http2_is_bridged_to_an_upstream_that_speaks_http1(stage: Stage) -> None:
    answer = stage.curl("/over/h2?x=1", "--http2", "-H", "Authorization: Bearer of-the-agent")

    [sent] = stage.wait_for(1)
    assert bytes(sent.raw).startswith(f"GET /over/h2?x=1 HTTP/1.1\r\nHost: {HOST}\r\n".encode())
    assert sent.all("authorization") == [f"Bearer {TOKEN}".encode()]
    assert (answer.status, answer.body) == (200, b"ok")
    assert stage.row(answer.header("outloop-audit-id"))["stripped"] == 1


def test_a_request_over_http2_is_bridged_to_an_upstream_that_speaks_http2(
    authority: Authority, upstream_ca: Path, operator: Operator
) -> None:
    operator.write_policy("acme", POLICY)
    store_keys(operator, {"example": TOKEN})
    with (
        Recorder(authority.server_context(HOST, protocols=HTTP2)) as upstream,
        running_stage(operator, upstream, [HOST], upstream_ca=upstream_ca) as stage,
    ):
        upstream.on("POST /upload/h2", json_reply({"token": TOKEN}))
        with http2(stage) as agent:
            fields = head("POST", "/upload/h2?x=1", HOST, ("authorization", "Bearer mine"), ("cookie", "a=b"), ("x-mine", "1"))
            answer = agent.ask(fields, b"hel", b"lo")
        [sent] = upstream.wait_for(1)

    assert (sent.version, sent.target, bytes(sent.body)) == ("HTTP/2", "/upload/h2?x=1", b"hello")
    assert sent.headers[0] == (b"host", HOST.encode())
    assert sent.all("authorization") == [f"Bearer {TOKEN}".encode()]
    assert sent.all("cookie") == []
    assert json.loads(answer.body) == {"token": MARK}


@pytest.mark.parametrize(
    ("lines", "stripped"),
    [
        pytest.param(["Authorization: Bearer mine"], 1, id="authorization"),
        pytest.param(["Authorization: Bearer one", "aUTHORIZATION: Basic two"], 2, id="twice-in-two-cases"),
        pytest.param(["X-Api-Key: mine", "X_Api_Key: mine", "PRIVATE-TOKEN: mine"], 3, id="other-credential-headers"),
        pytest.param(["Cookie: session=mine", "Cookie: other=mine"], 2, id="cookies"),
        pytest.param(["Proxy-Authorization: Basic bWluZTptaW5l"], 0, id="for-the-proxy"),
        pytest.param(["Connection: authorization, close", "Authorization: Bearer mine"], 1, id="named-hop-by-hop"),
    ],
)
def test_the_agents_own_credentials_stay_behind_and_are_counted(stage: Stage, lines: list[str], stripped: int) -> None:
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        answer = agent.ask(request("/stripped", *lines))

    [sent] = stage.wait_for(1)
    assert sent.all("authorization") == [f"Bearer {TOKEN}".encode()]
    assert b"mine" not in sent.raw
    assert b"bWluZ" not in sent.raw
    assert sent.all("connection") == []
    assert stage.row(answer.header("outloop-audit-id"))["stripped"] == stripped


def test_a_key_in_the_query_replaces_the_agents_and_never_reaches_the_record(stage: Stage) -> None:
    answer = stage.curl("/q?a=1&access_token=mine&b=2&ACCESS_TOKEN=mine", host="queried.example.com")

    [sent] = stage.wait_for(1)
    assert sent.target == f"/q?a=1&b=2&access_token={TOKEN}-queried"
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["stripped"], row["path"]) == (2, "/q?a=1&access_token=***&b=2&ACCESS_TOKEN=***")


def test_a_credential_of_the_agents_own_is_masked_in_the_record(stage: Stage) -> None:
    answer = stage.curl("/q?api_key=some-other-value&a=1")

    assert stage.row(answer.header("outloop-audit-id"))["path"] == "/q?api_key=***&a=1"


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        pytest.param(f"/q?echo={TOKEN}", [], id="query"),
        pytest.param(f"/{TOKEN}", [], id="path"),
        pytest.param("/", ["-H", f"X-Debug: {TOKEN}"], id="header"),
        pytest.param("/upload/x", ["-d", f"x={TOKEN}"], id="body"),
        pytest.param("/upload/x", ["-d", f"x={TOKEN}-small"], id="another-services"),
    ],
)
def test_a_known_key_where_it_does_not_belong_is_refused_and_never_written_down(
    stage: Stage, path: str, arguments: list[str]
) -> None:
    answer = stage.curl(path, *arguments)

    assert (answer.status, answer.json()["reason"], stage.arrived) == (403, "credential_misplaced", [])
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["decision"], row["reason"]) == ("deny", "credential_misplaced")
    assert TOKEN not in str(row) + str(stage.operator.rows("events")) + stage.proxy.log
    assert stage.wait_for_event("credential_misplaced")[-1]["host"] == HOST


def test_head_is_a_read_and_keeps_the_length_it_tells(stage: Stage) -> None:
    stage.upstream.on("HEAD /head", reply(b"x" * 1234))

    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        answer = agent.ask(request("/head", method="HEAD"))

    [sent] = stage.wait_for(1)
    assert (sent.method, answer.status, answer.header("content-length"), answer.body) == ("HEAD", 200, "1234", b"")
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["method"], row["runtime_mode"], row["response_bytes"]) == ("HEAD", "read", 0)


def test_the_services_proof_is_one_whoever_sends_it(stage: Stage) -> None:
    assert stage.row(stage.curl("/me").header("outloop-audit-id"))["proof"] == 1
    assert stage.row(stage.curl("/me?x=1").header("outloop-audit-id"))["proof"] == 0


def test_a_request_in_absolute_form_without_a_tunnel_is_bridged_over_verified_tls(stage: Stage) -> None:
    with cleartext(stage.proxy) as agent:
        answer = agent.ask(request(f"https://{HOST}/absolute", "Authorization: Bearer mine"))

    [sent] = stage.wait_for(1)
    assert (answer.status, sent.target, sent.sni) == (200, "/absolute", HOST)
    assert sent.all("authorization") == [f"Bearer {TOKEN}".encode()]


def test_a_service_reached_on_a_listed_port_is_named_with_it(stage: Stage) -> None:
    answer = stage.proxy.curl(f"https://{HOST}:{LOCAL}/port")

    [sent] = stage.wait_for(1)
    assert sent.header("host") == f"{HOST}:{LOCAL}".encode()
    assert stage.row(answer.header("outloop-audit-id"))["port"] == LOCAL


def test_many_requests_share_one_connection_to_the_upstream(stage: Stage) -> None:
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        answers = [agent.ask(request(f"/kept/{number}")) for number in range(5)]

    sent = stage.wait_for(5)
    assert [answer.status for answer in answers] == [200] * 5
    assert len({each.connection for each in sent}) == 1
    assert all(each.all("authorization") == [f"Bearer {TOKEN}".encode()] for each in sent)


def test_requests_side_by_side_get_their_own_answers(stage: Stage) -> None:
    stage.upstream.on("GET /echo", lambda sent: reply(sent.target.encode()))

    with http2(stage) as agent:
        streams = [agent.begin(head("GET", f"/echo?{number}", HOST)) for number in range(20)]
        bodies = [agent.answer(stream).body for stream in streams]

    assert bodies == [f"/echo?{number}".encode() for number in range(20)]
