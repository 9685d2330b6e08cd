"""``policies/schema.json``: what editors are told agrees with what is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from harness.policies import problems_of, rules_text, service_text
from outloop.core.policy.schema import schema_text

POLICIES = Path(__file__).resolve().parents[2] / "policies"
SCHEMA: dict[str, Any] = json.loads((POLICIES / "schema.json").read_text())
SHIPPED = sorted(path for folder in ("services", "examples", "tests") for path in (POLICIES / folder).glob("*.yaml"))


def _accepts(text: str) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(yaml.safe_load(text))


def test_the_schema_is_fresh() -> None:
    assert (POLICIES / "schema.json").read_text() == schema_text()


def test_the_schema_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", [pytest.param(path, id=f"{path.parent.name}/{path.name}") for path in SHIPPED])
def test_every_shipped_file_is_valid(path: Path) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(yaml.safe_load(path.read_text()))


def test_every_shipped_file_names_the_schema_for_editors() -> None:
    assert {path.read_text().splitlines()[0] for path in SHIPPED} == {"# yaml-language-server: $schema=../schema.json"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("egress: deny\n", id="no-workspace"),
        pytest.param("workspace: acme\negress: allow\n", id="egress"),
        pytest.param("workspace: Acme\n", id="upper-case-name"),
        pytest.param("workspace: acme\nextra: 1\n", id="unknown-field"),
        pytest.param(rules_text("{allow: GET /x, deny: GET /y}"), id="two-effects"),
        pytest.param(rules_text("{reason: x}"), id="no-effect"),
        pytest.param(rules_text("GET /x"), id="rule-is-text"),
        pytest.param(rules_text("{method: GET, path: /x}"), id="method-and-path"),
        pytest.param(rules_text("{allow: GET /x, where: {body.a: {b: 1}}}"), id="nested-where"),
        pytest.param(rules_text("{allow: null}"), id="null-rule"),
        pytest.param(service_text("limits: {requests: 60/minute}"), id="limit"),
        pytest.param(service_text("body_limit: many"), id="text-for-number"),
        pytest.param(service_text("key: Acme Key"), id="key"),
        pytest.param(service_text("proof: {request: GET /x, expect: 99}"), id="status"),
        pytest.param("workspace: acme\nservices:\n  api:\n    auth: {type: beerer}\n    hosts: [a.com]\n", id="auth-type"),
        pytest.param(
            "workspace: acme\nservices:\n  api:\n    auth: {type: header}\n    hosts: [a.com]\n", id="auth-without-name"
        ),
    ],
)
def test_a_file_of_the_wrong_shape_is_wrong_for_editor_and_reader(text: str) -> None:
    assert not _accepts(text)
    assert problems_of(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("title: X\nhosts: [a.com]\n", id="catalogue-without-auth"),
        pytest.param("title: X\nhosts: []\nauth: {type: bearer}\n", id="catalogue-without-hosts"),
        pytest.param("- {name: x, request: GET https://a.com/}\n", id="test-without-expectation"),
        pytest.param("- {name: x, request: GET https://a.com/, expect: {decision: maybe}}\n", id="test-with-odd-decision"),
        pytest.param(
            "- {name: x, request: GET https://a.com/, expect: {decision: deny}, extra: 1}\n", id="test-with-unknown-field"
        ),
    ],
)
def test_an_editor_tells_wrong_catalogue_entries_and_tests(text: str) -> None:
    assert not _accepts(text)
