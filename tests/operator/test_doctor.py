"""The checks of `outloop doctor`, each held against what it is to find. The clients and the proxy: tests/e2e/test_doctor.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from harness.policies import CATALOGUE
from harness.rows import decision, event, outcome
from outloop.core.errors import KeyLocked, NoError, UsageError
from outloop.core.ledger import Row, timestamp
from outloop.core.model import RequestLimit
from outloop.core.secret import Secret
from outloop.operator.call import Listener
from outloop.operator.doctor import (
    authority,
    bypass,
    clients,
    clock,
    distrusts,
    hosts,
    keys,
    limits,
    policy,
    provider,
    proxy,
    reach,
    record,
    shell,
)
from outloop.operator.doctor.clients import Client, Outcome
from outloop.operator.doctor.examination import CHECKS, examine, stops_the_proof
from outloop.operator.doctor.finding import Finding, Result, ok
from outloop.operator.doctor.premises import Premises
from outloop.operator.policy_files import read_policy_files
from outloop.store import authority as authorities
from outloop.store.audit import AuditWriter
from outloop.store.home import Home
from outloop.store.keychain import Keychain
from outloop.store.state import StateStore
from outloop.store.trust import CA_FILE_VARIABLES

NOW = datetime(2026, 1, 2, tzinfo=UTC)
POLICY = "workspace: {name}\nservices:\n  calendly:\n    rules: [allow: GET /users/me]\n"
TOKEN = "cal_pat_FAKE_0123456789abcdefghijklmnop"
PROXY = "http://127.0.0.1:8080"
VARIABLES = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), PROXY) | dict.fromkeys(
    CA_FILE_VARIABLES, "/bundle.pem"
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "outloop")
    made.ensure()
    authorities.ensure_authority(made, NOW)
    write_policy(made, "acme")
    return made


@pytest.fixture
def state(home: Home) -> Iterator[StateStore]:
    with closing(StateStore(home.state_db)) as store:
        yield store


@pytest.fixture
def write(home: Home) -> Iterator[Callable[..., None]]:
    with closing(AuditWriter(home.audit_db, time.time)) as audit:

        def write_all(*rows: Row) -> None:
            for row in rows:
                audit.append_now(row)

        yield write_all


@pytest.fixture
def look(home: Home, state: StateStore) -> Callable[..., Premises]:
    """Return the premises as they are now, with changes."""

    def taken(**changes: object) -> Premises:
        premises = Premises(
            home=home,
            environ=VARIABLES,
            now=NOW,
            workspace=None,
            policies=read_policy_files(home.policies, home.services),
            state=state.snapshot(),
            proxies=(),
            listener=Listener("127.0.0.1", 8080),
            open_keychain=lambda: keychain_of(home, state),
            limit_wait_s=state.wait_s,
        )
        return replace(premises, **changes)  # type: ignore[arg-type]

    return taken


Look = Callable[..., Premises]
Write = Callable[..., None]


def write_policy(home: Home, name: str, text: str = POLICY) -> None:
    path = home.policies / f"{name}.yaml"
    path.write_text(text.replace("{name}", name))
    path.chmod(0o600)


def keychain_of(home: Home, state: StateStore) -> Keychain:
    return Keychain.open(home, state, {"OUTLOOP_KEYRING": "file"})


def add_key(home: Home, state: StateStore, *, on: bool = True, **parts: str) -> None:
    state.add_key("acme", "acme-calendly", "calendly", timestamp(0))
    state.set_runtime_access("acme", "acme-calendly", on)
    values = {name: Secret(value.encode()) for name, value in (parts or {"token": TOKEN}).items()}
    keychain_of(home, state).set("acme", "acme-calendly", values)


def only(findings: Iterator[Finding]) -> Finding:
    (found,) = findings
    return found


# The authority and the clock


@pytest.mark.parametrize(
    ("now", "result", "text"),
    [
        pytest.param(NOW, Result.OK, "is valid until 2027-12-31", id="valid"),
        pytest.param(NOW + timedelta(days=700), Result.WARNING, "expires on 2027-12-31", id="ends-soon"),
        pytest.param(NOW + timedelta(days=800), Result.FAILURE, "expired on 2027-12-31", id="over"),
        pytest.param(NOW - timedelta(days=3), Result.FAILURE, "which is still to come", id="not-begun"),
    ],
)
def test_the_authoritys_days_are_counted(look: Look, now: datetime, result: Result, text: str) -> None:
    found = only(authority.check(look(now=now)))
    assert (found.result, text in found.text) == (result, True), found


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n"])
def test_an_authority_that_is_gone_or_broken_stops_the_proof(look: Look, home: Home, content: bytes | None) -> None:
    path = home.ca / "mitmproxy-ca-cert.pem"
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    found = only(authority.check(look()))

    assert (found.result, found.fix.startswith("outloop init")) == (Result.FAILURE, True)
    assert path.exists() is (content is not None), "doctor mends nothing by itself"


@pytest.mark.parametrize(
    ("ahead", "result"),
    [
        pytest.param(timedelta(seconds=30), Result.OK, id="within-tolerance"),
        pytest.param(timedelta(hours=2), Result.WARNING, id="set-back"),
        pytest.param(-timedelta(days=30), Result.OK, id="nothing-happened-for-long"),
    ],
)
def test_a_clock_that_is_behind_the_record_is_found(look: Look, write: Write, ahead: timedelta, result: Result) -> None:
    write(row := decision())
    newest = datetime.fromisoformat(row.at)

    assert only(clock.check(look(now=newest - ahead))).result is result


# Policy, hosts, keys


def test_every_problem_of_every_policy_file_is_a_line_with_its_place(look: Look, home: Home) -> None:
    write_policy(home, "globex", "workspace: globex\nservices:\n  calendly:\n    rulez: []\n  nothing: {}\n")
    found = [each for each in policy.check(look()) if each.result is Result.FAILURE]

    assert len(found) >= 2
    assert all("globex.yaml:" in each.text and each.fix for each in found), found


def test_a_broken_catalogue_entry_of_the_operators_own_is_named(look: Look, home: Home) -> None:
    entry = home.services / "posthog.yaml"
    entry.write_text("title: PostHog\n")
    entry.chmod(0o600)

    assert any("posthog.yaml" in each.text and each.result is Result.FAILURE for each in policy.check(look()))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("workspace: acme\n", id="no-service"),
        pytest.param("workspace: acme\nservices:\n  calendly: {}\n", id="no-rule"),
    ],
)
def test_a_policy_that_allows_nothing_stops_the_proof(look: Look, home: Home, text: str) -> None:
    write_policy(home, "acme", text)
    assert Result.FAILURE in {each.result for each in policy.check(look())}


def test_no_workspace_at_all_stops_the_proof(look: Look, home: Home) -> None:
    (home.policies / "acme.yaml").unlink()
    assert only(policy.check(look())).result is Result.FAILURE


def test_a_host_of_two_workspaces_needs_agents_with_tokens(look: Look, home: Home, state: StateStore) -> None:
    write_policy(home, "globex")
    state.add_agent("acme", "claude", "0" * 64, timestamp(0))

    without = only(hosts.check(look()))
    state.add_agent("globex", "codex", "1" * 64, timestamp(0))
    with_both = only(hosts.check(look()))

    assert (without.result, with_both.result) == (Result.WARNING, Result.OK)
    assert without.text == "api.calendly.com is claimed by acme, globex; no agent has a token for globex"


def test_a_key_that_is_not_stored_is_named_with_the_command_that_stores_it(look: Look) -> None:
    found = only(keys.check(look()))
    assert (found.result, found.fix) == (Result.FAILURE, "outloop key add calendly -w acme")


def test_a_key_that_is_on_and_readable_is_well(look: Look, home: Home, state: StateStore) -> None:
    add_key(home, state)
    found = only(keys.check(look()))
    assert (found.result, TOKEN in str(found)) == (Result.OK, False)


def test_a_key_that_is_off_says_how_to_turn_it_on(look: Look, home: Home, state: StateStore) -> None:
    add_key(home, state, on=False)
    found = only(keys.check(look()))
    assert (found.result, found.fix) == (Result.FAILURE, "outloop key enable acme-calendly -w acme")


def test_a_key_without_a_part_that_the_service_asks_for_is_found(look: Look, home: Home, state: StateStore) -> None:
    add_key(home, state, username="ada", password="FAKE-password-0123456789")
    found = only(keys.check(look()))
    assert (found.result, "lacks token" in found.text) == (Result.FAILURE, True)


def test_a_value_that_left_the_keychain_is_found(look: Look, home: Home, state: StateStore) -> None:
    add_key(home, state)
    keychain_of(home, state).delete("acme", "acme-calendly")
    found = only(keys.check(look()))
    assert (found.result, "is not in" in found.text) == (Result.FAILURE, True)


@pytest.mark.parametrize("name", ["master.key", "values.enc"])
def test_a_keychain_that_cannot_be_read_stops_the_proof(look: Look, home: Home, state: StateStore, name: str) -> None:
    add_key(home, state)
    (home.keyring / name).write_bytes(b"damaged")
    assert only(keys.check(look())).result is Result.FAILURE


def test_a_recorded_keychain_that_is_not_to_be_had_is_named(look: Look, home: Home, state: StateStore) -> None:
    add_key(home, state)
    state.set_meta("keychain", "keyring.backends.Windows.WinVaultKeyring")

    (found,) = examine(look(open_keychain=lambda: Keychain.open(home, state, {}, may_choose=False)), [("keys", keys.check)])

    assert found.result is Result.FAILURE
    assert "Windows Credential Manager" in found.text


def test_a_keychain_that_waits_for_its_owner_is_not_waited_for(
    look: Look, home: Home, state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_key(home, state)
    answered = threading.Event()
    monkeypatch.setattr(keys, "PROBE_LIMIT_S", 0.05)
    try:
        found = only(keys.check(look(open_keychain=answered.wait)))
    finally:
        answered.set()
    assert (found.result, "did not answer" in found.text) == (Result.FAILURE, True)


# What services answered


@pytest.mark.parametrize(
    ("result", "expected", "text"),
    [
        pytest.param({}, Result.OK, "accepts the key: 200", id="accepted"),
        pytest.param({"status": 404}, Result.OK, "accepts the key: 404", id="not-found"),
        pytest.param({"status": 401, "reason": "key_rejected"}, Result.FAILURE, "rejected the key acme-calendly: 401", id="401"),
        pytest.param(
            {"status": 502, "reason": "key_rejected"},
            Result.FAILURE,
            "the token endpoint of calendly of acme rejected the key acme-calendly",
            id="token-endpoint",
        ),
        pytest.param({"status": 403}, Result.WARNING, "knows the key but refuses GET /users/me: 403", id="403"),
        pytest.param({"status": 502, "reason": "upstream_failed"}, Result.FAILURE, "no usable answer", id="down"),
        pytest.param({"status": 502, "reason": "upstream_untrusted"}, Result.FAILURE, "is not trusted", id="untrusted"),
        pytest.param({"status": 502, "reason": "scrub_failed"}, Result.WARNING, "scrub_failed", id="not-proved-clean"),
    ],
)
def test_the_newest_answer_says_whether_the_key_works(
    look: Look, write: Write, result: dict[str, object], expected: Result, text: str
) -> None:
    older, newest, denied = decision(), decision(), decision(decision="deny", reason="path_not_allowed")
    write(older, outcome(older, status=500), newest, outcome(newest, **result), denied, outcome(denied, status=403))

    first, *_ = provider.check(look())

    assert (first.result, text in first.text) == (expected, True), first


def test_a_403_comes_with_what_the_catalogue_says_of_it(look: Look, write: Write) -> None:
    write(row := decision(), outcome(row, status=403))
    _, *hints = provider.check(look())
    assert [each.text for each in hints] == [each for each in CATALOGUE["calendly"].gotchas if "403" in each]


def test_a_wrong_region_is_hinted_at_where_the_catalogue_knows_regions(look: Look, home: Home, write: Write) -> None:
    entry = home.services / "posthog.yaml"
    entry.write_text(
        "title: PostHog\nhosts: [us.posthog.com]\nauth: {type: bearer}\n"
        "gotchas:\n  - A key of the EU region is unknown at us.posthog.com.\n  - Pages hold 100 rows.\n"
    )
    entry.chmod(0o600)
    write_policy(home, "acme", "workspace: acme\nservices:\n  posthog:\n    rules: [allow: GET /x]\n")
    write(row := decision(service="posthog"), outcome(row, status=401, reason="key_rejected"))

    rejected, hint = provider.check(look())

    assert (rejected.result, hint.check) == (Result.FAILURE, "region")
    assert hint.text == "A key of the EU region is unknown at us.posthog.com."


def test_an_answer_to_an_earlier_value_says_nothing_of_the_present_one(look: Look, write: Write) -> None:
    row = decision()
    write(row, outcome(row, status=401, reason="key_rejected"), event("key_rotated", service="calendly", key="acme-calendly"))
    assert only(provider.check(look())).result is Result.SKIPPED


# Limits, distrust, the record


def test_a_silence_that_a_service_asked_for_stops_the_proof_until_it_ends(look: Look, state: StateStore) -> None:
    state.cool_down("acme", "calendly", NOW.timestamp() + 90)

    assert only(limits.check(look())).text == "calendly of acme asked for silence until 00:01:30 UTC (90 s)"
    assert only(limits.check(look(now=NOW + timedelta(seconds=90)))).result is Result.OK
    assert only(limits.check(look(workspace="globex"))).result is Result.OK


def test_a_limit_of_the_policys_own_that_is_used_up_stops_the_proof_until_it_frees(
    look: Look, home: Home, state: StateStore
) -> None:
    write_policy(home, "acme", f"{POLICY.rstrip()}\n    limits: {{requests: 2/min}}\n")
    limit, now = RequestLimit(2, 60), NOW.timestamp()
    assert state.take("acme", "calendly", limit, now) is None
    assert only(limits.check(look())).result is Result.OK
    assert state.take("acme", "calendly", limit, now + 10) is None

    found = only(limits.check(look(now=NOW + timedelta(seconds=20))))

    assert (found.result, found.text) == (Result.FAILURE, "calendly of acme: the policy's limit is used up for another 40 s")
    assert only(limits.check(look(now=NOW + timedelta(seconds=61)))).result is Result.OK
    assert state.take("acme", "calendly", limit, now + 61) is None, "looking counts nothing"


def test_agents_that_distrust_the_authority_are_named_with_the_host(look: Look, write: Write) -> None:
    shown = event("ca_distrusted", agent="claude", host="api.calendly.com", detail="tlsv1 alert unknown ca")
    write(shown, event("ca_distrusted", agent="claude", host="outloop.internal"))
    at = datetime.fromisoformat(shown.at)

    found = only(distrusts.check(look(now=at + timedelta(hours=1))))
    later = only(distrusts.check(look(now=at + timedelta(days=2))))

    assert (found.result, later.result) == (Result.WARNING, Result.OK)
    assert found.text.startswith("the agent claude of acme did not trust the certificate for api.calendly.com")


def test_a_record_that_was_edited_stops_the_proof(look: Look, home: Home, write: Write) -> None:
    write(row := decision(), outcome(row))
    assert only(record.check(look())).result is Result.OK

    audit = home.audit_db
    audit.with_name("audit.head").write_bytes(b"")
    assert only(record.check(look())).result is Result.FAILURE


# The shell


@pytest.mark.parametrize(
    ("entry", "host", "goes"),
    [
        pytest.param("*", "api.calendly.com", True, id="star"),
        pytest.param("api.calendly.com", "api.calendly.com", True, id="the-name"),
        pytest.param("API.Calendly.com.", "api.calendly.com", True, id="case-and-dot"),
        pytest.param("calendly.com", "api.calendly.com", True, id="a-suffix"),
        pytest.param(".calendly.com", "api.calendly.com", True, id="a-dotted-suffix"),
        pytest.param("*.calendly.com", "api.calendly.com", True, id="a-star-suffix"),
        pytest.param("com", "api.calendly.com", True, id="a-top-level-domain"),
        pytest.param("calendly.com:443", "api.calendly.com", True, id="with-a-port"),
        pytest.param("endly.com", "api.calendly.com", False, id="half-a-label"),
        pytest.param("www.calendly.com", "api.calendly.com", False, id="a-sibling"),
        pytest.param("localhost", "api.calendly.com", False, id="this-machine"),
        pytest.param(".", "api.calendly.com", False, id="a-dot"),
        pytest.param("10.0.0.0/8", "10.1.2.3", True, id="a-range"),
        pytest.param("10.0.0.0/8", "api.calendly.com", False, id="a-range-and-a-name"),
        pytest.param("[2001:db8::1]", "2001:db8::1", True, id="an-address-in-brackets"),
    ],
)
def test_an_entry_of_no_proxy_counts_as_soon_as_some_program_follows_it(entry: str, host: str, goes: bool) -> None:
    assert bypass.goes_around(entry, host) is goes


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        pytest.param({}, Result.OK, id="none"),
        pytest.param({"no_proxy": "localhost, 127.0.0.1,::1"}, Result.OK, id="this-machine"),
        pytest.param({"NO_PROXY": "localhost,.calendly.com"}, Result.FAILURE, id="a-bridged-host"),
        pytest.param({"no_proxy": "internal"}, Result.FAILURE, id="the-proxys-own-page"),
    ],
)
def test_no_proxy_may_not_cover_a_bridged_host(look: Look, changes: dict[str, str], result: Result) -> None:
    assert {each.result for each in bypass.check(look(environ=VARIABLES | changes))} == {result}


@pytest.mark.parametrize(
    ("changes", "removed", "text"),
    [
        pytest.param({}, ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), "no proxy variable is set", id="no-proxy"),
        pytest.param({}, ("http_proxy",), "http_proxy not set", id="no-lower-case"),
        pytest.param({"https_proxy": "http://localhost:8080"}, (), "HTTPS_PROXY and https_proxy differ", id="they-differ"),
        pytest.param(
            dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://u:FAKE-secret@corp.example:3128"),
            (),
            "name corp.example:3128, where no proxy of this home",
            id="another-proxy",
        ),
        pytest.param({"https_proxy": "http://127.0.0.1:x"}, (), "name 127.0.0.1:?", id="no-port"),
        pytest.param({}, ("SSL_CERT_FILE",), "will not trust the proxy: SSL_CERT_FILE", id="no-bundle"),
        pytest.param({"SSL_CERT_DIR": "/certs"}, (), "SSL_CERT_DIR is set", id="a-folder"),
        pytest.param({"npm_config_proxy": PROXY}, (), "npm_config_proxy sends some programs another way", id="another-way"),
    ],
)
def test_a_shell_that_is_half_set_up_is_warned_of(
    look: Look, changes: dict[str, str], removed: tuple[str, ...], text: str
) -> None:
    environ = {name: value for name, value in (VARIABLES | changes).items() if name not in removed}

    found = list(shell.check(look(environ=environ)))

    assert [(each.result, text in each.text) for each in found] == [(Result.WARNING, True)], found
    assert "FAKE-secret" not in str(found)


@pytest.mark.parametrize("url", [PROXY, "127.0.0.1:8080", "http://localhost:8080/", "http://acme:FAKE-token@[::1]:8080"])
def test_a_shell_that_is_set_up_is_well(look: Look, url: str) -> None:
    proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), url)
    assert only(shell.check(look(environ=VARIABLES | proxies))).result is Result.OK


# The clients: what is read off them (that they do so is seen in tests/e2e/test_doctor.py)


def test_a_client_that_hangs_is_ended_with_all_that_it_started(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PROBE_LIMIT_S", 0.2)
    hanging = Client("hanging", ("sh",), ("-c", "sleep 600 & wait"), lambda *_: Outcome.ANSWERED, "X")
    found = only(clients._check(hanging, look()))
    assert (found.result, "no answer within" in found.text) == (Result.WARNING, True)


def test_what_a_client_prints_is_never_shown(look: Look) -> None:
    telling = Client("telling", ("sh",), ("-c", "echo FAKE-secret; echo FAKE-secret >&2; exit 9"), clients._read_curl, "X")
    assert "FAKE-secret" not in str(list(clients._check(telling, look())))


def test_a_client_that_is_not_installed_is_left_out(look: Look) -> None:
    missing = Client("missing", ("no-such-program",), (), clients._read_curl, "X")
    assert only(clients._check(missing, look())).result is Result.SKIPPED


# What could be reached


def test_what_an_agent_of_this_user_could_do_is_tried_and_nothing_is_changed(
    look: Look, home: Home, state: StateStore, write: Write
) -> None:
    add_key(home, state)
    write(decision())
    files = [home.audit_db, home.state_db, home.policies / "acme.yaml", home.ca / "mitmproxy-ca.pem"]
    before = [path.read_bytes() for path in files]

    found = only(reach.check(look()))

    assert found.result is Result.WARNING
    for said in ("read acme-calendly from the keychain", "read the authority's private key", "change the record"):
        assert said in found.text
    assert str(home.root) in found.fix
    assert TOKEN not in str(found)
    assert [path.read_bytes() for path in files] == before


def test_what_is_out_of_reach_is_said_too(look: Look, home: Home) -> None:
    (home.ca / "mitmproxy-ca.pem").unlink()
    found = only(reach.check(look()))
    assert "it could not read the authority's private key" in found.text


# The examination


def test_findings_come_in_the_order_of_the_table_whichever_check_ends_first(look: Look) -> None:
    second_is_done = threading.Event()

    def first(_: Premises) -> list[Finding]:
        assert second_is_done.wait(30)
        return [ok("first", "")]

    def second(_: Premises) -> list[Finding]:
        second_is_done.set()
        return [ok("second", "")]

    found = examine(look(), [("first", first), ("second", second)])
    assert [each.check for each in found] == ["first", "second"]


@pytest.mark.parametrize("error", [UsageError("broken", "mend it"), NoError("no", "mend it"), KeyLocked("locked", "mend it")])
def test_a_check_that_fails_is_a_failure_in_its_words(look: Look, error: Exception) -> None:
    def broken(_: Premises) -> list[Finding]:
        raise error

    (found,) = examine(look(), [("broken", broken)])
    assert (found.result, found.text, found.fix) == (Result.FAILURE, error.args[0], "mend it")
    assert stops_the_proof([found]) == (found,)


def test_a_bug_in_a_check_is_not_hidden(look: Look) -> None:
    def buggy(_: Premises) -> list[Finding]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        examine(look(), [("buggy", buggy)])


def test_every_check_of_the_table_has_a_name_of_its_own() -> None:
    names = [name for name, _ in CHECKS]
    assert len(set(names)) == len(names)


# The proxy


def test_another_program_on_the_port_is_told_from_nothing_there(look: Look) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        listener = Listener("127.0.0.1", server.server_port, is_found=False)
        another = only(proxy.check(look(listener=listener)))
        server.shutdown()
        thread.join(5)
    nothing = only(proxy.check(look(listener=listener)))

    assert another.text == f"another program answers on 127.0.0.1:{listener.port}"
    assert (nothing.result, nothing.fix) == (Result.FAILURE, f"outloop up --port {listener.port}")
