"""Decoys in a running proxy's memory: read when the state changes and at no other time, and an alarm that cannot be flooded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from outloop.core.decoys import Decoy, DecoySet
from outloop.core.errors import KeyLocked, KeyMissing
from outloop.core.model import Agent
from outloop.core.secret import Secret
from outloop.proxy import decoys as room
from outloop.proxy.decoys import Alarm, Decoys
from outloop.proxy.exchange import Exchange, Said
from outloop.proxy.notification import Notifier
from outloop.store.keycache import KeyCache
from outloop.store.state import StateStore

AT = "2026-01-01T00:00:00.000Z"
VALUE = b"planted-and-never-a-key-0246813579"


class Book:
    """A keychain that says what it is told to, and the events."""

    def __init__(self) -> None:
        self.answer: Exception | bytes = VALUE
        self.reads: list[str] = []
        self.events: list[tuple[str, str | None]] = []

    def get(self, workspace: str, key: str) -> Mapping[str, Secret]:
        self.reads.append(f"{workspace}/{key}")
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"token": Secret(self.answer)}

    def previous(self, workspace: str, key: str) -> Mapping[str, Secret] | None:
        raise AssertionError("a decoy is never rotated")

    def event(self, kind: str, **fields: str | None) -> None:
        self.events.append((kind, fields["detail"]))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    with closing(StateStore(tmp_path / "state.db")) as opened:
        yield opened


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def kept(state: StateStore, book: Book) -> Decoys:
    return Decoys(KeyCache(lambda: book), state, book.event)


def labels(kept: Decoys) -> list[str]:
    return [decoy.label for decoy in kept.planted.decoys]


def test_without_a_decoy_no_keychain_is_opened(state: StateStore, book: Book) -> None:
    def opened() -> Book:
        raise AssertionError("the keychain was opened")

    state.add_key("acme", "k", "calendly", AT)
    kept = Decoys(KeyCache(opened), state, book.event)
    kept.refresh()

    assert (bool(kept.planted), book.events) == (False, [])


def test_a_decoy_is_read_once_and_dropped_when_it_is_removed(state: StateStore, book: Book, kept: Decoys) -> None:
    state.add_decoy("acme", "bait", "calendly", AT)
    for _ in range(3):
        kept.refresh()
    assert (labels(kept), book.reads) == (["acme/bait"], ["acme/bait"])
    assert kept.planted.found_in(b"x" + VALUE)[0].name == "bait"

    state.remove_key("acme", "bait")
    kept.refresh()
    assert (labels(kept), kept.planted.needles.stand_in(VALUE)) == ([], False)


def test_another_decoy_of_the_same_name_is_read_anew(state: StateStore, book: Book, kept: Decoys) -> None:
    state.add_decoy("acme", "bait", "calendly", AT)
    kept.refresh()
    state.remove_key("acme", "bait")
    state.add_decoy("acme", "bait", "calendly", AT)
    book.answer = b"another-value-that-was-never-a-key"
    kept.refresh()
    assert kept.planted.needles.stand_in(b"another-value-that-was-never-a-key")
    assert not kept.planted.needles.stand_in(VALUE)


def test_keys_that_change_make_nothing_read(state: StateStore, book: Book, kept: Decoys) -> None:
    state.add_decoy("acme", "bait", "calendly", AT)
    kept.refresh()
    state.add_key("acme", "k", "calendly", AT)
    state.set_runtime_access("acme", "k", True)
    state.cool_down("acme", "calendly", time.time() + 60)
    kept.refresh()
    assert book.reads == ["acme/bait"]


@pytest.mark.parametrize("fault", [KeyLocked("it is locked"), KeyMissing("it is not there")], ids=["locked", "missing"])
def test_what_cannot_be_read_is_said_once_and_tried_again_more_and_more_rarely(
    state: StateStore, book: Book, kept: Decoys, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
    book.answer = fault
    state.add_decoy("acme", "bait", "calendly", AT)
    for _ in range(600):
        kept.refresh()
        now[0] += 0.5
    assert book.events == [("decoy_unwatched", f"acme/bait: {fault.args[0]}")]
    assert 5 <= len(book.reads) <= 10  # five minutes of asking twice a second

    book.answer = VALUE
    now[0] += room.LAST_RETRY_S
    kept.refresh()
    assert book.events[1:] == [("decoy_watched", "acme/bait")]
    assert labels(kept) == ["acme/bait"]


def test_one_that_cannot_be_read_does_not_hide_the_others(state: StateStore, book: Book, kept: Decoys) -> None:
    state.add_decoy("acme", "bait", "calendly", AT)
    kept.refresh()
    book.answer = KeyLocked("it is locked")
    state.add_decoy("acme", "other", "calendly", AT)
    kept.refresh()
    assert labels(kept) == ["acme/bait"]


# The alarm


told: list[str] = []


class Shown(Notifier):
    """A notifier that writes down what it would show."""

    async def tell_of_decoy(self, text: str) -> None:
        told.append(text)


def exchange() -> Exchange:
    return Exchange("01", Agent("globex", "bot"), Said("GET", "https", "api.example.com", 443, "/x"), 0.0)


def test_each_decoy_rings_once_for_a_request_and_shows_once_a_minute(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    told.clear()
    now = [1000.0]
    planted = DecoySet.compile([Decoy.of("acme", name, [Secret(VALUE + name.encode())]) for name in ("one", "two")])

    async def main() -> None:
        monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
        alarm = Alarm(book.event, Shown((), {}))
        for _ in range(50):
            used = exchange()
            alarm.ring(used, planted, planted.decoys[:1])
            alarm.ring(used, planted, planted.decoys[:1])
        alarm.ring(exchange(), planted, planted.decoys)
        now[0] += room.NOTIFY_PAUSE_S
        alarm.ring(exchange(), planted, planted.decoys[:1])
        await asyncio.sleep(0)

    asyncio.run(main())
    assert book.events == [("decoy_used", "acme/one")] * 51 + [("decoy_used", "acme/two"), ("decoy_used", "acme/one")]
    assert told == [f"globex/bot used the decoy acme/{name}: outloop status" for name in ("one", "two", "one")]
