"""`outloop prompt`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def test_it_is_text_alone(outloop: Callable[..., tuple[int, str, str]]) -> None:
    outloop("workspace", "add", "acme", "--service", "calendly")
    code, out, err = outloop("prompt", "calendly", "-w", "acme")
    assert (code, err) == (0, "")
    assert "https://api.calendly.com/users/me" in out
    assert "https://outloop.internal/proof/" in out
    assert max(map(len, out.splitlines())) <= 85


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        pytest.param(
            ("calendy", "-w", "acme"),
            "the workspace acme does not use the service 'calendy'",
            "did you mean `calendly`?",
            id="mistyped",
        ),
        pytest.param(
            ("nothing", "-w", "acme"),
            "the workspace acme does not use the service 'nothing'",
            "outloop service list",
            id="unknown",
        ),
        pytest.param(
            ("calendly", "-w", "globex"),
            "the workspace globex does not use the service 'calendly'",
            "`outloop service show calendly` prints what to add to",
            id="not-in-this-workspace",
        ),
        pytest.param(("calendly", "-w", "acme2"), "there is no workspace 'acme2'", "did you mean `acme`?", id="no-workspace"),
    ],
)
def test_what_is_not_there_is_one_line(
    outloop: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...], error: str, hint: str
) -> None:
    outloop("workspace", "add", "acme", "--service", "calendly")
    outloop("workspace", "add", "globex")
    code, out, err = outloop("prompt", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"outloop: error: {error}\noutloop: hint: {hint}")


def test_a_service_without_a_safe_proof_says_how_to_give_it_one(outloop: Callable[..., tuple[int, str, str]], home: Path) -> None:
    outloop("init")
    policy = home / "policies" / "acme.yaml"
    policy.write_text(
        "workspace: acme\nservices:\n  own:\n    hosts: [own.example.com]\n    auth: {type: bearer}\n    rules: [allow: GET /]\n"
    )
    policy.chmod(0o600)
    code, out, err = outloop("prompt", "own", "-w", "acme")
    assert (code, out) == (2, "")
    assert "add `proof: GET /path` to it in acme.yaml" in err
