"""`outloop proof`: against the real proxy, with a stand-in for the service behind it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.calendly import HOST, Calendly
from harness.operators import PATIENCE_S, Operator
from harness.proxy import Proxy, free_port, running_proxy
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.store.state import StateStore

TOKEN = "cal_pat_FAKE_0123456789abcdefghijklmnop"
GOOD = re.compile(
    r"Calendly API access through Outloop\n"
    r"GET /users/me\n"
    r"HTTP 200\n"
    r"decision: allow / OK\n"
    r"secret_exposed: false\n"
    r"runtime_verified: yes\n"
    r"audit entry exists: [0-9A-HJKMNP-TV-Z]{26}\n"
)


@dataclass(frozen=True)
class Scene:
    """An operator with the workspaces `acme` (allowed to write, too) and `globex`, a proxy, and Calendly behind it."""

    operator: Operator
    proxy: Proxy
    upstream: Recorder


@contextmanager
def registered_proxy(operator: Operator, upstream_port: int, upstream_ca: Path) -> Iterator[Proxy]:
    """A running proxy that the home knows of: it says so a moment after it listens."""
    with running_proxy(operator, {HOST: upstream_port}, upstream_ca=upstream_ca) as proxy:
        state = StateStore(operator.home / "state.db")
        end = time.monotonic() + PATIENCE_S
        while not state.proxies():
            assert time.monotonic() < end, proxy.log
            time.sleep(0.02)
        yield proxy


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, authority: Authority, upstream_ca: Path) -> Iterator[Scene]:
    operator = Operator(tmp_path_factory.mktemp("operator"))
    operator.outloop("init")
    operator.outloop("workspace", "add", "acme", "--service", "calendly")
    policy = operator.home / "policies" / "acme.yaml"
    policy.write_text(policy.read_text() + "      - allow: POST /scheduling_links\n        where: {body.max_event_count: 1}\n")
    operator.add_key("calendly", "acme", TOKEN)
    operator.outloop("workspace", "add", "globex", "--service", "calendly")
    operator.add_key("calendly", "globex", "cal_pat_FAKE_that_calendly_does_not_know", enabled=False)
    with (
        Recorder(authority.server_context(HOST), Calendly(TOKEN)) as upstream,
        registered_proxy(operator, upstream.port, upstream_ca) as proxy,
    ):
        yield Scene(operator, proxy, upstream)


def test_a_good_run_prints_exactly_the_lines(scene: Scene) -> None:
    done = scene.operator.run("proof", "calendly", "-w", "acme")
    assert (done.returncode, done.stderr) == (0, "")
    assert GOOD.fullmatch(done.stdout), done.stdout
    (row,) = [row for row in scene.operator.rows() if row["id"] == done.stdout.split()[-1]]
    assert (row["workspace"], row["status"], row["proof"], row["secret_exposed"]) == ("acme", 200, 1, 0)


def test_the_agent_made_for_the_call_is_gone_after_it(scene: Scene) -> None:
    scene.operator.outloop("proof", "calendly", "-w", "acme", "--port", str(scene.proxy.port))
    agents = json.loads(scene.operator.outloop("agent", "list", "--json"))
    assert [agent for agent in agents if agent["agent"].startswith("proof-")] == []


def test_json_says_the_same(scene: Scene) -> None:
    made = json.loads(scene.operator.outloop("proof", "calendly", "-w", "acme", "--json"))
    assert GOOD.fullmatch("".join(f"{line}\n" for line in made["lines"]))
    assert (made["verified"], made["failed"], made["why"], made["next_step"]) == (True, None, None, None)


def test_access_that_is_off_is_named_and_how_to_turn_it_on(scene: Scene) -> None:
    done = scene.operator.run("proof", "calendly", "-w", "globex")
    assert done.returncode == 1
    assert done.stdout.splitlines()[2:6] == [
        "HTTP 403",
        "decision: deny / runtime_access_off",
        "secret_exposed: not measured",
        "runtime_verified: no",
    ]
    assert done.stderr == (
        "outloop: error: `decision: deny / runtime_access_off`: Outloop refused the call: runtime_access_off\n"
        "outloop: hint: outloop key enable globex-calendly -w globex\n"
    )


def test_a_key_that_the_service_rejects_is_named_and_how_to_replace_it(scene: Scene) -> None:
    scene.operator.outloop("key", "enable", "calendly", "-w", "globex")
    try:
        done = scene.operator.run("proof", "calendly", "-w", "globex")
    finally:
        scene.operator.outloop("key", "disable", "calendly", "-w", "globex")
    assert done.returncode == 1
    assert done.stdout.splitlines()[2:4] == ["HTTP 401", "decision: allow / key_rejected"]
    assert done.stderr == (
        "outloop: error: `HTTP 401`: calendly rejected the key `globex-calendly`\n"
        "outloop: hint: outloop key rotate globex-calendly -w globex\n"
    )


def test_the_next_proof_finds_its_owner_and_writes_once(scene: Scene) -> None:
    before = len(scene.upstream.requests)
    done = scene.operator.run("proof", "calendly", "-w", "acme", "--next", "--approve")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:4] == ["POST /scheduling_links", "HTTP 201", "decision: allow / OK"]
    sent = scene.upstream.requests[before:]
    assert [request.method for request in sent] == ["GET", "GET", "POST"]


def test_the_next_proof_takes_an_owner_that_is_given(scene: Scene) -> None:
    before = len(scene.upstream.requests)
    owner = "owner=https://api.calendly.com/event_types/CCCCCCCCCCCCCCC0"
    done = scene.operator.run("proof", "calendly", "-w", "acme", "--next", "--approve", "--with", owner)
    assert (done.returncode, done.stderr) == (0, "")
    assert [request.method for request in scene.upstream.requests[before:]] == ["POST"]


def test_an_agent_gets_the_same_lines_for_its_own_call(scene: Scene) -> None:
    variables = json.loads(scene.operator.outloop("env", "-w", "acme", "--json"))
    token = variables["HTTPS_PROXY"].partition("acme:")[2].partition("@")[0]
    called = scene.proxy.curl("https://api.calendly.com/users/me", agent=("acme", token))
    told = scene.proxy.curl(f"https://outloop.internal/proof/{called.header('Outloop-Audit-Id')}", agent=("acme", token))
    assert GOOD.fullmatch(told.body.decode())


def test_no_key_is_in_anything_that_was_printed(scene: Scene) -> None:
    for arguments in (("-w", "acme"), ("-w", "acme", "--json"), ("-w", "globex"), ("-w", "acme", "--next", "--approve")):
        done = scene.operator.run("proof", "calendly", *arguments)
        assert "FAKE" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param(("--next",), "the next proof writes, so it is never made without --approve", id="next-without-approval"),
        pytest.param(("--approve",), "--approve goes with --next", id="approval-of-nothing"),
        pytest.param(("--with", "owner=x"), "--with goes with --next", id="a-blank-of-the-safe-proof"),
        pytest.param(("--next", "--approve", "--with", "owner"), "'owner' is not NAME=VALUE", id="no-value"),
        pytest.param(
            ("--next", "--approve", "--with", "team=x"), "the next proof of calendly has no blank `team`", id="no-such-blank"
        ),
    ],
)
def test_half_a_yes_sends_nothing(scene: Scene, arguments: tuple[str, ...], error: str) -> None:
    before = len(scene.upstream.requests)
    done = scene.operator.run("proof", "calendly", "-w", "acme", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"outloop: error: {error}\noutloop: hint: ")
    assert len(scene.upstream.requests) == before


def test_a_proxy_of_another_home_proves_nothing(scene: Scene, operator: Operator) -> None:
    operator.outloop("workspace", "add", "acme", "--service", "calendly")
    done = operator.run("proof", "calendly", "-w", "acme", "--port", str(scene.proxy.port))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "audit entry exists: no"
    assert re.fullmatch(r"outloop: error: [^\n]+\noutloop: hint: [^\n]+\n", done.stderr)


def test_without_a_proxy_it_says_how_to_start_one(operator: Operator) -> None:
    operator.outloop("workspace", "add", "acme", "--service", "calendly")
    operator.outloop("workspace", "add", "globex")
    port = free_port()
    done = operator.run("proof", "calendly", "-w", "acme", "--port", str(port))
    assert done.returncode == 1
    assert done.stdout.splitlines()[2:] == [
        "HTTP no answer",
        "decision: none",
        "secret_exposed: not measured",
        "runtime_verified: no",
        "audit entry exists: no",
    ]
    assert done.stderr.startswith(f"outloop: error: `HTTP no answer`: no proxy listens on 127.0.0.1:{port}\noutloop: hint: ")
    assert json.loads(operator.outloop("agent", "list", "--revoked", "--json")) == [], "no agent is made for nothing"


def test_a_service_that_is_down_is_named(authority: Authority, upstream_ca: Path, operator: Operator) -> None:
    operator.outloop("workspace", "add", "acme", "--service", "calendly")
    operator.add_key("calendly", "acme", TOKEN)
    with registered_proxy(operator, free_port(), upstream_ca):
        done = operator.run("proof", "calendly", "-w", "acme")
    assert done.returncode == 1
    assert done.stdout.splitlines()[2:4] == ["HTTP 502", "decision: allow / upstream_failed"]
    assert done.stderr.count("\n") == 2


def test_a_call_that_policy_denies_names_the_rule_to_ask_about(
    authority: Authority, upstream_ca: Path, operator: Operator
) -> None:
    operator.write_policy("acme", "workspace: acme\nservices:\n  calendly:\n    rules: [allow: GET /event_types]\n")
    operator.add_key("calendly", "acme", TOKEN)
    with (
        Recorder(authority.server_context(HOST), Calendly(TOKEN)) as upstream,
        registered_proxy(operator, upstream.port, upstream_ca),
    ):
        done = operator.run("proof", "calendly", "-w", "acme")
        assert upstream.requests == []
    assert done.returncode == 1
    assert done.stdout.splitlines()[3] == "decision: deny / path_not_allowed"
    audit_id = done.stdout.split()[-1]
    assert done.stderr.endswith(f"outloop: hint: outloop why {audit_id}\n")
    assert operator.run("why", audit_id).returncode == 0
