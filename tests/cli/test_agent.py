"""`outloop agent`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from harness.operators import Operator
from outloop.store.home import Home
from outloop.store.state import StateStore

Run = Callable[..., tuple[int, str, str]]


def test_an_agent_gets_a_proxy_address_with_a_token_that_only_its_hash_is_kept_of(outloop: Run, home: Path) -> None:
    code, out, err = outloop("agent", "add", "reviewer", "-w", "acme")
    assert code == 0
    assert out.count("\n") == 1  # fit for HTTPS_PROXY=$(…)
    assert "shown this once" in err
    url = urlsplit(out.strip())
    assert (url.scheme, url.username, url.hostname, url.port) == ("http", "acme", "127.0.0.1", 8080)
    assert url.password is not None
    assert len(url.password) == 43  # 256 bits in base64
    state = StateStore(home / "state.db")
    (token_hash,) = state.snapshot().agents
    state.close()
    assert token_hash == hashlib.sha256(url.password.encode()).hexdigest()
    assert not any(url.password.encode() in file.read_bytes() for file in home.rglob("*") if file.is_file())


def test_two_agents_have_two_tokens_and_names_of_their_own(outloop: Run) -> None:
    added = [json.loads(outloop("agent", "add", "-w", "acme", "--json")[1]) for _ in range(3)]
    assert [agent["agent"] for agent in added] == ["agent-1", "agent-2", "agent-3"]
    assert len({agent["proxy_url"] for agent in added}) == 3


def test_the_address_is_the_running_proxys_or_the_given_ports(outloop: Run, home: Path) -> None:
    Home(home).ensure()
    state = StateStore(home / "state.db")
    state.register_proxy(os.getpid(), "127.0.0.1", 9191, "2026-01-01T00:00:00.000Z")
    state.close()
    assert urlsplit(outloop("agent", "add", "-w", "acme")[1].strip()).port == 9191
    assert urlsplit(outloop("agent", "add", "-w", "acme", "--port", "7070")[1].strip()).port == 7070


def test_a_revoked_agent_is_gone_from_the_list_and_its_name_is_free(outloop: Run, home: Path) -> None:
    outloop("agent", "add", "reviewer", "-w", "acme")
    outloop("agent", "add", "reviewer", "-w", "beta")
    assert outloop("agent", "revoke", "reviewer", "-w", "acme") == (0, "revoked the agent reviewer of workspace acme\n", "")
    assert [agent["workspace"] for agent in json.loads(outloop("agent", "list", "--json")[1])] == ["beta"]
    shown = json.loads(outloop("agent", "list", "--json", "--revoked", "-w", "acme")[1])
    assert [agent["revoked_at"] is not None for agent in shown] == [True]
    assert outloop("agent", "add", "reviewer", "-w", "acme")[0] == 0
    events = [(row["kind"], row["workspace"], row["agent"]) for row in Operator(home.parent).rows("events")]
    assert events == [
        ("agent_added", "acme", "reviewer"),
        ("agent_added", "beta", "reviewer"),
        ("agent_revoked", "acme", "reviewer"),
        ("agent_added", "acme", "reviewer"),
    ]


def test_a_list_never_shows_a_token_or_its_hash(outloop: Run) -> None:
    token = urlsplit(outloop("agent", "add", "-w", "acme")[1].strip()).password or ""
    for shown in (outloop("agent", "list")[1], outloop("agent", "list", "--json")[1]):
        assert "agent-1" in shown
        assert token not in shown
        assert hashlib.sha256(token.encode()).hexdigest() not in shown
    assert list(json.loads(outloop("agent", "list", "--json")[1])[0]) == ["workspace", "agent", "added_at", "revoked_at"]


def test_an_empty_list_says_how_to_begin(outloop: Run) -> None:
    assert outloop("agent", "list") == (0, "", "no agent yet: outloop agent add -w WS\n")
    assert outloop("agent", "list", "--json") == (0, "[]\n", "")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param(("add", "reviewer", "-w", "acme"), "already has an agent reviewer", id="twice"),
        pytest.param(("add", "Reviewer", "-w", "acme"), "cannot name an agent", id="upper-case"),
        pytest.param(("add", "a/b", "-w", "acme"), "cannot name an agent", id="slash"),
        pytest.param(("add", "агент", "-w", "acme"), "cannot name an agent", id="unicode"),
        pytest.param(("add", "x" * 200, "-w", "acme"), "cannot name an agent", id="long"),
        pytest.param(("add", "-w", "a:b@c"), "cannot name a workspace", id="workspace-of-a-url"),
        pytest.param(("add", "x"), "missing option", id="no-workspace"),
        pytest.param(("add", "x", "-w", "acme", "--port", "99999"), "99999", id="port"),
        pytest.param(("revoke", "nobody", "-w", "acme"), "has no agent nobody", id="unknown"),
        pytest.param(("revoke", "reviewer", "-w", "beta"), "has no agent reviewer", id="elsewhere"),
        pytest.param(("revoke", "-w", "acme"), "missing argument", id="no-name"),
    ],
)
def test_nonsense_changes_nothing(outloop: Run, home: Path, arguments: tuple[str, ...], error: str) -> None:
    outloop("agent", "add", "reviewer", "-w", "acme")
    before = Operator(home.parent).rows("events")
    code, out, err = outloop("agent", *arguments)
    assert (code, out) == (2, "")
    assert error in err
    assert err.count("\n") == 2
    assert Operator(home.parent).rows("events") == before
    assert len(json.loads(outloop("agent", "list", "--json")[1])) == 1
