"""`outloop doctor` and `status` with a real proxy, real clients, and each fault for real."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.calendly import HOST, Calendly
from harness.operators import PATIENCE_S, Operator
from harness.proxy import Proxy, curl, free_port, running_proxy
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.store.state import StateStore

TOKEN = "cal_pat_FAKE_0123456789abcdefghijklmnop"
CLIENTS = [name for name in ("curl", "git", "node") if shutil.which(name)] + ["python"]

UNKNOWN = "the proxy does not know the token in this shell's proxy variables"

Finding = dict[str, str | None]


@dataclass(frozen=True)
class Scene:
    """An operator with the workspace acme, its proxy, Calendly behind it, and a shell that was set up by `outloop env`."""

    operator: Operator
    proxy: Proxy
    calendly: Calendly
    shell: Mapping[str, str]

    def doctor(self, *arguments: str, **changes: str) -> tuple[int, list[Finding], str]:
        """Run doctor in the shell with *changes* (an empty one takes a variable away); exit code, findings, and stderr."""
        return examined(self.operator, {**self.shell, **changes}, *arguments)

    def call(self, *arguments: str, **changes: str) -> None:
        """Make the safe proof's call as an agent of this shell would."""
        curl(f"https://{HOST}/users/me", *arguments, environ={**self.operator.variables, **self.shell, **changes})


def examined(operator: Operator, shell: Mapping[str, str], *arguments: str) -> tuple[int, list[Finding], str]:
    environ = {name: value for name, value in shell.items() if value}
    done = replace(operator, environ=environ).run("doctor", "--json", *arguments)
    assert "FAKE" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def of(findings: list[Finding], check: str) -> list[tuple[str | None, str | None]]:
    return [(each["result"], each["finding"]) for each in findings if each["check"] == check]


def failures(findings: list[Finding]) -> set[str | None]:
    return {each["check"] for each in findings if each["result"] == "failure"}


@contextmanager
def scene_of(operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Scene]:
    operator.outloop("init")
    operator.outloop("workspace", "add", "acme", "--service", "calendly")
    operator.add_key("calendly", "acme", TOKEN)
    calendly = Calendly(TOKEN)
    with (
        Recorder(authority.server_context(HOST), calendly) as upstream,
        running_proxy(operator, {HOST: upstream.port}, upstream_ca=upstream_ca) as proxy,
    ):
        state = StateStore(operator.home / "state.db")
        end = time.monotonic() + PATIENCE_S
        while not state.proxies():  # it says so a moment after it listens
            assert time.monotonic() < end, proxy.log
            time.sleep(0.02)
        state.close()
        shell = {name: value or "" for name, value in json.loads(operator.outloop("env", "-w", "acme", "--json")).items()}
        yield Scene(operator, proxy, calendly, shell)


@pytest.fixture(scope="module")
def scene(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Scene]:
    with scene_of(module_operator, authority, upstream_ca) as made:
        yield made


def test_a_healthy_home_passes_and_every_client_is_really_tried(scene: Scene) -> None:
    scene.operator.outloop("proof", "calendly", "-w", "acme")
    rows = scene.operator.rows()

    code, findings, err = scene.doctor()

    assert (code, failures(findings), err) == (0, set(), "")
    for check in ("proxy", "authority", "clock", "policy", "hosts", "keys", "provider", "limits", "shell", "bypass", "record"):
        assert of(findings, check)[0][0] == "ok", of(findings, check)
    for client in CLIENTS:
        assert of(findings, client)[0] == ("ok", f"{client} trusts the proxy")
    assert scene.operator.rows() == rows, "a check-up leaves no row"


def test_what_a_proof_proved_is_claimed_until_the_policy_changes(scene: Scene) -> None:
    audit_id = scene.operator.outloop("proof", "calendly", "-w", "acme").split()[-1]

    def read_claim() -> dict[str, object]:
        found = json.loads(scene.operator.outloop("status", "--json"))
        (claim,) = [each for each in found["claims"] if each["access"] == "read"]
        assert isinstance(claim, dict)
        return {**claim, "summary": found["summary"]}

    before = read_claim()
    assert (before["claim"], before["audit_id"]) == ("verified", audit_id)
    assert before["summary"] == "proved: acme calendly read; not proved: acme calendly write"

    policy = scene.operator.home / "policies" / "acme.yaml"
    text = policy.read_text()
    policy.write_text(text + "      - allow: POST /shares\n")
    try:
        assert read_claim()["why"] == "the policy was changed since the last proof"
        end = time.monotonic() + PATIENCE_S
        while scene.operator.rows("claims")[0]["claim"] != "not claimed":  # the view knows once a proxy has loaded it
            assert time.monotonic() < end, scene.proxy.log
            time.sleep(0.05)
    finally:
        policy.write_text(text)


def test_status_shows_the_listener_that_answers_and_the_policy_that_it_has(scene: Scene) -> None:
    found = json.loads(scene.operator.outloop("status", "-w", "acme", "--json"))
    assert [(row["listener"], row["answers"]) for row in found["listeners"]] == [(f"127.0.0.1:{scene.proxy.port}", "yes")]
    assert [(row["workspace"], row["problem"]) for row in found["policies"]] == [("acme", None)]
    assert [(row["key"], row["runtime_access"]) for row in found["keys"]] == [("acme-calendly", "on")]


def test_a_wrong_authority_in_the_environment_is_found_by_each_client_for_itself(scene: Scene, tmp_path: Path) -> None:
    wrong = str(Authority().write_bundle(tmp_path))
    variables = {name: wrong for name, value in scene.shell.items() if value.endswith(".pem")}

    code, findings, err = scene.doctor(**variables)

    assert code == 1
    assert failures(findings) >= set(CLIENTS)
    assert of(findings, "curl")[0][1] == (
        "curl does not trust the certificate authority: CURL_CA_BUNDLE names a file without this home's authority"
    )
    assert err.startswith("outloop: error: this would stop the proof: curl: ")
    assert err.endswith('outloop: hint: eval "$(outloop env -w acme)"\n')


def test_one_variable_that_is_missing_stops_the_one_client_that_reads_it(scene: Scene) -> None:
    code, findings, _ = scene.doctor(GIT_SSL_CAINFO="", SSL_CERT_FILE="")
    assert code == 1
    assert failures(findings) == {"git", "python"} & {*CLIENTS}
    assert "will not trust the proxy: SSL_CERT_FILE, GIT_SSL_CAINFO" in str(of(findings, "shell"))


def test_a_token_that_is_not_known_is_found_and_not_shown(scene: Scene) -> None:
    url = f"http://acme:FAKE-token-of-nobody@127.0.0.1:{scene.proxy.port}"
    code, findings, _ = scene.doctor(**{name: url for name, value in scene.shell.items() if value.startswith("http://")})
    assert code == 1
    # git asks without the token first, and this proxy has one workspace: it needs none.
    assert {of(findings, client)[0][1] for client in CLIENTS if client != "git"} == {UNKNOWN}


def test_a_no_proxy_trap_stops_the_proof_and_does_not_blame_the_clients(scene: Scene) -> None:
    code, findings, _ = scene.doctor(NO_PROXY="localhost,.calendly.com")
    assert (code, failures(findings)) == (1, {"bypass"})


def test_a_shell_that_was_not_set_up_is_no_hindrance_to_the_operators_own_proof(scene: Scene) -> None:
    code, findings, _ = examined(scene.operator, {})
    assert (code, failures(findings)) == (0, set())
    assert of(findings, "shell")[0][0] == "warning"
    assert {of(findings, client)[0][0] for client in CLIENTS} == {"skipped"}


def test_a_key_that_was_switched_off_is_found(scene: Scene) -> None:
    scene.operator.outloop("key", "disable", "calendly", "-w", "acme")
    try:
        code, findings, err = scene.doctor()
    finally:
        scene.operator.outloop("key", "enable", "calendly", "-w", "acme")
    assert (code, failures(findings)) == (1, {"keys"})
    assert "hint: outloop key enable acme-calendly -w acme" in err


def test_a_port_that_nothing_listens_on_is_found(scene: Scene) -> None:
    code, findings, err = scene.doctor("--port", str(free_port()))
    assert (code, failures(findings)) == (1, {"proxy"})
    assert "outloop: hint: outloop up --port" in err


def test_a_proxy_of_another_home_is_not_taken_for_this_ones(scene: Scene, operator: Operator) -> None:
    operator.outloop("init")
    operator.outloop("workspace", "add", "acme", "--service", "calendly")
    code, findings, _ = examined(operator, {}, "--port", str(scene.proxy.port))
    assert code == 1
    (found,) = of(findings, "proxy")
    assert found == ("failure", f"what answered on 127.0.0.1:{scene.proxy.port} does not hold this home's certificate authority")


def test_an_agent_that_distrusts_the_authority_is_named_with_the_host(scene: Scene, upstream_ca: Path) -> None:
    scene.call("--cacert", str(upstream_ca))
    end = time.monotonic() + PATIENCE_S
    while True:
        code, findings, _ = scene.doctor()
        (found,) = of(findings, "distrust")
        if found[0] == "warning":
            break
        assert time.monotonic() < end, found
    assert code == 0, "that agent's shell is not this one"
    assert f"of acme did not trust the certificate for {HOST}" in str(found[1])


def test_the_proxys_memory_is_tried(scene: Scene) -> None:
    assert "the proxy's memory" in str(of(scene.doctor()[1], "reach")[0][1])


# Each of these changes what the service answers: with a proxy of their own


@pytest.fixture
def own(operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Scene]:
    with scene_of(operator, authority, upstream_ca) as made:
        yield made


def test_a_silence_that_the_service_asked_for_and_then_a_proxy_that_is_gone_are_found(own: Scene) -> None:
    own.calendly.retry_after_s = 300
    own.call()
    own.operator.wait_for_rows(1)
    code, findings, _ = own.doctor()
    assert (code, failures(findings)) == (1, {"limits"})
    assert "calendly of acme asked for silence until" in str(of(findings, "limits"))

    own.proxy.stop()
    code, findings, err = own.doctor()
    assert (code, "proxy" in failures(findings)) == (1, True)
    assert "this would stop the proof: proxy: no proxy runs on 127.0.0.1:" in err


def test_a_shell_without_a_token_where_one_is_needed_is_found_by_every_client(own: Scene) -> None:
    own.operator.outloop("workspace", "add", "globex", "--service", "calendly")
    end = time.monotonic() + PATIENCE_S
    while curl("http://outloop.internal/", environ={**own.operator.variables, **own.shell}).status != 407:
        assert time.monotonic() < end, own.proxy.log

    code, findings, _ = own.doctor("-w", "acme")

    assert code == 1
    assert {of(findings, client)[0][1] for client in CLIENTS} == {UNKNOWN}
    assert of(findings, "hosts")[0][0] == "ok", "the other workspace is not looked at"
    assert of(own.doctor()[1], "hosts")[0][0] == "warning"


def test_401_and_403_are_told_apart(own: Scene) -> None:
    curl(f"https://{HOST}/organizations/BBBBBBBBBBBBBBBB/invitations", environ={**own.operator.variables, **own.shell})
    own.operator.wait_for_rows(1)
    code, findings, _ = own.doctor()
    assert (code, failures(findings)) == (0, set()), "the key is known: another call may pass"
    assert "knows the key but refuses GET /organizations" in str(of(findings, "provider")[0])

    own.operator.outloop(
        "key", "rotate", "calendly", "-w", "acme", "--stdin", stdin="cal_pat_FAKE_that_calendly_does_not_know_at_all"
    )
    assert of(own.doctor()[1], "provider")[0][0] == "skipped", "what was answered to the value before says nothing"
    own.call()
    own.operator.wait_for_rows(2)
    code, findings, err = own.doctor()
    assert (code, failures(findings)) == (1, {"provider"})
    assert "hint: outloop key rotate acme-calendly -w acme" in err
