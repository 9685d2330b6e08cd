"""A prune while proxies run: writes wait for moments, and no request fails."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path

from harness.operators import Operator
from harness.raw_agent import tunnel
from harness.rows import IDS, decision, outcome
from harness.stage import HOST, TOKEN, running_stage, store_keys, stores
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.core.ledger import Row
from outloop.store.anchor import renew
from outloop.store.appender import Appender

POLICY = f"""\
workspace: acme
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - allow: GET,POST /**
"""
OLD = "2020-01-01T00:00:00.000Z"
OLD_REQUESTS = 20_000
AGENTS = 3


def write_old(operator: Operator) -> None:
    appender = Appender(operator.home / "audit.db", IDS.next(), 5.0)
    for _ in range(OLD_REQUESTS // 1000):
        rows: list[Row] = []
        for _ in range(1000):
            row = decision(at=OLD)
            rows += [row, replace(outcome(row), at=OLD)]
        appender.append(rows)
    appender.close()
    with stores(operator) as (_, keychain):
        renew(operator.home / "audit.db", keychain, "2020-02-01T00:00:00.000Z")


def test_no_request_fails_while_the_record_is_pruned(operator: Operator, authority: Authority, upstream_ca: Path) -> None:
    operator.write_policy("acme", POLICY)
    store_keys(operator, {"example": TOKEN})
    write_old(operator)
    statuses: list[int] = []
    is_over = threading.Event()
    with (
        Recorder(authority.server_context(HOST)) as upstream,
        running_stage(operator, upstream, [HOST], upstream_ca=upstream_ca) as stage,
    ):

        def ask_on() -> None:
            try:
                with tunnel(stage.proxy, f"{HOST}:443") as agent:
                    while not is_over.is_set():
                        for method in ("GET", "POST"):
                            head = f"{method} /x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n"
                            statuses.append(agent.ask(head.encode()).status)
            except (OSError, HTTPException):
                statuses.append(0)

        agents = [threading.Thread(target=ask_on) for _ in range(AGENTS)]
        for agent in agents:
            agent.start()
        stage.wait_for(AGENTS)
        done = json.loads(operator.outloop("audit", "prune", "--keep", "90d", "--yes", "--json"))
        is_over.set()
        for agent in agents:
            agent.join(30)
        assert stage.proxy.stop() == 0

    # The newest old request stays for its workspace's sake.
    assert done["removed"] == 2 * (OLD_REQUESTS - 1)
    assert set(statuses) == {200}
    assert len(statuses) > AGENTS
    verified = json.loads(operator.outloop("audit", "verify", "--json"))
    assert (verified["ok"], verified["pruned"], verified["anchor"]["standing"]) == (True, done["removed"], "attested")
