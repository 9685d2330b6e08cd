"""Policy tests: expectations read strictly, and held against the policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.policies import workspace_of
from outloop.core.errors import PolicyError
from outloop.operator.policy_tests import Outcome, read_policy_tests, run_policy_test

POLICIES = Path(__file__).resolve().parents[2] / "policies"
WORKSPACES = {"acme": workspace_of((POLICIES / "examples" / "acme.yaml").read_text())}
ONE = "- name: one\n  request: GET https://api.calendly.com/users/me\n  expect: {decision: allow, reason: OK}\n"


def outcomes(folder: Path, text: str) -> list[Outcome]:
    path = folder / "acme.yaml"
    path.write_text(text)
    return [run_policy_test(test, WORKSPACES[test.workspace]) for test in read_policy_tests(path, WORKSPACES)]


def test_the_tests_of_the_example_pass() -> None:
    tests = read_policy_tests(POLICIES / "tests" / "acme.yaml", WORKSPACES)

    assert len(tests) == 12
    assert [test.name for test in tests if not run_policy_test(test, WORKSPACES["acme"]).passed] == []


@pytest.mark.parametrize(
    ("expect", "passed"),
    [
        pytest.param("{decision: allow, reason: OK}", True, id="both"),
        pytest.param("{decision: allow}", True, id="decision-alone"),
        pytest.param("{decision: deny}", False, id="other-decision"),
        pytest.param("{decision: allow, reason: denied_by_rule}", False, id="other-reason"),
    ],
)
def test_decision_and_reason_are_compared(tmp_path: Path, expect: str, passed: bool) -> None:
    (outcome,) = outcomes(tmp_path, ONE.replace("{decision: allow, reason: OK}", expect))

    assert outcome.passed is passed
    assert (outcome.decision, outcome.reason) == ("allow", "OK")


def test_a_malformed_request_can_be_expected(tmp_path: Path) -> None:
    text = ONE.replace("/users/me", "/users/../x").replace("allow, reason: OK", "deny, reason: malformed_request")

    assert outcomes(tmp_path, text)[0].passed


def test_a_body_is_sent_as_json_with_its_types(tmp_path: Path) -> None:
    text = "- name: x\n  request: POST https://api.calendly.com/scheduling_links\n  expect: {decision: deny}\n  body: "

    assert outcomes(tmp_path, text + "{max_event_count: 1}")[0].reason == "approval_pending"
    assert outcomes(tmp_path, text + "{max_event_count: '1'}")[0].reason == "body_not_allowed"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: 1\n", "expected a list, found a mapping", id="not-a-list"),
        pytest.param(ONE + "  extra: 1\n", "unknown field `extra`", id="unknown-field"),
        pytest.param(ONE.replace("name: one", "nam: one"), "unknown field `nam`", id="misspelt-field"),
        pytest.param(ONE.replace("reason: OK", "reason: ok"), "unknown reason `ok`", id="reason"),
        pytest.param(ONE.replace("decision: allow", "decision: ask"), "expected `allow` or `deny`", id="decision"),
        pytest.param(ONE.replace("https://api.calendly.com", ""), "is not `METHOD URL`", id="no-url"),
        pytest.param(ONE.replace("GET https", "https"), "is not `METHOD URL`", id="no-method"),
        pytest.param(ONE + "  workspace: acm\n", "no policy for the workspace `acm`", id="workspace"),
        pytest.param(ONE.replace("  expect: {decision: allow, reason: OK}\n", ""), "missing field `expect`", id="no-expectation"),
        pytest.param("- one\n", "expected a mapping, found `one`", id="text"),
    ],
)
def test_a_wrong_test_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        outcomes(tmp_path, text)

    assert message in " | ".join(problem.message for problem in caught.value.problems)


def test_a_file_called_otherwise_needs_the_workspaces_name(tmp_path: Path) -> None:
    path = tmp_path / "links.yaml"
    path.write_text(ONE)
    with pytest.raises(PolicyError, match="no policy for the workspace `links`"):
        read_policy_tests(path, WORKSPACES)
    path.write_text(ONE + "  workspace: acme\n")

    assert read_policy_tests(path, WORKSPACES)[0].workspace == "acme"
