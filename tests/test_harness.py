"""The harness itself: a test is worth what its upstream is."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from harness.calendly import EVENT_TYPES, HOST, TAKEN_SLOT, USER, Calendly
from harness.httpbin_tls import httpbin
from outloop.attacks.reroute import parse_route
from outloop.attacks.upstream.certs import HTTP2, Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import End, Gate, chunked, raw, reply, until_close

TOKEN = "not-a-real-token"


@contextmanager
def connected(port: int, context: ssl.SSLContext | None, name: str = "upstream.test") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        if context is None:
            yield plain
        else:
            with context.wrap_socket(plain, server_hostname=name) as wrapped:
                yield wrapped


def everything(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


@pytest.fixture
def upstream(authority: Authority) -> Iterator[Recorder]:
    with Recorder(authority.server_context("upstream.test")) as recorder:
        yield recorder


def test_a_request_is_kept_byte_for_byte(upstream: Recorder, authority: Authority) -> None:
    sent = b"POST /a%2fb?c=1&c=2 HTTP/1.1\r\nhost:  upstream.test\r\nX-a: 1\r\nx-A: 2\r\nContent-Length: 3\r\n\r\nabc"

    with connected(upstream.port, authority.client_context()) as connection:
        connection.sendall(sent)
        [request] = upstream.wait_for(1)

    assert bytes(request.raw) == sent
    assert (request.method, request.target, request.path) == ("POST", "/a%2fb?c=1&c=2", "/a%2fb")
    assert (request.header("host"), request.all("x-a"), bytes(request.body)) == (b"upstream.test", [b"1", b"2"], b"abc")
    assert request.sni == "upstream.test"


def test_a_header_that_was_sent_twice_is_not_one_header(upstream: Recorder, authority: Authority) -> None:
    with connected(upstream.port, authority.client_context()) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nAuthorization: a\r\nauthorization: b\r\n\r\n")
        [request] = upstream.wait_for(1)

    with pytest.raises(AssertionError, match="2 times"):
        request.header("authorization")


def test_a_chunked_body_is_kept_with_and_without_its_framing(upstream: Recorder, authority: Authority) -> None:
    framed = b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: 1\r\n\r\n"

    with connected(upstream.port, authority.client_context()) as connection:
        connection.sendall(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"GET /next HTTP/1.1\r\n\r\n")
        first, second = upstream.wait_for(2)

    assert bytes(first.body) == b"abcde"
    assert first.raw.endswith(framed)
    assert (second.path, second.connection) == ("/next", first.connection)


def test_an_upload_is_seen_before_it_is_whole(upstream: Recorder, authority: Authority) -> None:
    with connected(upstream.port, authority.client_context()) as connection:
        head = b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n"
        connection.sendall(head + b"abc")
        upstream.wait_for_bytes(len(head) + 3)
        [request] = upstream.requests

        assert (bytes(request.body), request.complete) == (b"abc", False)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(until_close(b"abc"), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc", id="until-close"),
        pytest.param(raw(b"no http at all", End.CLOSE), b"no http at all", id="raw"),
        pytest.param(
            chunked(b"abc", b"d", End.CLOSE),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n",
            id="cut-between-chunks",
        ),
    ],
)
def test_a_reply_goes_out_as_it_was_written(upstream: Recorder, authority: Authority, answer: object, expected: bytes) -> None:
    upstream.on("GET /", answer)  # type: ignore[arg-type]

    with connected(upstream.port, authority.client_context()) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")

        assert everything(connection) == expected


def test_answers_are_given_in_turn_and_the_last_for_good() -> None:
    with Recorder(None) as upstream, connected(upstream.port, None) as connection:
        upstream.on("GET /", reply(b"1"), reply(b"2"))
        bodies = []
        for _ in range(3):
            connection.sendall(b"GET /?x HTTP/1.1\r\n\r\n")
            bodies.append(connection.recv(65536)[-1:])

    assert bodies == [b"1", b"2", b"2"]


def test_an_abort_is_a_reset_and_not_an_end() -> None:
    with Recorder(None) as upstream, connected(upstream.port, None) as connection:
        upstream.on("GET /", raw(End.ABORT))
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")

        with pytest.raises(ConnectionResetError):
            everything(connection)


def test_a_gate_holds_the_rest_of_a_reply_back(upstream: Recorder, authority: Authority) -> None:
    gate = Gate()
    upstream.on("GET /", until_close(b"first", gate, b"second"))

    with connected(upstream.port, authority.client_context()) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        gate.wait_reached()
        before = connection.recv(65536)
        gate.open()
        after = everything(connection)

    assert b"first" in before + after
    assert b"second" not in before
    assert after.endswith(b"second")


@pytest.mark.parametrize(
    ("expired", "trusted", "name"),
    [
        pytest.param(True, True, "upstream.test", id="expired"),
        pytest.param(False, False, "upstream.test", id="another-authority"),
        pytest.param(False, True, "other.test", id="another-name"),
    ],
)
def test_a_bad_certificate_is_bad(authority: Authority, expired: bool, trusted: bool, name: str) -> None:
    client = (authority if trusted else Authority()).client_context()

    with (
        Recorder(authority.server_context("upstream.test", expired=expired)) as upstream,
        pytest.raises(ssl.SSLCertVerificationError),
        connected(upstream.port, client, name),
    ):
        pass


def test_http2_is_recorded_and_answered_from_the_same_table(authority: Authority) -> None:
    long = b"x" * 200_000  # more than a flow control window

    with Recorder(authority.server_context("127.0.0.1", protocols=HTTP2)) as upstream:
        upstream.on("POST /a", chunked(b"first", long, headers=[("X-A", "1")]))
        upstream.on("GET /cut", chunked(b"first", End.ABORT))
        with httpx.Client(http2=True, verify=authority.client_context(), base_url=f"https://127.0.0.1:{upstream.port}") as client:
            answer = client.post("/a?b=c", content=long, headers={"Authorization": "Bearer x"})
            with pytest.raises(httpx.RemoteProtocolError):
                client.get("/cut")
        request, _ = upstream.wait_for(2)

    assert (answer.http_version, answer.content, answer.headers["x-a"]) == ("HTTP/2", b"first" + long, "1")
    assert (request.version, request.method, request.target, bytes(request.body)) == ("HTTP/2", "POST", "/a?b=c", long)
    assert (request.header("authorization"), upstream.connections) == (b"Bearer x", 1)


def _ask_calendly(request: bytes, headers: bytes, calendly: Calendly, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    with Recorder(None, calendly) as upstream, connected(upstream.port, None) as connection:
        length = b"Content-Length: %d\r\n" % len(body)
        connection.sendall(request + b" HTTP/1.1\r\n" + headers + length + b"\r\n" + body)
        upstream.wait_for(1)
        connection.shutdown(socket.SHUT_WR)
        head, _, received = everything(connection).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), received


@pytest.mark.parametrize(
    ("request_line", "body", "status", "title"),
    [
        pytest.param("GET /users/me", {}, 200, None, id="me"),
        pytest.param("GET /organizations/BBBBBBBBBBBBBBBB/invitations", {}, 403, "Permission Denied", id="not-yours"),
        pytest.param("GET /event_types?user=https://api.calendly.com/users/X", {}, 403, "Permission Denied", id="another-user"),
        pytest.param("GET /event_types?user=AAAAAAAAAAAAAAAA", {}, 400, "Invalid Argument", id="not-a-full-uri"),
        pytest.param("GET /event_types", {}, 400, "Invalid Argument", id="whose"),
        pytest.param(f"GET /event_types?user={USER}&count=101", {}, 400, "Invalid Argument", id="page-too-large"),
        pytest.param("GET /nothing", {}, 404, "Resource Not Found", id="unknown"),
        pytest.param("POST /invitees", {}, 400, "Invalid Argument", id="missing-fields"),
        pytest.param(
            "POST /invitees",
            {"event_type": EVENT_TYPES[0], "start_time": TAKEN_SLOT, "invitee": {}},
            422,
            "Unprocessable Entity",
            id="slot-taken",
        ),
        pytest.param(
            "POST /scheduling_links",
            {"max_event_count": 1, "owner": EVENT_TYPES[0], "owner_type": "EventType"},
            201,
            None,
            id="single-use-link",
        ),
        pytest.param("POST /scheduling_links", {"max_event_count": 2}, 400, "Invalid Argument", id="not-single-use"),
    ],
)
def test_the_stand_in_answers_as_calendly_does(
    request_line: str, body: dict[str, object], status: int, title: str | None
) -> None:
    authorization = f"Authorization: Bearer {TOKEN}\r\n".encode()

    got, _, received = _ask_calendly(request_line.encode(), authorization, Calendly(TOKEN), json.dumps(body).encode())

    assert (got, json.loads(received).get("title")) == (status, title)


@pytest.mark.parametrize("sent", [b"", b"Authorization: Bearer wrong\r\n", f"Authorization: {TOKEN}\r\n".encode()])
def test_the_stand_in_takes_its_own_token_only(sent: bytes) -> None:
    status, _, body = _ask_calendly(b"GET /users/me", sent, Calendly(TOKEN))

    assert (status, json.loads(body)["title"]) == (401, "Unauthenticated")


def test_the_stand_in_limits_its_rate() -> None:
    calendly = Calendly(TOKEN)
    calendly.retry_after_s = 17

    status, headers, _ = _ask_calendly(b"GET /users/me", f"Authorization: Bearer {TOKEN}\r\n".encode(), calendly)

    assert (status, headers["Retry-After"]) == (429, "17")


def test_the_stand_in_pages_through_a_list() -> None:
    target, found = f"/event_types?user={USER}&count=2", []
    while target:
        _, _, body = _ask_calendly(f"GET {target}".encode(), f"Authorization: Bearer {TOKEN}\r\n".encode(), Calendly(TOKEN))
        page = json.loads(body)
        found += [resource["uri"] for resource in page["collection"]]
        target = (page["pagination"]["next_page"] or "").removeprefix(f"https://{HOST}")

    assert tuple(found) == EVENT_TYPES


def test_httpbin_answers_behind_tls(authority: Authority) -> None:
    with (
        httpbin(authority.server_context("httpbin.test")) as port,
        connected(port, authority.client_context(), "httpbin.test") as connection,
    ):
        connection.sendall(b"GET /bytes/3 HTTP/1.1\r\nHost: httpbin.test\r\n\r\n")

        assert everything(connection).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("text", ["", "a:1", "a=b:1", "a:1=b", "a:x=b:1", ":1=b:1"])
def test_a_route_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|invalid literal"):
        parse_route(text)


def test_a_route_may_name_an_ipv6_address() -> None:
    assert parse_route("api.example.com:443=::1:8443") == (("api.example.com", 443), ("::1", 8443))
