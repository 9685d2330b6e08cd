"""Several processes on one home, behind one address or two: what decides is in the home, and holds across all of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.operators import PATIENCE_S, Operator
from harness.proxy import Answer, Proxy, free_port
from harness.stage import Stage, add_agent, store_keys
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import reply

WORKERS = 4
POLICY = """\
workspace: acme
hold: 0
services:
  plain:
    hosts: ["localhost:{port}"]
    base: /plain
    auth: {{type: bearer}}
    rules: [{{allow: GET /plain/**}}, {{ask: POST /plain/links}}, {{ask: PUT /plain/things/**}}]
  limited:
    hosts: ["localhost:{port}"]
    base: /limited
    auth: {{type: bearer}}
    limits: {{requests: 5/h}}
    rules: [{{allow: GET /limited/**}}]
  busy:
    hosts: ["localhost:{port}"]
    base: /busy
    auth: {{type: bearer}}
    rules: [{{allow: GET /busy/**}}]
"""
TOKEN = "not-a-real-token-0123456789"
BODY = ("-X", "POST", "-d", '{"max": 1}', "-H", "Content-Type: application/json")


@dataclass(frozen=True)
class Crowd:
    """The proxies of one home, each with one process or several; they are called in turn."""

    operator: Operator
    upstream: Recorder
    proxies: tuple[Proxy, ...]

    @property
    def stage(self) -> Stage:
        """The first of them."""
        return Stage(self.operator, self.proxies[0], self.upstream)

    def call(self, path: str, *arguments: str, number: int = 0, agent: tuple[str, str] | None = None) -> Answer:
        proxy = self.proxies[number % len(self.proxies)]
        return proxy.curl(f"https://localhost:{self.upstream.port}{path}", *arguments, agent=agent)

    def calls(self, path: str, *arguments: str, count: int = 12, agent: tuple[str, str] | None = None) -> Counter[str]:
        """Make *count* calls, several at once, each over a connection of its own; return how often each reason was given."""
        with ThreadPoolExecutor(WORKERS) as pool:
            answers = pool.map(lambda number: self.call(path, *arguments, number=number, agent=agent), range(count))
            return Counter(answer.header("outloop-reason") or str(answer.status) for answer in answers)

    def processes(self) -> set[int]:
        """Return the processes that answer, as the operator is shown them."""
        return {pid for row in self.listeners() for pid in row["pids"]}

    def listeners(self) -> list[dict[str, list[int]]]:
        found = json.loads(self.operator.outloop("status", "--json"))["listeners"]
        assert isinstance(found, list)
        return found


@contextlib.contextmanager
def running(
    operator: Operator, upstream: Recorder, upstream_ca: Path, *, workers: int = WORKERS, cwd: Path | None = None
) -> Iterator[Crowd]:
    operator.write_policy("acme", POLICY.format(port=upstream.port))
    if not (operator.home / "state.db").exists():
        store_keys(operator, dict.fromkeys(("plain", "limited", "busy"), TOKEN))
    port = free_port()
    command = [str(operator.python.parent / "outloop"), "up", "--port", str(port), "--workers", str(workers)]
    environ = {**operator.variables, "OUTLOOP_UPSTREAM_CA": str(upstream_ca)}
    log = operator.folder / f"up-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, cwd=cwd, stdout=output, stderr=subprocess.STDOUT)
    proxy = Proxy(operator, port, process, log)
    try:
        proxy.wait_for_log(f"listening on http://127.0.0.1:{port}{f' with {workers} workers' if workers > 1 else ''}")
        yield Crowd(operator, upstream, (proxy,))
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module", params=["four-workers", "two-proxies"])
def crowd(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority, upstream_ca: Path
) -> Iterator[Crowd]:
    operator = Operator(tmp_path_factory.mktemp("operator"))
    with ExitStack() as stack:
        upstream = stack.enter_context(Recorder(authority.server_context("localhost")))
        arrangement = (WORKERS,) if request.param == "four-workers" else (1, 1)
        each = [stack.enter_context(running(operator, upstream, upstream_ca, workers=workers)) for workers in arrangement]
        yield Crowd(operator, upstream, tuple(proxy for crowd in each for proxy in crowd.proxies))


@pytest.fixture
def four(operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Crowd]:
    """Four workers of a test's own."""
    with Recorder(authority.server_context("localhost")) as upstream, running(operator, upstream, upstream_ca) as crowd:
        yield crowd


def writers(operator: Operator) -> set[str]:
    with contextlib.closing(sqlite3.connect(f"{(operator.home / 'audit.db').as_uri()}?mode=ro", uri=True)) as record:
        return {writer for (writer,) in record.execute("SELECT DISTINCT writer FROM decisions")}


def eventually(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.05)


def test_several_of_them_answer_and_each_has_a_chain_of_its_own(crowd: Crowd) -> None:
    eventually(
        lambda: crowd.calls("/plain/a") == {"200": 12} and len(writers(crowd.operator)) > 1, "one process answers everything"
    )

    assert "none edited" in crowd.operator.outloop("audit", "verify")


def test_the_operator_is_shown_each_address_once_with_its_processes(crowd: Crowd) -> None:
    found = crowd.listeners()

    assert {row["listener"] for row in found} == {f"127.0.0.1:{proxy.port}" for proxy in crowd.proxies}
    assert {row["answers"] for row in found} == {"yes"}
    assert sum(row["workers"] for row in found) == len(crowd.processes())
    assert len(crowd.processes()) == (WORKERS if len(crowd.proxies) == 1 else 2)
    for proxy in crowd.proxies:
        said = crowd.operator.run("env", "-w", "acme", "--port", str(proxy.port))
        assert f"127.0.0.1:{proxy.port}'" in said.stdout
        assert "no running proxy" not in said.stderr
    done = crowd.operator.run("doctor", "-w", "acme", "--port", str(crowd.proxies[-1].port), "--json")
    proxy_found = next(row for row in json.loads(done.stdout) if row["check"] == "proxy")
    assert (proxy_found["result"], proxy_found["finding"]) == ("ok", f"answers on 127.0.0.1:{crowd.proxies[-1].port}")


def test_a_limit_is_one_for_all_of_them(crowd: Crowd) -> None:
    assert crowd.calls("/limited/a", count=16) == {"200": 5, "rate_limited": 11}


def test_a_silence_that_the_service_asked_for_holds_in_all_of_them(crowd: Crowd) -> None:
    crowd.upstream.on("GET /busy/a", reply(b"slow down", status=429, headers=[("Retry-After", "3000")]))
    before = len(crowd.upstream.requests)

    assert crowd.call("/busy/a").status == 429

    assert crowd.calls("/busy/b") == {"rate_limited": 12}
    assert len(crowd.upstream.requests) == before + 1


def test_a_switch_is_turned_in_all_of_them_at_once(crowd: Crowd) -> None:
    crowd.operator.outloop("key", "disable", "plain", "-w", "acme")
    off = crowd.calls("/plain/a")
    crowd.operator.outloop("key", "enable", "plain", "-w", "acme")

    assert off == {"runtime_access_off": 12}
    assert crowd.calls("/plain/a") == {"200": 12}


def test_a_new_value_is_used_by_all_of_them_from_the_next_request(crowd: Crowd) -> None:
    assert crowd.calls("/plain/a") == {"200": 12}
    new = f"{TOKEN}-{len(crowd.upstream.requests)}"
    crowd.operator.outloop("key", "rotate", "plain", "-w", "acme", "--stdin", stdin=new)
    before = len(crowd.upstream.requests)

    assert crowd.calls("/plain/a") == {"200": 12}

    sent = {request.header("authorization") for request in crowd.upstream.wait_for(before + 12)[before:]}
    assert sent == {f"Bearer {new}".encode()}


def test_a_revoked_token_is_known_to_none_of_them(crowd: Crowd) -> None:
    agent = add_agent(crowd.operator, "helper", "fake-token-of-a-helper", "acme")
    assert crowd.calls("/plain/a", agent=agent) == {"200": 12}

    crowd.operator.outloop("agent", "revoke", "helper", "-w", "acme")

    assert crowd.calls("/plain/a", agent=agent) == {"agent_unknown": 12}


def test_a_yes_is_used_once_whoever_gets_the_request(crowd: Crowd) -> None:
    stage = crowd.stage.view()
    assert crowd.calls("/plain/links", *BODY, count=4) == {"approval_pending": 4}
    [pending] = json.loads(crowd.operator.outloop("approvals", "--json"))
    crowd.operator.outloop("approve", pending["id"])

    passed = crowd.calls("/plain/links", *BODY, count=8)

    assert passed["200"] == 1, passed
    assert [request.method for request in stage.wait_for(1)] == ["POST"]


def test_a_grant_holds_in_all_of_them_until_it_is_ended(crowd: Crowd) -> None:
    assert crowd.calls("/plain/things/1", "-X", "PUT", count=4) == {"approval_pending": 4}
    [pending] = [row for row in json.loads(crowd.operator.outloop("approvals", "--json")) if row["method"] == "PUT"]
    crowd.operator.outloop("approve", pending["id"], "--for", "10m")
    assert crowd.calls("/plain/things/2", "-X", "PUT") == {"200": 12}

    crowd.operator.outloop("refuse", pending["id"])

    assert crowd.calls("/plain/things/3", "-X", "PUT") == {"approval_pending": 12}


def test_a_policy_is_taken_up_by_all_of_them(crowd: Crowd) -> None:
    text = POLICY.format(port=crowd.upstream.port)
    crowd.operator.write_policy("acme", text.replace("allow: GET /plain/**", "allow: GET /plain/a"))
    try:
        eventually(lambda: crowd.calls("/plain/b") == {"path_not_allowed": 12}, "an earlier policy stays in force")
    finally:
        crowd.operator.write_policy("acme", text)
    eventually(lambda: crowd.calls("/plain/b") == {"200": 12}, "an earlier policy stays in force")


# The supervisor


def test_one_that_dies_is_started_again_and_no_answered_request_is_without_its_row(four: Crowd) -> None:
    victim = min(four.processes())

    os.kill(victim, signal.SIGKILL)
    answers = [four.call("/plain/b") for _ in range(20)]

    for answer in answers:
        if answer.status == 200:
            assert four.stage.row(answer.header("outloop-audit-id"))["reason"] == "OK"
    [died] = four.stage.wait_for_event("worker_died")
    assert died["detail"] == f"process {victim} was ended by SIGKILL; the next starts in 0.5 s"
    eventually(lambda: len(four.processes()) == WORKERS and victim not in four.processes(), "the worker is not started again")
    assert four.calls("/plain/a") == {"200": 12}
    assert "none edited" in four.operator.outloop("audit", "verify")


def test_what_all_of_them_say_is_shown_once(four: Crowd) -> None:
    four.operator.write_policy("acme", "workspace: acme\nservcies: {}\n")
    eventually(lambda: len(four.stage.wait_for_event("policy_refused")) >= WORKERS, "a worker has not looked")
    four.operator.write_policy("acme", POLICY.format(port=four.upstream.port).replace("GET /plain/**", "GET /plain/a"))
    eventually(lambda: four.calls("/plain/b") == {"path_not_allowed": 12}, "an earlier policy stays in force")

    assert four.calls("/plain/a") == {"200": 12}
    assert four.proxies[0].log.count("acme.yaml:2:1:") == 1
    assert len(set(four.proxies[0].log.splitlines())) == len(four.proxies[0].log.splitlines())


def test_nothing_in_the_working_directory_is_run(
    operator: Operator, authority: Authority, upstream_ca: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    for name in ("outloop", "mitmproxy", "json", "asyncio"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\n")
    with (
        Recorder(authority.server_context("localhost")) as upstream,
        running(operator, upstream, upstream_ca, workers=2, cwd=folder) as crowd,
    ):
        assert crowd.call("/plain/a").status == 200

    assert not (tmp_path / "owned").exists()


def test_a_hangup_has_all_of_them_read_policy_again_and_ends_none(four: Crowd) -> None:
    before = four.processes()

    four.proxies[0].process.send_signal(signal.SIGHUP)

    assert four.calls("/plain/a") == {"200": 12}
    assert four.processes() == before


def test_where_none_can_be_started_again_it_ends_and_says_why_once(four: Crowd) -> None:
    workers = four.processes()
    four.operator.write_policy("acme", "workspace: acme\nservcies: {}\n")
    eventually(lambda: len(four.stage.wait_for_event("policy_refused")) >= WORKERS, "a worker has not looked")

    for pid in workers:
        os.kill(pid, signal.SIGKILL)

    assert four.proxies[0].process.wait(PATIENCE_S) == 2
    assert four.proxies[0].log.count("outloop: error:") == 1
    assert "acme.yaml:2:1:" in four.proxies[0].log.partition("outloop: error:")[2]
    assert not any(map(is_alive, workers))


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
        running(operator, upstream, upstream_ca, workers=2) as crowd,
    ):
        pids = crowd.processes()
        process = crowd.proxies[0].process
        process.send_signal(number)
        code = process.wait(PATIENCE_S)

        eventually(lambda: not any(map(is_alive, pids)), f"still alive: {pids}")

    assert len(pids) == 2
    assert code == (-signal.SIGKILL if number is signal.SIGKILL else 0)
    assert "Traceback" not in crowd.proxies[0].log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_while_it_starts(operator: Operator, number: signal.Signals) -> None:
    operator.outloop("workspace", "add", "acme", "--service", "calendly")
    command = [sys.executable, "-m", "outloop", "up", "--port", str(free_port()), "--workers", "3"]
    process = subprocess.Popen(command, env=operator.variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        eventually(lambda: bool(children(process.pid)), "no worker is started")
        process.send_signal(number)
        printed, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()

    assert process.returncode == 0, printed
    assert "Traceback" not in printed


def children(pid: int) -> list[str]:
    return subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout.split()


def test_what_keeps_them_from_starting_is_said_once(operator: Operator) -> None:
    operator.write_policy("acme", "workspace: acme\nservcies: {}\n")

    done = operator.run("up", "--port", str(free_port()), "--workers", "3")

    assert done.returncode == 2
    assert (done.stdout + done.stderr).count("acme.yaml:2:1:") == 1
    assert "Traceback" not in done.stdout + done.stderr
