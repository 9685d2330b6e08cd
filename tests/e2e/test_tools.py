"""The same addon under mitmproxy's other programs: a console that draws, and a web page that serves flows."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.operators import Operator
from harness.proxy import free_port
from harness.raw_agent import tunnel
from harness.stage import HOST, MARK, TOKEN, Stage, running_stage, store_keys
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import Gate, chunked, json_reply

POLICY = f"""\
workspace: acme
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - allow: GET /**
"""


@pytest.fixture
def upstream(authority: Authority) -> Iterator[Recorder]:
    with Recorder(authority.server_context(HOST)) as recorder:
        recorder.on("GET /echo", json_reply({"echo": TOKEN}, headers=[("X-Echo", TOKEN)]))
        yield recorder


@pytest.fixture
def ready(operator: Operator) -> Operator:
    operator.write_policy("acme", POLICY)
    store_keys(operator, {"example": TOKEN})
    return operator


def assert_works(stage: Stage) -> None:
    for arguments in ([], ["--http2"]):
        answer = stage.curl("/echo", "-H", "Authorization: Bearer mine", *arguments)
        assert (answer.status, answer.json()) == (200, {"echo": MARK}), stage.proxy.log
        assert answer.header("x-echo") == MARK
        row = stage.row(answer.header("outloop-audit-id"))
        assert (row["decision"], row["reason"], row["stripped"], row["scrubbed"]) == ("allow", "OK", 1, 2)
    assert all(sent.all("authorization") == [f"Bearer {TOKEN}".encode()] for sent in stage.arrived)
    refused = stage.curl("/echo", "-X", "DELETE")
    assert (refused.status, refused.json()["reason"]) == (403, "method_not_allowed")
    assert stage.proxy.curl("https://evil.example.org/").header("outloop-reason") == "host_not_allowed"


@pytest.mark.parametrize("tool", ["mitmdump", "mitmweb", "mitmproxy"])
def test_the_addon_works_under_each_of_mitmproxys_programs(
    ready: Operator, upstream: Recorder, upstream_ca: Path, tool: str
) -> None:
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca, tool=tool) as stage:
        assert_works(stage)
        assert TOKEN not in stage.proxy.log


def test_what_mitmweb_serves_holds_no_key_not_even_of_a_request_in_flight(
    ready: Operator, upstream: Recorder, upstream_ca: Path
) -> None:
    gate, web_port = Gate(), free_port()
    upstream.on("GET /in-flight", chunked(b"first\n\n", gate, b"last\n\n"))
    options = ["--web-port", str(web_port), "--set", "web_password=for-this-test"]
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca, tool="mitmweb", options=options) as stage:
        assert_works(stage)
        with tunnel(stage.proxy, f"{HOST}:443") as agent:
            agent.send(f"GET /in-flight HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert agent.head().read(7) == b"first\n\n"
            flows = served(web_port, "/flows")
            served_bodies = [served(web_port, f"/flows/{flow}/response/content.data") for flow in ids_of(flows, "/echo")]
            gate.open()

    assert b"/in-flight" in flows
    assert served_bodies
    for page in (flows, *served_bodies):
        assert TOKEN.encode() not in page


def served(port: int, path: str) -> bytes:
    url = f"http://127.0.0.1:{port}{path}?token=for-this-test"
    end = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                page: bytes = answer.read()
                return page
        except ConnectionError:
            assert time.monotonic() < end
            time.sleep(0.05)


def ids_of(flows: bytes, path: str) -> list[str]:
    return [flow["id"] for flow in json.loads(flows) if flow["request"]["path"] == path]
