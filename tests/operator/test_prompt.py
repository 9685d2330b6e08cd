"""The text for an agent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outloop.core.auth import Bearer
from outloop.core.model import HostClaim, Probe, Service
from outloop.operator.prompt import prompt_text

CALENDLY = Service(
    "calendly", "Calendly", (HostClaim("api.calendly.com"),), Bearer(), "acme-calendly", proof=Probe("GET", "/users/me")
)


def test_it_names_the_call_the_record_and_the_proof() -> None:
    text = prompt_text(CALENDLY, "acme")
    assert text is not None
    assert "curl -sS -i 'https://api.calendly.com/users/me'" in text
    assert "Outloop-Audit-Id" in text
    assert "https://outloop.internal/proof/" in text
    assert "`acme`" in text


def test_it_tells_the_agent_to_look_for_no_token_and_to_stop_at_a_refusal() -> None:
    text = prompt_text(CALENDLY, "acme")
    assert text is not None
    assert "do not look for one" in text
    assert "`next_step` and stop" in text


def test_it_does_not_name_the_key() -> None:
    text = prompt_text(CALENDLY, "globex")
    assert text is not None
    assert CALENDLY.key not in text


@pytest.mark.parametrize(
    ("service", "command"),
    [
        pytest.param(
            replace(CALENDLY, hosts=(HostClaim("api.calendly.com", 8443),)), "'https://api.calendly.com:8443/users/me'", id="port"
        ),
        pytest.param(
            replace(CALENDLY, proof=Probe("POST", "/search?limit=1&q=a")),
            "-X POST 'https://api.calendly.com/search?limit=1&q=a'",
            id="post",
        ),
        pytest.param(replace(CALENDLY, hosts=(HostClaim("::1"),)), "'https://[::1]/users/me'", id="ipv6"),
        pytest.param(replace(CALENDLY, proof=Probe("GET", "/o'neil")), "'https://api.calendly.com/o%27neil'", id="quote"),
    ],
)
def test_the_call_is_written_so_that_a_shell_takes_it(service: Service, command: str) -> None:
    assert command in (prompt_text(service, "acme") or "")


def test_a_service_without_a_safe_proof_has_no_prompt() -> None:
    assert prompt_text(replace(CALENDLY, proof=None), "acme") is None
