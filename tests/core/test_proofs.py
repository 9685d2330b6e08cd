"""What a request is for the record: a read or a write, and whether it is a proof."""

from __future__ import annotations

import pytest

from outloop.core.auth import Bearer
from outloop.core.model import HostClaim, Operation, Probe, Request, Service
from outloop.core.paths import canonical_path, compile_pattern, parse_query, split_target
from outloop.core.proofs import is_proof, runtime_mode

SERVICE = Service(
    "posthog",
    "PostHog",
    (HostClaim("us.posthog.com"),),
    Bearer(),
    "acme-posthog",
    proof=Probe("GET", "/api/projects/123/heatmaps/?limit=1&type=a%20b"),
    next_proof=Probe("POST", "/api/projects/123/annotations/", 201, {"content": "hello", "count": 1, "tags": ["a"]}),
    reads=(Operation("POST", compile_pattern("/api/projects/{id}/query"), "POST /api/projects/{id}/query"),),
)
NEXT_BODY = b'{"count": 1, "tags": ["a"], "content": "hello"}'


def ask_for(line: str, body: bytes | None = None) -> Request:
    method, target = line.split(" ", 1)
    path, query = split_target(target)
    return Request(method, "https", "us.posthog.com", 443, canonical_path(path), parse_query(query), "", "", body)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("GET /api/anything", "read"),
        ("HEAD /api/anything", "read"),
        ("POST /api/projects/1/query", "read"),
        ("POST /api/projects/1/query/", "read"),
        ("POST /API/projects/1/query", "write"),
        ("POST /api/projects/1/query/x", "write"),
        ("PUT /api/projects/1/query", "write"),
        ("POST /api/anything", "write"),
        ("OPTIONS /api/anything", "write"),
        ("WEBSOCKET /api/projects/1/query", "write"),
        ("get /api/anything", "write"),
    ],
)
def test_what_is_not_known_to_read_writes(line: str, expected: str) -> None:
    assert runtime_mode(ask_for(line), SERVICE) == expected


@pytest.mark.parametrize(
    ("line", "body", "expected"),
    [
        pytest.param("GET /api/projects/123/heatmaps/?limit=1&type=a%20b", None, True, id="proof"),
        pytest.param("GET /api/projects/123/heatmaps/?limit=1&type=a+b", b"", True, id="same-query-in-another-spelling"),
        pytest.param("GET /%61pi/projects/123/heatmaps/?limit=1&type=a%20b", None, True, id="same-path-in-another-spelling"),
        pytest.param("HEAD /api/projects/123/heatmaps/?limit=1&type=a%20b", None, False, id="another-method"),
        pytest.param("GET /api/projects/123/heatmaps?limit=1&type=a%20b", None, False, id="without-its-trailing-slash"),
        pytest.param("GET /api/projects/124/heatmaps/?limit=1&type=a%20b", None, False, id="another-path"),
        pytest.param("GET /api/projects/123/heatmaps/?limit=2&type=a%20b", None, False, id="another-query"),
        pytest.param("GET /api/projects/123/heatmaps/?limit=1&type=a%20b&x=1", None, False, id="longer-query"),
        pytest.param("GET /api/projects/123/heatmaps/", None, False, id="no-query"),
        pytest.param("GET /api/projects/123/heatmaps/?limit=1&type=a%20b", b"{}", False, id="a-body-it-has-not"),
        pytest.param("POST /api/projects/123/annotations/", NEXT_BODY, True, id="next-proof"),
        pytest.param("POST /api/projects/123/annotations/", None, True, id="next-proof-whose-body-was-not-read"),
        pytest.param("POST /api/projects/123/annotations/", b"", False, id="next-proof-without-its-body"),
        pytest.param("POST /api/projects/123/annotations/", b"{", False, id="next-proof-with-an-unreadable-body"),
        pytest.param("POST /api/projects/123/annotations/", NEXT_BODY.replace(b"1", b"true"), False, id="true-is-not-one"),
        pytest.param("POST /api/projects/123/annotations/", NEXT_BODY.replace(b'"a"', b'"a", "b"'), False, id="longer-list"),
        pytest.param("POST /api/projects/123/annotations/", NEXT_BODY.replace(b"hello", b"bye"), False, id="another-value"),
        pytest.param("POST /api/projects/123/annotations/", NEXT_BODY[:-1] + b', "x": 1}', False, id="another-field"),
    ],
)
def test_a_proof_is_the_very_request_of_the_catalogue(line: str, body: bytes | None, expected: bool) -> None:
    assert is_proof(ask_for(line, body), SERVICE) is expected


def test_a_service_without_proofs_has_none() -> None:
    bare = Service("bare", "Bare", (HostClaim("bare.example"),), Bearer(), "acme-bare")
    assert not is_proof(ask_for("GET /"), bare)
