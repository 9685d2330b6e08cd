"""Bodies of any size, both ways: what streams, what is held back, and how a transfer that cannot be proved clean ends."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import brotli
import pytest
import zstandard

from harness.operators import Operator
from harness.proxy import Proxy
from harness.raw_agent import tunnel
from harness.raw_http2 import Http2Agent, head
from harness.stage import HOST, MARK, TOKEN, Stage, running_stage, store_keys
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import End, Gate, Reply, chunked, raw, reply, until_close

POLICY = f"""\
workspace: acme
services:
  example:
    hosts: [{HOST}]
    auth: {{type: bearer}}
    rules:
      - allow: GET,POST,PUT /**
      - deny: POST /private/**
      - deny: POST /read/**
        where: {{body.x: 1}}
"""
BINARY = "Content-Type: application/octet-stream"  # a form, or what may be one, is read before it is sent
MEBIBYTE = 1024 * 1024
CLEAN = bytes(range(256)) * 4096  # 1 MiB, every byte
CURL_PARTIAL = (18, 56, 92)  # transfer closed with data outstanding; receive failure; HTTP/2 stream error


@pytest.fixture(scope="module")
def streaming(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    module_operator.write_policy("acme", POLICY)
    store_keys(module_operator, {"example": TOKEN})
    with (
        Recorder(authority.server_context(HOST)) as upstream,
        running_stage(module_operator, upstream, [HOST], upstream_ca=upstream_ca) as stage,
    ):
        yield stage


@pytest.fixture
def stage(streaming: Stage) -> Stage:
    return streaming.view()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def resident_bytes(proxy: Proxy, what: str = "VmRSS") -> int:
    """Return the memory that the proxy holds now (or, `VmHWM`, ever held)."""
    status = Path(f"/proc/{proxy.process.pid}/status").read_text()
    found = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
    assert found, status
    return int(found[1]) * 1024


# Down


def test_events_arrive_one_by_one(stage: Stage) -> None:
    events = [f"data: {number}\n\n".encode() for number in range(5)]
    gates = [Gate() for _ in events]
    pieces: list[bytes | Gate] = []
    for event, gate in zip(events, gates, strict=True):
        pieces += (event, gate)
    stage.upstream.on("GET /events", chunked(*pieces, headers=[("Content-Type", "text/event-stream")]))

    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        agent.send(get("/events"))
        answer = agent.head()
        for event, gate in zip(events, gates, strict=True):
            assert answer.read(len(event)) == event  # the upstream waits at its gate: nothing else can bring it here
            gate.open()
        rest = answer.read()

    assert rest == b""
    assert answer.getheader("content-type") == "text/event-stream"
    row = stage.row(answer.getheader("outloop-audit-id"))
    assert (row["status"], row["response_bytes"], row["secret_exposed"]) == (200, 45, 0)


def test_events_arrive_one_by_one_over_http2(stage: Stage) -> None:
    gate = Gate()
    stage.upstream.on("GET /events", chunked(b"data: 1\n\n", gate, b"data: 2\n\n"))

    with tunnel(stage.proxy, f"{HOST}:443", protocols=["h2"]) as connection:
        agent = Http2Agent(connection)
        stream = agent.begin(head("GET", "/events", HOST))
        assert agent.some(stream) == b"data: 1\n\n"
        gate.open()
        assert agent.answer(stream).body == b"data: 1\n\ndata: 2\n\n"


def test_a_secret_across_events_is_held_back_and_taken_out(stage: Stage) -> None:
    gate = Gate()
    half = len(TOKEN) // 2
    pieces: list[bytes | Gate] = [b"data: a\n\n", f"data: {TOKEN[:half]}".encode(), gate, f"{TOKEN[half:]}\n\n".encode()]
    stage.upstream.on("GET /events", chunked(*pieces))

    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        agent.send(get("/events"))
        answer = agent.head()
        assert answer.read(9) == b"data: a\n\n"
        gate.wait_reached()
        gate.open()
        rest = answer.read()

    assert rest == f"data: {MARK}\n\n".encode()
    assert stage.row(answer.getheader("outloop-audit-id"))["scrubbed"] == 1


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 61])
@pytest.mark.parametrize("framing", ["chunked", "until-close"])
def test_a_secret_is_found_wherever_the_pieces_are_cut(stage: Stage, size: int, framing: str) -> None:
    body = f"before {TOKEN} between {base64.b64encode(TOKEN.encode()).decode()} after".encode()
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    stage.upstream.on("GET /cut", chunked(*pieces) if framing == "chunked" else until_close(*pieces))

    answer = stage.curl("/cut")

    assert (answer.exit_code, answer.body) == (0, f"before {MARK} between {MARK} after".encode())
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["scrubbed"], row["secret_exposed"], row["response_bytes"]) == (2, 0, len(answer.body))


@pytest.mark.parametrize("arguments", [[], ["--http2"], ["--http1.0"]], ids=["h1", "h2", "http-1.0"])
def test_a_clean_download_arrives_byte_for_byte(stage: Stage, arguments: list[str]) -> None:
    stage.upstream.on("GET /clean", chunked(*[CLEAN[start : start + 10_007] for start in range(0, len(CLEAN), 10_007)]))
    stage.upstream.on("GET /declared", reply(CLEAN))

    for path in ("/clean", "/declared"):
        answer = stage.curl(path, *arguments)

        assert (answer.exit_code, answer.status) == (0, 200)
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(CLEAN).digest()
        row = stage.row(answer.header("outloop-audit-id"))
        assert (row["response_bytes"], row["scrubbed"], row["secret_exposed"]) == (len(CLEAN), 0, 0)


def test_a_small_answer_keeps_its_length(stage: Stage) -> None:
    stage.upstream.on("GET /small", reply(b"x" * 1000))

    assert stage.curl("/small").header("content-length") == "1000"


def test_a_large_download_streams_through_flat_memory(stage: Stage) -> None:
    size = 64 * MEBIBYTE
    stage.upstream.on("GET /warm", reply(CLEAN))
    stage.curl("/warm")
    before = resident_bytes(stage.proxy, "VmHWM")
    stage.upstream.on("GET /large", Reply((CLEAN,) * 64, chunked().framing))

    answer = stage.curl("/large", "-o", "/dev/null", "-w", "%{size_download}")

    assert answer.exit_code == 0
    row = stage.wait_for_row(path="/large")
    assert (row["response_bytes"], row["status"], row["secret_exposed"]) == (size, 200, 0)
    assert resident_bytes(stage.proxy, "VmHWM") - before < 24 * MEBIBYTE


def coded(coding: str, data: bytes) -> bytes:
    match coding:
        case "gzip" | "x-gzip":
            return gzip.compress(data)
        case "deflate":
            return zlib.compress(data)
        case "raw-deflate":
            compressor = zlib.compressobj(wbits=-15)
            return compressor.compress(data) + compressor.flush()
        case "br":
            return bytes(brotli.compress(data))
        case "zstd":
            return zstandard.compress(data)
        case _:
            return data


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "raw-deflate", "br", "zstd", "identity"])
@pytest.mark.parametrize("framing", ["declared", "chunked"])
def test_a_coded_body_is_decoded_and_clean(stage: Stage, coding: str, framing: str) -> None:
    plain = b"x" * 5000 + TOKEN.encode() + b"y" * 5000
    body, name = coded(coding, plain), coding.removeprefix("raw-")
    answer = reply(body) if framing == "declared" else chunked(*[body[start : start + 9] for start in range(0, len(body), 9)])
    headers = [("Content-Encoding", name), ("ETag", '"1"'), ("Digest", "sha-256=x"), ("Content-MD5", "x")]
    stage.upstream.on("GET /coded", Reply(answer.pieces, answer.framing, headers=tuple(headers)))

    got = stage.curl("/coded")

    assert (got.exit_code, got.status, got.body) == (0, 200, b"x" * 5000 + MARK.encode() + b"y" * 5000)
    assert [got.header(name) for name in ("content-encoding", "etag", "digest", "content-md5")] == [None, '"1"', None, None]
    row = stage.row(got.header("outloop-audit-id"))
    assert (row["scrubbed"], row["secret_exposed"], row["response_bytes"]) == (1, 0, len(got.body))


def test_what_is_coded_twice_is_decoded_twice(stage: Stage) -> None:
    body = gzip.compress(brotli.compress(TOKEN.encode()))
    stage.upstream.on("GET /twice", reply(body, headers=[("Content-Encoding", "br, gzip")]))

    assert stage.curl("/twice").body == MARK.encode()


@pytest.mark.parametrize("sent", ["gzip", "br", "*", "zstd;q=1"])
def test_the_upstream_is_asked_for_plain_bytes(stage: Stage, sent: str) -> None:
    stage.curl("/plain", "-H", f"Accept-Encoding: {sent}", "-H", "Range: bytes=0-1", "-H", "If-Range: x")

    [arrived] = stage.wait_for(1)
    assert arrived.all("accept-encoding") == [b"identity"]
    assert arrived.all("range") == arrived.all("if-range") == []


UNREADABLE = [
    pytest.param("compress", b"x" * 100, id="unknown-coding"),
    pytest.param("gzip", b"not gzip " + TOKEN.encode(), id="not-gzip"),
    pytest.param("gzip", gzip.compress(b"x" * 500_000 + TOKEN.encode())[:-20], id="cut-gzip"),
    pytest.param("br", b"\xff" * 100, id="not-br"),
    pytest.param("zstd", b"\0" * 100, id="not-zstd"),
    pytest.param("gzip, gzip, gzip, gzip", b"x" * 100, id="too-many-codings"),
]


@pytest.mark.parametrize(("coding", "body"), UNREADABLE)
def test_a_short_answer_that_cannot_be_read_is_refused(stage: Stage, coding: str, body: bytes) -> None:
    stage.upstream.on("GET /unreadable", reply(body, headers=[("Content-Encoding", coding)]))

    answer = stage.curl("/unreadable")

    assert (answer.exit_code, answer.status, answer.json()["reason"]) == (0, 502, "scrub_failed")
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["decision"], row["reason"], row["status"]) == ("allow", "scrub_failed", 502)
    assert row["secret_exposed"] in (0, None)
    assert row["error"]


@pytest.mark.parametrize("arguments", [[], ["--http2"], ["--http1.0"]], ids=["h1", "h2", "http-1.0"])
def test_a_stream_that_turns_out_unreadable_is_cut_so_that_nobody_takes_it_for_whole(stage: Stage, arguments: list[str]) -> None:
    body = gzip.compress(CLEAN * 4, compresslevel=0)
    broken = body[: len(body) // 2] + b"\0" * 1000 + body[len(body) // 2 :]
    pieces = [broken[start : start + 100_000] for start in range(0, len(broken), 100_000)]
    stage.upstream.on("GET /broken", chunked(*pieces, headers=[("Content-Encoding", "gzip")]))

    answer = stage.curl("/broken", *arguments)

    assert answer.exit_code in CURL_PARTIAL
    assert len(answer.body) < 4 * len(CLEAN)
    row = stage.wait_for_row(path="/broken", id=answer.header("outloop-audit-id"))
    assert (row["decision"], row["reason"]) == ("allow", "scrub_failed")
    assert row["secret_exposed"] in (0, None)
    assert row["error"]


@pytest.mark.parametrize("arguments", [[], ["--http2"]], ids=["h1", "h2"])
@pytest.mark.parametrize("end", [End.CLOSE, End.ABORT], ids=["closed", "reset"])
def test_a_download_that_the_upstream_cuts_is_cut_for_the_agent(stage: Stage, end: End, arguments: list[str]) -> None:
    stage.upstream.on("GET /cut-short", chunked(CLEAN, end))

    answer = stage.curl("/cut-short", *arguments)

    assert answer.exit_code in CURL_PARTIAL
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["decision"], row["reason"]) == ("allow", "upstream_failed")
    assert row["error"]


def test_a_bomb_is_cut_and_memory_stays_flat(stage: Stage) -> None:
    bomb = gzip.compress(b"\0" * 512 * MEBIBYTE)
    before = resident_bytes(stage.proxy, "VmHWM")
    stage.upstream.on("GET /bomb", chunked(bomb, headers=[("Content-Encoding", "gzip")]))

    answer = stage.curl("/bomb", "-o", "/dev/null")

    assert answer.exit_code in CURL_PARTIAL
    assert stage.wait_for_row(path="/bomb")["reason"] == "scrub_failed"
    assert resident_bytes(stage.proxy, "VmHWM") - before < 96 * MEBIBYTE


def test_a_small_reply_that_grows_large_is_not_held_several_times_over(stage: Stage) -> None:
    grown = b"\0" * 30 * MEBIBYTE
    stage.upstream.on("GET /grows", reply(gzip.compress(grown), headers=[("Content-Encoding", "gzip")]))
    before = resident_bytes(stage.proxy, "VmHWM")

    answer = stage.curl("/grows")

    assert answer.exit_code == 0
    assert answer.body == grown
    assert resident_bytes(stage.proxy, "VmHWM") - before < 96 * MEBIBYTE


def test_what_is_echoed_in_the_head_is_taken_out(stage: Stage) -> None:
    basic = base64.b64encode(f"user:{TOKEN}".encode()).decode()
    lines = [
        f"HTTP/1.1 200 Fine {TOKEN}",
        f"X-Echo: Bearer {TOKEN}",
        f"Location: https://x.test/?t={TOKEN}",
        f"Set-Cookie: t={TOKEN}; Secure",
        f"Set-Cookie: b={basic}",
        f'WWW-Authenticate: Basic realm="{TOKEN}"',
        f"Link: <https://x.test/{TOKEN}>; rel=next",
        f"X-{TOKEN}: name",
        "X-Clean: kept",
        "Content-Length: 2",
    ]
    stage.upstream.on("GET /head", raw("\r\n".join([*lines, "", "ok"]).encode()))

    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        answer = agent.ask(get("/head"))

    assert TOKEN not in str(answer)
    assert basic not in str(answer)
    assert (answer.status, answer.body, answer.header("x-clean")) == (200, b"ok", "kept")
    assert answer.header("location") == f"https://x.test/?t={MARK}"
    assert answer.header("set-cookie") == f"t={MARK}; Secure"
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["scrubbed"], row["secret_exposed"]) == (8, 0)


def test_fields_that_only_outloop_or_a_connection_may_set_are_dropped(stage: Stage) -> None:
    headers = [("Outloop-Audit-Id", "01ARZ3NDEKTSV4RRFFQ69G5FAV"), ("Outloop-Reason", "OK"), ("Alt-Svc", 'h3=":443"')]
    stage.upstream.on("GET /set", reply(b"ok", headers=[*headers, ("Proxy-Authenticate", "Basic")]))

    answer = stage.curl("/set")

    assert [name.lower() for name, _ in answer.headers].count("outloop-audit-id") == 1
    assert answer.header("outloop-audit-id") != headers[0][1]
    assert [answer.header(name) for name in ("outloop-reason", "alt-svc", "proxy-authenticate")] == [None] * 3


# Up


def sized_file(folder: Path, size: int) -> Path:
    path = folder / "upload"
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["-H", "Expect:"], id="declared"),
        pytest.param(["-H", "Expect:", "-H", "Transfer-Encoding: chunked"], id="chunked"),
        pytest.param(["-H", "Expect: 100-continue"], id="expect"),
        pytest.param(["--http2"], id="h2"),
    ],
)
def test_a_large_upload_streams(stage: Stage, tmp_path: Path, arguments: list[str]) -> None:
    size = 32 * MEBIBYTE
    before = resident_bytes(stage.proxy, "VmHWM")

    answer = stage.curl("/upload", "-T", str(sized_file(tmp_path, size)), *arguments)

    [sent] = stage.wait_for(1)
    assert (answer.exit_code, answer.status, sent.body_bytes) == (0, 200, size)
    assert sent.all("authorization") == [f"Bearer {TOKEN}".encode()]
    assert len(sent.all("content-length")) + len(sent.all("transfer-encoding")) == 1
    assert sent.all("expect") == []
    row = stage.row(answer.header("outloop-audit-id"))
    assert (row["request_bytes"], row["status"]) == (size, 200)
    assert resident_bytes(stage.proxy, "VmHWM") - before < 24 * MEBIBYTE


@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_an_upload_arrives_while_it_is_sent(stage: Stage, framing: str) -> None:
    is_chunked = "chunked" in framing
    half = b"x" * 50_000
    piece = b"%x\r\n%b\r\n" % (len(half), half) if is_chunked else half

    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        agent.send(f"POST /upload HTTP/1.1\r\nHost: {HOST}\r\n{BINARY}\r\n{framing}\r\n\r\n".encode() + piece)
        stage.wait_for_body(len(half))
        [sent] = stage.arrived
        assert not sent.complete
        agent.send(piece + (b"0\r\n\r\n" if is_chunked else b""))
        answer = agent.answer()

    assert (answer.status, bytes(sent.body)) == (200, half * 2)


def test_an_upload_over_http2_without_a_length_is_framed_for_http1(stage: Stage) -> None:
    smuggled = f"GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()

    with tunnel(stage.proxy, f"{HOST}:443", protocols=["h2"]) as connection:
        agent = Http2Agent(connection)
        answer = agent.ask(head("POST", "/upload", HOST), smuggled, smuggled)
        after = agent.ask(head("GET", "/after", HOST))

    first, second = stage.wait_for(2)
    assert (answer.status, after.status) == (200, 200)
    assert (first.path, bytes(first.body), second.path) == ("/upload", smuggled * 2, "/after")
    assert first.all("content-length") or first.all("transfer-encoding") == [b"chunked"]
    assert "/smuggled" not in [each.path for each in stage.arrived]


def test_a_length_over_http2_that_does_not_hold_ends_in_no_second_request(stage: Stage) -> None:
    smuggled = f"GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()

    with tunnel(stage.proxy, f"{HOST}:443", protocols=["h2"]) as connection:
        agent = Http2Agent(connection)
        stream = agent.begin(head("POST", "/upload", HOST, ("content-length", "1")), b"x" + smuggled)
        refused = agent.fails(stream)

    assert refused or "/smuggled" not in [each.path for each in stage.arrived]
    assert "/smuggled" not in [each.path for each in stage.arrived]


@pytest.mark.parametrize("value", ["a\r\nX-Smuggled: 1", "a\nX-Smuggled: 1", "a\0b"], ids=["crlf", "lf", "nul"])
def test_a_line_break_in_an_http2_header_does_not_become_a_header(stage: Stage, value: str) -> None:
    with tunnel(stage.proxy, f"{HOST}:443", protocols=["h2"]) as connection:
        agent = Http2Agent(connection)
        stream = agent.begin(head("GET", "/header", HOST, ("x-a", value)))
        status = 0 if agent.fails(stream) else agent.answer(stream).status

    assert status in (0, 400)
    assert stage.arrived == []


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["-H", "Expect:"], id="declared"),
        pytest.param(["-H", "Expect:", "-H", "Transfer-Encoding: chunked"], id="chunked"),
        pytest.param(["-H", "Expect: 100-continue"], id="expect"),
        pytest.param(["--http2"], id="h2"),
    ],
)
def test_a_refused_upload_gets_its_answer_and_is_not_collected(stage: Stage, tmp_path: Path, arguments: list[str]) -> None:
    before = resident_bytes(stage.proxy, "VmHWM")

    answer = stage.curl("/private/upload", "-X", "POST", "-H", BINARY, "-T", str(sized_file(tmp_path, 32 * MEBIBYTE)), *arguments)

    assert (answer.status, answer.json()["reason"], stage.arrived) == (403, "denied_by_rule", [])
    assert stage.row(answer.header("outloop-audit-id"))["status"] == 403
    assert resident_bytes(stage.proxy, "VmHWM") - before < 16 * MEBIBYTE


def test_what_is_denied_without_its_body_is_not_read_for_it(stage: Stage, tmp_path: Path) -> None:
    answer = stage.curl("/private/form", "--data-binary", f"@{sized_file(tmp_path, 2 * MEBIBYTE)}", "-H", "Expect:")

    assert (answer.status, answer.json()["reason"]) == (403, "denied_by_rule")


def test_a_small_refused_upload_keeps_the_connection(stage: Stage) -> None:
    refused = f"POST /private/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000\r\n\r\n".encode() + b"x" * 1000

    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        statuses = [agent.ask(refused).status, agent.ask(get("/after")).status]

    assert statuses == [403, 200]


def test_an_upload_without_end_that_a_rule_must_read_is_refused_at_the_limit(stage: Stage, tmp_path: Path) -> None:
    before = resident_bytes(stage.proxy, "VmHWM")
    upload = sized_file(tmp_path, 32 * MEBIBYTE)

    answer = stage.curl("/read/x", "-X", "POST", "-T", str(upload), "-H", "Expect:", "-H", "Transfer-Encoding: chunked")

    assert (answer.status, answer.json()["reason"], stage.arrived) == (413, "body_too_large", [])
    assert resident_bytes(stage.proxy, "VmHWM") - before < 16 * MEBIBYTE


def test_an_answer_before_the_upload_is_whole_leaves_one_row(stage: Stage) -> None:
    stage.upstream.on("POST /early", reply(b"no need", status=200, before_body=True))

    with tunnel(stage.proxy, f"{HOST}:443") as agent:
        agent.send(
            f"POST /early HTTP/1.1\r\nHost: {HOST}\r\n{BINARY}\r\nContent-Length: 200000\r\n\r\n".encode() + b"x" * 100_000
        )
        answer = agent.answer("POST")
        agent.send(b"x" * 100_000)
        after = agent.ask(get("/after"))

    assert (answer.status, answer.body, after.status) == (200, b"no need", 200)
    stage.row(after.header("outloop-audit-id"))
    rows = [row for row in stage.operator.rows() if row["path"] == "/early"]
    assert [(row["decision"], row["reason"], row["status"]) for row in rows] == [("allow", "OK", 200)]


@pytest.mark.parametrize("framing", ["declared", "chunked", "h2"])
def test_a_long_upload_that_carries_the_key_is_cut_before_it_is_whole(stage: Stage, framing: str) -> None:
    body = b"x" * 300_000 + TOKEN.encode() + b"y" * 300_000
    with tunnel(stage.proxy, f"{HOST}:443", protocols=["h2" if framing == "h2" else "http/1.1"]) as agent:
        try:
            if framing == "h2":
                h2 = Http2Agent(agent)
                h2.fails(
                    h2.begin(
                        head("POST", f"/leak/{framing}", HOST, ("content-type", "application/octet-stream")),
                        *[body[at : at + 10_000] for at in range(0, len(body), 10_000)],
                    )
                )
            elif framing == "declared":
                agent.send(
                    f"POST /leak/{framing} HTTP/1.1\r\nHost: {HOST}\r\n{BINARY}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                agent.everything()
            else:
                agent.send(
                    f"POST /leak/{framing} HTTP/1.1\r\nHost: {HOST}\r\n{BINARY}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
                )
                agent.send(b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:300_010], body[300_010:])) + b"0\r\n\r\n")
                agent.everything()
        except OSError:
            pass  # cut while it was sending

    row = stage.wait_for_row(path=f"/leak/{framing}")
    assert (row["decision"], row["reason"]) == ("allow", "credential_misplaced")
    [sent] = stage.arrived
    assert TOKEN.encode() not in sent.body
    assert not sent.complete


# HTTP/2 frames


def test_an_empty_http2_frame_does_not_let_out_what_is_held_back(
    operator: Operator, authority: Authority, upstream_ca: Path
) -> None:
    half = len(TOKEN) // 2
    pieces = [b"before ", TOKEN[:half].encode(), b"", TOKEN[half:].encode(), b" after"]
    operator.write_policy("acme", POLICY)
    store_keys(operator, {"example": TOKEN})
    with (
        Recorder(authority.server_context(HOST, protocols=["h2"]), chunked(*pieces)) as upstream,
        running_stage(operator, upstream, [HOST], upstream_ca=upstream_ca) as stage,
        tunnel(stage.proxy, f"{HOST}:443", protocols=["h2"]) as connection,
    ):
        answer = Http2Agent(connection).ask(head("GET", "/empty", HOST))
        [sent] = upstream.wait_for(1)

    assert sent.version == "HTTP/2"
    assert answer.body == f"before {MARK} after".encode()
