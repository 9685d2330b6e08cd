"""Servers, proxies and clients that nobody here wrote, on either side: nginx, squid, h2load, curl and httpx.

nginx says what it took each request for. It must be exactly what Outloop decided on and wrote down: one request a row.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from harness.operators import PATIENCE_S, Operator, Row
from harness.partners import needs
from harness.programs import Nginx, running_nginx, running_squid
from harness.proxy import Proxy, curl, running_proxy
from harness.raw_agent import connect_request
from harness.stage import HOST, MARK, TOKEN, add_agent, store_keys
from outloop.attacks import agent as attacker
from outloop.attacks import asking, framing, mutations, normalising, smuggling
from outloop.attacks.case import AGENTS_OWN, Case
from outloop.attacks.house import POLICY
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import reply
from outloop.core.paths import canonical_path, split_target

TABLES = (*framing.CASES, *mutations.CASES, *smuggling.CASES, *normalising.CASES, *asking.TARGETS, *asking.METHODS)
# What changes the answer, leaves in the middle or is for another host is not about how nginx reads a request.
REPLAYED = [case for case in TABLES if case.talk.connect.startswith(f"CONNECT {HOST}:443 ".encode()) and case.reply is None
            and not case.talk.leaves and len(case.expected_rows) and case.id not in ("h2-to-h2",)]  # fmt: skip


class Hop:
    """Outloop, with nginx as the upstream of `HOST`, and what stands behind nginx."""

    def __init__(self, operator: Operator, proxy: Proxy, nginx: Nginx, recorder: Recorder) -> None:
        self.operator = operator
        self.proxy = proxy
        self.nginx = nginx
        self.recorder = recorder

    def rows(self) -> list[Row]:
        """Return the rows so far, oldest first."""
        return sorted(self.operator.rows(), key=lambda row: str(row["id"]))

    def believed(self, count: int) -> list[str]:
        """Return what nginx took for requests, once there are *count* of them."""
        end = time.monotonic() + PATIENCE_S
        while len(found := self.nginx.believed()) < count and time.monotonic() < end:
            time.sleep(0.005)
        return found


@pytest.fixture(scope="module")
def hop(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Hop]:
    module_operator.write_policy("acme", POLICY)
    store_keys(module_operator, {"api": TOKEN})
    with (
        Recorder(None, reply(b"ok", headers=[("Content-Type", "text/plain")])) as recorder,
        running_nginx(module_operator.folder / "nginx", HOST, authority.issue(HOST), recorder.port) as nginx,
        running_proxy(module_operator, {HOST: nginx.port}, upstream_ca=upstream_ca) as proxy,
    ):
        yield Hop(module_operator, proxy, nginx, recorder)


@pytest.mark.parametrize("case", REPLAYED, ids=lambda case: case.id)
def test_nginx_takes_for_a_request_exactly_what_has_a_row(hop: Hop, case: Case) -> None:
    before, rows, behind = len(hop.nginx.believed()), len(hop.rows()), len(hop.recorder.requests)

    attacker.listen(case.talk, ("127.0.0.1", hop.proxy.port), hop.operator.certificate)

    end = time.monotonic() + PATIENCE_S
    while len(new := hop.rows()[rows:]) < len(case.expected_rows) or any(row["duration_ms"] is None for row in new):
        if case.or_refused and time.monotonic() > end - PATIENCE_S + 1:
            break  # it may have been stopped without a row
        assert time.monotonic() < end, new
        time.sleep(0.005)
    allowed = [row for row in new if row["decision"] == "allow"]
    believed = [line.split(" ") for line in hop.believed(before + len(allowed))[before:]]
    assert [(method, target.partition("?")[0], status) for method, target, status in believed] == [
        (row["method"], _path(row), "200") for row in allowed
    ]
    arrived = hop.recorder.requests[behind:]
    assert len(arrived) == len(allowed)
    assert all(request.header("authorization") == f"Bearer {TOKEN}".encode() for request in arrived)
    assert AGENTS_OWN not in repr([bytes(request.raw) for request in arrived])


def _path(row: Row) -> str:
    """The row holds the agent's own words; what was sent is their canonical form. Queries are the tables' to compare."""
    return canonical_path(split_target(str(row["path"]))[0]).text


@pytest.mark.parametrize("arguments", [["--http1.1"], ["--http2"]], ids=["h1", "h2"])
def test_a_zipped_file_from_nginx_is_scrubbed(hop: Hop, arguments: list[str]) -> None:
    text = b"clean " * 1000 + TOKEN.encode() + b" clean" * 1000
    (hop.nginx.folder / "zipped" / "file").write_bytes(gzip.compress(text))

    answer = hop.proxy.curl(f"https://{HOST}/zipped/file", *arguments)

    assert (answer.status, answer.body) == (200, text.replace(TOKEN.encode(), MARK.encode()))
    assert answer.header("content-encoding") is None


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
@pytest.mark.parametrize("arguments", [["--http1.1"], ["--http2"]], ids=["h1", "h2"])
def test_an_upload_through_nginx_arrives_whole(hop: Hop, arguments: list[str], size: int, tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(b"x" * size)

    answer = hop.proxy.curl(f"https://{HOST}/items/1", *arguments, "-H", "Content-Type: a/b", "-X", "POST", "--data-binary",
                            f"@{upload}")  # fmt: skip

    assert answer.status in (200, 413)  # nginx's own limit is 1 MiB
    if answer.status == 200:
        assert hop.recorder.requests[-1].body_bytes == size


class _PrefersHttp2(ssl.SSLContext):
    """httpx offers HTTP/2 second behind a proxy, and the first that is offered is taken."""

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        super().set_alpn_protocols(sorted(alpn_protocols, key=lambda name: name != "h2"))


def test_httpx_over_http2_through_to_nginx(hop: Hop) -> None:
    context = _PrefersHttp2(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(hop.operator.certificate))
    with httpx.Client(http2=True, proxy=hop.proxy.url(), verify=context) as client:
        answers = [client.get(f"https://{HOST}/a/{number}") for number in range(20)]
        refused = client.post(f"https://{HOST}/private/x", content=b"x" * 300_000)
        after = client.get(f"https://{HOST}/after")

    assert {(answer.status_code, answer.http_version, answer.text) for answer in answers} == {(200, "HTTP/2", "ok")}
    assert (refused.status_code, refused.json()["reason"], after.status_code) == (403, "denied_by_rule", 200)


@contextlib.contextmanager
def tunnels(proxy: Proxy, authority: str) -> Iterator[int]:
    """Open a CONNECT to *authority* for each connection to the port that is yielded: for clients that know no proxy."""
    server = socket.create_server(("127.0.0.1", 0))
    relays: list[threading.Thread] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                inner, _ = server.accept()
                outer = socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_S)
                outer.sendall(connect_request(authority))
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += outer.recv(1)
                relays.extend(
                    threading.Thread(target=_relay, args=pair, daemon=True) for pair in ((inner, outer), (outer, inner))
                )
                for relay in relays[-2:]:
                    relay.start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()
        for relay in relays:
            relay.join(PATIENCE_S)


def _relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("options", [["-c1", "-m1", "-n50"], ["-c4", "-m25", "-n400"]], ids=["one-at-once", "a-hundred-at-once"])
def test_h2load_has_every_request_answered_and_written_down(hop: Hop, options: Sequence[str]) -> None:
    program = needs("h2load", "nghttp2-client")
    rows, behind = len(hop.rows()), len(hop.recorder.requests)
    count = int(options[-1].removeprefix("-n"))
    with tunnels(hop.proxy, f"{HOST}:443") as port:
        command = [program, *options, "--connect-to", f"127.0.0.1:{port}", f"https://{HOST}/a"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=4 * PATIENCE_S)

    assert f"{count} total, {count} started, {count} done, {count} succeeded, 0 failed" in done.stdout, done.stdout + done.stderr
    assert len(hop.recorder.requests) - behind == count
    end = time.monotonic() + PATIENCE_S
    while any(row["duration_ms"] is None for row in hop.rows()):
        assert time.monotonic() < end
        time.sleep(0.05)
    new = hop.rows()[rows:]
    assert (len(new), {row["reason"] for row in new}, {row["status"] for row in new}) == (count, {"OK"}, {200})


def test_behind_squid_an_agent_is_known_by_its_token_and_answered(hop: Hop) -> None:
    agent = add_agent(hop.operator, "behind-squid", "fake-token-of-an-agent-behind-squid")
    time.sleep(1)  # the proxy reads the state anew
    behind = len(hop.recorder.requests)
    with running_squid(hop.operator.folder / "squid", hop.proxy.port) as port:
        variables = hop.proxy.agent_variables(agent)
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
            variables[name] = variables[name].replace(str(hop.proxy.port), str(port))
        allowed = curl(f"https://{HOST}/a", environ=variables)
        upgraded = curl(f"https://{HOST}/a", "--http2", environ=variables)
        refused = curl(f"https://{HOST}/private/x", environ=variables)
        unclaimed = curl("https://evil.example.org/", environ=variables)
        cleartext = curl(f"http://{HOST}/a", environ=variables)

    assert [answer.status for answer in (allowed, upgraded, refused)] == [200, 200, 403]
    assert unclaimed.status in (403, 502, 503)
    assert (cleartext.status, TOKEN.encode() in cleartext.body) == (403, False)
    assert {row["agent"] for row in hop.rows()[-5:]} == {"behind-squid"}
    arrived = hop.recorder.requests[behind:]
    assert [request.header("authorization") for request in arrived] == [f"Bearer {TOKEN}".encode()] * 2
    assert all(request.all("proxy-authorization") == [] for request in arrived)
