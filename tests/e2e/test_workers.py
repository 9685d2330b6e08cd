"""Several processes behind one address: what decides is in the home, and holds across all of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.operators import PATIENCE_S, Operator
from harness.proxy import Answer, Proxy, free_port
from harness.stage import Stage, add_agent, store_keys
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder

WORKERS = 4
POLICY = """\
workspace: acme
hold: 0
services:
  plain:
    hosts: ["localhost:{port}"]
    base: /plain
    auth: {{type: bearer}}
    rules: [{{allow: GET /plain/**}}, {{ask: POST /plain/links}}]
  limited:
    hosts: ["localhost:{port}"]
    base: /limited
    auth: {{type: bearer}}
    limits: {{requests: 5/h}}
    rules: [{{allow: GET /limited/**}}]
"""
TOKEN = "not-a-real-token-0123456789"


@contextlib.contextmanager
def running(operator: Operator, upstream: Recorder, upstream_ca: Path, *, workers: int = WORKERS) -> Iterator[Stage]:
    operator.write_policy("acme", POLICY.format(port=upstream.port))
    store_keys(operator, {"plain": TOKEN, "limited": TOKEN})
    port = free_port()
    command = [sys.executable, "-m", "outloop", "up", "--port", str(port), "--workers", str(workers)]
    environ = {**operator.variables, "OUTLOOP_UPSTREAM_CA": str(upstream_ca)}
    log = operator.folder / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=subprocess.STDOUT)
    proxy = Proxy(operator, port, process, log)
    try:
        proxy.wait_for_log(f"listening on http://127.0.0.1:{port} with {workers} workers")
        yield Stage(operator, proxy, upstream)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    operator = Operator(tmp_path_factory.mktemp("operator"))
    with (
        Recorder(authority.server_context("localhost")) as upstream,
        running(operator, upstream, upstream_ca) as stage,
    ):
        yield stage


def call(stage: Stage, path: str, *arguments: str, agent: tuple[str, str] | None = None) -> Answer:
    return stage.proxy.curl(f"https://localhost:{stage.upstream.port}{path}", *arguments, agent=agent)


def calls(stage: Stage, path: str, *arguments: str, count: int = 12, agent: tuple[str, str] | None = None) -> Counter[str]:
    """Make *count* calls, several at once, each over a connection of its own; return how often each reason was given."""
    with ThreadPoolExecutor(WORKERS) as pool:
        answers = pool.map(lambda _: call(stage, path, *arguments, agent=agent), range(count))
        return Counter(answer.header("outloop-reason") or str(answer.status) for answer in answers)


def writers(operator: Operator) -> set[str]:
    with contextlib.closing(sqlite3.connect(f"{(operator.home / 'audit.db').as_uri()}?mode=ro", uri=True)) as record:
        return {writer for (writer,) in record.execute("SELECT DISTINCT writer FROM decisions")}


def eventually(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.05)


def test_several_of_them_answer_and_each_has_a_chain_of_its_own(stage: Stage) -> None:
    eventually(
        lambda: calls(stage, "/plain/a") == {"200": 12} and len(writers(stage.operator)) > 1, "one worker answers everything"
    )

    listeners = stage.operator.outloop("status", "--json")
    assert listeners.count(f"127.0.0.1:{stage.proxy.port}") == WORKERS
    assert "none edited" in stage.operator.outloop("audit", "verify")


def test_a_limit_is_one_for_all_of_them(stage: Stage) -> None:
    assert calls(stage, "/limited/a", count=16) == {"200": 5, "rate_limited": 11}


def test_a_switch_is_turned_in_all_of_them_at_once(stage: Stage) -> None:
    stage.operator.outloop("key", "disable", "plain", "-w", "acme")
    off = calls(stage, "/plain/a")
    stage.operator.outloop("key", "enable", "plain", "-w", "acme")

    assert off == {"runtime_access_off": 12}
    assert calls(stage, "/plain/a") == {"200": 12}


def test_a_revoked_token_is_known_to_none_of_them(stage: Stage) -> None:
    agent = add_agent(stage.operator, "helper", "fake-token-of-a-helper", "acme")
    assert calls(stage, "/plain/a", agent=agent) == {"200": 12}

    stage.operator.outloop("agent", "revoke", "helper", "-w", "acme")

    assert calls(stage, "/plain/a", agent=agent) == {"agent_unknown": 12}


def test_a_yes_is_used_once_whoever_gets_the_request(stage: Stage) -> None:
    body = ("-X", "POST", "-d", '{"max": 1}', "-H", "Content-Type: application/json")
    stage = stage.view()
    assert calls(stage, "/plain/links", *body, count=4) == {"approval_pending": 4}
    [pending] = re.findall(r'"id": "([0-9A-Z]+)"', stage.operator.outloop("approvals", "--json"))
    stage.operator.outloop("approve", pending)

    passed = calls(stage, "/plain/links", *body, count=8)

    assert passed["200"] == 1, passed
    assert [request.method for request in stage.wait_for(1)] == ["POST"]


def test_one_that_dies_is_started_again_and_no_answered_request_is_without_its_row(stage: Stage) -> None:
    def processes() -> set[int]:
        return {int(pid) for pid in re.findall(r'"pid": (\d+)', stage.operator.outloop("status", "--json"))}

    before = processes()
    victim = min(before)

    os.kill(victim, signal.SIGKILL)
    answers = [call(stage, "/plain/b") for _ in range(20)]

    for answer in answers:
        if answer.status == 200:
            assert stage.row(answer.header("outloop-audit-id"))["reason"] == "OK"
    [died] = stage.wait_for_event("worker_died")
    assert str(victim) in str(died["detail"])
    eventually(lambda: len(processes()) == WORKERS and victim not in processes(), "the worker is not started again")
    assert calls(stage, "/plain/a") == {"200": 12}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="wants Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_supervisor(
    operator: Operator, authority: Authority, upstream_ca: Path, number: signal.Signals
) -> None:
    with (
        Recorder(authority.server_context("localhost")) as upstream,
        running(operator, upstream, upstream_ca, workers=2) as stage,
    ):
        pids = [int(pid) for pid in re.findall(r'"pid": (\d+)', operator.outloop("status", "--json"))]
        stage.proxy.process.send_signal(number)
        code = stage.proxy.process.wait(PATIENCE_S)

        eventually(lambda: not any(map(is_alive, pids)), f"still alive: {pids}")

    assert len(pids) == 2
    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 0)
    assert "Traceback" not in stage.proxy.log


def test_what_keeps_them_from_starting_is_said_once(operator: Operator) -> None:
    operator.write_policy("acme", "workspace: acme\nservcies: {}\n")

    done = operator.run("up", "--port", str(free_port()), "--workers", "3")

    assert done.returncode != 0
    assert (done.stdout + done.stderr).count("acme.yaml:2:1:") == 1
    assert "Traceback" not in done.stdout + done.stderr
