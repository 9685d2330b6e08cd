"""`policy explain` and `why`: what decides, and the smallest change, which is tried by making it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import yaml

from harness.policies import CATALOGUE, workspace_of
from outloop.core.errors import UsageError
from outloop.core.model import Standing
from outloop.operator.explain import Explanation, explain, why

EXAMPLE = (Path(__file__).resolve().parents[2] / "policies" / "examples" / "acme.yaml").read_text()
WORKSPACE = workspace_of(EXAMPLE)


def explained(method: str, url: str, body: object = None, text: str = EXAMPLE) -> Explanation:
    return explain(workspace_of(text), method, url, body=body, has_body=body is not None, catalogue=CATALOGUE)


def edited(found: Explanation, service: str) -> str:
    """Do to the example what *found* says: take out what a person set, add the rest to the rules of *service*."""
    policy = yaml.safe_load(EXAMPLE)
    for change in found.changes:
        (rule,) = yaml.safe_load(change.yaml)
        rules = policy["services"][service]["rules"]
        if change.person_set and "allow" not in rule:
            rules[:] = [each for each in rules if each.get("deny") != rule["deny"]]
        else:
            rules[:] = [each for each in rules if each.get("ask") != rule["allow"]] if change.person_set else rules
            rules.append(rule)
    return yaml.safe_dump(policy)


@pytest.mark.parametrize(
    ("method", "url", "body", "reason", "service"),
    [
        pytest.param("POST", "https://api.calendly.com/invitees", None, "path_not_allowed", "calendly", id="path"),
        pytest.param(
            "DELETE", "https://api.calendly.com/webhook_subscriptions/A", None, "method_not_allowed", "calendly", id="method"
        ),
        pytest.param("GET", "https://us.posthog.com/api/projects/789/x", None, "wrong_resource", "posthog", id="pin"),
        pytest.param(
            "POST", "https://api.calendly.com/scheduling_links", {"max_event_count": 2}, "body_not_allowed", "calendly", id="body"
        ),
        pytest.param(
            "POST",
            "https://api.calendly.com/scheduling_links",
            {"max_event_count": "1"},
            "body_not_allowed",
            "calendly",
            id="text",
        ),
        pytest.param(
            "POST", "https://api.calendly.com/scheduling_links", {"max_event_count": 1}, "approval_pending", "calendly", id="ask"
        ),
        pytest.param("POST", "https://api.calendly.com/data_compliance/x", None, "denied_by_rule", "calendly", id="deny"),
        pytest.param(
            "GET", "https://api.calendly.com/outgoing_communications", None, "denied_by_rule", "calendly", id="deny-of-a-read"
        ),
        pytest.param(
            "PUT",
            "https://us.posthog.com/a/%2A/%7Bx%7D/b%20c/é".replace("é", "%C3%A9"),
            None,
            "method_not_allowed",
            "posthog",
            id="odd-path",
        ),
        pytest.param("WEBSOCKET", "https://us.posthog.com/live", None, "method_not_allowed", "posthog", id="websocket"),
        pytest.param("POST", "https://us.posthog.com/", None, "method_not_allowed", "posthog", id="root"),
    ],
)
def test_the_smallest_change_does_what_it_says(method: str, url: str, body: object, reason: str, service: str) -> None:
    found = explained(method, url, body)

    assert (found.decision, found.reason, found.service) == ("deny", reason, service)
    assert found.changes
    assert explained(method, url, body, text=edited(found, service)).allowed


def test_the_change_is_no_wider_than_the_request() -> None:
    text = edited(explained("POST", "https://api.calendly.com/invitees"), "calendly")

    assert not explained("POST", "https://api.calendly.com/invitees/x", text=text).allowed
    assert not explained("PUT", "https://api.calendly.com/invitees", text=text).allowed


def test_a_path_that_looks_like_a_pattern_is_suggested_as_itself() -> None:
    found = explained("POST", "https://us.posthog.com/%2A/**")

    assert found.changes[0].yaml == '- allow: "POST /%2A/%2A%2A"'


def test_an_allowed_request_names_its_rule_and_suggests_nothing() -> None:
    found = explained("GET", "https://api.calendly.com/users/me")

    assert found.allowed
    assert (found.reason, found.rule, found.place) == ("OK", "allow GET /**", "policies/acme.yaml:10")
    assert (found.changes, found.advice) == ((), ())


def test_what_a_person_set_is_never_undone_without_saying_so() -> None:
    for method, url, body in (
        ("POST", "https://api.calendly.com/data_compliance/x", None),
        ("POST", "https://api.calendly.com/scheduling_links", {"max_event_count": 1}),
    ):
        change = explained(method, url, body).changes[0]
        assert change.person_set
        assert "a person set" in change.do
        assert "only that person should" in change.do


def test_a_denial_says_why_it_was_set() -> None:
    assert "(deletion stays with a person)" in explained("GET", "https://api.calendly.com/data_compliance/x").changes[0].do


def test_a_field_that_the_body_lacks_is_named_instead_of_a_wider_rule() -> None:
    found = explained("POST", "https://api.calendly.com/scheduling_links", {"owner": "x"})

    assert found.changes == ()
    assert found.advice == ("the rule at policies/acme.yaml:11 wants: body.max_event_count is 1",)


@pytest.mark.parametrize(
    ("url", "block"),
    [
        pytest.param(
            "https://api.example.com/v1/x",
            "example:\n  hosts: [api.example.com]\n  auth: {type: bearer}\n  rules:\n    - allow: GET /v1/x",
            id="unknown",
        ),
        pytest.param(
            "https://api.example.com:8443/",
            'example:\n  hosts: ["api.example.com:8443"]\n  auth: {type: bearer}\n  rules:\n    - allow: GET /',
            id="port",
        ),
    ],
)
def test_an_unclaimed_host_gets_a_service_to_paste(url: str, block: str) -> None:
    found = explained("GET", url)

    assert found.reason == "host_not_allowed"
    assert found.changes[0].yaml == block
    assert explained("GET", url, text=f"{EXAMPLE}\n{textwrap.indent(block, '  ')}\n").allowed


def test_a_host_of_the_catalogue_gets_the_catalogues_service() -> None:
    text = "workspace: acme\nservices:\n"
    found = explain(workspace_of("workspace: acme\n"), "GET", "https://api.calendly.com/users/me", catalogue=CATALOGUE)

    assert found.changes[0].yaml == "calendly:\n  rules:\n    - allow: GET /users/me"
    assert explained("GET", "https://api.calendly.com/users/me", text=text + textwrap.indent(found.changes[0].yaml, "  ")).allowed


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("https://api.calendly.com//users", "malformed_request", id="path"),
        pytest.param("https://api.calendly.com/a?b=%zz", "malformed_request", id="query"),
        pytest.param("https://0x7f.1/", "malformed_request", id="host"),
        pytest.param("https://me@api.calendly.com/", "malformed_request", id="user-info"),
        pytest.param("https://api.calendly.com/x#y", "malformed_request", id="fragment"),
        pytest.param("http://api.calendly.com/users/me", "cleartext_refused", id="cleartext"),
        pytest.param("https://api.calendly.com:8443/users/me", "cleartext_refused", id="port"),
        pytest.param("https://api.calendly.com/a%2Fb", "malformed_request", id="encoded-slash"),
    ],
)
def test_what_no_policy_could_allow_suggests_none(url: str, reason: str) -> None:
    found = explained("GET", url)

    assert (found.decision, found.reason, found.changes) == ("deny", reason, ())


@pytest.mark.parametrize("url", ["", "foo", "api.calendly.com/users/me", "ftp://x/", "https://", "https:///x"])
def test_what_is_no_url_is_wrong_usage(url: str) -> None:
    with pytest.raises(UsageError, match="is not a url"):
        explained("GET", url)


def test_the_keys_standing_counts_where_it_is_known() -> None:
    url = "https://api.calendly.com/users/me"
    off = explain(WORKSPACE, "GET", url, catalogue=CATALOGUE, standing=Standing(access_on=False))

    assert (off.reason, off.changes) == ("runtime_access_off", ())
    assert off.advice == ("switch it on: `outloop key enable calendly -w acme`",)


def row(**columns: object) -> dict[str, object]:
    return {
        "id": "01J0000000000000000000FAKE",
        "at": "2026-01-02T03:04:05.678Z",
        "workspace": "acme",
        "agent": None,
        "service": "calendly",
        "method": "POST",
        "scheme": "https",
        "host": "api.calendly.com",
        "port": 443,
        "path": "/invitees",
        "decision": "deny",
        "reason": "path_not_allowed",
        "rule": None,
        "status": 403,
        "error": None,
        **columns,
    }


def told(**columns: object) -> Explanation:
    return why(row(**columns), {"acme": WORKSPACE}, CATALOGUE)


def test_why_tells_how_it_came_about_and_the_smallest_change() -> None:
    found = told()

    assert found.request == "POST https://api.calendly.com/invitees"
    assert found.detail == "2026-01-02T03:04:05.678Z: asked by the agent on this machine of acme, answered 403"
    assert found.changes[0].yaml == "- allow: POST /invitees"


def test_why_names_the_rule_and_who_set_it() -> None:
    found = told(path="/data_compliance/x", reason="denied_by_rule", rule="policies/acme.yaml:13")

    assert (found.rule, found.place) == ("deny * /data_compliance/**", "policies/acme.yaml:13")
    assert "a person set the deny rule" in found.changes[0].do


def test_why_makes_nothing_of_a_body_it_has_not() -> None:
    found = told(path="/scheduling_links", reason="body_not_allowed", rule="policies/acme.yaml:11")

    assert found.changes == ()
    assert "bodies are not on record: `outloop policy explain METHOD URL --body JSON` tells with one" in found.advice
    assert "the rule at policies/acme.yaml:11 wants: body.max_event_count is 1" in found.advice
    assert "a person set the ask rule at policies/acme.yaml:11" in found.advice


def test_why_says_when_todays_policy_differs() -> None:
    assert "today's policy would allow it" in told(method="GET", path="/users/me").advice


def test_why_of_a_refused_tunnel_suggests_the_service() -> None:
    found = told(service=None, method="CONNECT", host="api.example.com", path="", reason="host_not_allowed")

    assert found.changes[0].yaml.startswith("example:\n  hosts: [api.example.com]\n")


def test_why_reads_a_path_whose_query_was_masked() -> None:
    assert told(path="/invitees?token=•••").changes[0].yaml == "- allow: POST /invitees"


def test_why_of_a_workspace_that_is_gone_still_tells_the_row() -> None:
    found = why(row(workspace="other"), {"acme": WORKSPACE}, CATALOGUE)

    assert (found.reason, found.changes) == ("path_not_allowed", ())
    assert found.advice == ("the workspace `other` has no policy file today",)


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"decision": "allow", "reason": "OK", "status": 200}, id="allowed"),
        pytest.param({"decision": "allow", "reason": "key_rejected", "status": 401}, id="rejected"),
        pytest.param({"reason": "malformed_request", "path": "//x"}, id="malformed"),
        pytest.param({"reason": "agent_unknown", "workspace": None, "service": None}, id="no-workspace"),
        pytest.param({"reason": "host_mismatch", "host": "", "port": None, "path": None}, id="no-host"),
        pytest.param({"reason": "something_new", "method": "B{}D", "path": "/{x}"}, id="unknown-reason"),
        pytest.param({"host": "2001:db8::1", "reason": "host_not_allowed", "service": None}, id="ipv6"),
    ],
)
def test_why_has_an_answer_to_every_row(columns: dict[str, object]) -> None:
    assert told(**columns).decision in ("allow", "deny")
