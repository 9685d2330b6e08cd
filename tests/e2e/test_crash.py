"""The power cut: no row of an answered request is lost."""

from __future__ import annotations

import threading
from http.client import HTTPException
from pathlib import Path

from harness.operators import Operator
from harness.raw_agent import tunnel
from harness.stage import HOST, TOKEN, running_stage, store_keys
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.store.records import Records

POLICY = f"""\
workspace: acme
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - allow: GET,POST /**
      - deny: GET /private/**
"""
AGENTS = 6
ANSWERS_BEFORE_THE_END = 300


class Load:
    """Agents that ask as fast as they get answers, and note the id of each."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self.enough = threading.Event()
        self._lock = threading.Lock()

    def note(self, audit_id: str) -> None:
        with self._lock:
            self.answered.append(audit_id)
            if len(self.answered) >= ANSWERS_BEFORE_THE_END:
                self.enough.set()


def test_killed_under_load_the_proxy_loses_no_row_of_an_answered_request(
    operator: Operator, authority: Authority, upstream_ca: Path
) -> None:
    operator.write_policy("acme", POLICY)
    store_keys(operator, {"example": TOKEN})
    load = Load()
    with (
        Recorder(authority.server_context(HOST)) as upstream,
        running_stage(operator, upstream, [HOST], upstream_ca=upstream_ca) as stage,
    ):

        def ask_on(number: int) -> None:
            try:
                with tunnel(stage.proxy, f"{HOST}:443") as agent:
                    while True:
                        for method, path in (("GET", "/x"), ("POST", "/x"), ("GET", "/private/x")):
                            answer = agent.ask(
                                f"{method} {path}?{number} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n".encode()
                            )
                            load.note(answer.header("outloop-audit-id") or "")
            except (OSError, HTTPException):
                return  # the proxy is gone

        agents = [threading.Thread(target=ask_on, args=(number,)) for number in range(AGENTS)]
        for agent in agents:
            agent.start()
        assert load.enough.wait(60), stage.proxy.log
        stage.proxy.kill()
        for agent in agents:
            agent.join(30)
        arrived = len(upstream.requests)

    decisions = {str(row["id"]): row for row in operator.rows("decisions")}
    assert len(load.answered) >= ANSWERS_BEFORE_THE_END
    assert "" not in load.answered
    assert [audit_id for audit_id in load.answered if audit_id not in decisions] == []
    assert len([row for row in decisions.values() if row["decision"] == "allow"]) >= arrived
    assert Records(operator.home / "audit.db").verify().ok


def test_after_a_kill_the_proxy_starts_again_on_the_same_record(
    operator: Operator, authority: Authority, upstream_ca: Path
) -> None:
    operator.write_policy("acme", POLICY)
    store_keys(operator, {"example": TOKEN})
    with Recorder(authority.server_context(HOST)) as upstream:
        answers = []
        for _ in range(2):
            with running_stage(operator, upstream, [HOST], upstream_ca=upstream_ca) as stage:
                answers.append(stage.curl("/x"))
                stage.proxy.kill()

    assert [answer.status for answer in answers] == [200, 200]
    assert {str(answer.header("outloop-audit-id")) for answer in answers} <= {
        str(row["id"]) for row in operator.rows("decisions")
    }
    assert Records(operator.home / "audit.db").verify().ok
