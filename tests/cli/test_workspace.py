"""`outloop workspace`."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest


def test_a_new_workspace_is_listed_with_its_service(outloop: Callable[..., tuple[int, str, str]], home: Path) -> None:
    code, out, err = outloop("workspace", "add", "acme", "--service", "calendly")
    assert (code, err) == (0, "")
    assert out == f"wrote {home}/policies/acme.yaml\nNext: outloop key add calendly -w acme\n"
    (listed,) = json.loads(outloop("workspace", "list", "--json")[1])
    assert (listed["workspace"], listed["services"], listed["egress"]) == ("acme", ["calendly"], "deny")
    assert stat.S_IMODE((home / "policies" / "acme.yaml").stat().st_mode) == 0o600


def test_its_safe_proof_is_allowed_and_its_writes_are_not(outloop: Callable[..., tuple[int, str, str]]) -> None:
    outloop("workspace", "add", "acme", "--service", "calendly")
    assert outloop("policy", "explain", "GET", "https://api.calendly.com/users/me", "-w", "acme")[0] == 0
    assert outloop("policy", "explain", "POST", "https://api.calendly.com/scheduling_links", "-w", "acme")[0] == 1


def test_what_is_written_passes_the_check(outloop: Callable[..., tuple[int, str, str]]) -> None:
    outloop("workspace", "add", "acme", "--service", "calendly")
    outloop("workspace", "add", "globex")
    code, _, err = outloop("policy", "check")
    assert (code, err) == (0, "")


def test_an_empty_list_is_an_empty_array_and_a_hint_for_people(outloop: Callable[..., tuple[int, str, str]]) -> None:
    assert outloop("workspace", "list", "--json") == (0, "[]\n", "")
    assert outloop("workspace", "list") == (0, "", "no workspace yet: outloop workspace add acme --service calendly\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param(("add", "../acme"), "'../acme' cannot name a workspace", id="path"),
        pytest.param(("add", "Acme"), "'Acme' cannot name a workspace", id="upper-case"),
        pytest.param(("add", ""), "'' cannot name a workspace", id="empty"),
        pytest.param(("add", "a" * 64), "cannot name a workspace", id="too-long"),
        pytest.param(("add", "acme\n"), "cannot name a workspace", id="line-break"),
        pytest.param(("add", "acme", "--service", "calendli"), "the catalogue has no service 'calendli'", id="unknown-service"),
        pytest.param(("add",), "missing argument 'WS'", id="no-name"),
    ],
)
def test_nonsense_writes_nothing(
    outloop: Callable[..., tuple[int, str, str]], home: Path, arguments: tuple[str, ...], error: str
) -> None:
    code, out, err = outloop("workspace", *arguments)
    assert (code, out) == (2, "")
    assert error in err
    assert err.count("\n") == 2
    assert not list((home / "policies").glob("*"))


def test_a_file_that_exists_is_kept(outloop: Callable[..., tuple[int, str, str]], home: Path) -> None:
    outloop("workspace", "add", "acme", "--service", "calendly")
    before = (home / "policies" / "acme.yaml").read_bytes()
    code, _, err = outloop("workspace", "add", "acme")
    assert code == 2
    assert "exists already" in err
    assert (home / "policies" / "acme.yaml").read_bytes() == before


def test_a_broken_file_is_named_with_its_place(outloop: Callable[..., tuple[int, str, str]], home: Path) -> None:
    outloop("workspace", "add", "acme")
    (home / "policies" / "acme.yaml").write_text("workspace: acme\nservcies: {}\n")
    code, out, err = outloop("workspace", "list")
    assert (code, out) == (2, "")
    assert "acme.yaml:2:1:" in err
