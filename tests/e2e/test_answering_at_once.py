"""A refusal is answered from the request's head: nobody waits for a body that was announced and does not come."""

from __future__ import annotations

import json

import pytest

from harness.bridge import http2, request
from harness.raw_agent import cleartext, connect_request, tunnel
from harness.raw_http2 import head
from harness.stage import HOST, Stage

MEBIBYTE = 1024 * 1024


@pytest.fixture
def stage(bridge: Stage) -> Stage:
    return bridge.view()


@pytest.mark.parametrize(
    ("path", "lines", "sent", "status", "reason"),
    [
        pytest.param("/private/x", ["Content-Length: 10"], b"", 403, "denied_by_rule", id="declared"),
        pytest.param("/private/x", ["Content-Length: 10"], b"half", 403, "denied_by_rule", id="declared-and-begun"),
        pytest.param("/private/x", ["Content-Length: 99999999999"], b"", 403, "denied_by_rule", id="declared-beyond-any-use"),
        pytest.param("/private/x", ["Transfer-Encoding: chunked"], b"", 403, "denied_by_rule", id="chunked"),
        pytest.param("/private/x", ["Transfer-Encoding: chunked"], b"5\r\nab", 403, "denied_by_rule", id="chunked-and-begun"),
        pytest.param("/private/x", ["Content-Length: 10", "Expect: 100-continue"], b"", 403, "denied_by_rule", id="expect"),
        pytest.param(
            "/private/x", ["Transfer-Encoding: chunked", "Expect: 100-continue"], b"", 403, "denied_by_rule", id="expect-chunked"
        ),
        pytest.param("/a/../b", ["Content-Length: 10"], b"", 400, "malformed_request", id="malformed"),
        pytest.param("/links", ["Content-Length: 9999999"], b"", 413, "body_too_large", id="too-large-for-its-rule"),
        pytest.param(
            "/links", ["Transfer-Encoding: chunked"], b"200000\r\n" + b"x" * (2 * MEBIBYTE), 413, "body_too_large",
            id="too-large-in-chunks",
        ),
    ],
)  # fmt: skip
def test_a_refusal_does_not_wait_for_the_body(
    stage: Stage, path: str, lines: list[str], sent: bytes, status: int, reason: str
) -> None:
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        answer = agent.ask(request(path, *lines, method="POST") + sent)
        rest = agent.everything()  # it closes in time, by itself

    assert (answer.status, answer.header("outloop-reason"), answer.header("connection")) == (status, reason, "close")
    assert json.loads(answer.body)["reason"] == reason
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["decision"], row["reason"], row["status"]) == ("deny", reason, status)
    assert (rest, stage.arrived) == (b"", [])


def test_a_page_of_the_proxys_own_does_not_wait_for_a_body_either(stage: Stage) -> None:
    with tunnel(stage.proxy, "outloop.internal:443") as agent:
        answer = agent.ask(request("/", "Content-Length: 10", host="outloop.internal"))

    assert (answer.status, answer.header("connection")) == (200, "close")


def test_a_challenge_does_not_wait_for_a_body(stage: Stage) -> None:
    with cleartext(stage.proxy) as agent:
        answer = agent.ask(b"PUT http://evil.example.org/ HTTP/1.1\r\nHost: evil.example.org\r\nContent-Length: 3\r\n\r\n")

    assert answer.status == 403


def test_where_the_body_is_here_by_then_the_connection_is_kept(stage: Stage) -> None:
    chunked = request("/private/x", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\n\r\n"
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        statuses = [agent.ask(each).status for each in (chunked, request("/private/y", "Content-Length: 3", body="abc"))]
        statuses.append(agent.ask(request("/after")).status)

    assert statuses == [403, 403, 200]
    assert [each.path for each in stage.arrived] == ["/after"]


def test_what_follows_an_early_answer_is_never_read_as_a_request(stage: Stage) -> None:
    before = len(stage.operator.rows())
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        answer = agent.ask(request("/private/x", "Content-Length: 100", method="POST"))
        agent.send(request("/smuggled") * 10)
        rest = agent.everything()

    assert (answer.status, rest, stage.arrived) == (403, b"", [])
    assert len(stage.operator.rows()) == before + 1


def test_a_connect_with_a_body_is_answered_at_once(stage: Stage) -> None:
    with cleartext(stage.proxy) as agent:
        sent = connect_request("evil.example.org:443").removesuffix(b"\r\n") + b"Content-Length: 10\r\n\r\n"
        assert agent.ask(sent).status == 403


@pytest.mark.parametrize("pieces", [[], [b"half"]], ids=["no-body", "half-a-body"])
def test_over_http2_a_refusal_does_not_wait_and_its_stream_is_reset_without_an_error(stage: Stage, pieces: list[bytes]) -> None:
    with http2(stage) as agent:
        stream = agent.begin(head("POST", "/private/x", HOST, ("content-length", "10")), *pieces, end=False)
        answer = agent.answer(stream)
        after = agent.ask(head("GET", "/after", HOST))
        code = agent.reset_code(stream)

    assert (answer.status, answer.header("outloop-reason"), after.status) == (403, "denied_by_rule", 200)
    assert code == 0  # NO_ERROR: the answer was whole (RFC 9113 §8.1)
    assert stage.row(answer.header("outloop-audit-id"))["status"] == 403
    assert [each.path for each in stage.arrived] == ["/after"]


def test_over_http2_an_upload_after_the_answer_is_dropped_and_harms_no_other_stream(stage: Stage) -> None:
    with http2(stage) as agent:
        stream = agent.begin(head("POST", "/private/x", HOST), end=False)
        answer = agent.answer(stream)
        for _ in range(64):
            agent.go_on(stream, b"x" * 16384, end=False)
        agent.go_on(stream, b"x", end=True)
        after = agent.ask(head("GET", "/after", HOST))

    assert (answer.status, after.status) == (403, 200)
