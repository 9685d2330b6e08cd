"""Who is asking: tokens, what an agent without one may do, and what one workspace's agent learns of another."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.operators import Operator
from harness.raw_agent import cleartext, connect_request, connected, tunnel
from harness.stage import AT, HOST, TOKEN, Stage, add_agent, running_stage, store_keys, stores
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import json_reply

OTHER_HOST = "api.globex.example"
OTHER_TOKEN = "another-fake-token-987654321"
POLICY = """\
workspace: {workspace}
services:
  example:
    hosts: [{host}]
    auth: {{type: bearer}}
    proof: GET /me
    rules:
      - allow: GET /**
"""
CLAUDE = ("acme", "fake-agent-token-of-claude-0000000000000000")
CODEX = ("acme", "fake-agent-token-of-codex-00000000000000000")
GLOBEX = ("globex", "fake-agent-token-of-globex-0000000000000000")


@pytest.fixture(scope="module")
def two(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    """Two workspaces: every agent needs a token."""
    for workspace, host, token in (("acme", HOST, TOKEN), ("globex", OTHER_HOST, OTHER_TOKEN)):
        module_operator.write_policy(workspace, POLICY.format(workspace=workspace, host=host))
        store_keys(module_operator, {"example": token}, workspace)
    for name, (workspace, token) in (("claude", CLAUDE), ("codex", CODEX), ("claude", GLOBEX)):
        add_agent(module_operator, name, token, workspace)
    with (
        Recorder(authority.server_context(HOST, OTHER_HOST)) as upstream,
        running_stage(module_operator, upstream, [HOST, OTHER_HOST], upstream_ca=upstream_ca) as stage,
    ):
        yield stage


@pytest.fixture
def stage(two: Stage) -> Stage:
    return two.view()


def ask(path: str, host: str = HOST) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def test_an_agent_acts_for_its_own_workspace_and_is_named_in_the_row(stage: Stage) -> None:
    answers = [stage.curl("/a", agent=CLAUDE), stage.curl("/b", agent=CODEX), stage.curl("/c", host=OTHER_HOST, agent=GLOBEX)]

    sent = stage.wait_for(3)
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [each.header("authorization") for each in sent] == [
        f"Bearer {token}".encode() for token in (TOKEN, TOKEN, OTHER_TOKEN)
    ]
    rows = [stage.row(answer.header("outloop-audit-id")) for answer in answers]
    assert [(row["workspace"], row["agent"]) for row in rows] == [("acme", "claude"), ("acme", "codex"), ("globex", "claude")]
    assert all(b"proxy-auth" not in each.raw.lower() for each in sent)


def test_without_a_token_an_agent_is_challenged_on_a_connection_that_stays(stage: Stage) -> None:
    with cleartext(stage.proxy) as agent:
        challenge = agent.ask(connect_request(f"{HOST}:443"))
        opened = agent.ask(connect_request(f"{HOST}:443", CLAUDE))

    assert (challenge.status, challenge.header("proxy-authenticate")) == (407, 'Basic realm="outloop"')
    assert (challenge.header("outloop-reason"), challenge.header("outloop-audit-id")) == ("agent_unknown", None)
    assert json.loads(challenge.body)["next_step"]
    assert opened.status == 200


def test_a_challenge_is_an_event_and_not_a_row(stage: Stage) -> None:
    before = len(stage.operator.rows())
    with cleartext(stage.proxy) as agent:
        agent.ask(connect_request("challenged.example.com:443"))
        agent.ask(b"GET http://challenged.example.com/ HTTP/1.1\r\nHost: challenged.example.com\r\n\r\n")

    while len([event for event in stage.wait_for_event("challenge") if event["host"] == "challenged.example.com"]) < 2:
        time.sleep(0.01)
    assert len(stage.operator.rows()) == before


@pytest.mark.parametrize(
    "agent",
    [
        pytest.param(("acme", "wrong"), id="wrong-token"),
        pytest.param(("acme", ""), id="no-token"),
        pytest.param(("globex", CLAUDE[1]), id="anothers-workspace"),
        pytest.param(("", "wrong"), id="no-user"),
        pytest.param(("ACME", CLAUDE[1]), id="another-case"),
    ],
)
def test_a_wrong_token_is_refused_with_a_row_and_the_connection_stays(stage: Stage, agent: tuple[str, str]) -> None:
    with cleartext(stage.proxy) as raw:
        refused = raw.ask(connect_request(f"{HOST}:443", agent))
        opened = raw.ask(connect_request(f"{HOST}:443", CLAUDE))

    assert (refused.status, refused.header("outloop-reason")) == (407, "agent_unknown")
    assert refused.header("proxy-authenticate") == 'Basic realm="outloop"'
    row = stage.row(refused.header("outloop-audit-id"))
    assert (row["reason"], row["workspace"], row["agent"], row["method"]) == ("agent_unknown", None, None, "CONNECT")
    assert CLAUDE[1] not in str(row) + stage.proxy.log
    assert opened.status == 200


@pytest.mark.parametrize(
    "line",
    ["Proxy-Authorization: Bearer x", "Proxy-Authorization: Basic !!!", "Proxy-Authorization: Basic /////w=="],
    ids=["another-scheme", "not-base64", "not-utf-8"],
)
def test_credentials_that_cannot_be_read_are_wrong_ones(stage: Stage, line: str) -> None:
    with cleartext(stage.proxy) as agent:
        answer = agent.ask(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{line}\r\n\r\n".encode())

    assert (answer.status, answer.header("outloop-reason")) == (407, "agent_unknown")
    assert stage.row(answer.header("outloop-audit-id"))["reason"] == "agent_unknown"


def test_a_revoked_token_ends_with_the_next_request_of_an_open_connection(stage: Stage) -> None:
    agent = add_agent(stage.operator, "brief", "fake-agent-token-of-brief-00000000000000000")
    with tunnel(stage.proxy, f"{HOST}:443", agent=agent) as raw:
        first = raw.ask(ask("/first"))
        with stores(stage.operator) as (state, _):
            state.revoke_agent("acme", "brief", AT)
        second = raw.ask(ask("/second"))

    assert (first.status, second.status, second.header("outloop-reason")) == (200, 407, "agent_unknown")
    assert [each.path for each in stage.arrived] == ["/first"]
    with cleartext(stage.proxy) as raw:
        assert raw.ask(connect_request(f"{HOST}:443", agent)).status == 407


def test_an_agent_cannot_reach_nor_infer_another_workspaces_hosts(stage: Stage) -> None:
    with cleartext(stage.proxy) as agent:
        anothers = agent.ask(connect_request(f"{OTHER_HOST}:443", CLAUDE))
    with cleartext(stage.proxy) as agent:
        nobodys = agent.ask(connect_request("api.nobody.example:443", CLAUDE))

    documents = [json.loads(answer.body) for answer in (anothers, nobodys)]
    for document, host in zip(documents, (OTHER_HOST, "api.nobody.example"), strict=True):
        document["detail"] = document["detail"].replace(host, "HOST")
        document.pop("audit_id")
    assert documents[0] == documents[1]
    assert documents[0]["reason"] == "host_not_allowed"
    assert stage.arrived == []


def test_another_agents_open_connection_is_not_spoken_for_by_a_header(stage: Stage) -> None:
    with tunnel(stage.proxy, f"{HOST}:443", agent=CLAUDE) as raw:
        answer = raw.ask(connect_request(f"{HOST}:443", GLOBEX).replace(b"CONNECT api.example.com:443", b"GET /x"))

    assert stage.row(answer.header("outloop-audit-id"))["agent"] == "claude"


# Own pages


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_an_agent_reads_what_it_may_use_and_nothing_of_others(stage: Stage, scheme: str) -> None:
    markdown = stage.proxy.curl(f"{scheme}://outloop.internal/", agent=CLAUDE)
    facts = stage.proxy.curl(f"{scheme}://outloop.internal/", "-H", "Accept: application/json", agent=CLAUDE)

    assert (markdown.status, markdown.header("content-type")) == (200, "text/markdown; charset=utf-8")
    assert "# Outloop: workspace acme" in markdown.body.decode()
    assert (facts.status, facts.header("content-type")) == (200, "application/json")
    assert facts.json()["workspace"] == "acme"
    for answer in (markdown, facts):
        assert HOST in answer.body.decode()
        assert "GET /**" in answer.body.decode()
        assert b"globex" not in answer.body
        assert TOKEN.encode() not in answer.body
        assert answer.header("cache-control") == "no-store"


def test_an_agent_proves_its_own_requests_and_no_others(stage: Stage) -> None:
    stage.upstream.on("GET /me", json_reply({}))
    own = stage.curl("/me", agent=CLAUDE).header("outloop-audit-id")
    colleagues = stage.curl("/me", agent=CODEX).header("outloop-audit-id")
    anothers = stage.curl("/me", host=OTHER_HOST, agent=GLOBEX).header("outloop-audit-id")

    proof = stage.proxy.curl(f"https://outloop.internal/proof/{own}", agent=CLAUDE)

    assert proof.status == 200
    assert proof.body.decode().splitlines()[1:] == [
        "GET /me",
        "HTTP 200",
        "decision: allow / OK",
        "secret_exposed: false",
        "runtime_verified: yes",
        f"audit entry exists: {own}",
    ]
    unknown = [
        stage.proxy.curl(f"https://outloop.internal/proof/{audit_id}", agent=CLAUDE)
        for audit_id in (colleagues, anothers, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "x", "%2e%2e")
    ]
    assert [answer.status for answer in unknown] == [404] * 5
    assert len({answer.body for answer in unknown[:3]}) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/", 405), ("GET", "/other", 404), ("HEAD", "/", 200), ("DELETE", "/proof/x", 405)],
)
def test_own_pages_are_read_only(stage: Stage, method: str, path: str, status: int) -> None:
    with tunnel(stage.proxy, "outloop.internal:443", agent=CLAUDE) as raw:
        answer = raw.ask(f"{method} {path} HTTP/1.1\r\nHost: outloop.internal\r\n\r\n".encode())
        again = raw.ask(b"GET / HTTP/1.1\r\nHost: outloop.internal\r\n\r\n")

    assert (answer.status, again.status) == (status, 200)


def test_own_pages_are_not_a_way_to_another_host(stage: Stage) -> None:
    with tunnel(stage.proxy, "outloop.internal:443", agent=CLAUDE) as raw:
        answer = raw.ask(ask("/x"))

    assert TOKEN.encode() not in answer.body
    assert stage.arrived == []


def test_own_pages_need_a_token_too(stage: Stage) -> None:
    assert stage.proxy.curl("http://outloop.internal/").status == 407


# One workspace


@pytest.fixture
def alone(operator: Operator) -> Operator:
    operator.write_policy("acme", POLICY.format(workspace="acme", host=HOST))
    store_keys(operator, {"example": TOKEN})
    return operator


@pytest.fixture
def upstream(authority: Authority) -> Iterator[Recorder]:
    with Recorder(authority.server_context(HOST)) as recorder:
        yield recorder


def test_with_a_second_workspace_file_even_a_broken_one_a_token_is_needed(
    alone: Operator, upstream: Recorder, upstream_ca: Path
) -> None:
    with running_stage(alone, upstream, [HOST], upstream_ca=upstream_ca) as stage:
        with tunnel(stage.proxy, f"{HOST}:443") as raw:
            before = raw.ask(ask("/before"))
            alone.write_policy("globex", "workspace: [")
            stage.wait_for_event("policy_refused")
            after = raw.ask(ask("/after"))
        fresh = stage.curl("/fresh")

    assert (before.status, after.status, fresh.status) == (200, 407, 407)
    assert [each.path for each in upstream.requests] == ["/before"]


def test_the_workspace_that_an_option_names_is_the_one_without_a_token(
    alone: Operator, upstream: Recorder, upstream_ca: Path
) -> None:
    alone.write_policy("globex", POLICY.format(workspace="globex", host=OTHER_HOST))

    with running_stage(alone, upstream, [HOST], upstream_ca=upstream_ca, options=["--set", "outloop_workspace=acme"]) as stage:
        answer = stage.curl("/x")
        with cleartext(stage.proxy) as raw:
            anothers = raw.ask(connect_request(f"{OTHER_HOST}:443"))

    assert (answer.status, anothers.header("outloop-reason")) == (200, "host_not_allowed")


def test_beyond_this_machine_every_agent_needs_a_token(alone: Operator, upstream: Recorder, upstream_ca: Path) -> None:
    agent = add_agent(alone, "claude", CLAUDE[1])

    with running_stage(alone, upstream, [HOST], upstream_ca=upstream_ca, options=["--listen-host", "0.0.0.0"]) as stage:
        without, with_token = stage.curl("/x"), stage.curl("/x", agent=agent)

    assert (without.status, with_token.status) == (407, 200)


def test_a_token_works_where_none_is_needed(alone: Operator, upstream: Recorder, upstream_ca: Path) -> None:
    agent = add_agent(alone, "claude", CLAUDE[1])

    with running_stage(alone, upstream, [HOST], upstream_ca=upstream_ca) as stage:
        answer = stage.curl("/x", agent=agent)
        row = stage.row(answer.header("outloop-audit-id"))
        with connected(stage.proxy, f"{HOST}:443"):
            wrong = stage.curl("/x", agent=("acme", "wrong"))

    assert (answer.status, row["agent"], wrong.status) == (200, "claude", 407)
