"""A long upload that carries a known value: where it is cut, what is recorded, and what the agent can tell from it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from outloop.core.decoys import Decoy, DecoySet
from outloop.core.exposure import Needles
from outloop.core.model import Agent, Reason
from outloop.core.scrub import ScrubSet
from outloop.core.secret import Secret
from outloop.proxy.decoys import Alarm
from outloop.proxy.exchange import Exchange, Said
from outloop.proxy.notification import Notifier
from outloop.proxy.vault import Opened
from outloop.proxy.watch import watched

OWN = b"not-a-real-own-token-0123456789"
FOREIGN = b"not-a-real-foreign-token-987654"
DECOY = b"not-a-real-decoy-at-all-13579"


class Book:
    """The two things of a running proxy that a watch asks: what other workspaces have in memory, and to write an event."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.vault = SimpleNamespace(
            others=lambda workspace: [("globex", Needles.compile([Secret(FOREIGN)]))], peek=lambda workspace: None
        )
        self.decoys = SimpleNamespace(planted=DecoySet.compile([Decoy.of("globex", "bait", [Secret(DECOY)])]))
        self.alarm = Alarm(self.event, Notifier((), {}))

    def event(self, kind: str, **fields: Any) -> None:
        self.events.append({"kind": kind, **fields})


def upload() -> Exchange:
    secrets = [Secret(OWN)]
    exchange = Exchange("01", Agent("acme", "bot"), Said("POST", "https", "api.example.com", 443, "/x"), 0.0)
    exchange.opened = Opened({}, {}, ScrubSet.compile(secrets), Needles.compile(secrets))
    return exchange


def test_a_clean_upload_passes_whole_and_is_counted() -> None:
    book, exchange, cuts = Book(), upload(), list[str]()
    passed = watched(book, exchange, cuts.append)  # type: ignore[arg-type]

    assert [*passed(b"one"), *passed(b"two"), *passed(b"")] == [b"one", b"two"]
    assert (exchange.request_bytes, cuts, book.events) == (6, [], [])


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        pytest.param(OWN, Reason.CREDENTIAL_MISPLACED, "a value of this workspace", id="own"),
        pytest.param(FOREIGN, Reason.BODY_NOT_ALLOWED, "a value of workspace globex", id="another-workspaces"),
    ],
)
def test_the_piece_that_completes_a_known_value_and_all_after_it_stay_here(value: bytes, reason: Reason, detail: str) -> None:
    book, exchange, cuts = Book(), upload(), list[str]()
    passed = watched(book, exchange, cuts.append)  # type: ignore[arg-type]

    assert list(passed(b"x" + value[:10])) == [b"x" + value[:10]]
    assert [*passed(value[10:]), *passed(b"after"), *passed(b"")] == []
    assert (exchange.is_cut, exchange.reason, len(cuts)) == (True, reason, 1)
    assert [(event["kind"], event["detail"]) for event in book.events] == [("credential_misplaced", detail)]
    assert "globex" not in cuts[0]


def test_without_opened_keys_nothing_is_watched_through() -> None:
    exchange = upload()
    exchange.opened = None

    with pytest.raises(KeyError):
        watched(Book(), exchange, lambda why: None)  # type: ignore[arg-type]
