"""What an audit row proves, line by line."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outloop.core.model import Probe
from outloop.core.proof import Asked, Fault, proof_of, unseen

ID = "01JD8Z0000000000000000TEST"
CALLED = datetime(2026, 11, 23, 10, 0, 0, 123_456, tzinfo=UTC)
ROW: Mapping[str, Any] = {
    "id": ID,
    "at": "2026-11-23T10:00:00.123Z",
    "workspace": "acme",
    "service": "calendly",
    "key": "acme-calendly",
    "method": "GET",
    "path": "/users/me",
    "decision": "allow",
    "reason": "OK",
    "status": 200,
    "secret_exposed": 0,
}
ASKED = Asked(Probe("GET", "/users/me"), "acme", CALLED)
GOOD = f"""\
Calendly API access through Outloop
GET /users/me
HTTP 200
decision: allow / OK
secret_exposed: false
runtime_verified: yes
audit entry exists: {ID}
"""


@pytest.mark.parametrize("asked", [pytest.param(ASKED, id="the-operator-asked"), pytest.param(None, id="an-agents-own-call")])
def test_a_good_row_gives_exactly_the_seven_lines(asked: Asked | None) -> None:
    proof = proof_of(ROW, "Calendly", asked)
    assert proof.text == GOOD
    assert proof.fault is None


@pytest.mark.parametrize(
    ("changes", "line", "next_step"),
    [
        pytest.param(
            {"decision": "deny", "reason": "runtime_access_off", "status": 403},
            "decision: deny / runtime_access_off",
            "outloop key enable acme-calendly -w acme",
            id="access-off",
        ),
        pytest.param(
            {"decision": "deny", "reason": "key_missing", "status": 403},
            "decision: deny / key_missing",
            "outloop key add calendly -w acme",
            id="key-missing",
        ),
        pytest.param(
            {"decision": "deny", "reason": "denied_by_rule", "status": 403},
            "decision: deny / denied_by_rule",
            f"outloop why {ID}",
            id="denied-by-a-rule",
        ),
        pytest.param(
            {"decision": "deny", "reason": "agent_unknown", "status": 407, "workspace": None},
            "decision: deny / agent_unknown",
            "outloop agent list",
            id="agent-unknown",
        ),
        pytest.param(
            {"reason": "key_rejected", "status": 401}, "HTTP 401", "outloop key rotate acme-calendly -w acme", id="key-rejected"
        ),
        pytest.param({"reason": "upstream_failed", "status": 502}, "HTTP 502", "network", id="upstream-down"),
        pytest.param({"reason": "upstream_untrusted", "status": 502}, "HTTP 502", "OUTLOOP_UPSTREAM_CA", id="upstream-untrusted"),
        pytest.param({"reason": "scrub_failed", "status": 502}, "HTTP 502", f"outloop why {ID}", id="scrub-failed"),
        pytest.param({"status": 403}, "HTTP 403", "scopes", id="forbidden-upstream"),
        pytest.param({"status": 429}, "HTTP 429", "wait", id="limited-upstream"),
        pytest.param({"status": 500}, "HTTP 500", "outloop audit show", id="server-error"),
        pytest.param({"status": 302}, "HTTP 302", "outloop audit show", id="redirect"),
        pytest.param({"status": None}, "HTTP no answer", "outloop audit show", id="no-outcome-in-time"),
        pytest.param({"secret_exposed": 1}, "secret_exposed: true", "outloop key rotate", id="key-got-out"),
        pytest.param({"secret_exposed": None}, "secret_exposed: not measured", "outloop audit show", id="not-measured"),
    ],
)
@pytest.mark.parametrize("asked", [pytest.param(ASKED, id="the-operator-asked"), pytest.param(None, id="an-agents-own-call")])
def test_anything_else_verifies_nothing_and_names_the_line(
    changes: Mapping[str, Any], line: str, next_step: str, asked: Asked | None
) -> None:
    proof = proof_of({**ROW, **changes}, "Calendly", asked)
    assert proof.fault is not None
    assert proof.fault.line == line
    assert proof.fault.line in proof.lines
    assert next_step in proof.fault.next_step
    assert "runtime_verified: no" in proof.lines


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        pytest.param({"workspace": "globex"}, f"audit entry exists: {ID}", id="another-workspace"),
        pytest.param(
            {"workspace": "globex", "decision": "deny", "reason": "host_not_allowed"},
            f"audit entry exists: {ID}",
            id="another-workspace-that-was-refused",
        ),
        pytest.param({"path": "/users/you"}, "GET /users/you", id="another-path"),
        pytest.param({"path": "/users/me?x=1"}, "GET /users/me?x=1", id="another-query"),
        pytest.param({"method": "HEAD"}, "HEAD /users/me", id="another-method"),
        pytest.param({"status": 204}, "HTTP 204", id="another-2xx"),
        pytest.param({"at": "2026-11-23T10:00:00.122Z"}, f"audit entry exists: {ID}", id="a-millisecond-too-old"),
        pytest.param({"at": "2026-11-23T11:59:59+02:00"}, f"audit entry exists: {ID}", id="too-old-in-another-zone"),
    ],
)
def test_a_row_of_another_call_does_not_stand_for_the_one_that_was_asked(changes: Mapping[str, Any], line: str) -> None:
    proof = proof_of({**ROW, **changes}, "Calendly", ASKED)
    assert proof.fault is not None
    assert proof.fault.line == line


def test_a_row_written_after_the_call_is_not_too_old() -> None:
    later = Asked(ASKED.probe, ASKED.workspace, CALLED - timedelta(hours=1))
    assert proof_of(ROW, "Calendly", later).fault is None


def test_a_proof_that_expects_another_status_holds_with_that_one_only() -> None:
    asked = Asked(Probe("POST", "/scheduling_links", 201), "acme", CALLED)
    row = {**ROW, "method": "POST", "path": "/scheduling_links"}
    assert proof_of({**row, "status": 201}, "Calendly", asked).fault is None
    assert proof_of(row, "Calendly", asked).fault is not None


def test_a_probe_that_expects_an_error_never_verifies_access() -> None:
    asked = Asked(Probe("GET", "/users/me", 404), "acme", CALLED)
    assert proof_of({**ROW, "status": 404}, "Calendly", asked).fault is not None


def test_a_call_without_a_row_shows_what_the_caller_saw_and_no_more() -> None:
    fault = Fault("audit entry exists: no", "the answer did not come through Outloop", "outloop up")
    assert unseen("Calendly", Probe("GET", "/users/me"), 200, fault).text == (
        "Calendly API access through Outloop\n"
        "GET /users/me\n"
        "HTTP 200\n"
        "decision: none\n"
        "secret_exposed: not measured\n"
        "runtime_verified: no\n"
        "audit entry exists: no\n"
    )
