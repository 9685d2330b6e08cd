from __future__ import annotations

import json

import pytest

from outloop.core.ledger import Value
from outloop.core.otlp import event_record, export_request, rejected, request_record

ROW: dict[str, Value] = {
    "id": "01KDVDNAZ80000000000000000", "at": "2026-01-01T00:00:00.123Z", "workspace": "acme", "agent": "claude",
    "service": "calendly", "key": "acme-calendly", "method": "GET", "scheme": "https", "host": "api.calendly.com", "port": 443,
    "path": "/users/me?page=2", "decision": "allow", "reason": "OK", "rule": "acme.yaml:7", "runtime_mode": "read", "proof": 1,
    "approval": None, "status": 200, "stripped": 1, "scrubbed": 0, "secret_exposed": 0, "request_bytes": 0,
    "response_bytes": 512, "duration_ms": 12.5, "upstream_ms": 10.0, "error": None, "policy": "0123", "session": None,
    "hash": "ab",
}  # fmt: skip


def attributes(row: dict[str, Value]) -> dict[str, object]:
    found = request_record(row, 0)["attributes"]
    assert isinstance(found, list)
    return {pair["key"]: pair["value"] for pair in found}


def test_a_request_has_the_names_of_the_conventions() -> None:
    found = attributes(ROW)

    assert {name: value for name, value in found.items() if not name.startswith("outloop.")} == {
        "http.request.method": {"stringValue": "GET"},
        "url.path": {"stringValue": "/users/me"},
        "url.query": {"stringValue": "page=2"},
        "url.scheme": {"stringValue": "https"},
        "server.address": {"stringValue": "api.calendly.com"},
        "server.port": {"intValue": "443"},
        "http.response.status_code": {"intValue": "200"},
        "http.request.body.size": {"intValue": "0"},
        "http.response.body.size": {"intValue": "512"},
    }


def test_what_no_convention_names_keeps_its_column_name() -> None:
    found = attributes(ROW)

    assert {name for name in found if name.startswith("outloop.")} == {
        f"outloop.{name}"
        for name in (
            *(
                "audit_id",
                "workspace",
                "agent",
                "service",
                "key",
                "decision",
                "reason",
                "rule",
                "runtime_mode",
                "proof",
                "stripped",
            ),
            *("scrubbed", "secret_exposed", "duration_ms", "upstream_ms", "policy", "hash"),
        )
    }
    assert found["outloop.audit_id"] == {"stringValue": ROW["id"]}
    assert found["outloop.proof"] == {"boolValue": True}
    assert found["outloop.secret_exposed"] == {"boolValue": False}
    assert found["outloop.duration_ms"] == {"doubleValue": 12.5}


def test_time_and_text() -> None:
    record = request_record(ROW, 1_767_225_600_500)

    assert record["timeUnixNano"] == "1767225600123000000"
    assert record["observedTimeUnixNano"] == "1767225600500000000"
    assert record["eventName"] == "outloop.request"
    assert record["body"] == {"stringValue": "GET api.calendly.com/users/me?page=2: allow OK, 200"}


@pytest.mark.parametrize(
    ("changes", "severity", "error"),
    [
        pytest.param({}, "INFO", None, id="ok"),
        pytest.param({"decision": "deny", "reason": "path_not_allowed", "status": 403}, "WARN", "path_not_allowed", id="denied"),
        pytest.param({"reason": "key_rejected", "status": 401}, "WARN", "key_rejected", id="rejected"),
        pytest.param({"reason": "scrub_failed"}, "ERROR", "scrub_failed", id="broken"),
        pytest.param({"secret_exposed": 1}, "ERROR", None, id="exposed"),
    ],
)
def test_how_grave_it_is(changes: dict[str, Value], severity: str, error: str | None) -> None:
    row = ROW | changes

    assert request_record(row, 0)["severityText"] == severity
    assert attributes(row).get("error.type") == (error and {"stringValue": error})


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({"method": "BREW"}, {"http.request.method": "_OTHER", "http.request.method_original": "BREW"}, id="method"),
        pytest.param({"method": "CONNECT", "path": ""}, {"http.request.method": "CONNECT"}, id="tunnel"),
        pytest.param({"path": "/a?"}, {"url.path": "/a", "url.query": ""}, id="empty-query"),
    ],
)
def test_odd_requests(changes: dict[str, Value], found: dict[str, str]) -> None:
    said = attributes(ROW | changes)

    assert {name: said[name] for name in found} == {name: {"stringValue": value} for name, value in found.items()}
    assert ("url.path" in said) == bool(changes.get("path", "/"))


def test_a_request_without_an_outcome_has_no_status() -> None:
    row = ROW | {"status": None, "secret_exposed": None, "duration_ms": None}

    assert not attributes(row).keys() & {"http.response.status_code", "outloop.secret_exposed", "outloop.duration_ms"}
    assert request_record(row, 0)["body"] == {"stringValue": "GET api.calendly.com/users/me?page=2: allow OK"}


def test_an_event() -> None:
    row: dict[str, Value] = {
        "id": "01KDVDNAZ80000000000000000", "at": "2026-01-01T00:00:00.000Z", "kind": "ca_distrusted", "workspace": "acme",
        "agent": None, "service": None, "key": None, "host": "api.calendly.com", "detail": None, "hash": "ab",
    }  # fmt: skip
    record = event_record(row, 0)

    assert (record["eventName"], record["body"]) == ("outloop.ca_distrusted", {"stringValue": "ca_distrusted"})
    assert {"key": "server.address", "value": {"stringValue": "api.calendly.com"}} in record["attributes"]  # type: ignore[operator]


def test_a_time_that_is_none_is_no_failure() -> None:
    assert request_record(ROW | {"at": "never"}, 0)["timeUnixNano"] == "0"


def test_a_request_names_its_resource_and_scope() -> None:
    (resource,) = json.loads(export_request([request_record(ROW, 0)], "1.2.3"))["resourceLogs"]

    assert {"key": "service.name", "value": {"stringValue": "outloop"}} in resource["resource"]["attributes"]
    assert resource["scopeLogs"][0]["scope"] == {"name": "outloop.audit", "version": "1.2.3"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(b"", (0, ""), id="empty"),
        pytest.param(b"{}", (0, ""), id="all-taken"),
        pytest.param(b'{"partialSuccess": {}}', (0, ""), id="all-taken-said"),
        pytest.param(b'{"partialSuccess": {"rejectedLogRecords": "3", "errorMessage": "old"}}', (3, "old"), id="some"),
        pytest.param(b'{"partialSuccess": {"errorMessage": "a warning"}}', (0, "a warning"), id="a-warning"),
        pytest.param(b"ok", (0, ""), id="not-json"),
        pytest.param(b"[]", (0, ""), id="not-an-object"),
        pytest.param(b'{"partialSuccess": {"rejectedLogRecords": "many"}}', (0, ""), id="not-a-number"),
    ],
)
def test_what_was_not_taken(answer: bytes, expected: tuple[int, str]) -> None:
    assert rejected(answer) == expected
