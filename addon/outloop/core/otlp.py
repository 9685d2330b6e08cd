"""Rows as OpenTelemetry log records, in the JSON encoding of OTLP (opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding").

Plain JSON rather than a library and its protobuf: the encoding is specified, and nothing here is in a hurry. Attributes have the
names of the semantic conventions where there is one, and `outloop.` names, after the record's columns, where there is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from outloop.core.ledger import Value

Row = Mapping[str, Value]
LogRecord = dict[str, object]

SCOPE = "outloop.audit"
_INFO, _WARN, _ERROR = (9, "INFO"), (13, "WARN"), (17, "ERROR")
# The methods that the conventions know; another is `_OTHER`, with what was really said beside it.
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_BROKEN = frozenset({"audit_unavailable", "internal_error", "scrub_failed"})
_WORRYING = frozenset({"policy_refused", "record_not_anchored", "record_pruned", "script_changed"})
_CONVENTIONS = {
    "scheme": "url.scheme",
    "host": "server.address",
    "port": "server.port",
    "status": "http.response.status_code",
    "request_bytes": "http.request.body.size",
    "response_bytes": "http.response.body.size",
}
_TRUTHS = frozenset({"proof", "secret_exposed"})
_ELSEWHERE = frozenset({"at", "method", "path", "kind", "detail", *_CONVENTIONS})


def request_record(row: Row, observed_ms: int) -> LogRecord:
    """Return the log record of a row of the view `audit`. One without outcome yet has none of the outcome's attributes."""
    said, path = str(row["method"]), str(row["path"])
    before, mark, query = path.partition("?")
    method = {"http.request.method": said} if said in _METHODS else _other_method(said)
    place = {"url.path": before or None, "url.query": query if mark else None}
    named = {name: row[column] for column, name in _CONVENTIONS.items()}
    reason = None if row["reason"] == "OK" else row["reason"]
    text = f"{said} {row['host']}{path}: {row['decision']} {row['reason']}"
    body = f"{text}, {row['status']}" if row["status"] is not None else text
    attributes = {**method, **place, **named, "error.type": reason, **_own(row)}
    return _record("outloop.request", row, observed_ms, _severity(row), body, attributes)


def event_record(row: Row, observed_ms: int) -> LogRecord:
    """Return the log record of an event."""
    kind = str(row["kind"])
    severity = _WARN if kind in _WORRYING else _INFO
    attributes = {"server.address": row["host"], **_own(row)}
    return _record(f"outloop.{kind}", row, observed_ms, severity, str(row["detail"] or kind), attributes)


def export_request(records: Sequence[LogRecord], version: str) -> bytes:
    """Return the body of a request to a collector's ``/v1/logs``, sent by Outloop of that *version*."""
    resource = {"attributes": _attributes({"service.name": "outloop", "service.version": version})}
    scope = {"scope": {"name": SCOPE, "version": version}, "logRecords": list(records)}
    return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]}, separators=(",", ":")).encode()


def rejected(answer: bytes) -> tuple[int, str]:
    """Return how many records a collector's answer (2xx) says were not taken, and why: they are not to be sent again."""
    try:
        partial = json.loads(answer or b"{}").get("partialSuccess") or {}
        return int(partial.get("rejectedLogRecords") or 0), str(partial.get("errorMessage") or "")
    except (ValueError, AttributeError, TypeError):
        return 0, ""


def _record(
    name: str, row: Row, observed_ms: int, severity: tuple[int, str], body: str, attributes: Mapping[str, Value]
) -> LogRecord:
    number, text = severity
    return {
        "timeUnixNano": str(_nanoseconds(str(row["at"]))),
        "observedTimeUnixNano": str(observed_ms * 1_000_000),
        "severityNumber": number,
        "severityText": text,
        "eventName": name,
        "body": {"stringValue": body},
        "attributes": _attributes(attributes),
    }


def _own(row: Row) -> dict[str, Value]:
    """Return what no convention has a name for."""
    return {
        "outloop.audit_id" if column == "id" else f"outloop.{column}": bool(value)
        if column in _TRUTHS and value is not None
        else value
        for column, value in row.items()
        if column not in _ELSEWHERE
    }


def _other_method(said: str) -> dict[str, Value]:
    return {"http.request.method": "_OTHER", "http.request.method_original": said}


def _severity(row: Row) -> tuple[int, str]:
    if row["secret_exposed"] == 1 or row["reason"] in _BROKEN:
        return _ERROR
    return _INFO if row["reason"] == "OK" else _WARN


def _attributes(values: Mapping[str, Value]) -> list[dict[str, object]]:
    return [{"key": name, "value": _any(value)} for name, value in values.items() if value is not None]


def _any(value: Value) -> dict[str, object]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}  # 64 bits, which JSON's numbers do not have
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}


def _nanoseconds(at: str) -> int:
    try:
        return round(datetime.fromisoformat(at).timestamp() * 1000) * 1_000_000
    except ValueError:  # edited in the file: verify says so
        return 0
