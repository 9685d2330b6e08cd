"""The one POST to a token endpoint: what it looks like, and every way in which it gets no usable answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from outloop.attacks.upstream.certs import HTTP2, Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import End, Gate, Reply, chunked, json_reply, raw, reply, until_close
from outloop.core.auth.oauth2 import Endpoint, TokenRequest
from outloop.core.errors import MintError
from outloop.proxy.endpoint import ANSWER_BYTES, EndpointUntrusted, TokenEndpoint

FIELDS = ((b"Authorization", b"Basic bm90LXJlYWw="), (b"Content-Type", b"application/x-www-form-urlencoded"))


@pytest.fixture
def endpoint(authority: Authority) -> Iterator[Recorder]:
    with Recorder(authority.server_context("localhost", protocols=HTTP2)) as recorder:
        yield recorder


def ask(trust: Path, port: int, *, host: str = "localhost", limit_s: float = 30.0) -> tuple[int, bytes]:
    request = TokenRequest(Endpoint(host, port, "/token?v=1"), FIELDS, b"grant_type=x")
    return asyncio.run(TokenEndpoint(lambda: str(trust), limit_s).ask(request))


def test_the_request_is_plain_http1_and_asks_for_nothing_coded(endpoint: Recorder, upstream_ca: Path) -> None:
    endpoint.on("POST /token", json_reply({"a": 1}))

    assert ask(upstream_ca, endpoint.port) == (200, b'{"a": 1}')

    [sent] = endpoint.wait_for(1)
    head, _, body = bytes(sent.raw).partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert (first, body) == (b"POST /token?v=1 HTTP/1.1", b"grant_type=x")
    assert sorted(lines) == sorted(
        [
            b"Host: localhost:%d" % endpoint.port,
            *(b"%s: %s" % field for field in FIELDS),
            b"Content-Length: 12",
            b"Connection: close",
            b"Accept-Encoding: identity",
        ]
    )
    assert sent.sni == "localhost"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(reply(b"x" * ANSWER_BYTES), (200, b"x" * ANSWER_BYTES), id="as-long-as-may-be"),
        pytest.param(chunked(b"a", b"b"), (200, b"ab"), id="chunked"),
        pytest.param(until_close(b"ab"), (200, b"ab"), id="until-close"),
        pytest.param(reply(b"no", status=401), (401, b"no"), id="401"),
        pytest.param(raw(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), (200, b""), id="103"),
    ],
)
def test_an_answer_is_read_whole(endpoint: Recorder, upstream_ca: Path, answer: Reply, expected: tuple[int, bytes]) -> None:
    endpoint.on("POST /token", answer)

    assert ask(upstream_ca, endpoint.port) == expected


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(reply(b"x" * (ANSWER_BYTES + 1)), "too long", id="too-long"),
        pytest.param(chunked(*[b"x" * 8192] * 20), "too long", id="too-long-in-chunks"),
        pytest.param(chunked(b"a", End.ABORT), "gave no usable answer", id="reset"),
        pytest.param(chunked(b"a", End.CLOSE), "gave no usable answer", id="cut"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n"), "gave no usable answer", id="long-head"),
        pytest.param(raw(b"not http\r\n\r\n"), "gave no usable answer", id="not-http"),
        pytest.param(raw(End.CLOSE), "gave no usable answer", id="nothing"),
    ],
)
def test_an_answer_that_is_none_is_an_error_without_its_text(
    endpoint: Recorder, upstream_ca: Path, answer: Reply, message: str
) -> None:
    endpoint.on("POST /token", answer)

    with pytest.raises(MintError, match=message) as caught:
        ask(upstream_ca, endpoint.port)

    assert "not http" not in str(caught.value)


def test_an_endpoint_that_does_not_answer_is_not_waited_for(endpoint: Recorder, upstream_ca: Path) -> None:
    endpoint.on("POST /token", chunked(b"{", Gate(), b"}"))

    with pytest.raises(MintError, match="did not answer within 1 s"):
        ask(upstream_ca, endpoint.port, limit_s=1.0)


@pytest.mark.parametrize("name", ["stranger", "misnamed", "expired"])
def test_only_a_verified_endpoint_is_told_the_secret(authority: Authority, upstream_ca: Path, name: str) -> None:
    contexts: dict[str, ssl.SSLContext] = {
        "stranger": Authority().server_context("localhost"),
        "misnamed": authority.server_context("other.example.com", common_name="localhost"),
        "expired": authority.server_context("localhost", expired=True),
    }
    with Recorder(contexts[name]) as endpoint:
        with pytest.raises(EndpointUntrusted):
            ask(upstream_ca, endpoint.port)

        assert endpoint.requests == []


def test_what_cannot_be_reached_is_an_error(upstream_ca: Path, free_port: int) -> None:
    for host in ("localhost", "nowhere.invalid"):
        with pytest.raises(MintError, match=f"{host} gave no usable answer"):
            ask(upstream_ca, free_port, host=host)


@pytest.fixture
def free_port() -> int:
    from harness.proxy import free_port

    return free_port()
