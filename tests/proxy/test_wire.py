"""The last step before the network: what passes, and how it is framed."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from mitmproxy import connection, http
from mitmproxy.proxy.layers.http._events import RequestHeaders

from outloop.core.auth import Edits
from outloop.core.model import Agent, Request
from outloop.core.paths import canonical_path
from outloop.core.secret import Secret
from outloop.proxy import wire
from outloop.proxy.exchange import Exchange, Phase, Release, Said

HOST = "api.example.com"
TOKEN = "not-a-real-token-0123456789"
DECIDED = Request("POST", "https", HOST, 443, canonical_path("/a"), body=b"body")


def release(decided: Request = DECIDED, query: str = "b=c") -> Release:
    edits = Edits(headers=(("Authorization", Secret(f"Bearer {TOKEN}".encode())),))
    return Release(decided, ((b"X-Mine", b"1"), (b"authorization", b"of the agent")), query, edits, (("X-Team", "growth"),))


def flow_request(**changes: object) -> http.Request:
    request = http.Request.make("POST", f"https://{HOST}/a?b=c", b"body", http.Headers(((b"Content-Length", b"4"),)))
    for name, value in changes.items():
        setattr(request, name, value)
    return request


class OneGate:
    def __init__(self, request: http.Request, *, phase: Phase = Phase.RELEASED, released: Release | None = None) -> None:
        self.request = request
        self.exchange = Exchange("id", Agent("acme"), Said("POST", "https", HOST, 443, "/a"), 0.0, phase=phase)
        self.exchange.release = released

    def exchange_of(self, request: http.Request) -> Exchange | None:
        return self.exchange if request is self.request else None


@pytest.fixture(autouse=True)
def _closed_afterwards() -> object:
    yield
    wire.close_gate()


def objection(request: http.Request, **gate: object) -> str | None:
    wire.open_gate(OneGate(request, **gate))  # type: ignore[arg-type]
    return wire.objection(request)


def test_what_was_released_passes() -> None:
    assert objection(flow_request(), released=release()) is None


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.RELEASED])
def test_what_was_not_released_or_was_sent_already_does_not_pass(phase: Phase) -> None:
    assert objection(flow_request(), released=release(), phase=phase) == wire.NOT_RELEASED


def test_without_a_release_a_gate_or_the_very_request_nothing_passes() -> None:
    request = flow_request()

    assert objection(request, released=None) == wire.NOT_RELEASED
    wire.open_gate(OneGate(request, released=release()))
    assert wire.objection(request.copy()) == wire.NOT_RELEASED
    wire.close_gate()
    assert wire.objection(request) == wire.NOT_RELEASED


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "evil.example.com"},
        {"port": 444},
        {"scheme": "http"},
        {"method": "DELETE"},
        {"content": b"other"},
        {"content": b""},
    ],
    ids=str,
)
def test_what_was_changed_after_the_decision_does_not_pass(changes: dict[str, object]) -> None:
    assert "changed after it was decided" in str(objection(flow_request(**changes), released=release()))


def test_a_websocket_is_a_get_on_the_wire() -> None:
    decided = replace(DECIDED, method="WEBSOCKET", body=None)

    assert objection(flow_request(method="GET"), released=release(decided)) is None
    assert objection(flow_request(method="POST"), released=release(decided)) is not None


def server(**changes: object) -> connection.Server:
    made = connection.Server(address=("127.0.0.1", 1))
    made.sni = HOST
    made.timestamp_tls_setup = 1.0
    made.certificate_list = [SimpleNamespace()]  # type: ignore[list-item]
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_a_verified_connection_is_trusted_wherever_it_leads() -> None:
    assert wire.distrust(server(), release()) is None


@pytest.mark.parametrize(
    "changes",
    [{"timestamp_tls_setup": None}, {"certificate_list": []}, {"sni": None}, {"sni": "evil.example.com"}, {"sni": HOST.upper()}],
    ids=str,
)
def test_a_connection_that_is_not_verified_for_the_decided_host_gets_no_key(changes: dict[str, object]) -> None:
    assert wire.distrust(server(**changes), release()) is not None


@pytest.mark.parametrize(
    ("version", "length", "content", "end", "is_http1", "expected"),
    [
        pytest.param("HTTP/1.1", None, b"", True, True, [], id="no-body"),
        pytest.param("HTTP/1.1", "4", b"body", False, True, [("Content-Length", "4")], id="collected"),
        pytest.param("HTTP/1.1", "9", b"", False, True, [("Content-Length", "9")], id="streamed-declared"),
        pytest.param("HTTP/1.1", None, b"", False, True, [("Transfer-Encoding", "chunked")], id="streamed-chunked"),
        pytest.param("HTTP/2.0", None, b"", False, True, [("Transfer-Encoding", "chunked")], id="h2-to-h1-without-a-length"),
        pytest.param("HTTP/2.0", "9", b"", False, True, [("Content-Length", "9")], id="h2-to-h1-declared"),
        pytest.param("HTTP/2.0", None, b"body", False, True, [("Content-Length", "4")], id="h2-to-h1-collected"),
        pytest.param("HTTP/2.0", None, b"", False, False, [], id="h2-to-h2-without-a-length"),
        pytest.param("HTTP/2.0", "9", b"", False, False, [("content-length", "9")], id="h2-to-h2-declared"),
    ],
)
def test_every_body_is_framed_for_the_upstreams_protocol(
    version: str, length: str | None, content: bytes, end: bool, is_http1: bool, expected: list[tuple[str, str]]
) -> None:
    request = flow_request(http_version=version)
    request.data.content = content
    request.headers.pop("content-length")
    if length:
        request.headers["content-length"] = length

    sent, _ = wire.wire_requests(RequestHeaders(1, request, end), release(), is_http1=is_http1)

    framing = [
        (name, value) for name, value in sent.headers.items(multi=True) if name.lower() in ("content-length", "transfer-encoding")
    ]
    assert framing == expected


@pytest.mark.parametrize("is_http1", [True, False])
def test_the_credential_is_on_the_wire_and_in_no_other_request(is_http1: bool) -> None:
    request = flow_request(http_version="HTTP/1.1" if is_http1 else "HTTP/2.0")

    sent, bare = wire.wire_requests(RequestHeaders(1, request, False), release(), is_http1=is_http1)

    assert sent.headers.get_all("authorization") == [f"Bearer {TOKEN}"]
    assert (sent.path, sent.headers["x-team"], sent.headers["x-mine"]) == ("/a?b=c", "growth", "1")
    assert (sent.headers.get("host") if is_http1 else sent.authority) == HOST
    for other in (bare, request):
        assert TOKEN not in str(other.get_state())


def test_what_the_flow_says_is_not_what_is_sent() -> None:
    request = flow_request(path="/other")
    request.headers["X-Added"] = "1"

    sent, _ = wire.wire_requests(RequestHeaders(1, request, False), release(), is_http1=True)

    assert (sent.path, "x-added" in sent.headers) == ("/a?b=c", False)
