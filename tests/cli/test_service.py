"""`outloop service`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path


def test_the_catalogue_is_listed(outloop: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = outloop("service", "list")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["service", "title", "hosts", "reads", "writes", "proof"]
    assert any(line.startswith("calendly ") and line.endswith("GET /users/me") for line in out.splitlines())


def test_json_has_the_tables_columns(outloop: Callable[..., tuple[int, str, str]]) -> None:
    listed = json.loads(outloop("service", "list", "--json")[1])
    calendly = next(entry for entry in listed if entry["service"] == "calendly")
    assert set(calendly) == {"service", "title", "hosts", "reads", "writes", "proof"}
    assert calendly["hosts"] == ["api.calendly.com"]


def test_a_service_is_shown_with_the_block_to_paste(outloop: Callable[..., tuple[int, str, str]], home: Path) -> None:
    code, out, err = outloop("service", "show", "calendly")
    assert (code, err) == (0, "")
    block = out.partition("under `services:`\n")[2]
    outloop("workspace", "add", "acme")
    with (home / "policies" / "acme.yaml").open("a") as file:
        file.write(f"services:\n{block}")
    (listed,) = json.loads(outloop("workspace", "list", "--json")[1])
    assert listed["services"] == ["calendly"]


def test_json_shows_everything_that_is_known(outloop: Callable[..., tuple[int, str, str]]) -> None:
    shown = json.loads(outloop("service", "show", "calendly", "--json")[1])
    assert shown["next_proof"] == "POST /scheduling_links"
    assert "GET /users/me" in shown["reads"]
    assert "POST /scheduling_links" in shown["writes"]
    assert shown["scopes"]
    assert shown["gotchas"]


def test_the_operators_own_service_is_listed_too(outloop: Callable[..., tuple[int, str, str]], home: Path) -> None:
    outloop("init")
    own = home / "services" / "intranet.yaml"
    own.write_text("title: Intranet\nhosts: [intranet.example.com]\nauth: {type: bearer}\n")
    own.chmod(0o600)
    assert "intranet" in outloop("service", "list")[1]
    assert "not a service" not in outloop("service", "show", "intranet")[1]


def test_an_unknown_service_suggests_the_nearest(outloop: Callable[..., tuple[int, str, str]]) -> None:
    assert outloop("service", "show", "calendy") == (
        2,
        "",
        "outloop: error: the catalogue has no service 'calendy'\noutloop: hint: did you mean `calendly`?\n",
    )
