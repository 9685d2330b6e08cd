"""Approvals over a real proxy: what is held, what lets it go, and that one yes is one request."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ResponseReceived

from harness.operators import PATIENCE_S, Operator
from harness.proxy import Answer, free_port
from harness.raw_agent import tunnel
from harness.stage import HOST, TOKEN, Stage, add_agent, running_stage, store_keys
from outloop.attacks.frames import head
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.core.approvals import LIFE_S, MOST_PENDING, Approval, Status
from outloop.proxy.approvals import MOST_HELD
from outloop.store.approvals import ApprovalStore

POLICY = f"""\
workspace: acme
hold: {{hold}}
services:
  example:
    hosts: [{HOST}]
    auth: {{{{type: bearer}}}}
    rules:
      - allow: GET /**
      - ask: "* /asks/**"
      - ask: POST /others
    next_proof: {{{{request: POST /asks/proof, body: {{{{max: 1}}}}}}}}
  down:
    hosts: [down.example.com]
    auth: {{{{type: bearer}}}}
    rules: [{{{{ask: "* /**"}}}}]
"""
LONG = 60


class Desk:
    """The operator, in this process: what waits, by what it asks for, and the commands without their start-up time."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.store = ApprovalStore(stage.operator.home / "state.db")

    def waiting(self, path: str, count: int = 1) -> list[Approval]:
        """Return the pending approvals of *path* once there are *count*. Raises TimeoutError."""
        end = time.monotonic() + PATIENCE_S
        while True:
            found = [each for each in self.store.listed(time.time()) if each.asked.path == path and each.status is Status.PENDING]
            if len(found) == count:
                return found
            if time.monotonic() > end:
                raise TimeoutError(f"{len(found)} approvals wait for {path}\n{self.stage.proxy.log}")
            time.sleep(0.02)

    def approve(self, approval: Approval) -> None:
        assert self.store.approve(approval.id, time.time()) is not None

    def change(self, approval: Approval, **columns: object) -> None:
        """Change a row in the file itself: time passes, say."""
        with sqlite3.connect(self.stage.operator.home / "state.db", timeout=10) as database:
            sets = ", ".join(f"{name} = :{name}" for name in columns)
            database.execute(f"UPDATE approvals SET {sets} WHERE id = :approval", {"approval": approval.id, **columns})
        database.close()


def make_stage(
    stack: ExitStack, operator: Operator, authority: Authority, upstream_ca: Path, hold: int, **options: object
) -> Stage:
    operator.write_policy("acme", POLICY.format(hold=hold))
    store_keys(operator, {"example": TOKEN, "down": TOKEN})
    upstream = stack.enter_context(Recorder(authority.server_context(HOST)))
    routes = {HOST: upstream.port, "down.example.com": free_port()}
    return stack.enter_context(running_stage(operator, upstream, routes, upstream_ca=upstream_ca))


@pytest.fixture(scope="module")
def holding(tmp_path_factory: pytest.TempPathFactory, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    """A proxy that holds for longer than any test takes."""
    with ExitStack() as stack:
        yield make_stage(stack, Operator(tmp_path_factory.mktemp("holding")), authority, upstream_ca, LONG)


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    """A proxy that holds nothing."""
    with ExitStack() as stack:
        yield make_stage(stack, Operator(tmp_path_factory.mktemp("prompt")), authority, upstream_ca, 0)


@pytest.fixture
def stage(prompt: Stage) -> Stage:
    with sqlite3.connect(prompt.operator.home / "state.db", timeout=10) as database:
        database.execute("DELETE FROM approvals")
    database.close()
    return prompt.view()


@pytest.fixture
def desk(stage: Stage) -> Desk:
    return Desk(stage)


@pytest.fixture
def held(holding: Stage) -> Desk:
    return Desk(holding.view())


@pytest.fixture
def background() -> Iterator[Callable[[Callable[[], Answer]], Future[Answer]]]:
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


def events(stage: Stage, approval: Approval) -> list[str]:
    return [str(row["kind"]) for row in stage.operator.rows("events") if str(row["detail"]).startswith(approval.id)]


def is_answered(answer: Answer) -> bool:
    """Tell whether there was an answer to the request itself; of one that was given up, curl knows the CONNECT's alone."""
    return answer.exit_code == 0


def sent_again(held: Desk, *arguments: str) -> int:
    """Return the status of a request that must not be held again."""
    answer = held.stage.curl(*arguments, "--max-time", "10")
    assert is_answered(answer), held.stage.proxy.log
    return answer.status


def reason(answer: Answer) -> object:
    return answer.json()["reason"]


# Held


def test_a_held_request_goes_on_once_a_person_says_yes(held: Desk, background: Callable[..., Future[Answer]]) -> None:
    waiting = background(lambda: held.stage.curl("/asks/held?a=1", "-d", "b=2"))
    [approval] = held.waiting("/asks/held?a=1")
    assert held.stage.arrived == []

    printed = held.stage.operator.outloop("approve", approval.short_id)

    answer = waiting.result(PATIENCE_S)
    assert printed.startswith(f"approved {approval.short_id}: POST /asks/held?a=1")
    [sent] = held.stage.wait_for(1)
    assert (sent.target, bytes(sent.body), sent.header("authorization")) == ("/asks/held?a=1", b"b=2", f"Bearer {TOKEN}".encode())
    row = held.stage.row(answer.header("outloop-audit-id"))
    assert (answer.status, row["decision"], row["reason"], row["approval"]) == (200, "allow", "OK", approval.id)
    assert str(row["rule"]).endswith("acme.yaml:9")
    assert events(held.stage, approval) == ["approval_requested", "approval_approved"]


def test_a_held_request_is_refused_with_the_operators_words(held: Desk, background: Callable[..., Future[Answer]]) -> None:
    waiting = background(lambda: held.stage.curl("/asks/no", "-X", "DELETE"))
    [approval] = held.waiting("/asks/no")

    held.stage.operator.outloop("refuse", approval.id, "--because", "not\x1b[31m today")

    answer = waiting.result(PATIENCE_S)
    assert (answer.status, reason(answer)) == (403, "approval_refused")
    assert str(answer.json()["detail"]).endswith(": not\\x1b[31m today")
    assert answer.header("retry-after") is None
    row = held.stage.row(answer.header("outloop-audit-id"))
    assert (row["decision"], row["reason"], row["approval"]) == ("deny", "approval_refused", approval.id)
    assert events(held.stage, approval) == ["approval_requested", "approval_refused"]
    again = held.stage.curl("/asks/no", "-X", "DELETE")
    assert reason(again) == "approval_refused", "an agent that asks again is not a second question to the operator"
    assert held.stage.arrived == []


def test_those_that_are_held_for_the_same_share_one_question_and_one_yes_lets_one_go(
    held: Desk, background: Callable[..., Future[Answer]]
) -> None:
    waiting = [background(lambda: held.stage.curl("/asks/twice", "-d", "x=1", "--max-time", "3")) for _ in range(4)]
    [approval] = held.waiting("/asks/twice")

    held.approve(approval)

    answers = [each.result(PATIENCE_S) for each in waiting]
    assert [answer.status for answer in answers if is_answered(answer)].count(200) == 1
    assert {reason(answer) for answer in answers if is_answered(answer) and answer.status != 200} <= {"approval_pending"}
    assert len(held.stage.wait_for(1)) == 1
    assert [row["decision"] for row in held.stage.operator.rows() if row["path"] == "/asks/twice"].count("allow") == 1


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_a_yes_after_the_agent_has_given_up_is_kept_for_its_next_attempt(held: Desk, protocol: str) -> None:
    path = f"/asks/impatient{protocol}"
    gone = held.stage.curl(path, protocol, "-d", "x=1", "--max-time", "1")
    [approval] = held.waiting(path)
    assert gone.exit_code == 28
    left = held.stage.wait_for_row(approval=approval.id)
    assert (left["decision"], left["reason"], left["status"], left["error"]) == (
        "deny",
        "approval_pending",
        None,
        "the agent left",
    )

    held.approve(approval)
    assert held.stage.arrived == []
    answer = held.stage.curl(path, protocol, "-d", "x=1")

    assert (answer.exit_code, answer.status, len(held.stage.wait_for(1))) == (0, 200, 1)
    assert held.stage.row(answer.header("outloop-audit-id"))["approval"] == approval.id


def test_a_stream_that_is_reset_while_its_connection_stays_leaves_nothing_to_send(held: Desk) -> None:
    """An HTTP/2 client that gives one request up keeps its connection: mitmproxy would send the request all the same."""
    with tunnel(held.stage.proxy, f"{HOST}:443", protocols=("h2",)) as agent:
        client = H2Connection()
        client.initiate_connection()
        client.send_headers(1, head(method="POST", path="/asks/reset"))
        client.send_data(1, b"x", end_stream=True)
        agent.send(client.data_to_send())
        [approval] = held.waiting("/asks/reset")
        client.reset_stream(1, ErrorCodes.CANCEL)
        agent.send(client.data_to_send())
        left = held.stage.wait_for_row(approval=approval.id)
        held.approve(approval)
        client.send_headers(3, head(path="/still-here"), end_stream=True)
        agent.send(client.data_to_send())
        held.stage.wait_for(1)

    assert (left["decision"], left["error"]) == ("deny", "the agent left")
    assert [request.path for request in held.stage.arrived] == ["/still-here"]
    assert sent_again(held, "/asks/reset", "--http2", "-d", "x", "-H", "Content-Type:") == 200, "the yes is still there"


def test_a_switch_turned_off_while_a_request_is_held_counts(held: Desk, background: Callable[..., Future[Answer]]) -> None:
    waiting = background(lambda: held.stage.curl("/asks/switched", "-d", "x=1"))
    [approval] = held.waiting("/asks/switched")
    held.stage.switch("acme-example", False)
    try:
        held.approve(approval)
        assert reason(waiting.result(PATIENCE_S)) == "runtime_access_off"
    finally:
        held.stage.switch("acme-example", True)
    assert sent_again(held, "/asks/switched", "-d", "x=1") == 200, "it was not used up"


def test_an_agent_revoked_while_its_request_is_held_gets_nothing_and_leaves_its_namesake_nothing(
    held: Desk, background: Callable[..., Future[Answer]]
) -> None:
    agent = add_agent(held.stage.operator, "leaver", "leaver-token-0123456789")
    waiting = background(lambda: held.stage.curl("/asks/leaver", agent=agent))
    [approval] = held.waiting("/asks/leaver")
    assert held.store.grant(approval.id, time.time(), time.time() + 600) is not None
    assert waiting.result(PATIENCE_S).status == 200

    held.stage.operator.outloop("agent", "revoke", "leaver", "-w", "acme")
    namesake = add_agent(held.stage.operator, "leaver", "another-token-0123456789")
    asking = background(lambda: held.stage.curl("/asks/leaver", "--max-time", "2", agent=namesake))

    assert held.waiting("/asks/leaver")[0].id != approval.id
    assert asking.result(PATIENCE_S).exit_code == 28


# Sent again


def test_what_is_not_held_is_pending_at_once_and_says_when_to_come_again(stage: Stage, desk: Desk) -> None:
    answer = stage.curl("/asks/now", "-d", "x=1")

    [approval] = desk.waiting("/asks/now")
    assert (answer.status, reason(answer), answer.header("retry-after")) == (403, "approval_pending", "30")
    assert approval.short_id in str(answer.json()["detail"])
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["decision"], row["approval"], row["status"]) == ("deny", approval.id, 403)
    assert [row["approval"] for row in stage.operator.rows("approvals") if row["path"] == "/asks/now"] == [approval.id]


def test_one_yes_is_one_request(stage: Stage, desk: Desk) -> None:
    stage.curl("/asks/once", "-d", "x=1")
    [approval] = desk.waiting("/asks/once")
    desk.approve(approval)

    answers = [stage.curl("/asks/once", "-d", "x=1") for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 403]
    assert reason(answers[1]) == "approval_pending"
    assert len(stage.wait_for(1)) == 1
    assert desk.waiting("/asks/once")[0].id != approval.id


SAME = ("/asks/swap?a=1", "-X", "POST", "-H", "Content-Type: application/json", "-d", '{"n":1}')


@pytest.mark.parametrize(
    "swapped",
    [
        pytest.param((*SAME[:-1], '{"n":2}'), id="body"),
        pytest.param((*SAME[:-1], '{"n":1} '), id="body-by-a-space"),
        pytest.param(("/asks/swap?a=2", *SAME[1:]), id="query"),
        pytest.param(("/asks/swap?a=1&b", *SAME[1:]), id="query-longer"),
        pytest.param(("/asks/swap/?a=1", *SAME[1:]), id="trailing-slash"),
        pytest.param((*SAME[:2], "PUT", *SAME[3:]), id="method"),
        pytest.param((*SAME, "-H", "Content-Type: application/x-www-form-urlencoded"), id="content-type"),
        pytest.param((*SAME, "-H", "Stripe-Account: acct_other"), id="on-behalf-of-another"),
    ],
)
def test_what_was_swapped_after_the_yes_does_not_pass(stage: Stage, desk: Desk, swapped: tuple[str, ...]) -> None:
    stage.curl(*SAME)
    desk.approve(desk.waiting("/asks/swap?a=1")[0])

    answer = stage.curl(*swapped)

    assert (answer.status, reason(answer), stage.arrived) == (403, "approval_pending", [])
    assert stage.curl(*SAME).status == 200, "and the yes is still there for what it was said to"


def test_what_varies_between_attempts_does_not_matter(stage: Stage, desk: Desk) -> None:
    stage.curl("/asks/vary", "-d", "x=1", "-A", "one", "-H", "Idempotency-Key: 1", "-H", "traceparent: 00-a-b-01")
    desk.approve(desk.waiting("/asks/vary")[0])

    answer = stage.curl("/asks/vary", "-d", "x=1", "-A", "two", "-H", "Idempotency-Key: 2", "-H", "Accept: text/plain", "--http2")

    assert answer.status == 200


def test_a_yes_to_one_agent_is_none_to_another(stage: Stage, desk: Desk) -> None:
    one, other = (add_agent(stage.operator, name, f"{name}-token-0123456789") for name in ("one", "other"))
    stage.curl("/asks/mine", agent=one)
    desk.approve(desk.waiting("/asks/mine")[0])

    assert stage.curl("/asks/mine", agent=other).status == 403
    assert stage.curl("/asks/mine").status == 403
    assert stage.arrived == []
    assert stage.curl("/asks/mine", agent=one).status == 200


def test_a_yes_runs_out(stage: Stage, desk: Desk) -> None:
    stage.curl("/asks/late")
    [approval] = desk.waiting("/asks/late")
    desk.approve(approval)
    desk.change(approval, since=time.time() - LIFE_S - 1, until=time.time() - 1)

    late, again = stage.curl("/asks/late"), stage.curl("/asks/late")

    assert (late.status, reason(late)) == (403, "approval_expired")
    assert stage.row(late.header("outloop-audit-id"))["approval"] == approval.id
    assert reason(again) == "approval_pending"
    assert desk.waiting("/asks/late")[0].id != approval.id
    assert stage.arrived == []
    stage.wait_for_event("approval_expired")
    assert events(stage, approval).count("approval_expired") == 1


def test_a_clock_set_back_does_not_lengthen_a_yes(stage: Stage, desk: Desk) -> None:
    stage.curl("/asks/clock")
    [approval] = desk.waiting("/asks/clock")
    desk.approve(approval)
    desk.change(approval, since=time.time() + 3600, until=time.time() + 3600 + LIFE_S)

    assert reason(stage.curl("/asks/clock")) == "approval_expired"


def test_a_yes_is_not_lost_to_an_upstream_that_cannot_be_reached(stage: Stage, desk: Desk) -> None:
    stage.curl("/", "-d", "x=1", host="down.example.com")
    [approval] = desk.waiting("/")
    desk.approve(approval)

    failed = [stage.curl("/", "-d", "x=1", host="down.example.com") for _ in range(2)]

    assert [reason(answer) for answer in failed] == ["upstream_failed"] * 2
    found = desk.store.find(approval.id)
    assert found is not None
    assert found.status is Status.APPROVED


def test_an_agent_finds_no_way_to_approve(stage: Stage, desk: Desk) -> None:
    stage.curl("/asks/self")
    [approval] = desk.waiting("/asks/self")

    for path in ("/approve", f"/approve/{approval.id}", f"/approvals/{approval.id}", "/approvals"):
        for method in ("GET", "POST", "PUT"):
            assert stage.curl(path, "-X", method, host="outloop.internal").status in (404, 405)

    assert approval.id not in stage.curl("/", host="outloop.internal").body.decode()
    assert [each.status for each in desk.store.listed(time.time())] == [Status.PENDING]


# Grants


def test_a_grant_covers_what_its_rule_asks_of_its_agent_and_can_be_ended(stage: Stage, desk: Desk) -> None:
    agent = add_agent(stage.operator, "granted", "granted-token-0123456789")
    stage.curl("/asks/first", "-d", "x=1", agent=agent)
    stage.curl("/asks/second", "-d", "x=1", agent=agent)
    [approval] = desk.waiting("/asks/first")

    printed = stage.operator.outloop("approve", approval.short_id, "--for", "10m")

    assert "granted" in printed
    assert desk.waiting("/asks/second", 0) == [], "it waits for nobody any more"
    answers = [stage.curl(f"/asks/{name}", "-d", "x=1", agent=agent) for name in ("first", "second", "third", "third")]
    assert [answer.status for answer in answers] == [200] * 4
    assert {stage.row(answer.header("outloop-audit-id"))["approval"] for answer in answers} == {approval.id}
    assert stage.curl("/others", "-d", "x=1", agent=agent).status == 403, "another rule"
    assert stage.curl("/asks/third", "-d", "x=1").status == 403, "another agent"
    [listed] = [row for row in json.loads(stage.operator.outloop("approvals", "--json")) if row["status"] == "granted"]
    assert (listed["id"], listed["agent"]) == (approval.id, "granted")

    stage.operator.outloop("refuse", approval.short_id, "--because", "enough")

    assert reason(stage.curl("/asks/third", "-d", "x=1", agent=agent)) == "approval_pending"
    assert events(stage, approval) == ["approval_requested", "approval_granted", "approval_revoked"]


def test_a_grant_ends_by_itself(stage: Stage, desk: Desk) -> None:
    stage.curl("/asks/brief")
    [approval] = desk.waiting("/asks/brief")
    assert desk.store.grant(approval.id, time.time(), time.time() + 600) is not None
    assert stage.curl("/asks/brief").status == 200
    desk.change(approval, until=time.time() - 1)

    assert reason(stage.curl("/asks/brief")) == "approval_pending"


def test_a_grant_does_not_pass_to_a_rule_that_comes_to_stand_in_its_place(
    tmp_path: Path, authority: Authority, upstream_ca: Path
) -> None:
    with ExitStack() as stack:
        stage = make_stage(stack, Operator(tmp_path), authority, upstream_ca, 0)
        desk = Desk(stage)
        stage.curl("/asks/x", "-d", "x=1")
        [approval] = desk.waiting("/asks/x")
        assert desk.store.grant(approval.id, time.time(), time.time() + 600) is not None
        other = POLICY.format(hold=0).replace('"* /asks/**"', '"*  /asks/**"').replace("/others", "/asks/never-mind")
        stage.operator.write_policy("acme", other.replace('- ask: "*  /asks/**"', '- ask: "POST,PUT /asks/**"'))
        stage.wait_for_event("policy_reloaded")

        assert reason(stage.curl("/asks/x", "-d", "x=1")) == "approval_pending"


# Floods, restarts, several proxies


def test_an_agent_that_floods_is_told_to_wait_longer_and_others_are_heard(stage: Stage, desk: Desk) -> None:
    agent = add_agent(stage.operator, "flood", "flood-token-0123456789")
    answers = [stage.curl(f"/asks/flood/{number}", agent=agent) for number in range(MOST_PENDING + 2)]

    assert {reason(answer) for answer in answers} == {"approval_pending"}
    assert [answer.header("retry-after") for answer in answers] == ["30"] * MOST_PENDING + ["120"] * 2
    assert len(desk.store.listed(time.time())) == MOST_PENDING
    assert stage.curl("/asks/flood/0", agent=agent).header("retry-after") == "30", "what waits already still does"
    assert stage.curl("/asks/other").header("retry-after") == "30"
    assert len(desk.store.listed(time.time())) == MOST_PENDING + 1


def test_only_so_many_requests_of_one_agent_are_held_and_the_rest_are_told_to_come_again(held: Desk) -> None:
    agent = add_agent(held.stage.operator, "crowd", "crowd-token-0123456789")
    with tunnel(held.stage.proxy, f"{HOST}:443", protocols=("h2",), agent=agent) as crowd:
        client = H2Connection()
        client.initiate_connection()
        streams = range(1, 2 * (MOST_HELD + 3), 2)
        for stream in streams:
            client.send_headers(stream, head(path="/asks/crowd"), end_stream=True)
        crowd.send(client.data_to_send())
        answered: set[int] = set()
        while len(answered) < len(streams) - MOST_HELD:
            events_ = client.receive_data(crowd.connection.recv(65536))
            answered |= {event.stream_id for event in events_ if isinstance(event, ResponseReceived)}
            crowd.send(client.data_to_send())
        [approval] = held.waiting("/asks/crowd")
        held.approve(approval)
        held.stage.wait_for(1)

    assert len(answered) == len(streams) - MOST_HELD


def test_what_waits_and_what_was_approved_outlives_the_proxy(tmp_path: Path, authority: Authority, upstream_ca: Path) -> None:
    operator = Operator(tmp_path)
    with ExitStack() as stack:
        stage = make_stage(stack, operator, authority, upstream_ca, 0)
        desk = Desk(stage)
        stage.curl("/asks/approved")
        stage.curl("/asks/waiting")
        stage.proxy.kill()
        desk.approve(desk.waiting("/asks/approved")[0])
        routes = {HOST: stage.upstream.port}
        after = stack.enter_context(running_stage(operator, stage.upstream, routes, upstream_ca=upstream_ca))

        assert after.curl("/asks/waiting").status == 403
        assert len(desk.waiting("/asks/waiting")) == 1
        assert [after.curl("/asks/approved").status for _ in range(2)] == [200, 403]


def test_two_proxies_on_one_home_use_one_yes_once(
    tmp_path: Path, authority: Authority, upstream_ca: Path, background: Callable[..., Future[Answer]]
) -> None:
    operator = Operator(tmp_path)
    with ExitStack() as stack:
        one = make_stage(stack, operator, authority, upstream_ca, LONG)
        other = stack.enter_context(running_stage(operator, one.upstream, {HOST: one.upstream.port}, upstream_ca=upstream_ca))
        waiting = [
            background(lambda each=each: each.curl("/asks/both", "-d", "x=1", "--max-time", "3"))
            for each in (one, other, one, other)
        ]
        desk = Desk(one)
        desk.approve(desk.waiting("/asks/both")[0])

        answers = [each.result(PATIENCE_S) for each in waiting]

        assert [answer.status for answer in answers if is_answered(answer)].count(200) == 1
        assert len(one.wait_for(1)) == 1


# The operator's own write


@pytest.mark.parametrize("stage_name", ["holding", "prompt"])
def test_a_next_proof_brings_its_approval_along_and_gives_none_to_another(
    request: pytest.FixtureRequest, stage_name: str, background: Callable[..., Future[Answer]]
) -> None:
    desk = Desk(request.getfixturevalue(stage_name).view())
    other = ("/asks/proof", "-H", "Content-Type: application/json", "-d", '{"max": 2}', "--max-time", "3")
    asking = background(lambda: desk.stage.curl(*other))
    [waiting] = desk.waiting("/asks/proof")

    printed = desk.stage.operator.run(
        "proof", "example", "-w", "acme", "--next", "--approve", "--port", str(desk.stage.proxy.port)
    )

    assert printed.stdout.splitlines()[1:6] == [
        "POST /asks/proof", "HTTP 200", "decision: allow / OK", "secret_exposed: false", "runtime_verified: yes",
    ], printed  # fmt: skip
    [sent] = desk.stage.wait_for(1)
    assert json.loads(bytes(sent.body)) == {"max": 1}
    row = desk.stage.row(printed.stdout.splitlines()[-1].rpartition(" ")[2])
    assert (row["proof"], row["approval"] is None) == (1, False)
    assert not is_answered(answer := asking.result(PATIENCE_S)) or reason(answer) == "approval_pending"
    found = desk.store.find(waiting.id)
    assert found is not None
    assert found.status is Status.PENDING


# What the operator sees


def test_nothing_secret_is_kept_of_what_waits(stage: Stage, desk: Desk) -> None:
    stage.curl("/ready")  # the workspace's keys are in memory from now on
    body = json.dumps(
        {"max": 1, "api_token": "hidden-value-1", "note": "Bearer hidden-value-2", "url": "https://u:hidden-value-3@x/"}
    )
    stage.curl("/asks/secrets?session_token=hidden-value-4&b=1", "-H", "Content-Type: application/json", "-d", body)

    [listed] = json.loads(stage.operator.outloop("approvals", "--json"))

    assert listed["path"] == "/asks/secrets?session_token=***&b=1"
    assert listed["body"] == '{"max": 1, "api_token": "***", "note": "***", "url": "https://***@x/"}'
    for name in ("state.db", "state.db-wal", "audit.db", "audit.db-wal"):
        assert b"hidden-value" not in (stage.operator.home / name).read_bytes()


def test_a_request_that_carries_a_known_key_is_refused_before_anybody_is_asked(stage: Stage, desk: Desk) -> None:
    stage.curl("/ready")

    answer = stage.curl("/asks/leak", "-d", f"x={TOKEN}")

    assert reason(answer) == "credential_misplaced"
    assert desk.store.listed(time.time()) == ()


def test_the_desktop_is_told_names_alone(tmp_path: Path, authority: Authority, upstream_ca: Path) -> None:
    told = tmp_path / "told"
    tools = tmp_path / "tools"
    tools.mkdir()
    script = tools / "notify-send"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {told}.part; env >> {told}.part; mv {told}.part {told}\n')
    script.chmod(0o755)
    operator = Operator(tmp_path / "operator", environ={"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"})
    operator.folder.mkdir()
    with ExitStack() as stack:
        stage = make_stage(stack, operator, authority, upstream_ca, 0)
        stage.curl("/asks/private-path?q=private-query", "-d", "private-body")
        [approval] = Desk(stage).waiting("/asks/private-path?q=private-query")
        end = time.monotonic() + PATIENCE_S
        while not told.exists() and time.monotonic() < end:
            time.sleep(0.02)

        said = told.read_text()

    assert f"acme asks example for a POST: {approval.short_id}" in said
    assert "private" not in said
    assert "OUTLOOP" not in said
