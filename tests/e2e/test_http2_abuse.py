"""Agents that break HTTP/2's rules, or keep to them and mean no good: bounded memory, an event, and no other stream harmed.

The floods by name: CVE-2023-44487 (rapid reset), CVE-2024-27316 (CONTINUATION), CVE-2019-9512 (ping), -9514 (reset), -9515
(settings), -9517 (a window that stays shut), -9518 (empty frames), CVE-2025-8671 (MadeYouReset: the server is made to reset).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hyperframe.frame import DataFrame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from harness import hurry
from harness.bridge import ON_UPSTREAM, POLICY, http2
from harness.operators import PATIENCE_S, Operator, Row
from harness.raw_agent import RawAgent, tunnel
from harness.raw_http2 import head
from harness.stage import HOST, TOKEN, Stage, running_stage, store_keys
from outloop.attacks import agent as attacker
from outloop.attacks import asking, calling, frames, framing, normalising, smuggling
from outloop.attacks.case import AGENTS_OWN, CLOSED, HTTP2, Case
from outloop.attacks.upstream.certs import Authority
from outloop.attacks.upstream.recorder import Recorder
from outloop.attacks.upstream.replies import Gate, raw

MEBIBYTE = 1024 * 1024
GREETING = frames.PREFACE + SettingsFrame(0).serialize()
ALLOWED = frames.head(path="/a")
MEANT_TO_BREAK = [case for case in (*calling.CASES, *asking.CASES, *framing.CASES, *smuggling.CASES, *normalising.CASES)
                  if case.talk.protocol == HTTP2 and case.status == CLOSED and not case.expected_rows]  # fmt: skip


@pytest.fixture(scope="module")
def attacked(module_operator: Operator, authority: Authority, upstream_ca: Path) -> Iterator[Stage]:
    """A proxy that writes every breach down."""
    module_operator.write_policy("acme", POLICY)
    store_keys(module_operator, {"example": TOKEN})
    options = ["-s", hurry.__file__, "--set", "hurry=breaches.AT_ONCE=100000"]
    with (
        Recorder(authority.server_context(HOST)) as upstream,
        running_stage(module_operator, upstream, ON_UPSTREAM, upstream_ca=upstream_ca, options=options) as stage,
    ):
        yield stage


@pytest.fixture
def stage(attacked: Stage) -> Stage:
    return attacked.view()


def events(stage: Stage) -> list[Row]:
    return [row for row in stage.operator.rows("events") if row["kind"] == "protocol_error"]


def resident_bytes(stage: Stage) -> int:
    status = Path(f"/proc/{stage.proxy.process.pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def flood(stage: Stage, *pieces: bytes, times: int) -> bytes:
    """Send *pieces* over one HTTP/2 connection, *times* times or until the proxy has had enough; return what it said."""
    with tunnel(stage.proxy, f"{HOST}:443", protocols=["h2"]) as agent:
        with contextlib.suppress(OSError):
            agent.send(GREETING)
            for _ in range(times):
                agent.send(b"".join(pieces))
        return agent.everything()


def says_goodbye(heard: bytes, code: int) -> bool:
    """Tell whether a GOAWAY with *code* stands in *heard* (RFC 9113 §6.8)."""
    place = 0
    while place + 9 <= len(heard):
        length, kind = int.from_bytes(heard[place : place + 3], "big"), heard[place + 3]
        if kind == 7:
            return heard[place + 13 : place + 17] == code.to_bytes(4, "big")
        place += 9 + length
    return False


@pytest.mark.parametrize("case", MEANT_TO_BREAK, ids=lambda case: case.id)
def test_what_breaks_the_rules_leaves_an_event_where_it_leaves_no_row(stage: Stage, case: Case) -> None:
    before, rows = len(events(stage)), len(stage.operator.rows())

    attacker.listen(case.talk, ("127.0.0.1", stage.proxy.port), stage.operator.certificate)

    end = time.monotonic() + PATIENCE_S
    while len(found := events(stage)) == before and len(stage.operator.rows()) == rows:
        assert time.monotonic() < end, "neither a row nor an event"
        time.sleep(0.02)
    for event in found[before:]:
        assert (event["workspace"], event["host"]) == ("acme", HOST)
        assert "HTTP/2" in str(event["detail"])
        assert AGENTS_OWN not in str(event)
    assert stage.arrived == []


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        pytest.param([PingFrame(0, b"12345678").serialize() * 1000], "frames that ask for nothing", id="ping"),
        pytest.param([SettingsFrame(0).serialize() * 1000], "frames that ask for nothing", id="settings"),
        pytest.param([frames.frame(0x42, b"abc") * 1000], "frames that ask for nothing", id="unknown-type"),
        pytest.param([frames.frame(2, b"\0\0\0\0\1", stream=1) * 1000], "frames that ask for nothing", id="priority"),
    ],
)  # fmt: skip
def test_a_flood_of_what_asks_for_nothing_is_cut(stage: Stage, pieces: list[bytes], said: str) -> None:
    before, memory = len(events(stage)), resident_bytes(stage)

    heard = flood(stage, *pieces, times=200)

    assert says_goodbye(heard, 11)  # ENHANCE_YOUR_CALM
    assert said in str(stage.wait_for_event("protocol_error", count=before + 1)[-1]["detail"])
    assert resident_bytes(stage) - memory < 64 * MEBIBYTE
    assert stage.curl("/after", "--http2").status == 200


def test_empty_frames_without_end_are_cut(stage: Stage) -> None:
    before = len(events(stage))
    opened = frames.open_headers(*frames.head(method="POST", path="/upload/x"))
    with tunnel(stage.proxy, f"{HOST}:443", protocols=["h2"]) as agent:
        with contextlib.suppress(OSError):
            agent.send(GREETING + opened)
            for _ in range(200):
                agent.send(DataFrame(1, b"").serialize() * 1000)
        agent.everything()

    assert "frames that ask for nothing" in str(stage.wait_for_event("protocol_error", count=before + 1)[-1]["detail"])


@pytest.mark.parametrize("path", ["/a", "/private/x"], ids=["allowed", "refused"])
def test_rapid_resets_are_cut_and_lose_no_row(stage: Stage, path: str) -> None:
    before, rows, memory = len(events(stage)), len(stage.operator.rows()), resident_bytes(stage)
    gate = Gate()
    stage.upstream.on("GET /bystander", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo", gate, b"th"))
    with http2(stage) as bystander:
        held = bystander.begin(head("GET", "/bystander", HOST))
        with tunnel(stage.proxy, f"{HOST}:443", protocols=["h2"]) as agent:
            requests = [
                frames.headers(*frames.head(path=path), stream=stream) + RstStreamFrame(stream, 8).serialize()
                for stream in range(1, 4001, 2)
            ]
            with contextlib.suppress(OSError):
                agent.send(GREETING)
                for request in requests:
                    agent.send(request)
            heard = agent.everything()
        gate.open()
        assert bystander.answer(held).body == b"both"

    assert says_goodbye(heard, 11)
    assert "resets" in str(stage.wait_for_event("protocol_error", count=before + 1)[-1]["detail"])
    assert resident_bytes(stage) - memory < 64 * MEBIBYTE
    end = time.monotonic() + PATIENCE_S
    while any(row["duration_ms"] is None for row in stage.operator.rows()):
        assert time.monotonic() < end, [row for row in stage.operator.rows() if row["duration_ms"] is None][:3]
        time.sleep(0.05)
    written = [row for row in stage.operator.rows()[rows:] if row["path"] == path]
    assert len(written) <= 500  # what came before it was cut
    sent = [request for request in stage.arrived if request.path == path]
    assert len(sent) <= len([row for row in written if row["decision"] == "allow"])


def test_resets_that_the_proxy_is_made_to_send_count_as_well(stage: Stage) -> None:
    before = len(events(stage))
    made = b"".join(
        frames.open_headers(*frames.head(method="POST", path="/links"), stream=stream)
        + WindowUpdateFrame(stream, 2**31 - 1).serialize()
        for stream in range(1, 801, 2)
    )

    heard = flood(stage, made, times=1)

    assert says_goodbye(heard, 11)
    assert "resets" in str(stage.wait_for_event("protocol_error", count=before + 1)[-1]["detail"])
    assert stage.arrived == []


def test_who_sends_on_after_the_end_has_no_socket_held_for_it(stage: Stage) -> None:
    """mitmproxy forgot a connection that was to be closed while more of it waited to be read, with its socket open."""
    folder = Path(f"/proc/{stage.proxy.process.pid}/fd")
    before = len(list(folder.iterdir()))
    agents = contextlib.ExitStack()
    for _ in range(20):
        agent = agents.enter_context(tunnel(stage.proxy, f"{HOST}:443", protocols=["h2"]))
        with contextlib.suppress(OSError):
            agent.send(GREETING + frames.frame(0x42, b"abc") * 30_000)
        agent.everything()

    end = time.monotonic() + PATIENCE_S
    while len(list(folder.iterdir())) > before + 5:
        assert time.monotonic() < end, [path.readlink() for path in folder.iterdir()]
        time.sleep(0.05)
    agents.close()


def test_a_window_that_stays_shut_does_not_fill_the_memory(stage: Stage) -> None:
    total = 192
    pieces = [b"x" * MEBIBYTE] * total
    stage.upstream.on("GET /big", raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (total * MEBIBYTE), *pieces))
    memory = resident_bytes(stage)
    with tunnel(stage.proxy, f"{HOST}:443", protocols=["h2"]) as agent:
        agent.send(GREETING + frames.headers(*frames.head(path="/big")))
        heard = _until_silent(agent)
        assert resident_bytes(stage) - memory < 48 * MEBIBYTE
        assert stage.curl("/after", "--http2").status == 200
        agent.send(WindowUpdateFrame(0, 2**30).serialize() + WindowUpdateFrame(1, 2**30).serialize())
        end = time.monotonic() + 2 * PATIENCE_S
        while heard < total * MEBIBYTE:
            heard += len(agent.connection.recv(MEBIBYTE))
            assert time.monotonic() < end


def _until_silent(agent: RawAgent) -> int:
    heard = 0
    agent.connection.settimeout(3)
    try:
        while piece := agent.connection.recv(MEBIBYTE):
            heard += len(piece)
    except TimeoutError:
        agent.connection.settimeout(PATIENCE_S)
    return heard


def test_a_block_that_unfolds_to_much_is_refused(stage: Stage) -> None:
    before, memory = len(events(stage)), resident_bytes(stage)
    # One long field, into the table; then a thousand one-byte references to it (HPACK bomb, CVE-2016-6581).
    literal = b"\x40\x01x" + b"\x7f\xa1\x1e" + b"y" * 4000
    bomb = frames.frame(1, frames.block(*ALLOWED) + literal + b"\xbe" * 10_000, flags=5, stream=1)

    heard = flood(stage, bomb, times=1)

    assert says_goodbye(heard, 1) or says_goodbye(heard, 11)
    assert len(stage.wait_for_event("protocol_error", count=before + 1)) == before + 1
    assert resident_bytes(stage) - memory < 32 * MEBIBYTE


def test_streams_without_end_are_refused_beyond_a_bound_and_others_go_on(stage: Stage) -> None:
    before = len(events(stage))
    many = b"".join(frames.open_headers(*frames.head(method="POST", path="/links"), stream=number)
                    for number in range(1, 301, 2))  # fmt: skip

    with http2(stage) as bystander:
        flood(stage, many, times=1)
        assert bystander.ask(head("GET", "/after", HOST)).status == 200
    assert len(stage.wait_for_event("protocol_error", count=before + 1)) == before + 1
