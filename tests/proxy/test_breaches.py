"""What is written down of a connection that broke the rules of its protocol."""

from __future__ import annotations

import pytest

from outloop.core.model import Agent
from outloop.proxy.breaches import AT_ONCE, KIND, MAX_DETAIL, Breaches, plain
from outloop.proxy.exchange import Connection, Lane


def opened(name: str = "claude") -> Connection:
    return Connection(Agent("acme", name), "", "api.example.com", 443, Lane.BRIDGED)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("HTTP/2 protocol error: Too many continuation frames received.",
         "HTTP/2 protocol error: Too many continuation frames received"),
        ("HTTP/2 protocol error: Received uppercase header name b'Authorization'.",
         "HTTP/2 protocol error: Received uppercase header name"),
        ("Invalid HTTP/2 request headers: Unknown pseudo headers: {b':secret': b'x'}",
         "Invalid HTTP/2 request headers: Unknown pseudo headers"),
        ('Invalid: "quoted"', "Invalid"),
        ("Received <bytes>", "Received"),
        ("Illegal character '\r' in header name: b'x\\r\\n'", "Illegal character"),
        ("something in ünicode", "something in"),
        ("a\nb", "a"),
        ("x" * 1000, "x" * MAX_DETAIL),
        ("", ""),
    ],
)  # fmt: skip
def test_nothing_that_is_quoted_of_the_agents_bytes_is_kept(message: str, expected: str) -> None:
    assert plain(message) == expected


def test_a_flood_leaves_a_bounded_number_of_events_and_their_count() -> None:
    events: list[dict[str, str | None]] = []
    breaches = Breaches(lambda kind, **fields: events.append({"kind": kind, **fields}))

    for _ in range(AT_ONCE + 990):
        assert breaches.note(opened(), "too many pings", 0.0) == "too many pings"
    breaches.note(opened("codex"), "too many pings", 0.0)
    breaches.note(opened(), "too many pings", 60.0)
    breaches.note(None, "bytes that are not HTTP", 60.0)

    assert len(events) == AT_ONCE + 3
    assert events[0] == {
        "kind": KIND, "workspace": "acme", "agent": "claude", "host": "api.example.com", "detail": "too many pings",
    }  # fmt: skip
    assert [event["agent"] for event in events[AT_ONCE:]] == ["codex", "claude", None]
    assert events[AT_ONCE + 1]["detail"] == "too many pings (and 990 more before)"
    assert events[AT_ONCE + 2]["workspace"] is None
