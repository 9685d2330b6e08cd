"""Upstreams that are not well, or not what one expects: what the agent gets of them, and what the row says."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bridge import http2, request
from harness.raw_agent import tunnel
from harness.raw_http2 import head
from harness.stage import HOST, MARK, TOKEN, Stage
from outloop.attacks.upstream.replies import End, raw, reply


@pytest.fixture
def stage(bridge: Stage) -> Stage:
    return bridge.view()


@pytest.mark.parametrize(
    ("host", "reason", "error"),
    [
        pytest.param("down.example.com", "upstream_failed", "failed", id="down"),
        pytest.param("nowhere.invalid", "upstream_failed", "", id="unknown-name"),
        pytest.param("expired.example.com", "upstream_untrusted", "expired", id="expired"),
        pytest.param("stranger.example.com", "upstream_untrusted", "certificate", id="another-authority"),
        pytest.param("misnamed.example.com", "upstream_untrusted", "mismatch", id="another-name"),
    ],
)
@pytest.mark.parametrize("arguments", [[], ["--http2"]], ids=["h1", "h2"])
def test_an_upstream_that_cannot_be_reached_is_named_with_its_cause(
    stage: Stage, host: str, reason: str, error: str, arguments: list[str]
) -> None:
    answer = stage.curl("/", *arguments, host=host)

    assert (answer.status, answer.header("content-type")) == (502, "application/problem+json")
    document = answer.json()
    assert (document["reason"], document["status"]) == (reason, 502)
    assert host in str(document["detail"])
    assert TOKEN.encode() not in answer.body
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["decision"], row["reason"], row["status"]) == ("allow", reason, 502)
    assert error in str(row["error"]).lower()


def test_an_upload_to_an_upstream_that_cannot_be_reached_is_answered(stage: Stage, tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(b"x" * 300_000)

    answer = stage.curl("/", "-T", str(upload), "-H", "Expect:", host="down.example.com")

    assert (answer.status, answer.json()["reason"]) == (502, "upstream_failed")
    assert stage.row(answer.header("outloop-audit-id"))["reason"] == "upstream_failed"


ECHOED = f"X-Echo: Bearer {TOKEN}".encode()


OK = b"HTTP/1.1 200 OK\r\n"
SECRET = TOKEN.encode()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([End.CLOSE], id="nothing"),
        pytest.param([End.ABORT], id="reset"),
        pytest.param([OK + ECHOED, End.CLOSE], id="closed-mid-head"),
        pytest.param([b"NOT HTTP " + ECHOED + b"\r\n\r\n", End.CLOSE], id="garbage"),
        pytest.param([OK + b"bad header " + SECRET + b"\r\n\r\n", End.CLOSE], id="no-colon"),
        pytest.param([OK + SECRET + b" x: 1\r\nContent-Length: 0\r\n\r\n"], id="invalid-name"),
        pytest.param([OK + b"Content-Length: 1\r\nContent-Length: 2\r\n" + ECHOED + b"\r\n\r\nab"], id="two-lengths"),
        pytest.param(
            [OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" + ECHOED + b"\r\n\r\n1\r\na\r\n0\r\n\r\n"], id="cl-te"
        ),
        pytest.param([OK + b"X: " + b"y" * 100_000 + SECRET, End.CLOSE], id="endless-head"),
        pytest.param([OK + b"Content-Length: 9\r\n\r\n" + SECRET[:5], End.CLOSE], id="closed-mid-body"),
    ],
)
def test_a_broken_answer_is_a_document_without_a_byte_of_it(stage: Stage, pieces: list[bytes | End]) -> None:
    stage.upstream.on("GET /broken", raw(*pieces))

    answer = stage.curl("/broken")

    assert (answer.status, answer.header("content-type")) == (502, "application/problem+json")
    document = answer.json()
    assert (document["reason"], document["service"]) == ("upstream_failed", "example")
    assert HOST in str(document["detail"])
    assert b"mitmproxy" not in answer.body.lower()
    assert TOKEN[:5].encode() not in answer.body
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["decision"], row["reason"], row["status"]) == ("allow", "upstream_failed", 502)
    assert row["error"]
    assert TOKEN not in str(row) + stage.proxy.log


def test_after_a_broken_answer_the_agents_connection_still_serves(stage: Stage) -> None:
    stage.upstream.on("GET /broken", raw(End.CLOSE))
    with http2(stage) as agent:
        statuses = [agent.ask(head("GET", path, HOST)).status for path in ("/fine", "/broken", "/fine")]

    assert statuses == [200, 502, 200]


@pytest.mark.parametrize("interim", [100, 102, 103])
def test_an_interim_answer_is_not_taken_for_the_answer(stage: Stage, interim: int) -> None:
    head = f"HTTP/1.1 {interim} Interim\r\nLink: <{TOKEN}>\r\n\r\n".encode()
    stage.upstream.on("GET /interim", raw(head, head, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal"))

    answer = stage.curl("/interim")

    assert (answer.status, answer.body) == (200, b"final")
    assert stage.row(answer.header("outloop-audit-id"))["status"] == 200


def test_interim_answers_without_end_are_not_waited_for(stage: Stage) -> None:
    stage.upstream.on(
        "GET /interim", raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    )

    assert stage.curl("/interim").status == 502


def test_a_switch_of_protocol_that_nobody_asked_for_is_refused(stage: Stage) -> None:
    stage.upstream.on(
        "GET /switch", raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" + TOKEN.encode())
    )

    answer = stage.curl("/switch")

    assert (answer.status, answer.json()["reason"]) == (502, "scrub_failed")
    assert stage.row(answer.header("outloop-audit-id"))["reason"] == "scrub_failed"


@pytest.mark.parametrize("arguments", [[], ["--http2"]], ids=["h1", "h2"])
def test_trailers_are_dropped_and_the_body_is_whole(stage: Stage, arguments: list[str]) -> None:
    stage.upstream.on(
        "GET /trailers",
        raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Echo\r\n\r\n4\r\nbody\r\n0\r\n" + ECHOED + b"\r\n\r\n",
        ),
    )

    answer = stage.curl("/trailers", *arguments)

    assert (answer.exit_code, answer.status, answer.body) == (0, 200, b"body")
    assert (answer.header("trailer"), answer.header("x-echo")) == (None, None)
    assert stage.curl("/after").status == 200


def test_trailers_of_a_request_are_dropped(stage: Stage) -> None:
    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        answer = agent.ask(
            request("/upload/x", "Transfer-Encoding: chunked", method="POST")
            + b"4\r\nbody\r\n0\r\nAuthorization: Bearer mine\r\n\r\n"
        )
        after = agent.ask(request("/after"))

    first, second = stage.wait_for(2)
    assert (answer.status, after.status, bytes(first.body), second.path) == (200, 200, b"body", "/after")
    assert b"mine" not in first.raw


def test_an_answer_in_http_1_0_without_a_length_is_whole_when_the_connection_ends(stage: Stage) -> None:
    stage.upstream.on("GET /old", raw(b"HTTP/1.0 200 OK\r\n\r\nall " + TOKEN.encode() + b" of it", End.CLOSE))

    answer = stage.curl("/old")

    assert (answer.exit_code, answer.status, answer.body) == (0, 200, f"all {MARK} of it".encode())


def test_an_agent_that_speaks_http_1_0_is_served(stage: Stage) -> None:
    answer = stage.curl("/old-agent", "--http1.0")

    assert (answer.exit_code, answer.status, answer.body) == (0, 200, b"ok")


@pytest.mark.parametrize(("status", "arguments"), [(204, []), (304, []), (204, ["--http2"]), (304, ["--http2"])])
def test_an_answer_without_a_body_has_none(stage: Stage, status: int, arguments: list[str]) -> None:
    stage.upstream.on("GET /bodiless", raw(f'HTTP/1.1 {status} X\r\nETag: "1"\r\n\r\n'.encode()))

    answer = stage.curl("/bodiless", *arguments)

    assert (answer.exit_code, answer.status, answer.header("etag"), answer.body) == (0, status, '"1"', b"")


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_the_agents_to_follow(stage: Stage, status: int) -> None:
    stage.upstream.on("GET /moved", reply(status=status, headers=[("Location", f"https://evil.example.org/?t={TOKEN}")]))

    answer = stage.curl("/moved")

    assert (answer.status, answer.header("location")) == (status, f"https://evil.example.org/?t={MARK}")
    assert len(stage.arrived) == 1


def test_an_agent_that_does_not_trust_the_authority_leaves_an_event(stage: Stage, tmp_path: Path) -> None:
    nothing = tmp_path / "empty.pem"
    nothing.write_bytes(b"")

    answer = stage.curl("/", "--cacert", str(nothing), "--capath", str(tmp_path))

    assert answer.exit_code in (35, 60, 77)
    if answer.exit_code != 77:
        assert stage.wait_for_event("ca_distrusted")[0]["host"] == HOST
