"""The variables that an agent's programs get, and that shells and programs read them as meant."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outloop.operator.environment import AgentEnvironment, agent_environment, proxy_url

URL = "http://127.0.0.1:8080"
BUNDLE = Path("/home/op/.outloop/ca/bundle.pem")


def made(preset: Mapping[str, str] | None = None, bridged: tuple[str, ...] = ("api.calendly.com",)) -> AgentEnvironment:
    return agent_environment(URL, BUNDLE, preset or {}, bridged)


def test_every_program_of_the_list_is_told_of_the_proxy_and_of_the_bundle() -> None:
    assert made().variables == {
        **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), URL),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), ""),
        **dict.fromkeys(
            ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"), str(BUNDLE)
        ),
        **dict.fromkeys(("GIT_SSL_CAINFO", "DENO_CERT", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE"), str(BUNDLE)),
        "NODE_USE_ENV_PROXY": "1",
    }
    assert made().removed == ()


@pytest.mark.parametrize(
    ("preset", "kept"),
    [
        pytest.param("*", "", id="everything"),
        pytest.param("api.calendly.com", "", id="a-bridged-host"),
        pytest.param(".calendly.com", "", id="a-suffix-of-a-bridged-host"),
        pytest.param("com", "", id="a-top-level-domain"),
        pytest.param("example.com,10.0.0.0/8,169.254.169.254", "", id="other-hosts-and-networks"),
        pytest.param("127.0.0.0/8", "", id="a-network"),
        pytest.param("localhost", "localhost", id="localhost"),
        pytest.param("localhost, 127.0.0.1 ,::1", "localhost,127.0.0.1,::1", id="loopback-in-three-spellings"),
        pytest.param("[::1]", "[::1]", id="loopback-in-brackets"),
        pytest.param("localhost.example.com,127.0.0.1.nip.io", "", id="names-that-only-look-local"),
        pytest.param("localhost:3000", "", id="with-a-port"),
        pytest.param("*.localhost", "", id="with-a-wildcard"),
        pytest.param(",, ,", "", id="nothing-at-all"),
    ],
)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_only_this_machines_own_names_may_go_around_the_proxy(variable: str, preset: str, kept: str) -> None:
    variables = made({variable: preset}).variables
    assert (variables["NO_PROXY"], variables["no_proxy"]) == (kept, kept)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_bridged_host_of_this_machine_does_not_go_around_either(host: str) -> None:
    assert made({"NO_PROXY": "localhost,LOCALHOST,127.0.0.1,::1,[::1]"}, (host,)).variables["NO_PROXY"].lower().count(host) == 0


def test_a_preset_folder_of_certificates_is_taken_away_and_so_are_other_ways_out() -> None:
    preset = {"SSL_CERT_DIR": "/etc/ssl/certs", "socks_proxy": "socks5://10.0.0.1", "npm_config_noproxy": "*", "HOME": "/root"}
    assert set(made(preset).removed) == {"SSL_CERT_DIR", "socks_proxy", "npm_config_noproxy"}


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        pytest.param(("127.0.0.1", 8080), "http://127.0.0.1:8080", id="no-token"),
        pytest.param(("127.0.0.1", 8080, "acme", "t0k-en_"), "http://acme:t0k-en_@127.0.0.1:8080", id="token"),
        pytest.param(
            ("127.0.0.1", 8080, "acme", "a/b@c:d"), "http://acme:a%2Fb%40c%3Ad@127.0.0.1:8080", id="token-with-odd-characters"
        ),
        pytest.param(("::1", 8080), "http://[::1]:8080", id="ipv6"),
    ],
)
def test_the_proxys_url(arguments: tuple[str, int], url: str) -> None:
    assert proxy_url(*arguments) == url


@pytest.mark.parametrize("shell", ["sh", "bash"])
@given(folder=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30))
def test_a_shell_reads_each_value_exactly_as_it_is(shell: str, folder: str) -> None:
    environment = agent_environment(URL, Path(f"/home/{folder}/bundle.pem"), {"SSL_CERT_DIR": "x"}, ())
    names = [*environment.variables, *environment.removed]
    script = "\n".join([*environment.shell_lines(), *(f'printf "%s\\0" "${{{name}-gone}}"' for name in names)])
    done = subprocess.run([shell], input=script.encode(), capture_output=True, env={"SSL_CERT_DIR": "x"}, check=True)
    assert done.stdout.decode().split("\0")[:-1] == [*environment.variables.values(), "gone"]


def test_lines_are_plain_exports_and_unsets() -> None:
    lines = list(made({"SSL_CERT_DIR": "/etc/ssl/certs"}).shell_lines())
    assert all(len(shlex.split(line)) == 2 for line in lines)
    assert lines[-1] == "unset SSL_CERT_DIR"
    assert {line.split(" ")[0] for line in lines[:-1]} == {"export"}


def test_a_real_curl_goes_through_the_proxy_whatever_was_preset(tmp_path: Path) -> None:
    preset = {
        "PATH": os.environ["PATH"],
        "NO_PROXY": "*",
        "no_proxy": "localhost,api.calendly.com",
        "ALL_PROXY": "socks5://10.0.0.1",
    }
    environment = agent_environment("http://127.0.0.1:1", tmp_path / "bundle.pem", preset, ("api.calendly.com",))
    for url in ("https://api.calendly.com/", "http://api.calendly.com/", "ftp://api.calendly.com/"):
        done = subprocess.run(
            ["curl", "-q", "-sS", "-v", url], env={**preset, **environment.variables}, capture_output=True, text=True, check=False
        )
        assert "127.0.0.1 port 1" in done.stderr.replace("127.0.0.1:1", "127.0.0.1 port 1"), done.stderr
        assert done.returncode == 7, "nothing listens there, and nothing else was tried"
