"""`outloop env`."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from harness.calendly import HOST, USER, Calendly
from harness.operators import PATIENCE_S, Operator
from harness.proxy import Proxy, free_port, running_proxy
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder


def exported(lines: str) -> dict[str, str]:
    """What a shell has after it evaluated *lines*."""
    done = subprocess.run(["env", "-i", "sh", "-c", f"{lines}\nenv"], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@pytest.fixture
def port() -> str:
    return str(free_port())


def test_the_only_workspace_needs_no_token(outloop: Callable[..., tuple[int, str, str]], home: Path, port: str) -> None:
    outloop("workspace", "add", "acme", "--service", "calendly")
    code, out, err = outloop("env", "-w", "acme", "--port", port)
    assert code == 0
    variables = exported(out)
    assert variables["HTTPS_PROXY"] == variables["http_proxy"] == f"http://127.0.0.1:{port}"
    assert variables["CURL_CA_BUNDLE"] == str(home / "ca" / "bundle.pem")
    assert Path(variables["SSL_CERT_FILE"]).exists()
    assert err == f"outloop: hint: no running proxy found; start it: outloop up --port {port}\n"
    assert outloop("agent", "list", "--json")[1] == "[]\n"


def test_one_of_several_gets_an_agent_of_its_own_and_says_so(outloop: Callable[..., tuple[int, str, str]], port: str) -> None:
    outloop("workspace", "add", "acme", "--service", "calendly")
    outloop("workspace", "add", "globex")
    code, out, err = outloop("env", "-w", "globex", "--port", port)
    assert code == 0
    url = urlsplit(exported(out)["HTTPS_PROXY"])
    assert url.username == "globex"
    assert len(url.password or "") >= 43, "256 bits"
    (agent,) = json.loads(outloop("agent", "list", "--json")[1])
    assert agent["workspace"] == "globex"
    assert f"made the agent `{agent['agent']}`" in err
    assert (url.password or "") not in err


def test_json_is_one_object_with_null_for_what_is_taken_away(
    outloop: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    outloop("workspace", "add", "acme")
    monkeypatch.setenv("SSL_CERT_DIR", "/etc/ssl/certs")
    monkeypatch.setenv("NO_PROXY", "api.calendly.com,localhost")
    variables = json.loads(outloop("env", "-w", "acme", "--port", port, "--json")[1])
    assert variables["SSL_CERT_DIR"] is None
    assert variables["NO_PROXY"] == "localhost"
    assert variables["NODE_USE_ENV_PROXY"] == "1"


def test_an_exception_that_covers_a_bridged_host_of_this_machine_is_dropped(
    outloop: Callable[..., tuple[int, str, str]], home: Path, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    outloop("init")
    policy = home / "policies" / "acme.yaml"
    policy.write_text(
        "workspace: acme\nservices:\n  local:\n    hosts: [localhost]\n    auth: {type: bearer}\n    rules: [allow: GET /]\n"
    )
    policy.chmod(0o600)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    assert json.loads(outloop("env", "-w", "acme", "--port", port, "--json")[1])["NO_PROXY"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("workspace", "error", "hint"),
    [
        pytest.param("acmee", "there is no workspace 'acmee'", "did you mean `acme`?", id="mistyped"),
        pytest.param("zzz", "there is no workspace 'zzz'", "outloop workspace add zzz", id="unknown"),
    ],
)
def test_an_unknown_workspace_gets_nothing(
    outloop: Callable[..., tuple[int, str, str]], workspace: str, error: str, hint: str, port: str
) -> None:
    outloop("workspace", "add", "acme")
    assert outloop("env", "-w", workspace, "--port", port) == (2, "", f"outloop: error: {error}\noutloop: hint: {hint}\n")
    assert outloop("agent", "list", "--json")[1] == "[]\n"


def test_a_second_shell_in_the_first_keeps_what_was_preset(
    outloop: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    outloop("workspace", "add", "acme")
    first = outloop("env", "-w", "acme", "--port", port)
    for name, value in exported(first[1]).items():
        if name.isupper() and "CERT" in name:
            monkeypatch.setenv(name, value)
    assert outloop("env", "-w", "acme", "--port", port) == first


TOKEN = "cal_pat_FAKE_0123456789abcdefghijklmnop"
URL = f"https://{HOST}/users/me"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, authority: Authority, upstream_ca: Path) -> Iterator[Proxy]:
    operator = Operator(tmp_path_factory.mktemp("operator"))
    operator.outloop("workspace", "add", "acme", "--service", "calendly")
    operator.add_key("calendly", "acme", TOKEN)
    with (
        Recorder(authority.server_context(HOST), Calendly(TOKEN)) as upstream,
        running_proxy(operator, {HOST: upstream.port}, upstream_ca=upstream_ca) as proxy,
    ):
        yield proxy


AIOHTTP = """
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session, session.get(URL) as answer:
        print(await answer.text())
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["curl", "-q", "-sS", URL], id="curl"),
        pytest.param(
            [sys.executable, "-c", f"import urllib.request as u; print(u.urlopen('{URL}').read().decode())"], id="urllib"
        ),
        pytest.param([sys.executable, "-c", f"import requests; print(requests.get('{URL}').text)"], id="requests"),
        pytest.param([sys.executable, "-c", f"import httpx; print(httpx.get('{URL}').text)"], id="httpx"),
        pytest.param([sys.executable, "-c", AIOHTTP.replace("URL", f"'{URL}'")], id="aiohttp"),
    ],
)
@pytest.mark.parametrize(
    "preset",
    [
        pytest.param({}, id="nothing-preset"),
        pytest.param(
            {"NO_PROXY": "*", "no_proxy": "calendly.com", "SSL_CERT_DIR": "/nowhere", "ALL_PROXY": "http://127.0.0.1:1"},
            id="traps-preset",
        ),
    ],
)
def test_a_program_needs_no_more_than_these_lines(proxy: Proxy, command: list[str], preset: dict[str, str]) -> None:
    shell = f'eval "$({shlex.quote(sys.executable)} -m outloop env -w acme --port {proxy.port})" && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *command],
        env=proxy.operator.variables | preset,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resource"]["uri"] == USER
