"""The one workspace of the tests that start proxies of their own, and what a bridged call looks like there."""

from __future__ import annotations

from harness.proxy import Answer
from harness.stage import HOST, TOKEN, Stage

POLICY = f"""\
workspace: acme
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - allow: GET,HEAD,PUT,POST /**
      - deny: GET /meddle/**/private/**
      - deny: POST /refused/**
      - deny: "* /meddle/refused/**"
      - allow: POST /links/**
        where: {{body.max: 1}}
"""


def assert_bridged(stage: Stage, answer: Answer) -> None:
    """Assert that *answer* is of a request that went upstream with the key and left its row."""
    assert answer.status == 200, (answer, stage.proxy.log)
    assert stage.arrived[-1].all("authorization") == [f"Bearer {TOKEN}".encode()]
    assert stage.row(answer.header("outloop-audit-id"))["reason"] == "OK"
