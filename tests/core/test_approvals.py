"""What an approval is bound to, and what of a request people are shown."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.policies import rules_text, workspace_of
from outloop.core.approvals import CLOCK_STEP_S, SHOWN_CHARACTERS, Approval, Asked, Status, asked_of, rule_mark, summary
from outloop.core.model import Agent, Place, Request, Rule, Service
from outloop.core.paths import canonical_path

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
BODY = b'{"max_event_count":1}'
REQUEST = Request(
    "POST", "https", "api.calendly.com", 443, canonical_path("/scheduling_links"), (), JSON, "", BODY
)  # fmt: skip
FIELDS = ((b"Content-Type", JSON.encode()), (b"Accept", b"*/*"))
AGENT = Agent("acme", "claude")


def service_of(*rules: str) -> Service:
    service = workspace_of(rules_text(*(rules or ("ask: POST /scheduling_links",)))).service("calendly")
    assert service is not None
    return service


SERVICE = service_of()
RULE = SERVICE.rules[0]


def binding(
    agent: Agent = AGENT,
    service: Service = SERVICE,
    rule: Rule = RULE,
    request: Request = REQUEST,
    query: str = "",
    fields: tuple[tuple[bytes, bytes], ...] = FIELDS,
) -> str:
    return asked_of(agent, service, rule, request, query, fields, "/shown").binding


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"agent": Agent("acme", "other")}, id="agent"),
        pytest.param({"agent": Agent("acme", "")}, id="no-token"),
        pytest.param({"agent": Agent("other", "claude")}, id="workspace"),
        pytest.param({"request": replace(REQUEST, method="PUT")}, id="method"),
        pytest.param({"request": replace(REQUEST, host="calendly.com")}, id="host"),
        pytest.param({"request": replace(REQUEST, port=8443)}, id="port"),
        pytest.param({"request": replace(REQUEST, path=canonical_path("/scheduling_links/"))}, id="trailing-slash"),
        pytest.param({"request": replace(REQUEST, body=BODY + b" ")}, id="body"),
        pytest.param({"request": replace(REQUEST, body=b"")}, id="no-body"),
        pytest.param({"query": "a"}, id="query"),
        pytest.param({"fields": (*FIELDS, (b"Stripe-Account", b"acct_1"))}, id="a-field-that-says-on-whose-behalf"),
        pytest.param({"fields": ((b"Content-Type", FORM.encode()),)}, id="content-type"),
        pytest.param({"rule": replace(RULE, text="ask: PUT /scheduling_links")}, id="rule"),
        pytest.param({"service": replace(SERVICE, name="other")}, id="service"),
    ],
)
def test_another_request_has_another_binding(changed: dict[str, object]) -> None:
    assert binding(**changed) != binding()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"fields": FIELDS[:1]}, id="accept"),
        pytest.param({"fields": (*FIELDS, (b"USER-AGENT", b"x"), (b"X-Stainless-Retry-Count", b"2"))}, id="of-the-client"),
        pytest.param({"fields": tuple(reversed(FIELDS))}, id="order"),
        pytest.param({"fields": ((b"content-type", JSON.encode()),)}, id="case-of-a-name"),
        pytest.param({"rule": replace(RULE, place=Place("elsewhere.yaml", 99))}, id="the-rules-line"),
        pytest.param({"rule": replace(RULE, reason="because")}, id="the-rules-comment"),
    ],
)
def test_the_same_request_sent_again_has_the_same_binding(changed: dict[str, object]) -> None:
    assert binding(**changed) == binding()  # type: ignore[arg-type]


@given(
    st.lists(st.text('ab|,"\\[]', max_size=4), min_size=2, max_size=2),
    st.lists(st.text('ab|,"\\[]', max_size=4), min_size=2, max_size=2),
)
def test_no_two_requests_run_together_into_one_binding(one: list[str], other: list[str]) -> None:
    same = binding(agent=Agent(one[0], one[1])) == binding(agent=Agent(other[0], other[1]))
    assert same == (one == other)


def test_a_request_whose_body_was_not_read_cannot_be_bound() -> None:
    with pytest.raises(ValueError, match="without its body"):
        binding(request=replace(REQUEST, body=None))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("ask: POST /scheduling_links", "ask: POST /scheduling_links/*", id="pattern"),
        pytest.param(
            "{ask: POST /scheduling_links, where: {body.max_event_count: 1}}",
            '{ask: POST /scheduling_links, where: {body.max_event_count: "1"}}',
            id="quotes-alone",
        ),
        pytest.param(
            "{ask: POST /scheduling_links, where: {body.owner_type: a*}}",
            "{ask: POST /scheduling_links, where: {body.owner_type: a}}",
            id="glob",
        ),
    ],
)
def test_rules_that_say_different_things_have_different_marks(one: str, other: str) -> None:
    services = [service_of(text) for text in (one, other)]
    assert rule_mark(services[0], services[0].rules[0]) != rule_mark(services[1], services[1].rules[0])


@pytest.mark.parametrize(
    ("since", "until", "now", "stands"),
    [
        pytest.param(100, 200, 150, True, id="within"),
        pytest.param(100, 200, 200, False, id="at-its-end"),
        pytest.param(100, 200, 201, False, id="after"),
        pytest.param(100, 200, 100 - CLOCK_STEP_S, True, id="a-clock-a-little-behind"),
        pytest.param(100, 200, 99 - CLOCK_STEP_S, False, id="a-clock-set-back"),
    ],
)
def test_an_approval_stands_for_a_time(since: float, until: float, now: float, stands: bool) -> None:
    asked = asked_of(AGENT, SERVICE, RULE, REQUEST, "", FIELDS, "/shown")
    assert Approval("01", asked, Status.APPROVED, since, since, until).stands(now) is stands


HIDDEN = "hidden-0123456789abcdef"


@pytest.mark.parametrize(
    ("kind", "body", "shown"),
    [
        pytest.param(
            JSON, '{"max_event_count":1,"owner":"https://x/AAA"}', '{"max_event_count": 1, "owner": "https://x/AAA"}', id="json"
        ),
        pytest.param(JSON, f'{{"a":{{"api_token":"{HIDDEN}"}}}}', '{"a": {"api_token": "***"}}', id="json-name"),
        pytest.param(JSON, f'{{"clientSecret":["{HIDDEN}"]}}', '{"clientSecret": "***"}', id="json-list-under-a-name"),
        pytest.param(JSON, f'{{"Password":{{"x":"{HIDDEN}"}}}}', '{"Password": "***"}', id="json-object-under-a-name"),
        pytest.param(JSON, '{"token":null,"key":true}', '{"token": null, "key": true}', id="nothing-to-hide"),
        pytest.param(JSON, f'["Bearer {HIDDEN}"]', '["***"]', id="bearer"),
        pytest.param(JSON, f'["sk-{HIDDEN}", "ghp_{HIDDEN}"]', '["***", "***"]', id="issued"),
        pytest.param(JSON, '["eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.c2ln"]', '["***"]', id="jwt"),
        pytest.param(JSON, f'["https://u:{HIDDEN}@h/"]', '["https://***@h/"]', id="url"),
        pytest.param(JSON, '["-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----"]', '["***"]', id="pem"),
        pytest.param(FORM, f"a=1&access_token={HIDDEN}&b=x+y", "a=1&access_token=***&b=x y", id="form"),
        pytest.param("text/plain", f"hello, password: {HIDDEN}, bye", "(text/plain) hello, password: ***, bye", id="text"),
        pytest.param(JSON, f'{{"a":1,"a":2,"token":"{HIDDEN}"}}', f'({JSON}) {{"a":1,"a":2,"token":***}}', id="ambiguous-json"),
        pytest.param(
            "multipart/form-data; boundary=b",
            f'--b\r\nContent-Disposition: form-data; name="password"\r\n\r\n{HIDDEN}\r\n--b--',
            '(multipart/form-data) --b\\r\\nContent-Disposition: form-data; name="password"\\r\\n\\r\\n***\\r\\n--b--',
            id="multipart",
        ),
        pytest.param("image/png", b"\x89PNG\xff\xfe" * 9, "(image/png, not text)", id="binary"),
        pytest.param("", "x", "(no content type) x", id="no-type"),
        pytest.param(JSON, "", "", id="empty"),
        pytest.param(JSON, '{"a\\u202e":"\\u001b[31m"}', '{"a\\u202e": "\\u001b[31m"}', id="inert"),
    ],
)
def test_people_see_what_a_body_says_without_its_secrets(kind: str, body: str | bytes, shown: str) -> None:
    found = summary(body.encode() if isinstance(body, str) else body, kind, "")
    assert found == shown
    assert HIDDEN not in found


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        pytest.param(JSON, json.dumps([*range(5000), "the end"]), id="json"),
        pytest.param(JSON, json.dumps({"a": "x" * 5000, "z": "the end"}) + " " * 5000, id="json-text"),
        pytest.param(FORM, "&".join(f"a{number}=1" for number in range(5000)) + "&z=the+end", id="form"),
        pytest.param("text/plain", "x" * 5000 + "the end", id="text"),
    ],
)
def test_what_is_not_shown_is_said_to_be_missing(kind: str, body: str) -> None:
    found = summary(body.encode(), kind, "")
    assert len(found) < SHOWN_CHARACTERS + 200
    assert "not all of it shown" in found or ("…[+" in found and "the end" in found)


def test_headers_that_bind_are_shown_without_their_secrets() -> None:
    fields = (*FIELDS, (b"Stripe-Account", b"acct_1"), (b"X-Other-Token", HIDDEN.encode()), (b"X-Raw", b"\x1b\xff"))
    asked: Asked = asked_of(AGENT, SERVICE, RULE, REQUEST, "", fields, "/shown")
    assert asked.headers == "content-type: application/json; stripe-account: acct_1; x-other-token: ***; x-raw: \\x1bÿ"
