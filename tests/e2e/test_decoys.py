"""Decoys in a home with a running proxy: planted, found, tried, and reported. In which places: outloop/attacks/outward.py."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.operators import PATIENCE_S, Operator
from harness.proxy import Answer
from harness.raw_agent import RawAgent, connected
from harness.single import assert_bridged
from harness.stage import HOST, TOKEN, Stage, add_agent, running_stage, store_keys
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import reply

OTHER = "other.example.com"
POLICY = f"""\
workspace: acme
egress: passthrough
egress_private: true
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    limits: {{requests: 1000/min}}
    rules:
      - allow: GET,POST /**
      - deny: GET /refused/**
  strict:
    hosts: [strict.example.com]
    auth: {{type: bearer}}
    limits: {{requests: 4/day}}
    rules:
      - allow: POST /links
        where: {{body.max: 1}}
"""
GLOBEX = f"""\
workspace: globex
services:
  other:
    hosts: [{OTHER}]
    auth: {{type: bearer}}
    rules: [{{allow: GET /**}}]
"""
FOREIGN = "fake-key-of-another-workspace-5"
BOT = "fake-token-of-an-agent-of-globex"


def until(stage: Stage, ask: Callable[[], Answer], reason: str | None) -> Answer:
    """Return the first answer for *reason*; None is any answer of the upstream's."""
    end = time.monotonic() + PATIENCE_S
    while (answer := ask()).header("outloop-reason") != reason:
        assert time.monotonic() < end, (answer, stage.proxy.log)
        time.sleep(0.05)
    return answer


@pytest.fixture
def home(operator: Operator) -> Operator:
    operator.write_policy("acme", POLICY)
    operator.write_policy("globex", GLOBEX)
    store_keys(operator, {"example": TOKEN, "strict": TOKEN})
    store_keys(operator, {"other": FOREIGN}, "globex")
    add_agent(operator, "bot", BOT, "globex")
    return operator


def plant(operator: Operator, workspace: str = "acme", service: str = "example") -> str:
    value = operator.outloop("key", "add", service, "-w", workspace, "--decoy").strip()
    assert len(value) >= 20
    return value


@pytest.fixture
def running(home: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Callable[..., Stage]]:
    from contextlib import ExitStack

    with ExitStack() as stack:

        def run(**more: object) -> Stage:
            hosts = [HOST, OTHER, "strict.example.com"]
            upstream = stack.enter_context(Recorder(authority.server_context(*hosts)))
            options = ["--set", "outloop_workspace=acme"]
            stage = running_stage(home, upstream, hosts, upstream_ca=upstream_ca, options=options, **more)  # type: ignore[arg-type]
            return stack.enter_context(stage)

        yield run


def test_what_was_planted_before_the_start_is_watched_for_from_the_first_request(
    home: Operator, running: Callable[..., Stage]
) -> None:
    value = plant(home)
    stage = running()

    answer = stage.curl("/a", "-H", f"Authorization: Bearer {value}")

    assert (answer.status, answer.json()["reason"], stage.arrived) == (403, "decoy_used", [])
    [event] = stage.wait_for_event("decoy_used")
    assert {name: event[name] for name in ("workspace", "agent", "host", "detail", "key", "service")} == {
        "workspace": "acme", "agent": None, "host": HOST, "detail": "acme/acme-example-decoy", "key": None, "service": None,
    }  # fmt: skip
    row = stage.row(str(answer.json()["audit_id"]))
    assert (row["decision"], row["reason"], row["status"]) == ("deny", "decoy_used", 403)


def test_planting_and_removing_take_effect_in_a_running_proxy(home: Operator, running: Callable[..., Stage]) -> None:
    stage = running()
    assert_bridged(stage, stage.curl("/before"))

    value = plant(home)
    until(stage, lambda: stage.curl(f"/a?q={value}"), "decoy_used")
    home.outloop("key", "remove", "acme-example-decoy", "-w", "acme", "--yes")
    until(stage, lambda: stage.curl(f"/a?q={value}"), None)

    assert stage.arrived[-1].target == f"/a?q={value}"


def test_another_workspaces_agent_is_told_the_same_and_the_operator_more(home: Operator, running: Callable[..., Stage]) -> None:
    mine, theirs = plant(home), plant(home, "globex", "other")
    stage = running()

    answers = [stage.curl(f"/a?q={value}") for value in (mine, theirs)]
    stage.curl(f"/a?q={mine}", host=OTHER, agent=("globex", BOT))

    documents = [answer.json() for answer in answers]
    ids = [document.pop("audit_id") for document in documents]
    heads = [[(name, value) for name, value in answer.headers if value not in ids] for answer in answers]
    assert documents[0] == documents[1]
    assert heads[0] == heads[1]
    events = stage.wait_for_event("decoy_used", count=3)
    assert [(event["workspace"], event["agent"], event["detail"]) for event in events] == [
        ("acme", None, "acme/acme-example-decoy"),
        ("acme", None, "globex/globex-other-decoy"),
        ("globex", "bot", "acme/acme-example-decoy"),
    ]


def test_the_value_of_a_used_decoy_is_nowhere_in_the_record_nor_in_the_log(home: Operator, running: Callable[..., Stage]) -> None:
    value = plant(home)
    stage = running()

    stage.curl(f"/a/{value}?q={value}&r=%{ord(value[0]):02x}{value[1:]}", "-H", f"Cookie: {value}", "-d", value)
    stage.wait_for_event("decoy_used")

    files = [path.read_bytes() for path in home.home.iterdir() if path.is_file()]
    assert not any(value.encode() in content for content in files)
    assert value not in stage.proxy.log


def test_a_decoy_inside_an_unopened_tunnel_is_not_seen(
    home: Operator, running: Callable[..., Stage], authority: Authority
) -> None:
    """A limit: what a workspace lets pass unopened is unopened."""
    value = plant(home)
    stage = running()

    with (
        Recorder(authority.server_context("localhost")) as foreign,
        connected(stage.proxy, f"localhost:{foreign.port}") as raw,
        authority.client_context().wrap_socket(raw.connection, server_hostname="localhost") as wrapped,
    ):
        line = f"GET /tunnelled HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {value}\r\nConnection: close\r\n\r\n"
        answer = RawAgent(wrapped).ask(line.encode())

    assert answer.status == 200
    assert [row for row in home.rows("events") if row["kind"] == "decoy_used"] == []


def test_a_service_may_be_planted_with_a_decoy_that_an_agent_finds(home: Operator, running: Callable[..., Stage]) -> None:
    value = plant(home)
    stage = running()
    stage.upstream.on("GET /notes", reply(f"token: {value}".encode()))

    found = stage.curl("/notes").body.decode().partition(": ")[2]
    tried = stage.curl("/a", "-H", f"Authorization: Bearer {found}")

    assert (found, tried.json()["reason"]) == (value, "decoy_used")


def test_a_policy_that_names_a_decoy_as_its_key_has_no_key(home: Operator, running: Callable[..., Stage]) -> None:
    value = plant(home)
    home.write_policy("acme", POLICY.replace("auth: {type: bearer}", "auth: {type: bearer}\n    key: acme-example-decoy", 1))
    stage = running()

    answer = stage.curl("/a")

    assert (answer.status, answer.json()["reason"], stage.arrived) == (403, "key_missing", [])
    assert value not in str(answer)


# A keychain that cannot be read


def test_where_decoys_cannot_be_read_requests_go_on_and_the_operator_is_told_until_they_can(
    home: Operator, running: Callable[..., Stage]
) -> None:
    value = plant(home)
    sealed = home.home / "keyring" / "values.enc"
    kept = sealed.read_bytes()
    sealed.write_bytes(b"not a keyring")
    stage = running()

    [event] = stage.wait_for_event("decoy_unwatched")
    status = json.loads(home.outloop("status", "--json"))["decoys"]
    doctor = json.loads(home.run("doctor", "--json").stdout)
    refused = stage.curl("/refused/x")
    sealed.write_bytes(kept)
    until(stage, lambda: stage.curl(f"/a?q={value}"), "decoy_used")

    assert (event["workspace"], str(event["detail"]).partition(": ")[0]) == ("acme", "acme/acme-example-decoy")
    assert "is not an outloop keyring" in status[0]["watched"]
    [warned] = [each for each in doctor if each["check"] == "decoys"]
    assert (warned["result"], "does not watch" in warned["finding"]) == ("warning", True)
    assert refused.json()["reason"] == "denied_by_rule"
    assert json.loads(home.outloop("status", "--json"))["decoys"][0]["watched"] == "yes"


def test_a_decoy_whose_value_is_gone_is_said_to_be(home: Operator, running: Callable[..., Stage]) -> None:
    plant(home)
    (home.home / "keyring" / "values.enc").unlink()
    stage = running()

    [event] = stage.wait_for_event("decoy_unwatched")

    assert "is not in" in str(event["detail"])


# The operator


def test_status_doctor_and_list_tell_of_a_use(home: Operator, running: Callable[..., Stage]) -> None:
    value = plant(home)
    stage = running()
    for _ in range(3):
        stage.curl(f"/a?q={value}", host=OTHER, agent=("globex", BOT))
    stage.wait_for_event("decoy_used", count=3)

    [row] = json.loads(home.outloop("status", "--json", "-w", "acme"))["decoys"]
    [found] = [each for each in json.loads(home.run("doctor", "--json").stdout) if each["check"] == "decoys"]
    listed = {each["key"]: each for each in json.loads(home.outloop("key", "list", "--json"))}

    assert (row["decoy"], row["watched"], row["uses_today"], row["last_by"]) == ("acme-example-decoy", "yes", 3, "globex/bot")
    assert found["result"] == "warning"
    assert f"acme/acme-example-decoy was used by globex/bot 3 times, last for {OTHER}" in found["finding"]
    assert (listed["acme-example-decoy"]["runtime_access"], listed["acme-example-decoy"]["last_used"]) == (
        "decoy",
        row["last_used"],
    )
    assert "decoy_used" in home.outloop("status")


def test_the_desktop_is_told_once_however_often_a_decoy_is_used(
    tmp_path: Path, home: Operator, running: Callable[..., Stage]
) -> None:
    value = plant(home)
    told, tools = tmp_path / "told", tmp_path / "tools"
    tools.mkdir()
    script = tools / "notify-send"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {told}\n')
    script.chmod(0o755)
    stage = running(environ={"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"})

    for number in range(5):
        stage.curl(f"/private-{number}?q={value}")
    stage.wait_for_event("decoy_used", count=5)
    end = time.monotonic() + PATIENCE_S
    while not told.exists() and time.monotonic() < end:
        time.sleep(0.02)

    assert told.read_text().splitlines() == [
        "--app-name=outloop", "--", "Outloop: a decoy was used",
        "acme used the decoy acme/acme-example-decoy: outloop status",
    ]  # fmt: skip


# Other workspaces' keys


def test_a_foreign_key_is_answered_byte_for_byte_as_a_body_that_policy_does_not_allow_and_costs_the_same(
    home: Operator, running: Callable[..., Stage]
) -> None:
    stage = running()
    strict = {"host": "strict.example.com"}
    as_json = ("-H", "Content-Type: application/json", "-d")
    assert stage.curl("/a", host=OTHER, agent=("globex", BOT)).status == 200  # now it is in memory
    assert stage.curl("/links", *as_json, '{"max": 1}', **strict).status == 200

    unallowed = [stage.curl("/links", *as_json, '{"max": 2, "note": "0123456789"}', **strict) for _ in range(3)]
    foreign = [stage.curl("/links", *as_json, f'{{"max": 1, "note": "{FOREIGN}"}}', **strict) for _ in range(3)]
    left = [stage.curl("/links", *as_json, '{"max": 1}', **strict).status for _ in range(4)]

    def said(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
        own_id = str(answer.json()["audit_id"])
        fields = [(name, value.replace(own_id, "ID")) for name, value in answer.headers]
        return answer.status, fields, answer.body.replace(own_id.encode(), b"ID")

    assert {repr(said(answer)) for answer in unallowed + foreign} == {repr(said(unallowed[0]))}
    assert unallowed[0].json()["reason"] == "body_not_allowed"
    assert left == [200, 200, 200, 429]  # of the four a day one was used before: no refusal took another
    events = stage.wait_for_event("credential_misplaced", count=3)
    assert {(event["workspace"], event["detail"]) for event in events} == {("acme", "a value of workspace globex")}
