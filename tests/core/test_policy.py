"""Workspace files: what they mean, and what is wrong with them, told with its place and a hint."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.policies import CATALOGUE, problems_of, rules_text, service_text, workspace_of
from outloop.core.auth import Basic, Cookie, Header, Headers, Query
from outloop.core.model import BODY_LIMIT, Effect, Egress, Expected, HostClaim, Probe, RequestLimit, Source
from outloop.core.policy import read_catalogue_entry, read_workspace
from outloop.core.policy.difference import difference
from outloop.store.documents import parse_document

EXAMPLE = (Path(__file__).resolve().parents[2] / "policies" / "examples" / "acme.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "hold_s"), [("", 30), ("hold: 0\n", 0), ("hold: 600\n", 600)], ids=["default", "none", "longest"]
)
def test_a_workspace_says_how_long_a_request_is_held(text: str, hold_s: int) -> None:
    assert workspace_of(f"workspace: acme\n{text}").hold_s == hold_s


def test_a_reload_tells_of_another_hold() -> None:
    before, after = (workspace_of(f"workspace: acme\nhold: {hold_s}\n") for hold_s in (0, 60))
    assert difference(before, after) == ("acme: hold 0 → 60",)


def test_the_example_reads_as_it_is_documented() -> None:
    workspace = workspace_of(EXAMPLE)
    calendly, posthog = workspace.services

    assert (workspace.name, workspace.egress, workspace.egress_private) == ("acme", Egress.DENY, False)
    assert (calendly.title, calendly.key, calendly.hosts) == ("Calendly", "acme-calendly", (HostClaim("api.calendly.com"),))
    assert [rule.text for rule in calendly.rules] == [
        "allow GET /**",
        "ask POST /scheduling_links where body.max_event_count is 1",
        "deny * /data_compliance/**",
        "deny GET /outgoing_communications",
    ]
    assert calendly.rules[2].reason == "deletion stays with a person"
    assert calendly.limit == RequestLimit(60, 60)
    assert calendly.proof == Probe("GET", "/users/me")
    assert calendly.next_proof is not None
    assert (calendly.next_proof.expect, calendly.next_proof.body) == (
        201,
        {"max_event_count": 1, "owner": "{owner}", "owner_type": "EventType"},
    )
    assert posthog.headers == (("X-Team", "growth"),)
    assert posthog.key == "acme-posthog"
    assert posthog.body_limit == BODY_LIMIT
    assert posthog.rules[0].where[0].accepted == (Expected("123", "123", quoted=True), Expected("456", "456", quoted=True))
    assert str(posthog.rules[0].place) == "policies/acme.yaml:25"


README = (Path(__file__).resolve().parents[2] / "policies" / "README.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_every_example_of_the_readme_is_right(block: str) -> None:
    if block.startswith("- name"):
        parse_document(block, "tests/acme.yaml")
    elif block.startswith("auth:"):
        service = "workspace: acme\nservices:\n  api:\n    hosts: [api.example.com]\n"
        assert problems_of(service + textwrap.indent(block, "    ")) == ()
    elif block.startswith("-"):
        assert problems_of(service_text("rules:\n" + textwrap.indent(block, "  "))) == ()
    else:
        assert problems_of(block if block.startswith("workspace:") else f"workspace: acme\n{block}") == ()


def test_a_workspace_without_services_reaches_nothing() -> None:
    assert workspace_of("workspace: acme\n").services == ()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param("1", Expected("1", 1, quoted=False), id="integer"),
        pytest.param("-1.5", Expected("-1.5", -1.5, quoted=False), id="decimal"),
        pytest.param("true", Expected("true", True, quoted=False), id="true"),
        pytest.param("null", Expected("null", None, quoted=False), id="null"),
        pytest.param('"1"', Expected("1", "1", quoted=True), id="quoted-number"),
        pytest.param("'true'", Expected("true", "true", quoted=True), id="quoted-true"),
        pytest.param('""', Expected("", "", quoted=True), id="quoted-empty"),
        pytest.param("0123456", Expected("0123456", "0123456", quoted=False), id="octal-is-text"),
        pytest.param("0x1F", Expected("0x1F", "0x1F", quoted=False), id="hex-is-text"),
        pytest.param("12:30", Expected("12:30", "12:30", quoted=False), id="sexagesimal-is-text"),
        pytest.param("no", Expected("no", "no", quoted=False), id="no-is-text"),
        pytest.param("True", Expected("True", "True", quoted=False), id="True-is-text"),
        pytest.param("1_000", Expected("1_000", "1_000", quoted=False), id="underscores-are-text"),
        pytest.param("2024-01-02", Expected("2024-01-02", "2024-01-02", quoted=False), id="date-is-text"),
        pytest.param(".inf", Expected(".inf", ".inf", quoted=False), id="infinity-is-text"),
        pytest.param("1e999", Expected("1e999", "1e999", quoted=False), id="beyond-a-float-is-text"),
        pytest.param("~", Expected("~", "~", quoted=False), id="tilde-is-text"),
        pytest.param("+1", Expected("+1", "+1", quoted=False), id="plus-is-text"),
        pytest.param("acme-*", Expected("acme-*", "acme-*", quoted=False, is_glob=True), id="glob"),
        pytest.param('"a?c"', Expected("a?c", "a?c", quoted=True, is_glob=True), id="quoted-glob"),
    ],
)
def test_scalars_mean_what_json_says_and_nothing_else(written: str, expected: Expected) -> None:
    (service,) = workspace_of(rules_text(f"{{allow: POST /x, where: {{body.field: {written}}}}}")).services
    accepted = service.rules[0].where[0].accepted[0]

    assert accepted == expected
    assert type(accepted.json) is type(expected.json)


@pytest.mark.parametrize(
    ("name", "source", "keys"),
    [
        pytest.param("id", Source.PATH, ("id",), id="path"),
        pytest.param("query.user", Source.QUERY, ("user",), id="query"),
        pytest.param("query.filter.user", Source.QUERY, ("filter.user",), id="query-with-dot"),
        pytest.param("body.a", Source.BODY, ("a",), id="body"),
        pytest.param("body.a.b.c", Source.BODY, ("a", "b", "c"), id="nested-body"),
    ],
)
def test_where_names_path_query_and_body(name: str, source: Source, keys: tuple[str, ...]) -> None:
    (service,) = workspace_of(rules_text(f"{{allow: 'POST /x/{{id}}', where: {{{name}: 1}}}}")).services

    assert (service.rules[0].where[0].source, service.rules[0].where[0].keys) == (source, keys)


@pytest.mark.parametrize(
    ("line", "methods"),
    [
        pytest.param("GET /x", {"GET"}, id="one"),
        pytest.param("GET,POST /x", {"GET", "POST"}, id="several"),
        pytest.param('"* /x"', None, id="star"),
        pytest.param("WEBSOCKET /x", {"WEBSOCKET"}, id="websocket"),
    ],
)
def test_methods(line: str, methods: set[str] | None) -> None:
    (service,) = workspace_of(rules_text(f"deny: {line}")).services

    assert service.rules[0].methods == methods
    assert service.rules[0].effect is Effect.DENY


@pytest.mark.parametrize(
    ("written", "scheme"),
    [
        pytest.param("{type: header, name: X-Api-Key}", Header("X-Api-Key"), id="header"),
        pytest.param('{type: header, name: Authorization, prefix: "Token "}', Header("Authorization", "Token "), id="prefix"),
        pytest.param("{type: basic}", Basic(), id="basic"),
        pytest.param("{type: query, param: api_key}", Query("api_key"), id="query"),
        pytest.param("{type: cookie, name: sid}", Cookie("sid"), id="cookie"),
        pytest.param(
            "{type: headers, names: [X-App-Id, X-App-Key], public: [X-App-Id]}",
            Headers(("X-App-Id", "X-App-Key"), frozenset({"X-App-Id"})),
            id="headers",
        ),
    ],
)
def test_auth_builds_the_scheme(written: str, scheme: object) -> None:
    text = f"workspace: acme\nservices:\n  api:\n    hosts: [api.example.com]\n    auth: {written}\n"

    assert workspace_of(text).services[0].auth == scheme


def test_a_custom_bridge_says_everything_about_itself() -> None:
    fields = """title: The API
base: /v1/
encoded_slash: keep
body_limit: 4096
limits: {requests: 5/h}
key: special
proof: GET /v1/me
next_proof: {request: POST /v1/drafts, expect: 201, body: {draft: true, tags: [a]}}
rules: [{allow: GET /v1/**}]"""
    (service,) = workspace_of(service_text(fields)).services

    assert (service.title, service.base, service.encoded_slash, service.body_limit) == ("The API", "/v1", True, 4096)
    assert (service.limit, service.key) == (RequestLimit(5, 3600), "special")
    assert service.next_proof == Probe("POST", "/v1/drafts", 201, {"draft": True, "tags": ["a"]})


def test_hosts_may_name_a_port_and_are_brought_into_one_spelling() -> None:
    hosts = "[API.Example.com., api.example.com:8443, '[2001:db8::1]:444']"
    text = f"workspace: a\nservices:\n  x:\n    hosts: {hosts}\n    auth: {{type: bearer}}\n"

    assert workspace_of(text, "a.yaml").services[0].hosts == (
        HostClaim("api.example.com"),
        HostClaim("api.example.com", 8443),
        HostClaim("2001:db8::1", 444),
    )


def test_params_fill_a_catalogue_entry() -> None:
    entry = read_catalogue_entry(
        parse_document(
            'title: Tracker\nhosts: ["{site}.tracker.example"]\nbase: "/{site}"\nauth: {type: bearer}\nproof: "GET /{site}/me"\n'
            'next_proof: {request: "POST /{site}/x", body: {on: "{board}"}}\n',
            "services/tracker.yaml",
        )
    )
    text = "workspace: acme\nservices:\n  tracker:\n    params: {site: acme, board: b1}\n    rules: [{allow: GET /acme/**}]\n"
    (service,) = read_workspace(parse_document(text, "acme.yaml"), {"tracker": entry}).services

    assert (entry.params, entry.optional_params) == (("site",), ("board",))
    assert service.hosts == (HostClaim("acme.tracker.example"),)
    assert service.base == "/acme"
    assert service.proof == Probe("GET", "/acme/me")
    assert service.next_proof == Probe("POST", "/acme/x", 200, {"on": "b1"})


def test_every_mistake_is_told_at_once_in_the_order_of_the_file() -> None:
    problems = problems_of(
        "workspace: acme\negres: deny\nservices:\n  calendli: {}\n  calendly:\n    rules:\n      - alow: GET /x\n"
    )

    assert [(problem.line, problem.column) for problem in problems] == [(2, 1), (4, 3), (7, 9)]
    assert [problem.hint for problem in problems if problem.hint] == [
        "did you mean `egress`?",
        "did you mean `calendly`? a custom bridge needs `hosts: [api.example.com]` and `auth: {type: bearer}`, "
        "and may have base, proof and headers",
        "did you mean `allow`?",
    ]


RULES = [
    pytest.param(
        "{method: GET, path: /x}", "5:10", "unknown field `method`", "did you mean `allow: GET /path`?", id="method-and-path"
    ),
    pytest.param("GET /x", "5:9", "expected a mapping, found `GET /x`", "did you mean `allow: GET /path`?", id="no-effect"),
    pytest.param("allow: get /x", "5:16", "unknown method `get`", "`GET`? methods are written in upper case", id="lower-case"),
    pytest.param("allow: GTE /x", "5:16", "unknown method `GTE`", "did you mean `GET`?", id="misspelt-method"),
    pytest.param("allow: ANY /x", "5:16", "unknown method `ANY`", "`*` stands for every method", id="any"),
    pytest.param("allow: TRACE /x", "5:16", "TRACE is never forwarded", None, id="trace"),
    pytest.param("allow: GET, POST /x", "5:16", "is not `METHOD /path`", "no spaces: `GET,POST /x`", id="space-after-comma"),
    pytest.param('allow: "*,GET /x"', "5:16", "already stands for every method", "write it alone", id="star-and-more"),
    pytest.param("allow: /x", "5:16", "has no method", "did you mean `GET /x`", id="path-alone"),
    pytest.param("allow: GET", "5:16", "has no path", "write `METHOD /path`", id="method-alone"),
    pytest.param("allow: GET x", "5:16", "does not start with a slash", "did you mean `/x`?", id="no-slash"),
    pytest.param("allow: GET https://api.calendly.com/x", "5:16", "is a url, not a path", "did you mean `/x`?", id="url"),
    pytest.param("allow: GET /x?user=1", "5:16", "has a query", "where: {query.user: value}", id="query"),
    pytest.param("allow: GET /a*", "5:16", "neither a literal segment nor", None, id="half-wildcard"),
    pytest.param("allow: GET /a//b", "5:16", "empty segment", None, id="empty-segment"),
    pytest.param("allow: GET /a/../b", "5:16", "can never match", None, id="dot-segment"),
    pytest.param("allow: GET /a%2Fb", "5:16", "can never match", "encoded_slash: keep", id="encoded-slash"),
    pytest.param("allow:", "5:15", "expected text, found nothing", None, id="empty"),
    pytest.param("allow: 5", "5:16", "expected text, found the number `5`", 'quote it to make it text: "5"', id="number"),
    pytest.param("{allow: GET /x, deny: GET /y}", "5:25", "a rule has one of", "make it two rules", id="two-effects"),
    pytest.param("reason: because", "5:9", "a rule needs one of `allow`, `ask` and `deny`", "such as", id="no-rule"),
    pytest.param("{allow: GET /x, where: {id: 1}}", "5:33", "`id` is no name in the path", "name a segment", id="no-such-name"),
    pytest.param("{allow: 'GET /{uid}', where: {uuid: 1}}", "5:39", "`uuid` is no name", "did you mean `uid`?", id="near-name"),
    pytest.param(
        "{allow: POST /x, where: {Body.id: 1}}", "5:34", "`Body.id` is no name", "did you mean `body.id`?", id="upper-body"
    ),
    pytest.param(
        "{allow: POST /x, where: {header.x: 1}}", "5:34", "is no name", "path names, query.x and body.x only", id="header"
    ),
    pytest.param(
        "{allow: POST /x, where: {body.: 1}}", "5:34", "is no name", "did you mean `body.name`?", id="body-without-field"
    ),
    pytest.param(
        "{allow: POST /x, where: {body.a: }}", "5:42", "expected a value, found nothing", "write null", id="empty-value"
    ),
    pytest.param("{allow: POST /x, where: {body.a: []}}", "5:42", "at least one entry", None, id="empty-list"),
    pytest.param("{allow: POST /x, where: {body.a: {b: 1}}}", "5:42", "expected text, found a mapping", None, id="nested-where"),
    pytest.param("{allow: POST /x, where: {}}", "5:33", "at least one entry", None, id="empty-where"),
    pytest.param("{allow: POST /x, where: a}", "5:33", "expected a mapping, found `a`", None, id="where-is-text"),
    pytest.param(
        "{allow: 'GET /{x}', where: {x: a/b}}", "5:40", "can never match: one path segment is never", None, id="slash-in-pin"
    ),
    pytest.param(
        '{allow: "GET /{x}", where: {x: ""}}', "5:40", "can never match: a path segment is never empty", None, id="empty-pin"
    ),
    pytest.param("{allow: WEBSOCKET /x, where: {body.a: 1}}", "5:39", "can never match: a websocket", None, id="websocket-body"),
]


@pytest.mark.parametrize(("rule", "place", "message", "hint"), RULES)
def test_a_wrong_rule_is_told(rule: str, place: str, message: str, hint: str | None) -> None:
    found = [problem for problem in problems_of(rules_text(rule)) if f"{problem.line}:{problem.column}" == place]

    assert [problem for problem in found if message in problem.message and (hint or "") in (problem.hint or "")]


DEAD = [
    pytest.param(["allow: GET /a/b", 'deny: "* /a/**"'], "can never match: the deny on line 6", id="deny-covers"),
    pytest.param(["allow: GET /a/b", "deny: GET /A/B"], "can never match: the deny on line 6", id="deny-without-case"),
    pytest.param(["allow: HEAD /a", "deny: GET /a"], "can never match: the deny on line 6", id="get-covers-head"),
    pytest.param(["allow: GET /a/{x}/c", "deny: GET /a/*/**"], "can never match: the deny on line 6", id="names-and-stars"),
    pytest.param(["ask: POST /a", "deny: POST,PUT /**"], "can never match: the deny on line 6", id="deny-covers-ask"),
    pytest.param(["allow: POST /a", "ask: POST /**"], "never decides: the ask on line 6", id="ask-covers-allow"),
    pytest.param(
        ["{allow: POST /a, where: {body.n: 1}}", "{deny: POST /a, where: {body.n: [1, 2]}}"],
        "can never match: the deny on line 6",
        id="conditions-covered",
    ),
]


@pytest.mark.parametrize(("rules", "message"), DEAD)
def test_a_rule_that_can_never_match_is_told(rules: list[str], message: str) -> None:
    (problem,) = problems_of(rules_text(*rules))

    assert (problem.line, problem.column) == (5, 9 if rules[0][0] != "{" else 10)
    assert message in problem.message


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(["allow: GET /a/*", "deny: GET /a/b"], id="deny-narrower"),
        pytest.param(["allow: GET,POST /a", "deny: POST /a"], id="one-method-left"),
        pytest.param(["allow: WEBSOCKET /a", 'deny: "* /a"'], id="star-is-not-websocket"),
        pytest.param(['allow: "* /a"', "deny: GET,POST /a"], id="star-is-more-than-some"),
        pytest.param(["allow: GET /a/**", "deny: GET /a/*/**"], id="the-apex-is-left"),
        pytest.param(["allow: POST /a", "{deny: POST /a, where: {body.n: 1}}"], id="conditional-deny"),
        pytest.param(["{allow: POST /a, where: {body.n: 3}}", "{deny: POST /a, where: {body.n: [1, 2]}}"], id="other-values"),
        pytest.param(["allow: POST /A", "ask: POST /a"], id="ask-keeps-case"),
        pytest.param(["allow: GET /a", "ask: POST /a"], id="other-method"),
        pytest.param(
            ["{allow: 'GET /{x}/{y}', where: {x: '1'}}", "{deny: 'GET /{y}/{x}', where: {x: '1'}}"], id="same-name-other-segment"
        ),
    ],
)
def test_a_rule_that_can_still_match_is_left_alone(rules: list[str]) -> None:
    assert problems_of(rules_text(*rules)) == ()


FIELDS = [
    pytest.param(
        "base: /v1\nrules: [{allow: GET /users}]", "outside the base `/v1`", "did you mean `/v1/users`?", id="rule-outside-base"
    ),
    pytest.param("base: https://x.com/v1", "is not a path", "did you mean `/v1`?", id="base-url"),
    pytest.param("base: /v1/*", "no wildcards", "fixed beginning", id="base-wildcard"),
    pytest.param("limits: {requests: 60/minute}", "`60/minute` is not a limit", "60/min", id="limit-form"),
    pytest.param("limits: {requests: 0/min}", "`0/min` is not a limit", "60/min", id="limit-zero"),
    pytest.param("limits: {request: 60/min}", "unknown field `request`", "did you mean `requests`?", id="limit-field"),
    pytest.param("key: Acme Key", "`Acme Key` cannot be a name", "a-z, 0-9", id="key-name"),
    pytest.param("key: 5", "expected text, found the number `5`", '"5"', id="key-number"),
    pytest.param("key: no-such-key-name-abc-DEF1", "cannot be a name", "a-z", id="key-upper-case"),
    pytest.param("key: sk_live_00000000fake", "looks like the key's value", "`key` is the key's name", id="key-value"),
    pytest.param("token: abc", "unknown field `token`", "outloop key add", id="token-field"),
    pytest.param("hots: x", "unknown field `hots`", "did you mean `hosts`?", id="near-field"),
    pytest.param("default: allow", "unknown field `default`", "what no rule allows is denied", id="default"),
    pytest.param("allow: GET /x", "unknown field `allow`", "rules are a list", id="rule-without-list"),
    pytest.param("rules: {allow: GET /x}", "expected a list, found a mapping", None, id="rules-mapping"),
    pytest.param("body_limit: '5'", "expected a whole number, found the text `5`", None, id="quoted-number"),
    pytest.param("body_limit: 1.5", "whole number", None, id="fraction"),
    pytest.param("body_limit: true", "expected a whole number, found `true`", None, id="boolean-number"),
    pytest.param("encoded_slash: kep", "expected `keep` or `refuse`, found `kep`", "did you mean `keep`?", id="literal"),
    pytest.param("proof: GT /x", "is not `METHOD /path`", "did you mean `GET`?", id="proof-method"),
    pytest.param("proof: GET /a/../b", "could not be sent", None, id="proof-path"),
    pytest.param("proof: {reqest: GET /x}", "unknown field `reqest`", "did you mean `request`?", id="proof-field"),
    pytest.param("next_proof: {request: POST /x, expect: 999}", "less than or equal to 599", None, id="proof-status"),
    pytest.param("params: {site: x}", "this is a custom bridge", "write the values", id="params-of-custom"),
    pytest.param("headers: {Authorization: x}", "carries credentials", "outloop key add", id="authorization-header"),
    pytest.param("headers: {x-api-KEY: x}", "carries credentials", "outloop key add", id="api-key-header"),
    pytest.param("headers: {Cookie: a=b}", "carries credentials", "outloop key add", id="cookie-header"),
    pytest.param("headers: {Host: a.com}", "belongs to the connection", None, id="host-header"),
    pytest.param("headers: {X-HTTP-Method-Override: PUT}", "changes what is asked", "the real method", id="override-header"),
    pytest.param('headers: {"X A": b}', "is not a header name", None, id="header-name"),
    pytest.param('headers: {X-A: "b\\r\\nX-B: c"}', "invisible character", None, id="header-with-line-break"),
    pytest.param('headers: {X-A: "b\\nX-B: c"}', "not printable ascii on one line", None, id="header-with-newline"),
    pytest.param("headers: {X-A: 1, x-a: 2}", "expected text", "quote it", id="header-number"),
    pytest.param("headers: {X-A: a, x-a: b}", "stands here twice", None, id="header-twice"),
    pytest.param("headers: {X-Id: ghp_0000000000000000fake}", "looks like a secret", "outloop key add", id="secret-prefix"),
    pytest.param("headers: {X-Id: Bearer abcdefgh1234}", "looks like a secret", "outloop key add", id="secret-bearer"),
    pytest.param("headers: {X-Id: 9aF3kQ7xZb2LmN8vT4wY}", "looks like a secret", "outloop key add", id="secret-random"),
]


@pytest.mark.parametrize(("fields", "message", "hint"), FIELDS)
def test_a_wrong_service_is_told(fields: str, message: str, hint: str | None) -> None:
    found = problems_of(service_text(fields))

    assert [problem for problem in found if message in problem.message and (hint or "") in (problem.hint or "")], found


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("growth", id="word"),
        pytest.param("2024-06-01", id="version"),
        pytest.param("123e4567-e89b-12d3-a456-426614174000", id="uuid"),
        pytest.param("application/vnd.github.v3+json", id="media-type"),
        pytest.param("outloop-demo-workspace-for-the-team", id="long-words"),
        pytest.param("https://example.com/a/b/c/d", id="url"),
    ],
)
def test_an_honest_static_header_is_no_secret(value: str) -> None:
    assert problems_of(service_text(f"headers: {{X-Team: '{value}'}}")) == ()


HOSTS = [
    pytest.param("https://api.x.com/", "is a url, not a host", "did you mean `api.x.com`?", id="url"),
    pytest.param("https://api.x.com/v1/", "is a url, not a host", "`api.x.com` and `base: /v1`?", id="url-with-path"),
    pytest.param("https://me:pw@api.x.com", "is a url, not a host", "did you mean `api.x.com`?", id="url-with-user"),
    pytest.param("api.x.com/v1", "has a path, a host has none", "`api.x.com` and `base: /v1`?", id="path"),
    pytest.param("'*.x.com'", "never sent on a wildcard host", "name each host", id="wildcard"),
    pytest.param("bücher.example", "is not a host", "did you mean `xn--bcher-kva.example`?", id="international"),
    pytest.param("api.x.com:0", "is not a host", None, id="port-zero"),
    pytest.param("0x7f.1", "is not a host", None, id="odd-ip"),
    pytest.param("me@api.x.com", "is not a host", None, id="user-info"),
    pytest.param("outloop.internal", "is Outloop's own", None, id="own-name"),
    pytest.param("'{site}.x.com'", "is not a host", None, id="param-in-custom-bridge"),
]


@pytest.mark.parametrize(("host", "message", "hint"), HOSTS)
def test_a_wrong_host_is_told(host: str, message: str, hint: str | None) -> None:
    text = f"workspace: acme\nservices:\n  api:\n    hosts: [{host}]\n    auth: {{type: bearer}}\n"
    (problem,) = problems_of(text)

    assert (problem.line, problem.column) == (4, 13)
    assert message in problem.message
    assert (hint or "") in (problem.hint or "")


AUTHS = [
    pytest.param("{type: beerer}", "unknown auth type `beerer`", "did you mean `bearer`?", id="misspelt"),
    pytest.param("{type: oauth}", "unknown auth type `oauth`", "did you mean `oauth2`?", id="nearly-oauth2"),
    pytest.param("{type: awssigv4}", "unknown auth type `awssigv4`", "did you mean `aws_sigv4`?", id="nearly-aws"),
    pytest.param("{name: X}", "missing field `type`", "auth: {type: bearer}", id="no-type"),
    pytest.param("bearer", "expected a mapping", None, id="text"),
    pytest.param("{type: header}", "missing field `name`", None, id="no-name"),
    pytest.param("{type: bearer, token: abc}", "unknown field `token`", "never stands in a policy", id="value"),
    pytest.param("{type: header, name: 'X Key'}", "is not a header name", None, id="bad-name"),
    pytest.param("{type: header, name: Host}", "cannot carry a key", None, id="host"),
    pytest.param("{type: header, name: Proxy-Authorization}", "never leaves the proxy", None, id="proxy-authorization"),
    pytest.param("{type: headers, names: [A], public: [B]}", "`B` is not among the names", "names: A", id="public-unknown"),
    pytest.param("{type: headers, names: [A], public: [A]}", "at least one part that is secret", None, id="all-public"),
    pytest.param("{type: headers, names: [A, a]}", "stands here twice", None, id="names-twice"),
    pytest.param("{type: cookie, name: 'a b'}", "is not a cookie's name", None, id="cookie-name"),
]


@pytest.mark.parametrize(("auth", "message", "hint"), AUTHS)
def test_a_wrong_auth_is_told(auth: str, message: str, hint: str | None) -> None:
    found = problems_of(f"workspace: acme\nservices:\n  api:\n    hosts: [api.example.com]\n    auth: {auth}\n")

    assert [problem for problem in found if message in problem.message and (hint or "") in (problem.hint or "")], found


BRIDGE = "    hosts: [{host}]\n    auth: {{type: bearer}}\n"
WHOLE = [
    pytest.param("workspace: other\n", "`other` stands in a file called `acme`", id="name-is-not-the-file's"),
    pytest.param("egress: deny\n", "missing field `workspace`", id="no-name"),
    pytest.param("workspace: acme\negress: allow\n", "expected `deny` or `passthrough`, found `allow`", id="egress"),
    pytest.param("workspace: acme\negress_private: 'yes'\n", "expected true or false", id="quoted-boolean"),
    pytest.param("workspace: acme\negress_private: yes\n", "expected true or false", id="yaml-1.1-boolean"),
    pytest.param("workspace: acme\nhold: 30s\n", "expected a whole number, found `30s`", id="hold-text"),
    pytest.param("workspace: acme\nhold: true\n", "expected a whole number, found `true`", id="hold-boolean"),
    pytest.param("workspace: acme\nhold: -1\n", "greater than or equal to 0", id="hold-negative"),
    pytest.param("workspace: acme\nhold: 601\n", "less than or equal to 600", id="hold-long"),
    pytest.param("- a\n", "expected a mapping, found a list", id="list"),
    pytest.param("workspace: acme\nservices: [calendly]\n", "expected a mapping, found a list", id="services-list"),
    pytest.param(
        "workspace: acme\nservices:\n  Bad Name:\n    hosts: [a.com]\n", "`Bad Name` cannot be a name", id="service-name"
    ),
    pytest.param(
        "workspace: acme\nservices:\n  calendly:\n    hosts: [evil.com]\n", "stands in the catalogue", id="catalogue-host"
    ),
    pytest.param("workspace: acme\nservices:\n  api:\n    hosts: [a.com]\n", "missing field `auth`", id="custom-without-auth"),
    pytest.param("workspace: acme\nservices:\n  calendly:\n    params: {x: y}\n", "unknown param `x`", id="unknown-param"),
    pytest.param(
        f"workspace: acme\nservices:\n  a:\n{BRIDGE.format(host='x.com')}  b:\n{BRIDGE.format(host='x.com')}",
        "`b` and `a` both claim x.com",
        id="overlap",
    ),
    pytest.param(
        f"workspace: acme\nservices:\n  a:\n{BRIDGE.format(host='x.com')}  b:\n    base: /v1\n{BRIDGE.format(host='X.com.')}",
        "`b` and `a` both claim x.com/v1",
        id="nested-bases",
    ),
    pytest.param(
        f"workspace: acme\nservices:\n  a:\n    key: k\n{BRIDGE.format(host='x.com')}"
        f"  b:\n    key: k\n{BRIDGE.format(host='y.com')}",
        "the key `k` is already that of `a`",
        id="one-key-for-two-services",
    ),
    pytest.param(
        "workspace: acme\nservices:\n  api:\n    hosts: [a.com, a.com]\n    auth: {type: bearer}\n", "twice", id="host-twice"
    ),
]


@pytest.mark.parametrize(("text", "message"), WHOLE)
def test_a_wrong_workspace_is_told(text: str, message: str) -> None:
    assert message in " | ".join(problem.message for problem in problems_of(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("{host: x.com, base: /a}", "{host: x.com, base: /b}", id="other-base"),
        pytest.param("{host: x.com, base: /a}", "{host: x.com, base: /ab}", id="base-by-segment"),
        pytest.param("{host: x.com, base: /}", "{host: 'x.com:8443', base: /}", id="other-port"),
    ],
)
def test_services_may_share_a_host_by_base_or_port(one: str, other: str) -> None:
    bridges = "".join(
        f"  {name}:\n    hosts: ['{host}']\n    base: {base}\n    auth: {{type: bearer}}\n"
        for name, text in (("a", one), ("b", other))
        for host, base in [(text.split("host: ")[1].split(", base")[0].strip("'"), text.split("base: ")[1].rstrip("}"))]
    )

    assert problems_of(f"workspace: acme\nservices:\n{bridges}") == ()


def test_the_digest_is_of_the_meaning_and_not_of_the_looks() -> None:
    one = workspace_of("workspace: acme\nservices:\n  calendly:\n    rules: [{allow: GET /x, where: {query.a: 1}}]\n")
    same = workspace_of(
        "# a note\nservices:\n    calendly:\n      rules:\n      - where: {query.a: 1}\n        allow: GET /x\nworkspace: acme\n"
    )
    quoted = workspace_of("workspace: acme\nservices:\n  calendly:\n    rules: [{allow: GET /x, where: {query.a: '1'}}]\n")

    assert one.digest == same.digest
    assert one.digest != quoted.digest
    assert len(one.digest) == 16


def test_the_digest_covers_the_catalogue_entries_in_use() -> None:
    document = parse_document("workspace: acme\nservices:\n  calendly: {}\n", "acme.yaml")
    text = "title: Calendly\nhosts: [api.calendly.com]\nauth: {type: bearer}\n"
    changed = read_catalogue_entry(parse_document(text, "services/calendly.yaml"))

    assert read_workspace(document, CATALOGUE).digest != read_workspace(document, {"calendly": changed}).digest


SECRETS = (
    "sk_live_00000000fakefake",
    "ghp_00000000fake0000FAKE",
    "eyJhbGciOiJub25lIn0.eyJmYWtlIjoxfQ.c2ln",
    "9aF3kQ7xZb2LmN8vT4wY",
)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "text",
    [
        service_text("headers: {{X-Id: {}}}"),
        service_text("key: {}"),
        service_text("token: {}"),
        service_text("{}: x"),
        service_text("rules: [{{allow: {}}}]"),
        service_text("rules: [{{allow: GET /x, where: {{{}: 1}}}}]"),
        service_text("limits: {{requests: {}}}"),
        service_text("encoded_slash: {}"),
        "workspace: {}\n",
        "workspace: acme\negress: {}\n",
        "workspace: acme\nservices:\n  api:\n    hosts: [{}]\n    auth: {{type: {}}}\n",
    ],
)
def test_no_message_shows_a_secret(text: str, secret: str) -> None:
    problems = problems_of(text.replace("{{", "{").replace("}}", "}").replace("{}", secret))

    assert problems
    assert secret not in repr(problems)


PIECES = st.sampled_from(
    [
        *("workspace: acme", "services:", "calendly:", "rules:", "- allow: GET /**", '- deny: "* /x"', "where: {body.a: 1}"),
        *("hosts: [a.com]", "auth: {type: bearer}", "key: k", "limits: {requests: 1/s}", "headers: {A: b}", "egress: deny"),
        *(
            "{",
            "}",
            "[",
            "]",
            "- ",
            "? ",
            ": ",
            ", ",
            "&a",
            "*a",
            "!!x",
            "<<: ",
            "|",
            ">",
            "'",
            '"',
            "%YAML 1.1",
            "---",
            "...",
            "\t",
        ),
        *("\n", "\n  ", "\n    ", "\n      ", "\n", "null", "~", "1", "-", "\x00", "\ufeff", "é", "#", "😀"),
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=200))
def test_whatever_the_text_it_is_a_workspace_or_a_list_of_problems(text: str) -> None:
    problems = problems_of(text)

    assert all(problem.line >= 1 and problem.column >= 1 and "\n" not in problem.message for problem in problems)


JSONISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["GET /x", "a.com", "bearer", "/x", "* /**"]),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "allow", "where", "body.a", "name", "names", "requests", "request", "x"]),
            children,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(
            "key rules limits params headers body_limit encoded_slash proof next_proof title hosts base auth other".split()
        ),
        JSONISH,
    )
)
def test_whatever_the_shape_of_a_service_it_is_read_or_refused(fields: dict[str, object]) -> None:
    text = json.dumps({"workspace": "acme", "services": {"api": fields, "calendly": fields}})
    problems = problems_of(text)

    assert all(problem.file == "policies/acme.yaml" for problem in problems)
