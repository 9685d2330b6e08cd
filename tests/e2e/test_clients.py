"""Real clients, each told nothing but what `outloop env -w acme` prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.operators import PATIENCE_S, Operator
from harness.partners import needs, needs_node_package
from harness.stage import HOST, MARK, TOKEN, Stage, running_stage, store_keys
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.journal import RecordedRequest
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import Reply, json_reply, reply

POLICY = f"""\
workspace: acme
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - allow: GET,POST /**
      - deny: GET /private/**
      - deny: POST /**/git-receive-pack
"""
URL = f"https://{HOST}/users/me?a=b"
REFUSED = f"https://{HOST}/private/x"


@pytest.fixture(scope="module")
def bridged(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    module_operator.write_policy("acme", POLICY)
    store_keys(module_operator, {"example": TOKEN})
    with (
        Recorder(
            authority.server_context(HOST), lambda request: json_reply({"you_sent": str(request.header("authorization"))})
        ) as upstream,
        running_stage(module_operator, upstream, [HOST], upstream_ca=upstream_ca) as stage,
    ):
        yield stage


@pytest.fixture
def stage(bridged: Stage) -> Stage:
    return bridged.view()


@pytest.fixture(scope="module")
def exports(bridged: Stage) -> str:
    """What a person pastes into the agent's shell."""
    return bridged.operator.outloop("env", "-w", "acme")


def run(exports: str, *command: str, folder: Path, **preset: str) -> subprocess.CompletedProcess[str]:
    """Run *command* in a shell that has evaluated *exports*, and nothing else of ours."""
    script = 'eval "$1"; shift; exec "$@"'
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **preset}
    return subprocess.run(
        ["sh", "-c", script, "sh", exports, *command],
        env=environ, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


PYTHON = {
    "requests": """
import requests, sys
answer = requests.get(sys.argv[1], headers={"Authorization": "Bearer mine"})
print(answer.status_code, answer.text)
""",
    "httpx": """
import httpx, sys
answer = httpx.get(sys.argv[1], headers={"Authorization": "Bearer mine"})
print(answer.status_code, answer.text)
""",
    "httpx-http2": """
import httpx, sys
with httpx.Client(http2=True) as client:
    answer = client.get(sys.argv[1], headers={"Authorization": "Bearer mine"})
print(answer.status_code, answer.text)
""",
    "aiohttp": """
import aiohttp, asyncio, sys
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get(sys.argv[1], headers={"Authorization": "Bearer mine"}) as answer:
            print(answer.status, await answer.text())
asyncio.run(main())
""",
    "urllib": """
import sys, urllib.request, urllib.error
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer mine"})
try:
    answer = urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
""",
}
NODE = {
    "undici": """
const { EnvHttpProxyAgent, fetch } = require("undici");
fetch(process.argv[1], { dispatcher: new EnvHttpProxyAgent(), headers: { Authorization: "Bearer mine" } })
  .then(async (answer) => console.log(answer.status, await answer.text()));
""",
    "axios": """
const axios = require("axios");
const options = { headers: { Authorization: "Bearer mine" }, validateStatus: () => true, transformResponse: (text) => text };
axios.get(process.argv[1], options)
  .then((answer) => console.log(answer.status, answer.data));
""",
}


def command_of(client: str, url: str) -> tuple[list[str], dict[str, str]]:
    """Return what runs *client*, and what its language needs to find it. Skips the test where it is not installed."""
    match client:
        case "curl" | "curl-http2":
            options = ["--http2"] if client == "curl-http2" else []
            return [needs("curl"), "-q", "-sS", *options, "-w", "\n%{http_code}", "-H", "Authorization: Bearer mine", url], {}
        case "wget":
            options = ["-q", "-S", "-O", "-", "--content-on-error", "--header", "Authorization: Bearer mine"]
            return [needs("wget"), *options, url], {}
        case "undici" | "axios":
            return [needs("node", "nodejs"), "-e", NODE[client], url], {"NODE_PATH": str(needs_node_package(client))}
        case _:
            return [sys.executable, "-c", PYTHON[client], url], {}


@pytest.mark.parametrize("client", ["curl", "curl-http2", "wget", *PYTHON, *NODE])
def test_a_client_is_bridged_by_its_environment_alone(stage: Stage, exports: str, client: str, tmp_path: Path) -> None:
    command, preset = command_of(client, URL)

    done = run(exports, *command, folder=tmp_path, **preset)

    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    assert "200" in shown
    assert f"Bearer {MARK}" in done.stdout
    assert TOKEN not in shown
    [sent] = stage.wait_for(1)
    assert (sent.target, sent.all("authorization")) == ("/users/me?a=b", [f"Bearer {TOKEN}".encode()])


@pytest.mark.parametrize("client", ["curl", "curl-http2", "wget", *PYTHON, *NODE])
def test_a_client_can_read_why_it_was_refused(stage: Stage, exports: str, client: str, tmp_path: Path) -> None:
    command, preset = command_of(client, REFUSED)

    done = run(exports, *command, folder=tmp_path, **preset)

    shown = done.stdout + done.stderr
    assert "403" in shown
    assert '"reason": "denied_by_rule"' in shown
    assert stage.arrived == []


@pytest.mark.parametrize("client", ["curl", "requests", "httpx"])
def test_traps_that_were_preset_do_not_lead_around_the_proxy(stage: Stage, client: str, tmp_path: Path) -> None:
    traps = {
        "NO_PROXY": "*,.example.com,localhost",
        "no_proxy": "*",
        "SSL_CERT_DIR": "/nowhere",
        "ALL_PROXY": "socks5://127.0.0.1:1",
    }
    preset = {**stage.operator.variables, **traps}
    command = [str(stage.operator.python), "-m", "outloop", "env", "-w", "acme"]
    exports = subprocess.run(command, env=preset, capture_output=True, text=True, check=True).stdout
    command, more = command_of(client, URL)

    done = run(exports, *command, folder=tmp_path, **traps, **more)

    assert done.returncode == 0, done
    assert len(stage.wait_for(1)) == 1


def git(*arguments: str, folder: Path) -> None:
    identity = [
        "-c",
        "user.name=Ada",
        "-c",
        "user.email=ada@example.com",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "commit.gpgsign=false",
    ]
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    subprocess.run([needs("git"), *identity, *arguments], cwd=folder, env=environ, capture_output=True, check=True)


@pytest.fixture
def repository(stage: Stage, tmp_path: Path) -> Path:
    """A repository that the upstream serves as plain files (git's dumb protocol), to whoever shows the key."""
    work = tmp_path / "work"
    work.mkdir()
    git("init", folder=work)
    (work / "README").write_text("a clone through the bridge\n")
    (work / "large").write_bytes(os.urandom(300_000))
    git("add", ".", folder=work)
    git("commit", "-m", "first", folder=work)
    git("clone", "--bare", "work", "bare.git", folder=tmp_path)
    bare = tmp_path / "bare.git"
    git("update-server-info", folder=bare)

    def serve(request: RecordedRequest) -> Reply:
        if request.header("authorization") != f"Bearer {TOKEN}".encode():
            return reply(status=401, headers=[("WWW-Authenticate", 'Basic realm="git"')])
        wanted = bare / request.path.removeprefix("/ada/bare.git/")
        return reply(wanted.read_bytes()) if wanted.is_file() else reply(status=404)

    for path in [
        "HEAD",
        "objects/info/packs",
        "objects/info/alternates",
        "objects/info/http-alternates",
        "info/refs",
        "packed-refs",
    ]:
        stage.upstream.on(f"GET /ada/bare.git/{path}", serve)
    for found in bare.rglob("*"):
        stage.upstream.on(f"GET /ada/bare.git/{found.relative_to(bare)}", serve)
    return work


def test_git_clones_over_the_bridge(stage: Stage, exports: str, repository: Path, tmp_path: Path) -> None:
    done = run(exports, needs("git"), "clone", f"https://{HOST}/ada/bare.git", "cloned", folder=tmp_path, GIT_TERMINAL_PROMPT="0")

    assert done.returncode == 0, done.stderr
    for name in ("README", "large"):
        assert (tmp_path / "cloned" / name).read_bytes() == (repository / name).read_bytes()
    assert stage.arrived


def test_git_that_is_asked_for_a_proxy_token_gives_it(
    tmp_path: Path, authority: Authority, upstream_ca: Path, operator: Operator
) -> None:
    needs("git")
    operator.write_policy("acme", POLICY)
    operator.write_policy("globex", "workspace: globex\n")
    store_keys(operator, {"example": TOKEN})
    refs = reply(b"", headers=[("Content-Type", "text/plain")])
    with (
        Recorder(authority.server_context(HOST)) as upstream,
        running_stage(operator, upstream, [HOST], upstream_ca=upstream_ca) as stage,
    ):
        upstream.on("GET /ada/empty.git/info/refs", refs)
        upstream.on("GET /ada/empty.git/HEAD", reply(b"ref: refs/heads/main\n"))
        exports = operator.outloop("env", "-w", "acme")
        done = run(exports, "git", "ls-remote", f"https://{HOST}/ada/empty.git", folder=tmp_path, GIT_TERMINAL_PROMPT="0")
        events = stage.wait_for_event("challenge")
        rows = stage.operator.rows()

    assert done.returncode == 0, done.stderr
    assert upstream.requests
    assert any(event["host"] == HOST for event in events)
    assert all(row["reason"] == "OK" for row in rows)
    assert json.dumps(rows).count(TOKEN) == 0
