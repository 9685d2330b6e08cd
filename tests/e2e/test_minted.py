"""Tokens that are made from keys: fetched from a real token endpoint over TLS, or signed; used, scrubbed, and made anew."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from harness.operators import PATIENCE_S, Operator, Row
from harness.proxy import running_proxy
from harness.stage import MARK, Stage, running_stage, store_parts, stores
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.journal import RecordedRequest
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import End, Gate, Reply, chunked, json_reply, raw, reply
from outloop.core.secret import Secret

CLIENT = "api.client.example.com"
REFRESHED = "api.refreshed.example.com"
SIGNED = "api.signed.example.com"
BROKEN = "api.broken.example.com"
HOSTS = (CLIENT, REFRESHED, SIGNED, BROKEN)
CLIENT_ID, CLIENT_SECRET = "public-client-id", "not-a-real-client:secret/0123456789"
KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
BASIC = base64.b64encode(f"{CLIENT_ID}:not-a-real-client%3Asecret%2F0123456789".encode()).decode()


def policy(port: int, *, hold: int = 0) -> str:
    return f"""\
workspace: acme
hold: {hold}
services:
  client:
    hosts: [{CLIENT}]
    auth: {{type: oauth2, grant: client_credentials, token_url: "https://localhost:{port}/client", scopes: [a, b]}}
    rules: [{{allow: GET /**}}, {{deny: GET /denied}}, {{ask: POST /asks}}]
  refreshed:
    hosts: [{REFRESHED}]
    auth:
      type: oauth2
      grant: refresh_token
      token_url: https://localhost:{port}/refreshed
      client_auth: body
      header: X-Access-Token
    rules: [{{allow: GET /**}}]
  signed:
    hosts: [{SIGNED}]
    auth: {{type: jwt, alg: ES256, kid: K1, claims: {{iss: me, aud: them}}, lifetime: 300}}
    rules: [{{allow: GET /**}}]
  broken:
    hosts: [{BROKEN}]
    auth: {{type: oauth2, grant: client_credentials, token_url: "https://localhost:{port}/broken"}}
    rules: [{{allow: GET /**}}]
"""


COUNT = itertools.count(1)  # no two tokens of a run are the same: those of an earlier test are scrubbed on


@dataclass
class Issuer:
    """A token endpoint that gives a new token each time, and a new refresh token for the one that it gave last."""

    lifetime_s: int = 3600
    refresh_tokens: list[str] = field(default_factory=lambda: [f"not-a-real-refresh-token-{next(COUNT)}"])
    issued: list[str] = field(default_factory=list)

    def client(self, sent: RecordedRequest) -> Reply:
        return json_reply({"access_token": self._next("client"), "token_type": "Bearer", "expires_in": self.lifetime_s})

    def refreshed(self, sent: RecordedRequest) -> Reply:
        form = parse_qs(sent.body.decode())
        if form["refresh_token"] != [self.refresh_tokens[-1]]:
            return json_reply({"error": "invalid_grant", "error_description": f"reuse of {form['refresh_token']}"}, status=400)
        token = self._next("refreshed")
        self.refresh_tokens.append(f"not-a-real-refresh-token-{next(COUNT)}")
        return json_reply({"access_token": token, "expires_in": self.lifetime_s, "refresh_token": self.refresh_tokens[-1]})

    def _next(self, name: str) -> str:
        self.issued.append(f"not-a-real-{name}-access-token-{next(COUNT)}")
        return self.issued[-1]


CLIENT_KEY = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


def keys(refresh_token: str = "not-a-real-first-refresh-token") -> dict[str, dict[str, str]]:
    refreshed = {**CLIENT_KEY, "refresh_token": refresh_token}
    return {"client": CLIENT_KEY, "broken": CLIENT_KEY, "refreshed": refreshed, "signed": {"private_key": PEM}}


def store_all(operator: Operator) -> None:
    for service, parts in keys().items():
        store_parts(operator, service, parts)


def replace_parts(operator: Operator, service: str, parts: Mapping[str, str]) -> None:
    """Give a key another value, without a grace for the one before."""
    with stores(operator) as (state, keychain):
        keychain.set("acme", f"acme-{service}", {name: Secret(value.encode()) for name, value in parts.items()})
        state.rotate_key("acme", f"acme-{service}", None)


@dataclass
class House:
    """A proxy, the services behind it, and the token endpoint; `since` is how many requests to that are not seen."""

    stage: Stage
    endpoint: Recorder
    issuer: Issuer
    since: int = 0

    def bearers(self) -> list[str]:
        return [(sent.header("authorization") or b"").decode().removeprefix("Bearer ") for sent in self.stage.arrived]

    def asked(self) -> list[RecordedRequest]:
        return self.endpoint.requests[self.since :]

    def refresh_tokens_sent(self) -> list[str]:
        return [parse_qs(sent.body.decode())["refresh_token"][0] for sent in self.asked()]

    def event(self, kind: str) -> Row:
        return self.stage.wait_for_event(kind)[-1]

    def fresh(self) -> House:
        """Return the same with nothing in memory that is used, no pause, and nothing seen yet."""
        issuer = Issuer()
        for service, parts in keys(issuer.refresh_tokens[0]).items():
            replace_parts(self.stage.operator, service, parts)
        self.endpoint.on("POST /client", issuer.client)
        self.endpoint.on("POST /refreshed", issuer.refreshed)
        return House(self.stage.view(), self.endpoint, issuer, len(self.endpoint.requests))


@contextlib.contextmanager
def running_house(operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[House]:
    store_all(operator)
    with (
        Recorder(authority.server_context("localhost")) as endpoint,
        Recorder(authority.server_context(*HOSTS)) as upstream,
    ):
        operator.write_policy("acme", policy(endpoint.port))
        environ = {"HTTPS_PROXY": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}
        with running_stage(operator, upstream, HOSTS, upstream_ca=upstream_ca, environ=environ) as stage:
            yield House(stage, endpoint, Issuer())


@pytest.fixture(scope="module")
def module_house(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[House]:
    with running_house(module_operator, authority, upstream_ca) as running:
        yield running


@pytest.fixture
def house(module_house: House) -> House:
    return module_house.fresh()


@pytest.fixture
def own_house(operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[House]:
    """A house whose proxy may be killed."""
    with running_house(operator, authority, upstream_ca) as running:
        yield running.fresh()


def nowhere(house: House, *values: str) -> None:
    """Assert that none of *values* is in the record, the log or the state."""
    folder = house.stage.operator.home
    for path in (folder / "audit.db", folder / "audit.db-wal", folder / "state.db", folder / "state.db-wal"):
        content = path.read_bytes() if path.exists() else b""
        assert not any(value.encode() in content for value in values), path
    assert not any(value in house.stage.proxy.log for value in values)


def test_a_token_is_fetched_once_and_used_until_it_ends(house: House) -> None:
    answers = [house.stage.curl(f"/{number}", host=CLIENT) for number in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert house.bearers() == [house.issuer.issued[0]] * 3
    [asked] = house.asked()
    assert parse_qs(asked.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["a b"]}
    assert asked.header("authorization") == f"Basic {BASIC}".encode()
    assert CLIENT_SECRET.encode() not in b"".join(bytes(sent.raw) for sent in house.stage.arrived)
    event = house.event("token_minted")
    told = {name: event[name] for name in ("workspace", "service", "key", "host", "detail")}
    assert told == {"workspace": "acme", "service": "client", "key": "acme-client", "host": "localhost", "detail": None}
    nowhere(house, *house.issuer.issued, CLIENT_SECRET, BASIC)


def test_the_decision_is_on_record_before_the_endpoint_is_asked(house: House) -> None:
    seen: list[object] = []

    def look(sent: RecordedRequest) -> Reply:
        seen.extend(row["decision"] for row in house.stage.operator.rows() if row["path"] == "/on-record")
        return house.issuer.client(sent)

    house.endpoint.on("POST /client", look)
    assert house.stage.curl("/on-record", host=CLIENT).status == 200
    assert seen == ["allow"]


@pytest.mark.parametrize("arguments", [["/denied"], ["/asks", "-d", "x"], ["/x", "-X", "DELETE"]], ids=["deny", "ask", "method"])
def test_what_is_not_allowed_asks_for_no_token(house: House, arguments: list[str]) -> None:
    answer = house.stage.curl(*arguments, host=CLIENT)

    assert answer.status == 403
    assert house.asked() == []


def test_many_first_requests_wait_for_one_token(house: House) -> None:
    gate = Gate()
    token = json.dumps({"access_token": "not-a-real-shared-access-token", "expires_in": 3600}).encode()
    house.endpoint.on("POST /client", chunked(gate, token))

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(house.stage.curl, f"/many/{number}", host=CLIENT) for number in range(8)]
        gate.wait_reached()
        end = time.monotonic() + PATIENCE_S
        while sum(str(row["path"]).startswith("/many/") for row in house.stage.operator.rows()) < 8 and time.monotonic() < end:
            time.sleep(0.02)
        gate.open()
        assert {answer.result().status for answer in answers} == {200}

    assert len(house.asked()) == 1
    assert house.bearers() == ["not-a-real-shared-access-token"] * 8


def _echo(sent: RecordedRequest) -> Reply:
    values = [CLIENT_SECRET, BASIC, (sent.header("authorization") or b"").decode().removeprefix("Bearer ")]
    coded = [base64.b64encode(f"x:{value}".encode()).decode() for value in values]
    return json_reply({"raw": values, "coded": coded, "id": CLIENT_ID}, headers=[("X-Echo", values[2]), ("X-Basic", BASIC)])


def test_everything_that_was_made_of_the_key_is_scrubbed(house: House) -> None:
    house.stage.upstream.on("GET /echo", _echo)

    for _ in range(2):  # the request that had the token made, and one that found it there
        answer = house.stage.curl("/echo", host=CLIENT)
        found = answer.json()
        assert (found["raw"], found["id"]) == ([MARK] * 3, CLIENT_ID)
        assert all(MARK in text for text in found["coded"])  # type: ignore[attr-defined]
        assert (answer.header("x-echo"), answer.header("x-basic")) == (MARK, MARK)
        row = house.stage.row(answer.header("outloop-audit-id"))
        assert (row["scrubbed"], row["secret_exposed"]) == (8, 0)


def test_a_token_is_scrubbed_from_what_another_service_of_the_workspace_says(house: House) -> None:
    house.stage.curl("/", host=CLIENT)
    house.stage.upstream.on("GET /stored", json_reply({"note": house.issuer.issued[0]}))

    assert house.stage.curl("/stored", host=SIGNED).json() == {"note": MARK}


def test_an_agent_that_sends_a_token_of_ours_is_refused(house: House) -> None:
    house.stage.curl("/", host=CLIENT)

    answer = house.stage.curl(f"/?q={house.issuer.issued[0]}", host=SIGNED)

    assert (answer.status, answer.json()["reason"]) == (403, "credential_misplaced")
    nowhere(house, house.issuer.issued[0])


def test_a_token_that_is_not_taken_is_made_anew_at_the_next_request_and_once(house: House) -> None:
    house.stage.upstream.on("GET /x", reply(status=401), reply(b"ok"))
    first = house.stage.curl("/x", host=CLIENT)
    second = house.stage.curl("/x", host=CLIENT)

    assert (first.status, second.status) == (401, 200)
    assert house.stage.row(first.header("outloop-audit-id"))["reason"] == "key_rejected"
    assert house.bearers() == house.issuer.issued
    assert len(house.issuer.issued) == 2
    house.stage.upstream.on("GET /never", lambda sent: json_reply({"was": house.issuer.issued[0]}, status=401))
    for _ in range(3):
        assert house.stage.curl("/never", host=CLIENT).json() == {"was": MARK}
    assert len(house.issuer.issued) == 2, "a service that takes no token has one made for each request"


def test_a_token_is_scrubbed_from_a_stream_that_outlasts_it(house: House) -> None:
    house.issuer.lifetime_s = 5
    gate = Gate()

    def stream(sent: RecordedRequest) -> Reply:
        token = (sent.header("authorization") or b"").removeprefix(b"Bearer ")
        return chunked(b"begin ", gate, token[:9], token[9:], b" end", headers=[("Content-Type", "text/event-stream")])

    house.stage.upstream.on("GET /stream", stream)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(house.stage.curl, "/stream", host=CLIENT)
        house.stage.wait_for(1)
        end = time.monotonic() + PATIENCE_S
        while len(house.issuer.issued) < 2 and time.monotonic() < end:
            house.stage.curl("/other", host=CLIENT)
        gate.open()
        assert answer.result().body == b"begin " + MARK.encode() + b" end"

    assert len(set(house.bearers())) >= 2


def test_a_refresh_token_that_was_exchanged_is_in_the_keychain_before_its_access_token_is_used(house: House) -> None:
    kept: list[bytes] = []

    def look(sent: RecordedRequest) -> Reply:
        with stores(house.stage.operator) as (_, keychain):
            kept.append(keychain.get("acme", "acme-refreshed")["refresh_token"].reveal())
        return json_reply(house.issuer.refresh_tokens)

    house.stage.upstream.on("GET /", look)

    answers = [house.stage.curl("/", host=REFRESHED) for _ in range(2)]

    [asked] = house.asked()
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["refresh_token"], "refresh_token": [house.issuer.refresh_tokens[0]],
        "client_id": [CLIENT_ID], "client_secret": [CLIENT_SECRET],
    }  # fmt: skip
    assert asked.all("authorization") == []
    assert kept == [house.issuer.refresh_tokens[1].encode()] * 2
    assert [sent.header("x-access-token") for sent in house.stage.arrived] == [house.issuer.issued[0].encode()] * 2
    assert [json.loads(answer.body) for answer in answers] == [[MARK, MARK]] * 2
    event = house.event("token_minted")
    assert event["detail"] == "the refresh token was exchanged"
    nowhere(house, *house.issuer.issued, *house.issuer.refresh_tokens)


def test_a_restart_goes_on_from_the_refresh_token_that_was_stored(own_house: House, upstream_ca: Path) -> None:
    house = own_house
    assert house.stage.curl("/", host=REFRESHED).status == 200
    house.stage.proxy.kill()
    routes = dict.fromkeys(HOSTS, house.stage.upstream.port)
    with running_proxy(house.stage.operator, routes, upstream_ca=upstream_ca) as again:
        assert again.curl(f"https://{REFRESHED}/").status == 200

    assert house.refresh_tokens_sent() == house.issuer.refresh_tokens[:2]


def test_two_proxies_never_use_one_refresh_token_twice(house: House, upstream_ca: Path) -> None:
    routes = dict.fromkeys(HOSTS, house.stage.upstream.port)
    with running_proxy(house.stage.operator, routes, upstream_ca=upstream_ca) as other, ThreadPoolExecutor(6) as pool:
        both = (house.stage.proxy, other)
        answers = [pool.submit(proxy.curl, f"https://{REFRESHED}/{number}") for number in range(3) for proxy in both]
        assert {answer.result().status for answer in answers} == {200}

        assert house.refresh_tokens_sent() == house.issuer.refresh_tokens[:2], "one for each process"
        # And what one of them stored does not have the other make a token anew.
        for proxy in both * 2:
            assert proxy.curl(f"https://{REFRESHED}/again").status == 200
        assert len(house.asked()) == 2


def _rotate(house: House, service: str, **parts: str) -> None:
    key = CLIENT_KEY | parts
    house.stage.operator.outloop("key", "rotate", service, "-w", "acme", "--stdin", stdin=json.dumps(key))


def test_a_rotated_key_has_a_token_of_its_own_and_the_old_one_is_scrubbed_on(house: House) -> None:
    house.stage.curl("/", host=CLIENT)
    _rotate(house, "client", client_secret="not-a-real-second-client-secret")
    house.stage.upstream.on("GET /echo", json_reply({"old": house.issuer.issued[0], "secret": CLIENT_SECRET}))

    answer = house.stage.curl("/echo", host=CLIENT)

    assert house.bearers() == house.issuer.issued
    assert len(house.issuer.issued) == 2
    assert answer.json() == {"old": MARK, "secret": MARK}


def test_a_key_that_was_switched_off_has_its_token_made_anew(house: House) -> None:
    house.stage.curl("/", host=CLIENT)
    house.stage.switch("acme-client", False)
    assert house.stage.curl("/", host=CLIENT).json()["reason"] == "runtime_access_off"
    end = time.monotonic() + PATIENCE_S
    while len(house.issuer.issued) < 2 and time.monotonic() < end:  # it is dropped within half a second, on a quick machine
        house.stage.switch("acme-client", False)
        time.sleep(1.0)
        house.stage.switch("acme-client", True)
        assert house.stage.curl("/", host=CLIENT).status == 200

    assert len(house.issuer.issued) == 2
    assert house.bearers()[-1] == house.issuer.issued[1]


QUOTED = f"{CLIENT_SECRET} {BASIC}"


@pytest.mark.parametrize(
    ("answer", "reason", "detail"),
    [
        pytest.param(
            json_reply({"error": "invalid_client", "error_description": QUOTED}, status=401),
            "key_rejected",
            "the token endpoint does not take the key: invalid_client",
            id="invalid-client",
        ),
        pytest.param(
            json_reply({"error": QUOTED}, status=400),
            "key_rejected",
            "does not take the key: it answered 400",
            id="quotes-the-key",
        ),
        pytest.param(reply(QUOTED.encode(), status=503), "upstream_failed", "the token endpoint answered 503", id="503"),
        pytest.param(
            reply(status=302, headers=[("Location", "https://evil.example.com/")]),
            "upstream_failed",
            "answered with a redirect, which is never followed",
            id="redirect",
        ),
        pytest.param(
            json_reply({"access_token": "two\r\nlines-of-it"}), "upstream_failed", "no usable access token", id="line-break"
        ),
        pytest.param(json_reply({}), "upstream_failed", "no usable access token", id="no-token"),
        pytest.param(reply(b"x" * 70_000), "upstream_failed", "the token endpoint's answer is too long", id="too-long"),
        pytest.param(chunked(b"{", End.ABORT), "upstream_failed", "localhost gave no usable answer", id="cut"),
        pytest.param(raw(QUOTED.encode() + b"\r\n\r\n"), "upstream_failed", "gave no usable answer", id="no-http"),
    ],
)
def test_without_a_token_nothing_is_sent_and_the_agent_is_told_why(house: House, answer: Reply, reason: str, detail: str) -> None:
    house.endpoint.on("POST /broken", answer)

    got = house.stage.curl("/", host=BROKEN)

    assert (got.status, got.json()["reason"], house.stage.arrived) == (502, reason, [])
    assert detail in str(got.json()["detail"])
    row = house.stage.row(got.header("outloop-audit-id"))
    assert (row["decision"], row["reason"], row["status"]) == ("allow", reason, 502)
    event = house.event("token_failed")
    assert detail in str(event["detail"])
    nowhere(house, CLIENT_SECRET, BASIC)
    assert CLIENT_SECRET not in got.body.decode()
    # Asked again at once, the endpoint is left alone.
    house.stage.curl("/", host=BROKEN)
    assert len(house.asked()) == 1


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        pytest.param(lambda _: Authority().server_context("localhost"), "upstream_untrusted", id="stranger"),
        pytest.param(lambda authority: authority.server_context("other.example.com"), "upstream_untrusted", id="misnamed"),
        pytest.param(lambda authority: authority.server_context("localhost", expired=True), "upstream_untrusted", id="expired"),
        pytest.param(lambda _: None, "upstream_failed", id="cleartext"),
    ],
)
def test_the_secret_goes_to_a_verified_endpoint_alone(
    operator: Operator, authority: Authority, upstream_ca: Path, context: Callable[[Authority], object], reason: str
) -> None:
    store_all(operator)
    with Recorder(context(authority)) as endpoint, Recorder(authority.server_context(*HOSTS)) as upstream:  # type: ignore[arg-type]
        operator.write_policy("acme", policy(endpoint.port))
        with running_stage(operator, upstream, HOSTS, upstream_ca=upstream_ca) as stage:
            answer = stage.curl("/", host=CLIENT)

        assert (answer.status, answer.json()["reason"], stage.arrived) == (502, reason, [])
        assert not any(CLIENT_SECRET.encode() in sent.raw or BASIC.encode() in sent.raw for sent in endpoint.requests)


def test_the_endpoint_that_takes_a_key_again_is_asked_again(house: House) -> None:
    house.endpoint.on("POST /client", json_reply({"error": "invalid_client"}, status=401), house.issuer.client)
    assert house.stage.curl("/", host=CLIENT).json()["reason"] == "key_rejected"

    _rotate(house, "client", client_secret="not-a-real-second-client-secret")

    assert house.stage.curl("/", host=CLIENT).status == 200


def test_an_agent_that_leaves_does_not_take_the_token_from_the_others(house: House) -> None:
    gate = Gate()
    token = json.dumps({"access_token": "not-a-real-shared-access-token", "expires_in": 3600}).encode()
    house.endpoint.on("POST /client", chunked(gate, token))
    url = f"https://{CLIENT}/left"
    program = ["curl", "-s", "--proxy", house.stage.proxy.url(), "--cacert", str(house.stage.operator.certificate), url]
    left = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    gate.wait_reached()
    with ThreadPoolExecutor(1) as pool:
        stays = pool.submit(house.stage.curl, "/stays", host=CLIENT)
        end = time.monotonic() + PATIENCE_S
        while not any(row["path"] == "/stays" for row in house.stage.operator.rows()) and time.monotonic() < end:
            time.sleep(0.02)
        left.kill()
        left.wait()
        house.stage.wait_for_row(path="/left", workspace="acme")
        gate.open()
        assert stays.result().status == 200

    assert [sent.path for sent in house.stage.arrived] == ["/stays"]
    assert house.stage.wait_for_row(path="/left", workspace="acme")["error"] == "the agent left"


def test_a_signed_token_is_verified_by_the_service_and_scrubbed(house: House) -> None:
    house.stage.upstream.on(
        "GET /echo", lambda sent: json_reply({"token": (sent.header("authorization") or b"").decode(), "pem": PEM})
    )

    answers = [house.stage.curl("/echo", host=SIGNED) for _ in range(3)]

    assert len(set(house.bearers())) == 1, "made once"
    token = house.bearers()[0]
    claims = jwt.decode(token, PUBLIC, algorithms=["ES256"], audience="them", issuer="me")
    assert claims["exp"] - claims["iat"] == 300
    assert jwt.get_unverified_header(token)["kid"] == "K1"
    for answer in answers:
        assert answer.json()["token"] == f"Bearer {MARK}"
        assert not any(line in answer.body.decode() for line in PEM.splitlines()[1:-1])
    nowhere(house, token)


def test_a_policy_that_asks_for_less_has_a_token_of_its_own(own_house: House) -> None:
    house = own_house
    house.stage.curl("/", host=CLIENT)
    text = policy(house.endpoint.port).replace("scopes: [a, b]", "scopes: [a]")
    house.stage.operator.write_policy("acme", text)
    house.stage.proxy.wait_for_log("policy: acme")

    assert house.stage.curl("/", host=CLIENT).status == 200
    assert house.bearers() == house.issuer.issued
    assert [parse_qs(sent.body.decode())["scope"] for sent in house.asked()] == [["a b"], ["a"]]


def test_a_refresh_token_that_cannot_be_stored_is_kept_until_it_can_and_nothing_is_sent_before(house: House) -> None:
    lock = os.open(house.stage.operator.home / "keyring" / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        answer = house.stage.curl("/", host=REFRESHED)
        assert (answer.status, answer.json()["reason"], house.stage.arrived) == (503, "key_locked", [])
    finally:
        os.close(lock)

    end = time.monotonic() + PATIENCE_S
    while house.stage.curl("/", host=REFRESHED).status != 200 and time.monotonic() < end:
        time.sleep(0.2)

    assert len(house.asked()) == 1, "the grant that was had already is used"
    assert [sent.header("x-access-token") for sent in house.stage.arrived] == [house.issuer.issued[0].encode()]
    with stores(house.stage.operator) as (_, keychain):
        assert keychain.get("acme", "acme-refreshed")["refresh_token"].reveal() == house.issuer.refresh_tokens[1].encode()


def test_a_rotation_waits_for_an_exchange_and_is_not_overwritten_by_it(house: House) -> None:
    gate = Gate()
    token = json.dumps({"access_token": "not-a-real-overtaken-token", "refresh_token": "not-a-real-overtaken-refresh-token"})
    house.endpoint.on("POST /refreshed", chunked(gate, token.encode()), house.issuer.refreshed)
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(house.stage.curl, "/", host=REFRESHED)
        gate.wait_reached()
        rotated = pool.submit(_rotate, house, "refreshed", refresh_token=house.issuer.refresh_tokens[0])
        time.sleep(1.0)
        assert not rotated.done()
        gate.open()
        rotated.result()
        asked.result()

    with stores(house.stage.operator) as (_, keychain):
        assert keychain.get("acme", "acme-refreshed")["refresh_token"].reveal() == house.issuer.refresh_tokens[0].encode()
    assert house.stage.curl("/again", host=REFRESHED).status == 200
    assert house.stage.arrived[-1].header("x-access-token") == house.issuer.issued[0].encode()


def test_an_approval_is_given_back_where_no_token_was_to_be_had(house: House) -> None:
    house.endpoint.on("POST /client", reply(status=503), house.issuer.client)
    pending = house.stage.curl("/asks", "-d", "x", host=CLIENT)
    assert pending.json()["reason"] == "approval_pending"
    [waiting] = json.loads(house.stage.operator.outloop("approvals", "--json"))
    house.stage.operator.outloop("approve", str(waiting["id"]))

    failed = house.stage.curl("/asks", "-d", "x", host=CLIENT)
    assert (failed.status, failed.json()["reason"]) == (502, "upstream_failed")
    end = time.monotonic() + PATIENCE_S
    while (answer := house.stage.curl("/asks", "-d", "x", host=CLIENT)).status == 502 and time.monotonic() < end:
        time.sleep(0.2)

    assert answer.status == 200
    assert house.stage.curl("/asks", "-d", "x", host=CLIENT).json()["reason"] == "approval_pending"


def test_a_private_key_of_another_kind_is_no_key(house: House) -> None:
    other = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    replace_parts(house.stage.operator, "signed", {"private_key": other.decode()})

    answer = house.stage.curl("/", host=SIGNED)

    assert (answer.status, answer.json()["reason"], house.stage.arrived) == (403, "key_missing", [])
    assert "not a P-256 private key" in str(answer.json()["detail"])


def test_a_key_that_lacks_the_refresh_token_is_no_key(house: House) -> None:
    replace_parts(house.stage.operator, "refreshed", CLIENT_KEY)

    answer = house.stage.curl("/", host=REFRESHED)

    assert (answer.status, answer.json()["reason"], house.asked()) == (403, "key_missing", [])
