"""httpbin behind TLS: an upstream nobody here wrote. The key never comes back, and what is clean comes back as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.httpbin_tls import httpbin
from harness.operators import Operator
from harness.proxy import Answer, Proxy, curl, running_proxy
from harness.stage import MARK, TOKEN, store_keys
from outloop.attacks.upstream.certs import Authority

HOST = "httpbin.test"
POLICY = f"""\
workspace: acme
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - allow: "* /**"
"""


@pytest.fixture(scope="module")
def port(authority: Authority) -> Iterator[int]:
    with httpbin(authority.server_context(HOST)) as number:
        yield number


@pytest.fixture(scope="module")
def proxy(module_operator: Operator, port: int, upstream_ca: Path) -> Iterator[Proxy]:
    module_operator.write_policy("acme", POLICY)
    store_keys(module_operator, {"example": TOKEN})
    with running_proxy(module_operator, {HOST: port}, upstream_ca=upstream_ca) as running:
        yield running


@pytest.fixture(params=[[], ["--http2"]], ids=["h1", "h2"])
def protocol(request: pytest.FixtureRequest) -> list[str]:
    assert isinstance(request.param, list)
    return request.param


def through(proxy: Proxy, path: str, *arguments: str) -> Answer:
    answer = proxy.curl(f"https://{HOST}{path}", *arguments)
    assert answer.exit_code == 0, answer
    assert TOKEN not in str(answer)
    return answer


def directly(port: int, path: str, upstream_ca: Path, *arguments: str) -> Answer:
    environ = {"PATH": "/usr/bin:/bin"}
    pinned = ["--cacert", str(upstream_ca), "--resolve", f"{HOST}:{port}:127.0.0.1", "-H", f"Authorization: Bearer {TOKEN}"]
    return curl(f"https://{HOST}:{port}{path}", *pinned, *arguments, environ=environ)


@pytest.mark.parametrize("path", ["/headers", "/anything", "/bearer", "/get"])
def test_what_httpbin_echoes_of_the_key_is_taken_out(proxy: Proxy, protocol: list[str], path: str) -> None:
    answer = through(proxy, path, "-H", "Authorization: Bearer mine", *protocol)

    assert answer.status == 200
    assert "mine" not in answer.body.decode()
    echoed = answer.json()
    assert echoed.get("token", MARK) == MARK
    if path != "/bearer":
        headers = echoed["headers"]
        assert isinstance(headers, dict)
        assert headers["Authorization"] == f"Bearer {MARK}"
        assert headers["Host"] == HOST


@pytest.mark.parametrize("path", ["/gzip", "/brotli", "/deflate"])
def test_what_is_compressed_is_decoded_and_clean(proxy: Proxy, protocol: list[str], path: str) -> None:
    answer = through(proxy, path, *protocol)

    headers = answer.json()["headers"]
    assert isinstance(headers, dict)
    assert (answer.status, headers["Authorization"]) == (200, f"Bearer {MARK}")
    assert answer.header("content-encoding") is None


def test_a_stream_of_lines_is_clean_in_every_line(proxy: Proxy, protocol: list[str]) -> None:
    answer = through(proxy, "/stream/20", *protocol)

    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [line["id"] for line in lines] == list(range(20))
    assert {line["headers"]["Authorization"] for line in lines} == {f"Bearer {MARK}"}


@pytest.mark.parametrize(
    "path",
    [
        "/bytes/100000?seed=1",
        "/stream-bytes/100000?seed=1",
        "/image/png",
        "/html",
        "/encoding/utf8",
        "/json",
        "/xml",
        "/robots.txt",
        "/status/418",
    ],
)
def test_a_clean_body_equals_the_direct_one(proxy: Proxy, port: int, upstream_ca: Path, protocol: list[str], path: str) -> None:
    answer, direct = through(proxy, path, *protocol), directly(port, path, upstream_ca)

    assert direct.exit_code == 0, direct
    assert (answer.status, answer.body) == (direct.status, direct.body)
    assert answer.header("content-type") == direct.header("content-type")
    assert answer.header("outloop-audit-id")


def test_a_redirect_goes_to_the_agent(proxy: Proxy, protocol: list[str]) -> None:
    answer = through(proxy, "/redirect-to?url=https%3A%2F%2Fhttpbin.test%2Fget", *protocol)

    assert (answer.status, answer.header("location")) == (302, "https://httpbin.test/get")
    assert through(proxy, "/redirect-to?url=%2Fget", "-L", *protocol).status == 200


def test_headers_that_are_asked_for_come_back(proxy: Proxy, protocol: list[str]) -> None:
    answer = through(proxy, "/response-headers?X-Asked=1&Set-Cookie=a%3Db", *protocol)

    assert (answer.header("x-asked"), answer.header("set-cookie")) == ("1", "a=b")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_body_arrives_as_it_was_sent(proxy: Proxy, protocol: list[str], method: str) -> None:
    answer = through(
        proxy, f"/{method.lower()}?a=1", "-X", method, "-H", "Content-Type: application/json", "-d", '{"x": [1, "ä"]}', *protocol
    )

    assert answer.json()["json"] == {"x": [1, "ä"]}
    assert answer.json()["args"] == {"a": "1"}


def test_cookies_and_basic_credentials_of_the_agents_own_stay_behind(proxy: Proxy, protocol: list[str]) -> None:
    cookies = through(proxy, "/cookies", "-b", "session=mine", *protocol)
    basic = through(proxy, "/basic-auth/user/pass", "-u", "user:pass", *protocol)

    assert cookies.json() == {"cookies": {}}
    assert basic.status == 401  # httpbin got the key, not what the agent sent
