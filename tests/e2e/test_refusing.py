"""What does not go up: each refusal with its document, its row, and nothing at the upstream."""

from __future__ import annotations

import json
import socket

import pytest

from harness.bridge import http2, put, request
from harness.raw_agent import cleartext, connect_request, connected, tunnel
from harness.raw_http2 import head
from harness.stage import HOST, MARK, TOKEN, Stage
from outloop.attacks.upstream.replies import json_reply, reply


@pytest.fixture
def stage(bridge: Stage) -> Stage:
    return bridge.view()


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        pytest.param(request(host="evil.example.com"), 421, "host_mismatch", id="another-host"),
        pytest.param(request(host=f"{HOST}:8443"), 421, "host_mismatch", id="another-port"),
        pytest.param(request("/", "Host: evil.example.com"), 400, "malformed_request", id="two-hosts"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, "malformed_request", id="no-host"),
        pytest.param(request(f"https://{HOST}/"), 400, "malformed_request", id="absolute-form"),
        pytest.param(request("https://evil.example.com/"), 400, "malformed_request", id="absolute-form-of-another"),
        pytest.param(connect_request(f"{HOST}:443"), 400, "malformed_request", id="nested-connect"),
        pytest.param(request("/a/../b"), 400, "malformed_request", id="dot-segments"),
        pytest.param(request("/%2e%2e/b"), 400, "malformed_request", id="encoded-dot-segments"),
        pytest.param(request("/a%2Fb"), 400, "malformed_request", id="encoded-slash"),
        pytest.param(request("/a#b"), 400, "malformed_request", id="fragment"),
        pytest.param(request("/%252e"), 400, "malformed_request", id="double-encoding"),
        pytest.param(request(method="get"), 400, "malformed_request", id="lower-case-method"),
        pytest.param(request(method="TRACE"), 400, "malformed_request", id="trace"),
        pytest.param(request("/", "X-HTTP-Method-Override: DELETE"), 400, "malformed_request", id="method-override"),
        pytest.param(request("/?_method=DELETE"), 400, "malformed_request", id="method-override-parameter"),
        pytest.param(request("/", "X-Folded: a", " b"), 400, "malformed_request", id="folded"),
        pytest.param(request("/", "X-A : b"), 400, "malformed_request", id="space-before-colon"),
        pytest.param(request("/", "no colon"), 400, "malformed_request", id="no-colon"),
        pytest.param(request("/", "X-A: a\0b"), 400, "malformed_request", id="nul"),
        pytest.param(b"not http at all\r\n\r\n", 400, "malformed_request", id="garbage"),
        pytest.param(request("/", *[f"X-{number}: 1" for number in range(400)]), 400, "malformed_request", id="too-many-headers"),
        pytest.param(request("/", f"X-A: {'a' * 70_000}"), 400, "malformed_request", id="head-too-large"),
        pytest.param(request("/private/x"), 403, "denied_by_rule", id="denied"),
        pytest.param(request("/x", method="PATCH"), 403, "method_not_allowed", id="method"),
        pytest.param(put("/x", "Content-Length: 0"), 403, "path_not_allowed", id="path"),
        pytest.param(request("/things/2", method="DELETE"), 403, "wrong_resource", id="resource"),
        pytest.param(put("/x", "Content-Length: 1", "Transfer-Encoding: chunked"), 400, "malformed_request", id="cl-te"),
        pytest.param(put("/x", "Content-Length: 1", "Content-Length: 2"), 400, "malformed_request", id="two-lengths"),
        pytest.param(put("/x", "Transfer-Encoding: gzip, chunked"), 400, "malformed_request", id="other-coding"),
        pytest.param(request("/ws", "Connection: Upgrade", "Upgrade: websocket"), 403, "method_not_allowed", id="websocket"),
    ],
)  # fmt: skip
def test_what_is_refused_gets_a_document_and_a_row_and_goes_nowhere(stage: Stage, sent: bytes, status: int, reason: str) -> None:
    before = stage.upstream.connections
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        answer = agent.ask(sent)

    assert (answer.status, answer.header("outloop-reason")) == (status, reason)
    assert answer.header("content-type") == "application/problem+json"
    document = json.loads(answer.body)
    assert {name: document[name] for name in ("type", "status", "decision", "reason")} == {
        "type": "about:blank", "status": status, "decision": "deny", "reason": reason,
    }  # fmt: skip
    assert document["title"]
    assert document["detail"]
    assert document["next_step"]
    assert document["audit_id"] == answer.header("outloop-audit-id")
    row = stage.row(document["audit_id"])
    assert (row["decision"], row["reason"], row["status"], row["secret_exposed"]) == ("deny", reason, status, None)
    assert (row["workspace"], stage.arrived, stage.upstream.connections) == ("acme", [], before)


def test_a_refusal_keeps_the_connection_and_the_next_request_is_decided_anew(stage: Stage) -> None:
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        statuses = [agent.ask(request(path)).status for path in ("/private/x", "/x", "/private/y", "/y")]

    assert statuses == [403, 200, 403, 200]
    assert [each.path for each in stage.wait_for(2)] == ["/x", "/y"]


def test_a_spoofed_host_on_the_second_request_of_a_connection_is_refused(stage: Stage) -> None:
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        answers = [agent.ask(request("/first")), agent.ask(request("/second", host="small.example.com"))]

    assert [answer.status for answer in answers] == [200, 421]
    assert [each.path for each in stage.arrived] == ["/first"]


@pytest.mark.parametrize("sni", ["small.example.com", "evil.example.com", ""], ids=["another-service", "unclaimed", "none"])
def test_an_sni_that_names_another_host_is_refused(stage: Stage, sni: str) -> None:
    with tunnel(stage.proxy, f"{HOST}:443", sni=sni) as agent:
        answer = agent.ask(request())

    assert (answer.status, answer.header("outloop-reason"), stage.arrived) == (421, "host_mismatch", [])
    assert stage.row(answer.header("outloop-audit-id"))["host"] == HOST


def test_an_authority_that_names_another_host_is_refused_on_any_stream(stage: Stage) -> None:
    with http2(stage) as agent:
        first, second = agent.ask(head("GET", "/first", HOST)), agent.ask(head("GET", "/second", "evil.example.com"))

    assert (first.status, second.status, second.header("outloop-reason")) == (200, 421, "host_mismatch")
    assert [each.path for each in stage.arrived] == ["/first"]


@pytest.mark.parametrize("host", [HOST.upper(), f"{HOST}."], ids=["upper-case", "trailing-dot"])
def test_another_spelling_of_the_same_host_is_that_host(stage: Stage, host: str) -> None:
    with tunnel(stage.proxy, f"{host}:443", sni=HOST) as agent:
        answer = agent.ask(request(host=host))

    assert (answer.status, json.loads(answer.body or b"{}") if answer.status != 200 else None) == (200, None)
    [sent] = stage.wait_for(1)
    assert (answer.status, sent.header("host"), sent.sni) == (200, HOST.encode(), HOST)


def test_cleartext_to_a_bridged_host_is_refused(stage: Stage) -> None:
    answer = stage.proxy.curl(f"http://{HOST}/users/me")

    assert (answer.status, answer.json()["reason"], stage.arrived) == (403, "cleartext_refused", [])
    assert stage.row(answer.header("outloop-audit-id"))["scheme"] == "http"


def test_plain_http_inside_a_tunnel_is_refused(stage: Stage) -> None:
    with connected(stage.proxy, f"{HOST}:443") as agent:
        answer = agent.ask(request("/plain", host=f"{HOST}:443"))

    assert (answer.status, answer.header("outloop-reason"), stage.arrived) == (403, "cleartext_refused", [])


def test_bytes_that_are_not_http_are_not_relayed_to_a_bridged_host(stage: Stage) -> None:
    before = stage.upstream.connections
    with connected(stage.proxy, f"{HOST}:443") as agent:
        agent.send(b"SSH-2.0-OpenSSH_9.0\r\n\r\n" + b"\0\1\2\3" * 10)
        agent.connection.shutdown(socket.SHUT_WR)
        got = agent.everything()

    assert b"SSH" not in got
    assert stage.upstream.connections == before


@pytest.mark.parametrize(
    ("target", "reason", "status"),
    [
        pytest.param("evil.example.org:443", "host_not_allowed", 403, id="unclaimed"),
        pytest.param(f"{HOST}:444", "cleartext_refused", 403, id="another-port"),
        pytest.param(f"{HOST}.evil.example.org:443", "host_not_allowed", 403, id="look-alike-suffix"),
        pytest.param("127.0.0.1:443", "host_not_allowed", 403, id="address"),
        pytest.param("0x7f.1:443", "malformed_request", 400, id="address-in-disguise"),
        pytest.param("xn--pi-6kc.example.com:443", "host_not_allowed", 403, id="look-alike-letter"),
        pytest.param("outloop.internal:444", "cleartext_refused", 403, id="own-pages-elsewhere"),
    ],
)
def test_a_connect_that_leads_nowhere_is_refused_with_its_reason(stage: Stage, target: str, reason: str, status: int) -> None:
    with cleartext(stage.proxy) as agent:
        answer = agent.ask(connect_request(target))

    assert (answer.status, answer.header("outloop-reason")) == (status, reason)
    assert json.loads(answer.body)["reason"] == reason
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["method"], row["path"], row["reason"], row["decision"]) == ("CONNECT", "", reason, "deny")


def test_a_host_that_is_not_ascii_is_refused(stage: Stage) -> None:
    with cleartext(stage.proxy) as agent:
        answer = agent.ask("CONNECT ａpi.example.com:443 HTTP/1.1\r\nHost: ａpi.example.com:443\r\n\r\n".encode())

    assert (answer.status, answer.header("outloop-reason")) == (400, "malformed_request")
    assert stage.row(answer.header("outloop-audit-id"))["reason"] == "malformed_request"


def test_an_origin_form_request_to_the_proxy_itself_goes_nowhere(stage: Stage) -> None:
    with cleartext(stage.proxy) as agent:
        answer = agent.ask(request("/users/me"))

    assert (answer.status, answer.header("outloop-reason"), stage.arrived) == (400, "malformed_request", [])


# Bodies that a rule reads


@pytest.mark.parametrize(
    ("host", "arguments", "status", "reason"),
    [
        pytest.param(HOST, ["-d", '{"max":1,"x":[1]}'], 200, "OK", id="allowed"),
        pytest.param(HOST, ["-H", "Transfer-Encoding: chunked", "-d", '{"max":1,"x":[1]}'], 200, "OK", id="allowed-chunked"),
        pytest.param(HOST, ["--http2", "-d", '{"max":1,"x":[1]}'], 200, "OK", id="allowed-h2"),
        pytest.param(HOST, ["-d", '{"max":2}'], 403, "body_not_allowed", id="another-value"),
        pytest.param(HOST, ["-d", '{"max":1,"max":2}'], 403, "body_not_allowed", id="two-values"),
        pytest.param(HOST, ["-d", '{"max":1'], 403, "body_not_allowed", id="malformed"),
        pytest.param(HOST, ["-H", "Content-Encoding: gzip", "-d", '{"max":1}'], 403, "body_not_allowed", id="encoded"),
        pytest.param(HOST, ["-X", "POST"], 403, "body_not_allowed", id="none"),
        pytest.param("small.example.com", ["-d", f'{{"max":1,"x":"{"x" * 100}"}}'], 413, "body_too_large", id="too-large"),
        pytest.param(
            "small.example.com", ["-H", "Transfer-Encoding: chunked", "-d", f'{{"max":1,"x":"{"x" * 100}"}}'],
            413, "body_too_large", id="too-large-chunked",
        ),
        pytest.param(
            "small.example.com", ["--http2", "-H", "Transfer-Encoding: chunked", "-d", f'{{"max":1,"x":"{"x" * 100}"}}'],
            413, "body_too_large", id="too-large-h2",
        ),
    ],
)  # fmt: skip
def test_a_body_that_a_rule_reads_is_decided_on_and_sent_as_it_was_read(
    stage: Stage, host: str, arguments: list[str], status: int, reason: str
) -> None:
    answer = stage.curl("/links", "-H", "Content-Type: application/json", *arguments, host=host)

    row = stage.row(answer.header("outloop-audit-id"))
    assert (answer.status, row["reason"], row["status"]) == (status, reason, status)
    if reason == "OK":
        [sent] = stage.wait_for(1)
        assert bytes(sent.body) == b'{"max":1,"x":[1]}'
        assert sent.header("content-length") == b"17"
        assert sent.all("transfer-encoding") == []
        assert row["request_bytes"] == 17
    else:
        assert (stage.arrived, answer.json()["reason"]) == ([], reason)


def test_what_needs_approval_is_pending_at_once(stage: Stage) -> None:
    answer = stage.curl("/asks", "-d", "a=1")

    assert (answer.status, answer.json()["reason"], stage.arrived) == (403, "approval_pending", [])
    assert int(answer.header("retry-after") or 0) > 0
    assert stage.row(answer.header("outloop-audit-id"))["decision"] == "deny"


def test_a_body_of_a_read_is_sent_as_it_is(stage: Stage) -> None:
    stage.curl("/search", "-X", "GET", "-d", "q=1")

    [sent] = stage.wait_for(1)
    assert (sent.method, bytes(sent.body), sent.header("content-length")) == ("GET", b"q=1", b"3")


# Keys, switches and limits


def test_a_switch_takes_effect_on_the_very_next_request_of_an_open_connection(stage: Stage) -> None:
    host, key = "switched.example.com", "acme-switched"
    with tunnel(stage.proxy, f"{host}:443") as agent:
        answers = [agent.ask(request("/1", host=host))]
        stage.switch(key, False)
        answers.append(agent.ask(request("/2", host=host)))
        stage.switch(key, True)
        answers.append(agent.ask(request("/3", host=host)))

    assert [answer.status for answer in answers] == [200, 403, 200]
    assert [each.path for each in stage.arrived] == ["/1", "/3"]
    refused = json.loads(answers[1].body)
    assert (refused["reason"], refused["service"]) == ("runtime_access_off", "switched")
    assert "outloop key enable acme-switched -w acme" in refused["next_step"]


def test_a_service_without_a_key_says_how_to_add_one(stage: Stage) -> None:
    answer = stage.curl("/", host="keyless.example.com")

    assert (answer.status, answer.json()["reason"], stage.arrived) == (403, "key_missing", [])
    assert "outloop key add keyless -w acme" in str(answer.json()["next_step"])
    assert stage.row(answer.header("outloop-audit-id"))["reason"] == "key_missing"


def test_a_key_that_the_upstream_rejects_is_said_in_the_row_and_the_answer_passes(stage: Stage) -> None:
    stage.upstream.on("GET /rejected", json_reply({"error": f"{TOKEN} is invalid"}, status=401), json_reply({}))

    answer = stage.curl("/rejected")

    assert (answer.status, answer.json()) == (401, {"error": f"{MARK} is invalid"})
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["decision"], row["reason"], row["status"], row["scrubbed"]) == ("allow", "key_rejected", 401, 1)
    assert stage.curl("/rejected").status == 200  # read anew, used again


def test_an_upstream_that_asks_for_patience_gets_it(stage: Stage) -> None:
    host = "throttled.example.com"
    stage.upstream.on("GET /busy", reply(b"slow down", status=429, headers=[("Retry-After", "3000")]))

    first, second = stage.curl("/busy", host=host), stage.curl("/free", host=host)

    assert (first.status, first.body) == (429, b"slow down")
    assert stage.row(first.header("outloop-audit-id"))["decision"] == "allow"
    assert (second.status, second.json()["reason"]) == (429, "rate_limited")
    assert 0 < int(second.header("retry-after") or 0) <= 3000
    assert [each.path for each in stage.arrived] == ["/busy"]


def test_a_workspaces_own_limit_holds(stage: Stage) -> None:
    answers = [stage.curl(f"/{number}", host="limited.example.com") for number in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].json()["reason"] == "rate_limited"
    assert 0 < int(answers[2].header("retry-after") or 0) <= 3600
    assert len(stage.arrived) == 2
