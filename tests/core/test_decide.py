"""The decision: which rule wins, which reason is named, and that doubt never allows."""

from __future__ import annotations

import itertools
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outloop.core.auth import Bearer
from outloop.core.decide import APPROVAL_RETRY_AFTER_S, decide, service_for, wants_body
from outloop.core.index import covers_method, rule_index
from outloop.core.model import (
    Condition,
    Decision,
    Effect,
    Egress,
    Expected,
    HostClaim,
    Place,
    Reason,
    Request,
    Rule,
    Service,
    Source,
    Standing,
    Workspace,
)
from outloop.core.paths import canonical_path, compile_pattern, parse_query, split_target

HOST = "api.calendly.com"
JSON = "application/json"
ON = Standing()
_LINES = itertools.count(1)


def where(source: Source, keys: str, *values: object) -> Condition:
    accepted = tuple(Expected(str(value), value, isinstance(value, str)) for value in values)  # type: ignore[arg-type]
    return Condition(source, tuple(keys.split(".")), accepted)


def rule(effect: str, line: str, *conditions: Condition, reason: str | None = None) -> Rule:
    methods, path = line.split(" ", 1)
    named = None if methods == "*" else frozenset(methods.split(","))
    place = Place("acme.yaml", next(_LINES))
    return Rule(Effect(effect), named, compile_pattern(path), place, line, conditions, reason)


def calendly(*rules: Rule, **changes: object) -> Service:
    made = Service("calendly", "Calendly", (HostClaim(HOST),), Bearer(), "acme-calendly", rules)
    return replace(made, **changes)  # type: ignore[arg-type]


def workspace(*services: Service, egress: Egress = Egress.DENY) -> Workspace:
    return Workspace("acme", services, egress)


def ask_for(line: str, body: bytes | None = None, content_type: str = JSON, *, keep: bool = False) -> Request:
    method, target = line.split(" ", 1)
    scheme, _, rest = target.rpartition("://")
    authority, slash, tail = rest.partition("/")
    host, _, port = (authority or HOST).partition(":")
    path, query = split_target(slash + tail)
    number = int(port or (80 if scheme == "http" else 443))
    canonical = canonical_path(path, keep_encoded_slash=keep)
    return Request(method, scheme or "https", host, number, canonical, parse_query(query), content_type, "", body)


ACME = calendly(
    rule("allow", "GET /**"),
    rule("ask", "POST /scheduling_links", where(Source.BODY, "max_event_count", 1)),
    rule("deny", "* /data_compliance/**", reason="deletion stays\nwith a person"),
    rule("allow", "POST /event_types/{id}/invitees", where(Source.PATH, "id", "AAA", "BBB")),
    rule("allow", "PUT /users/{id}", where(Source.PATH, "id", "me"), where(Source.QUERY, "org", "acme")),
)


@pytest.mark.parametrize(
    ("line", "body", "effect", "reason"),
    [
        pytest.param("GET /users/me", None, Effect.ALLOW, Reason.OK, id="allowed"),
        pytest.param("HEAD /users/me", None, Effect.ALLOW, Reason.OK, id="get-covers-head"),
        pytest.param("GET /", None, Effect.ALLOW, Reason.OK, id="root"),
        pytest.param("OPTIONS /users/me", None, Effect.DENY, Reason.METHOD_NOT_ALLOWED, id="get-covers-no-options"),
        pytest.param("DELETE /users/me", None, Effect.DENY, Reason.METHOD_NOT_ALLOWED, id="no-rule-has-the-method"),
        pytest.param("WEBSOCKET /users/me", None, Effect.DENY, Reason.METHOD_NOT_ALLOWED, id="websocket-is-no-get"),
        pytest.param("POST /users/me", None, Effect.DENY, Reason.PATH_NOT_ALLOWED, id="no-post-rule-has-the-path"),
        pytest.param("POST /scheduling_links", b'{"max_event_count":1}', Effect.ASK, Reason.APPROVAL_PENDING, id="ask"),
        pytest.param(
            "POST /scheduling_links", b'{"max_event_count":2}', Effect.DENY, Reason.BODY_NOT_ALLOWED, id="another-value"
        ),
        pytest.param("POST /scheduling_links", b"{}", Effect.DENY, Reason.BODY_NOT_ALLOWED, id="missing-value"),
        pytest.param("POST /scheduling_links", b"{", Effect.DENY, Reason.BODY_NOT_ALLOWED, id="unreadable"),
        pytest.param("POST /scheduling_links", None, Effect.DENY, Reason.BODY_NOT_ALLOWED, id="unread"),
        pytest.param("GET /data_compliance/x", None, Effect.DENY, Reason.DENIED_BY_RULE, id="deny-beats-allow"),
        pytest.param("GET /data_compliance", None, Effect.DENY, Reason.DENIED_BY_RULE, id="deny-beats-allow-at-the-top"),
        pytest.param("GET /data_compliance/", None, Effect.DENY, Reason.DENIED_BY_RULE, id="deny-and-trailing-slash"),
        pytest.param("GET /Data_Compliance/x", None, Effect.DENY, Reason.DENIED_BY_RULE, id="deny-without-case"),
        pytest.param("GET /data%5Fcompliance/x", None, Effect.DENY, Reason.DENIED_BY_RULE, id="deny-and-escapes"),
        pytest.param("DELETE /data_compliance/x", None, Effect.DENY, Reason.DENIED_BY_RULE, id="deny-before-method"),
        pytest.param("POST /event_types/AAA/invitees", None, Effect.ALLOW, Reason.OK, id="pinned"),
        pytest.param("POST /event_types/CCC/invitees", None, Effect.DENY, Reason.WRONG_RESOURCE, id="another-clients-id"),
        pytest.param("POST /event_types/aaa/invitees", None, Effect.DENY, Reason.WRONG_RESOURCE, id="pin-compares-case"),
        pytest.param("PUT /users/me?org=acme", None, Effect.ALLOW, Reason.OK, id="pin-and-query"),
        pytest.param("PUT /users/me?org=other", None, Effect.DENY, Reason.BODY_NOT_ALLOWED, id="query-value"),
        pytest.param("PUT /users/me?org=acme&org=other", None, Effect.DENY, Reason.BODY_NOT_ALLOWED, id="query-repeated"),
        pytest.param("PUT /users/me", None, Effect.DENY, Reason.BODY_NOT_ALLOWED, id="query-missing"),
        pytest.param("PUT /users/you?org=other", None, Effect.DENY, Reason.WRONG_RESOURCE, id="pin-before-query"),
        pytest.param("GET https://api.calendly.com.evil.example/", None, Effect.DENY, Reason.HOST_NOT_ALLOWED, id="suffix"),
        pytest.param("GET https://evilapi.calendly.com/", None, Effect.DENY, Reason.HOST_NOT_ALLOWED, id="prefix"),
        pytest.param("GET https://calendly.com/", None, Effect.DENY, Reason.HOST_NOT_ALLOWED, id="apex"),
        pytest.param("GET http://api.calendly.com/", None, Effect.DENY, Reason.CLEARTEXT_REFUSED, id="http"),
        pytest.param("GET http://api.calendly.com:443/", None, Effect.DENY, Reason.CLEARTEXT_REFUSED, id="http-on-443"),
        pytest.param("GET https://api.calendly.com:8443/", None, Effect.DENY, Reason.CLEARTEXT_REFUSED, id="another-port"),
        pytest.param(
            "GET http://api.calendly.com/data_compliance", None, Effect.DENY, Reason.CLEARTEXT_REFUSED, id="before-deny"
        ),
        pytest.param("get /users/me", None, Effect.DENY, Reason.MALFORMED_REQUEST, id="lower-case-method"),
    ],
)
def test_the_first_reason_that_applies_is_given(line: str, body: bytes | None, effect: Effect, reason: Reason) -> None:
    decision = decide(ask_for(line, body), workspace(ACME), ON)
    assert (decision.effect, decision.reason) == (effect, reason)
    assert decision.allowed is (effect is Effect.ALLOW)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_rules_never_matters(order: tuple[int, ...]) -> None:
    rules = [rule("allow", "* /**"), rule("ask", "POST /a/**"), rule("deny", "POST /a/b")]
    service = calendly(*(rules[position] for position in order))
    assert decide(ask_for("POST /a/b"), workspace(service), ON).rule is rules[2]
    assert decide(ask_for("POST /a/c"), workspace(service), ON).rule is rules[1]
    assert decide(ask_for("POST /c"), workspace(service), ON).rule is rules[0]


def test_without_rules_nothing_is_allowed() -> None:
    assert decide(ask_for("GET /"), workspace(calendly()), ON).reason is Reason.METHOD_NOT_ALLOWED
    assert decide(ask_for("GET /"), workspace(), ON).reason is Reason.HOST_NOT_ALLOWED


def test_deny_rules_alone_give_no_method() -> None:
    service = calendly(rule("deny", "* /a"))
    assert decide(ask_for("GET /b"), workspace(service), ON).reason is Reason.METHOD_NOT_ALLOWED


def test_a_deny_rule_that_does_not_hold_makes_no_path_known() -> None:
    service = calendly(rule("allow", "GET /a"), rule("deny", "GET /b", where(Source.QUERY, "x", 1)))
    assert decide(ask_for("GET /b"), workspace(service), ON).reason is Reason.PATH_NOT_ALLOWED


@pytest.mark.parametrize(
    ("line", "method", "covered"),
    [
        *(("*", method, True) for method in ("GET", "HEAD", "POST", "OPTIONS", "PROPFIND")),
        *(("*", "WEBSOCKET", False), ("WEBSOCKET", "WEBSOCKET", True), ("WEBSOCKET", "GET", False), ("GET", "WEBSOCKET", False)),
        *(
            ("GET", "HEAD", True),
            ("HEAD", "GET", False),
            ("GET,POST", "POST", True),
            ("GET,POST", "PUT", False),
            ("POST", "HEAD", False),
        ),
    ],
)
@pytest.mark.parametrize("effect", ["allow", "ask", "deny"])
def test_a_method_word_covers_the_same_for_every_effect(effect: str, line: str, method: str, covered: bool) -> None:
    decision = decide(ask_for(f"{method} /x"), workspace(calendly(rule(effect, f"{line} /x"))), ON)
    expected = {"allow": Reason.OK, "ask": Reason.APPROVAL_PENDING, "deny": Reason.DENIED_BY_RULE}[effect]
    assert (decision.reason is expected) is covered
    assert (decision.rule is not None) is covered


def test_asking_beats_allowing_and_tells_when_to_come_back() -> None:
    service = calendly(rule("allow", "POST /**"), rule("ask", "POST /a"))
    decision = decide(ask_for("POST /a"), workspace(service), ON)
    assert decision == Decision(
        Effect.ASK, Reason.APPROVAL_PENDING, service, service.rules[1], APPROVAL_RETRY_AFTER_S, decision.detail
    )
    assert not decision.allowed


@pytest.mark.parametrize("effect", ["allow", "ask"])
def test_the_switch_and_the_limit_speak_only_after_the_rules_said_yes(effect: str) -> None:
    space = workspace(calendly(rule(effect, "GET /a"), rule("deny", "GET /b")))
    for line, switched_off, limited in [
        ("GET /a", Reason.RUNTIME_ACCESS_OFF, Reason.RATE_LIMITED),
        ("GET /b", Reason.DENIED_BY_RULE, Reason.DENIED_BY_RULE),
        ("GET /c", Reason.PATH_NOT_ALLOWED, Reason.PATH_NOT_ALLOWED),
    ]:
        assert decide(ask_for(line), space, Standing(access_on=False, retry_after_s=7)).reason is switched_off
        assert decide(ask_for(line), space, Standing(retry_after_s=7)).reason is limited


@pytest.mark.parametrize("seconds", [0, 7])
def test_a_limit_denies_and_tells_when_to_come_back(seconds: int) -> None:
    decision = decide(ask_for("GET /a"), workspace(calendly(rule("allow", "GET /a"))), Standing(retry_after_s=seconds))
    assert (decision.effect, decision.reason, decision.retry_after_s) == (Effect.DENY, Reason.RATE_LIMITED, seconds)


def test_an_unclaimed_host_passes_only_where_egress_says_so_and_then_without_a_service() -> None:
    decision = decide(ask_for("CONNECT https://example.com/"), workspace(ACME, egress=Egress.PASSTHROUGH), ON)
    assert (decision.effect, decision.reason, decision.service) == (Effect.ALLOW, Reason.OK, None)
    assert decide(ask_for("GET /x"), workspace(calendly(), egress=Egress.PASSTHROUGH), ON).effect is Effect.DENY


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_base_claims_whole_segments_and_the_longest_wins(order: tuple[int, ...]) -> None:
    v1 = calendly(rule("allow", "GET /v1/**"), name="one", base="/v1")
    v2 = calendly(rule("allow", "GET /v2/**"), name="two", base="/v2/")
    deep = calendly(rule("allow", "GET /v2/**"), name="deep", base="/v2/deep")
    services = (v1, v2, deep)
    space = workspace(*(services[position] for position in order))
    for line, expected in [("/v1", v1), ("/v1/x", v1), ("/v2/x", v2), ("/v2/deep/x", deep), ("/v2/deeper", v2)]:
        assert service_for(ask_for(f"GET {line}"), space) is expected
        assert decide(ask_for(f"GET {line}"), space, ON).service is expected
    for line in ("/", "/v11/x", "/V1/x", "/x/v1"):
        assert service_for(ask_for(f"GET {line}"), space) is None
        decision = decide(ask_for(f"GET {line}"), space, ON)
        assert (decision.effect, decision.reason) == (Effect.DENY, Reason.PATH_NOT_ALLOWED)


def test_a_port_belongs_to_the_service_that_lists_it() -> None:
    plain = calendly(rule("allow", "GET /**"), name="plain")
    other = calendly(rule("allow", "GET /**"), name="other", hosts=(HostClaim(HOST, 8443), HostClaim("elsewhere.example")))
    space = workspace(plain, other)
    assert decide(ask_for("GET /"), space, ON).service is plain
    assert decide(ask_for(f"GET https://{HOST}:8443/"), space, ON).service is other
    assert decide(ask_for("GET https://elsewhere.example:8443/"), space, ON).reason is Reason.CLEARTEXT_REFUSED


def test_an_encoded_slash_is_data_only_where_the_service_keeps_it() -> None:
    request = ask_for("GET /projects/a%2Fb", keep=True)
    service = calendly(rule("allow", "GET /projects/{id}"), rule("deny", "GET /projects/a/**"))
    assert decide(request, workspace(service), ON).reason is Reason.MALFORMED_REQUEST
    assert decide(request, workspace(replace(service, encoded_slash=True)), ON).reason is Reason.OK


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        pytest.param(b'{"force": true}', JSON, Reason.DENIED_BY_RULE, id="it-says-so"),
        pytest.param(b'[{"force": true}]', JSON, Reason.DENIED_BY_RULE, id="in-a-batch"),
        pytest.param(b'{"force": false}', JSON, Reason.OK, id="it-says-otherwise"),
        pytest.param(b"", "", Reason.OK, id="no-body"),
        pytest.param(b'{"force": true, "force": false}', JSON, Reason.DENIED_BY_RULE, id="duplicate-name"),
        pytest.param(b'{"force": false}', "text/plain", Reason.DENIED_BY_RULE, id="another-type"),
        pytest.param(b'{"force": false}', "multipart/form-data; boundary=x", Reason.DENIED_BY_RULE, id="multipart"),
        pytest.param(b'{"force": true}', "application/x-www-form-urlencoded", Reason.DENIED_BY_RULE, id="json-sent-as-a-form"),
        pytest.param(b"force=true", "application/x-www-form-urlencoded", Reason.DENIED_BY_RULE, id="form"),
        pytest.param(None, JSON, Reason.DENIED_BY_RULE, id="not-read"),
    ],
)
def test_a_body_in_doubt_is_denied(body: bytes | None, content_type: str, reason: Reason) -> None:
    service = calendly(rule("allow", "POST /**"), rule("deny", "POST /x", where(Source.BODY, "force", True)))
    assert decide(ask_for("POST /x", body, content_type), workspace(service), ON).reason is reason


def test_a_body_in_doubt_meets_only_the_rules_of_its_method_and_path() -> None:
    denied = rule("deny", "POST /{id}", where(Source.PATH, "id", "x"), where(Source.BODY, "force", True))
    space = workspace(calendly(rule("allow", "* /**"), denied))
    assert decide(ask_for("POST /x", b"{"), space, ON).reason is Reason.DENIED_BY_RULE
    assert decide(ask_for("POST /y", b"{"), space, ON).reason is Reason.OK
    assert decide(ask_for("PUT /x", b"{"), space, ON).reason is Reason.OK


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        pytest.param("GET /users/me", False, id="no-rule-reads-it"),
        pytest.param("POST /scheduling_links", True, id="a-where-reads-it"),
        pytest.param("POST /event_types/AAA/invitees", False, id="a-where-on-the-path"),
        pytest.param("POST /data_compliance/x", False, id="denied-whatever-it-says"),
        pytest.param("DELETE /x", False, id="no-rule-at-all"),
    ],
)
def test_a_body_is_wanted_only_by_a_rule_that_could_match(line: str, wanted: bool) -> None:
    assert wants_body(ask_for(line), ACME) is wanted


@pytest.mark.parametrize("effect", ["allow", "ask", "deny"])
def test_a_body_is_not_wanted_by_a_rule_whose_other_conditions_fail(effect: str) -> None:
    service = calendly(rule(effect, "POST /{id}", where(Source.PATH, "id", "a"), where(Source.BODY, "x", 1)))
    assert wants_body(ask_for("POST /a"), service)
    assert not wants_body(ask_for("POST /b"), service)


def test_an_ask_rule_wants_the_body_that_is_to_be_approved() -> None:
    assert wants_body(ask_for("POST /a"), calendly(rule("ask", "POST /a")))


@pytest.mark.parametrize(
    ("body", "body_alone", "told"),
    [
        pytest.param(b"{", True, True, id="unreadable"),
        pytest.param(b"{", False, False, id="unreadable-but-a-query-would-do"),
        pytest.param(b"{}", True, False, id="readable"),
    ],
)
def test_an_agent_is_told_that_its_body_is_unreadable_where_that_is_the_reason(body: bytes, body_alone: bool, told: bool) -> None:
    rules = [rule("allow", "POST /a", where(Source.BODY, "x", 1))]
    if not body_alone:
        rules.append(rule("allow", "POST /a", where(Source.QUERY, "x", 1)))
    decision = decide(ask_for("POST /a", body), workspace(calendly(*rules)), ON)
    assert decision.reason is Reason.BODY_NOT_ALLOWED
    assert ("no single safe reading" in decision.detail) is told


def test_a_deny_that_needs_no_body_is_the_one_named() -> None:
    needing, sure = rule("deny", "POST /a", where(Source.BODY, "x", 1)), rule("deny", "POST /**")
    assert decide(ask_for("POST /a"), workspace(calendly(needing, sure)), ON).rule is sure


@pytest.mark.parametrize(
    ("line", "body", "detail"),
    [
        ("DELETE /x", None, "DELETE is not among the methods this workspace allows for calendly"),
        ("POST /x", None, "POST is not allowed on that path of calendly in this workspace"),
        ("GET /data_compliance", None, "this workspace denies that call to calendly: deletion stays with a person"),
        ("GET http://api.calendly.com/", None, "api.calendly.com is reached over https on port 443 only"),
        ("GET https://example.com/", None, "no service of this workspace claims example.com"),
    ],
)
def test_the_detail_says_what_is_wrong_in_one_sentence(line: str, body: bytes | None, detail: str) -> None:
    assert decide(ask_for(line, body), workspace(ACME), ON).detail == detail


def test_no_refusal_shows_the_text_of_a_rule_or_a_pinned_value() -> None:
    secretive = calendly(
        rule("allow", "GET /internal-path/{id}", where(Source.PATH, "id", "PINNED")),
        rule("ask", "POST /internal-path/{id}", where(Source.BODY, "field", "PINNED")),
        rule("deny", "PUT /internal-path/**"),
    )
    for method, standing in itertools.product(("GET", "POST", "PUT", "DELETE"), (ON, Standing(False), Standing(True, 3))):
        for path in ("/internal-path/other", "/elsewhere", "/internal-path/PINNED"):
            detail = decide(ask_for(f"{method} {path}", b"{}"), workspace(secretive), standing).detail
            assert "internal-path" not in detail
            assert "PINNED" not in detail
            assert "field" not in detail
            assert "\n" not in detail


_SEGMENTS = st.lists(st.sampled_from(["a", "b", "A", "c"]), max_size=4)
_PATTERNS = st.lists(st.sampled_from(["a", "b", "A", "*", "**"]), max_size=4).map(lambda steps: "/" + "/".join(steps))
_METHODS = st.sampled_from(["*", "GET", "POST", "GET,POST", "HEAD", "WEBSOCKET"])
_CONDITIONS = st.lists(
    st.sampled_from(
        [where(Source.QUERY, "q", "1"), where(Source.BODY, "x", 1), where(Source.BODY, "x", True), where(Source.PATH, "n", "a")]
    ),
    max_size=2,
)
_RULES = st.builds(
    lambda effect, methods, path, conditions: rule(effect, f"{methods} {path}", *conditions),
    st.sampled_from(["allow", "ask", "deny"]),
    _METHODS,
    _PATTERNS | st.sampled_from(["/{n}", "/**/{n}", "/{n}/**"]),
    _CONDITIONS,
)
_REQUESTS = st.builds(
    lambda method, segments, query, body: ask_for(f"{method} /{'/'.join(segments)}{query}", body),
    st.sampled_from(["GET", "HEAD", "POST", "WEBSOCKET", "PURGE"]),
    _SEGMENTS,
    st.sampled_from(["", "?q=1", "?q=2", "?q=1&q=2", "?Q=1"]),
    st.sampled_from([None, b"", b'{"x":1}', b'{"x":true}', b'{"X":1}', b"["]),
)
_SERVICES = st.lists(_RULES, max_size=6).map(lambda rules: calendly(*rules))


@given(_REQUESTS, _SERVICES)
@settings(deadline=None, max_examples=1000)
def test_the_index_finds_what_asking_every_rule_finds(request: Request, service: Service) -> None:
    segments = request.path.segments
    expected = [
        (rule, names)
        for rule in service.rules
        if covers_method(rule.methods, request.method)
        and (names := rule.pattern.match(segments, fold_case=rule.effect is Effect.DENY)) is not None
    ]
    found = rule_index(service).candidates(request.method, segments)
    assert [(candidate.rule, candidate.names) for candidate in found] == expected


@given(_REQUESTS, _SERVICES)
@settings(deadline=None, max_examples=1000)
def test_nothing_is_allowed_that_no_allow_rule_covers(request: Request, service: Service) -> None:
    decision = decide(request, workspace(service), ON)
    covering = [
        rule
        for rule in service.rules
        if covers_method(rule.methods, request.method) and rule.pattern.match(request.path.segments) is not None
    ]
    if decision.effect is not Effect.DENY:
        assert decision.rule in covering
        assert decision.rule is not None
        assert decision.rule.effect is decision.effect
    if not any(rule.effect in (Effect.ALLOW, Effect.ASK) for rule in covering):
        assert decision.effect is Effect.DENY


@given(_REQUESTS, _SERVICES, st.integers(0, 6))
@settings(deadline=None, max_examples=500)
def test_a_deny_rule_on_the_path_always_wins(request: Request, service: Service, position: int) -> None:
    denying = rule("deny", f"{request.method} {request.path.text.swapcase()}")
    rules = (*service.rules[:position], denying, *service.rules[position:])
    decision = decide(request, workspace(calendly(*rules)), ON)
    assert (decision.effect, decision.reason) == (Effect.DENY, Reason.DENIED_BY_RULE)


@given(_REQUESTS, _SERVICES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=300)
def test_shuffled_rules_decide_the_same(request: Request, service: Service, random: Random) -> None:
    shuffled = list(service.rules)
    random.shuffle(shuffled)
    first, second = (decide(request, workspace(calendly(*rules)), ON) for rules in (service.rules, shuffled))
    assert (first.effect, first.reason) == (second.effect, second.reason)


@given(_REQUESTS, _SERVICES, st.sampled_from([None, b"", b'{"x":1}', b"["]))
@settings(deadline=None, max_examples=1000)
def test_a_body_that_is_not_wanted_changes_nothing(request: Request, service: Service, other: bytes | None) -> None:
    if not wants_body(request, service):
        first, second = (decide(replace(request, body=body), workspace(service), ON) for body in (request.body, other))
        assert (first.effect, first.reason, first.rule) == (second.effect, second.reason, second.rule)


@given(_REQUESTS, _SERVICES, st.data())
@settings(deadline=None, max_examples=300)
def test_another_spelling_of_the_same_path_decides_the_same(request: Request, service: Service, data: st.DataObject) -> None:
    text = request.path.text
    escaped = "".join(
        f"%{ord(character):02{data.draw(st.sampled_from('xX'))}}" if character != "/" and data.draw(st.booleans()) else character
        for character in text
    )
    respelled = replace(request, path=canonical_path(escaped))
    assert respelled == request
    assert decide(respelled, workspace(service), ON) == decide(request, workspace(service), ON)


@given(_REQUESTS, st.lists(_SERVICES, max_size=3), st.sampled_from(Egress), st.booleans(), st.none() | st.integers(0, 9))
@settings(deadline=None, max_examples=300)
def test_every_request_has_a_decision_that_agrees_with_itself(
    request: Request, services: list[Service], egress: Egress, access_on: bool, retry_after_s: int | None
) -> None:
    decision = decide(request, workspace(*services, egress=egress), Standing(access_on, retry_after_s))
    assert (decision.effect is Effect.ALLOW) == (decision.reason is Reason.OK)
    assert (decision.effect is Effect.ASK) == (decision.reason is Reason.APPROVAL_PENDING)
    assert (decision.retry_after_s is not None) == (decision.reason in (Reason.APPROVAL_PENDING, Reason.RATE_LIMITED))
    assert bool(decision.detail) == (decision.effect is not Effect.ALLOW or decision.service is None)
