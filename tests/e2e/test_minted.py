"""Tokens that are made from keys: fetched from a real token endpoint over TLS, or signed; used, scrubbed, and made anew."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from harness.certs import Authority
from harness.journal import RecordedRequest
from harness.operators import PATIENCE_S, Operator
from harness.proxy import running_proxy
from harness.recorder import Recorder
from harness.replies import End, Gate, Reply, chunked, json_reply, raw, reply
from harness.stage import MARK, Stage, running_stage, store_parts, stores
from outloop.core.secret import Secret

CLIENT = "api.client.example.com"
REFRESHED = "api.refreshed.example.com"
SIGNED = "api.signed.example.com"
BROKEN = "api.broken.example.com"
HOSTS = (CLIENT, REFRESHED, SIGNED, BROKEN)
CLIENT_ID, CLIENT_SECRET = "public-client-id", "not-a-real-client:secret/0123456789"
REFRESH_TOKEN = "not-a-real-refresh-token-0"
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


@dataclass
class Issuer:
    """A token endpoint that gives a new token each time, and a new refresh token for the one that it gave last."""

    lifetime_s: int = 3600
    refresh_token: str = REFRESH_TOKEN
    count: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    issued: list[str] = field(default_factory=list)

    def client(self, sent: RecordedRequest) -> Reply:
        return json_reply({"access_token": self._next("client"), "token_type": "Bearer", "expires_in": self.lifetime_s})

    def refreshed(self, sent: RecordedRequest) -> Reply:
        form = parse_qs(sent.body.decode())
        if form["refresh_token"] != [self.refresh_token]:
            return json_reply({"error": "invalid_grant", "error_description": f"reuse of {form['refresh_token']}"}, status=400)
        token = self._next("refreshed")
        self.refresh_token = f"not-a-real-refresh-token-{len(self.issued)}"
        return json_reply({"access_token": token, "expires_in": self.lifetime_s, "refresh_token": self.refresh_token})

    def _next(self, name: str) -> str:
        self.issued.append(f"not-a-real-{name}-access-token-{next(self.count)}")
        return self.issued[-1]


def store_all(operator: Operator) -> None:
    client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    store_parts(operator, "client", client)
    store_parts(operator, "broken", client)
    store_parts(operator, "refreshed", {**client, "refresh_token": REFRESH_TOKEN})
    store_parts(operator, "signed", {"private_key": PEM})


@dataclass
class House:
    """A proxy, the services behind it, and the token endpoint."""

    stage: Stage
    endpoint: Recorder
    issuer: Issuer

    def bearers(self) -> list[str]:
        return [(sent.header("authorization") or b"").decode().removeprefix("Bearer ") for sent in self.stage.arrived]

    def minted(self, path: str = "/client") -> list[RecordedRequest]:
        return [sent for sent in self.endpoint.requests if sent.path == path]


@pytest.fixture
def house(operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[House]:
    store_all(operator)
    issuer = Issuer()
    with (
        Recorder(authority.server_context("localhost")) as endpoint,
        Recorder(authority.server_context(*HOSTS)) as upstream,
    ):
        endpoint.on("POST /client", issuer.client)
        endpoint.on("POST /refreshed", issuer.refreshed)
        operator.write_policy("acme", policy(endpoint.port))
        environ = {"HTTPS_PROXY": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}
        with running_stage(operator, upstream, HOSTS, upstream_ca=upstream_ca, environ=environ) as stage:
            yield House(stage, endpoint, issuer)


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
    [asked] = house.minted()
    assert parse_qs(asked.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["a b"]}
    assert asked.header("authorization") == f"Basic {BASIC}".encode()
    assert CLIENT_SECRET.encode() not in b"".join(bytes(sent.raw) for sent in house.stage.arrived)
    [event] = house.stage.wait_for_event("token_minted")
    told = {name: event[name] for name in ("workspace", "service", "key", "host", "detail")}
    assert told == {"workspace": "acme", "service": "client", "key": "acme-client", "host": "localhost", "detail": None}
    nowhere(house, *house.issuer.issued, CLIENT_SECRET, BASIC)


def test_the_decision_is_on_record_before_the_endpoint_is_asked(house: House) -> None:
    seen: list[object] = []

    def look(sent: RecordedRequest) -> Reply:
        seen.extend(row["decision"] for row in house.stage.operator.rows() if row["service"] == "client")
        return house.issuer.client(sent)

    house.endpoint.on("POST /client", look)
    assert house.stage.curl("/", host=CLIENT).status == 200
    assert seen == ["allow"]


@pytest.mark.parametrize("arguments", [["/denied"], ["/asks", "-d", "x"], ["/x", "-X", "DELETE"]], ids=["deny", "ask", "method"])
def test_what_is_not_allowed_asks_for_no_token(house: House, arguments: list[str]) -> None:
    answer = house.stage.curl(*arguments, host=CLIENT)

    assert answer.status == 403
    assert house.endpoint.connections == 0


def test_many_first_requests_wait_for_one_token(house: House) -> None:
    gate = Gate()
    token = json.dumps({"access_token": "not-a-real-shared-access-token", "expires_in": 3600}).encode()
    house.endpoint.on("POST /client", chunked(gate, token))

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(house.stage.curl, f"/{number}", host=CLIENT) for number in range(8)]
        gate.wait_reached()
        end = time.monotonic() + PATIENCE_S
        while len([row for row in house.stage.operator.rows() if row["decision"] == "allow"]) < 8 and time.monotonic() < end:
            time.sleep(0.02)
        gate.open()
        assert {answer.result().status for answer in answers} == {200}

    assert len(house.minted()) == 1
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
    house.issuer.lifetime_s = 2
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
        return json_reply({"new": house.issuer.refresh_token, "old": REFRESH_TOKEN})

    house.stage.upstream.on("GET /", look)

    answers = [house.stage.curl("/", host=REFRESHED) for _ in range(2)]

    [asked] = house.minted("/refreshed")
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["refresh_token"], "refresh_token": [REFRESH_TOKEN],
        "client_id": [CLIENT_ID], "client_secret": [CLIENT_SECRET],
    }  # fmt: skip
    assert asked.all("authorization") == []
    assert kept == [b"not-a-real-refresh-token-1"] * 2
    assert [sent.header("x-access-token") for sent in house.stage.arrived] == [house.issuer.issued[0].encode()] * 2
    assert [answer.json() for answer in answers] == [{"new": MARK, "old": MARK}] * 2
    [event] = house.stage.wait_for_event("token_minted")
    assert event["detail"] == "the refresh token was exchanged"
    nowhere(house, REFRESH_TOKEN, *house.issuer.issued, house.issuer.refresh_token)


def test_a_restart_goes_on_from_the_refresh_token_that_was_stored(house: House, upstream_ca: Path) -> None:
    assert house.stage.curl("/", host=REFRESHED).status == 200
    house.stage.proxy.kill()
    routes = dict.fromkeys(HOSTS, house.stage.upstream.port)
    with running_proxy(house.stage.operator, routes, upstream_ca=upstream_ca) as again:
        assert again.curl(f"https://{REFRESHED}/").status == 200

    assert [parse_qs(sent.body.decode())["refresh_token"] for sent in house.minted("/refreshed")] == [
        [REFRESH_TOKEN],
        ["not-a-real-refresh-token-1"],
    ]


def test_two_proxies_never_use_one_refresh_token_twice(house: House, upstream_ca: Path) -> None:
    routes = dict.fromkeys(HOSTS, house.stage.upstream.port)
    with running_proxy(house.stage.operator, routes, upstream_ca=upstream_ca) as other, ThreadPoolExecutor(6) as pool:
        answers = [
            pool.submit(proxy.curl, f"https://{REFRESHED}/{number}")
            for number in range(3)
            for proxy in (house.stage.proxy, other)
        ]
        assert {answer.result().status for answer in answers} == {200}

        assert len(house.minted("/refreshed")) == 2, "one for each process"
        sent = [parse_qs(each.body.decode())["refresh_token"][0] for each in house.minted("/refreshed")]
        assert sent == [REFRESH_TOKEN, "not-a-real-refresh-token-1"]
        # And neither has the other make one anew for it.
        for proxy in (house.stage.proxy, other, house.stage.proxy, other):
            assert proxy.curl(f"https://{REFRESHED}/again").status == 200
        assert len(house.minted("/refreshed")) == 2


def _rotate(house: House, service: str, **parts: str) -> None:
    key = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, **parts}
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
    time.sleep(1.5)  # the token is dropped within half a second
    house.stage.switch("acme-client", True)

    assert house.stage.curl("/", host=CLIENT).status == 200
    assert house.bearers() == house.issuer.issued
    assert len(house.issuer.issued) == 2


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
    [event] = house.stage.wait_for_event("token_failed")
    assert detail in str(event["detail"])
    nowhere(house, CLIENT_SECRET, BASIC)
    assert CLIENT_SECRET not in got.body.decode()
    # Asked again at once, the endpoint is left alone.
    house.stage.curl("/", host=BROKEN)
    assert len(house.minted("/broken")) == 1


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
        while len(house.stage.operator.rows()) < 2 and time.monotonic() < end:
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


def test_a_private_key_of_another_kind_is_no_key(house: House) -> None:
    other = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with stores(house.stage.operator) as (state, keychain):
        keychain.set("acme", "acme-signed", {"private_key": Secret(other)})
        state.rotate_key("acme", "acme-signed", None)

    answer = house.stage.curl("/", host=SIGNED)

    assert (answer.status, answer.json()["reason"], house.stage.arrived) == (403, "key_missing", [])
    assert "not a P-256 private key" in str(answer.json()["detail"])


def test_a_key_that_lacks_the_refresh_token_is_no_key(house: House) -> None:
    with stores(house.stage.operator) as (state, keychain):
        keychain.set("acme", "acme-refreshed", {"client_id": Secret(b"id"), "client_secret": Secret(b"secret-secret")})
        state.rotate_key("acme", "acme-refreshed", None)

    answer = house.stage.curl("/", host=REFRESHED)

    assert (answer.status, answer.json()["reason"]) == (403, "key_missing")
    assert house.endpoint.connections == 0
