"""The workspace that the bridge is tested with: a service for each way in which a request can end.

`HOST` serves what a policy can say of paths, queries and bodies; the others each have one trait, after which they are named.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from harness.operators import Operator
from harness.proxy import free_port
from harness.raw_agent import tunnel
from harness.raw_http2 import Http2Agent
from harness.stage import HOST, TOKEN, Stage, running_stage, store_keys
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder

LOCAL = 8443
POLICY = f"""\
workspace: acme
services:
  example:
    hosts: [{HOST}, "{HOST}:{LOCAL}"]
    auth: {{type: bearer}}
    proof: GET /me
    headers: {{X-Team: growth}}
    rules:
      - allow: GET /**
      - allow: POST,PUT /upload/**
      - allow: POST /links
        where: {{body.max: 1}}
      - ask: POST /asks
      - deny: "* /private/**"
        reason: stays with a person
      - allow: DELETE /things/{{thing}}
        where: {{thing: ["1"]}}
  small:
    hosts: [small.example.com]
    auth: {{type: bearer}}
    body_limit: 100
    rules:
      - allow: POST /links
        where: {{body.max: 1}}
  queried:
    hosts: [queried.example.com]
    auth: {{type: query, param: access_token}}
    rules: [{{allow: GET /**}}]
  limited:
    hosts: [limited.example.com]
    auth: {{type: bearer}}
    limits: {{requests: 2/h}}
    rules: [{{allow: GET /**}}]
  throttled:
    hosts: [throttled.example.com]
    auth: {{type: bearer}}
    rules: [{{allow: GET /**}}]
  switched:
    hosts: [switched.example.com]
    auth: {{type: bearer}}
    rules: [{{allow: GET /**}}]
  keyless:
    hosts: [keyless.example.com]
    auth: {{type: bearer}}
    rules: [{{allow: GET /**}}]
  broken:
    hosts: [expired.example.com, stranger.example.com, misnamed.example.com, down.example.com]
    auth: {{type: bearer}}
    rules: [{{allow: "* /**"}}]
  nowhere:
    hosts: [nowhere.invalid]
    auth: {{type: bearer}}
    rules: [{{allow: GET /**}}]
hold: 0
"""
ON_UPSTREAM = (
    HOST,
    f"{HOST}:{LOCAL}",
    *(f"{name}.example.com" for name in "small queried limited throttled switched keyless".split()),
)
WITH_KEYS = ("small", "queried", "limited", "throttled", "switched", "broken", "nowhere")


@contextlib.contextmanager
def running_bridge(operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    """Run a proxy with `POLICY`, all its keys but one, and its upstreams: well, not to be trusted, or not there."""
    operator.write_policy("acme", POLICY)
    store_keys(operator, {"example": TOKEN} | {name: f"{TOKEN}-{name}" for name in WITH_KEYS})
    names = [name.partition(":")[0] for name in ON_UPSTREAM]
    untrusted = {
        "expired.example.com": authority.server_context("expired.example.com", expired=True),
        "stranger.example.com": Authority().server_context("stranger.example.com"),
        "misnamed.example.com": authority.server_context("other.example.com"),
    }
    with ExitStack() as stack:
        upstream = stack.enter_context(Recorder(authority.server_context(*dict.fromkeys(names))))
        routes = dict.fromkeys(ON_UPSTREAM, upstream.port)
        routes |= {host: stack.enter_context(Recorder(context)).port for host, context in untrusted.items()}
        routes["down.example.com"] = free_port()
        yield stack.enter_context(running_stage(operator, upstream, routes, upstream_ca=upstream_ca))


def request(path: str = "/", *lines: str, method: str = "GET", host: str = HOST, body: str = "") -> bytes:
    """Return a request with *lines* as headers after Host."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", body]).encode("latin-1")


def put(path: str, *lines: str) -> bytes:
    """Return a PUT, with its framing among *lines*."""
    return request(path, *lines, method="PUT")


@contextlib.contextmanager
def http2(stage: Stage) -> Iterator[Http2Agent]:
    """Open a tunnel to `HOST` and speak HTTP/2 in it."""
    with tunnel(stage.proxy, f"{HOST}:443", protocols=["h2"]) as raw:
        yield Http2Agent(raw)
