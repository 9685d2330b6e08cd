"""The cache against keychains that hang, raise, are slow or refuse; the real embedded one wherever none of that is needed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outloop.core.errors import KeychainError, KeyLocked, KeyMissing, KeyReplaced, UsageError
from outloop.core.secret import Secret
from outloop.store.home import Home
from outloop.store.keycache import KeyCache, KeyReader, LoadedKey
from outloop.store.keychain import Keychain
from outloop.store.state import KeyRecord, StateStore

AT = "2026-01-01T00:00:00.000Z"
FOREVER_S = 60.0


def record(name: str = "k", generation: int = 1, workspace: str = "acme", *, previous_until: float | None = None) -> KeyRecord:
    return KeyRecord(workspace, name, "calendly", True, generation, AT, previous_until)


class Scripted:
    """A keychain that does what it is told: values by name, and a function called before each read."""

    def __init__(self, **values: str | Exception) -> None:
        self.values: dict[str, str | Exception] = dict(values)
        self.before_values: dict[str, str] = {}
        self.reads: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.before: Callable[[], object] = lambda: None

    def get(self, workspace: str, key: str) -> Mapping[str, Secret]:
        self.reads.append(f"{workspace}/{key}")
        self.threads.add(threading.current_thread())
        self.before()
        value = self.values[key]
        if isinstance(value, Exception):
            raise value
        return {"token": Secret(value.encode())}

    def previous(self, workspace: str, key: str) -> Mapping[str, Secret] | None:
        self.reads.append(f"{workspace}/{key}#previous")
        value = self.before_values.get(key)
        return None if value is None else {"token": Secret(value.encode())}

    def renew(self, workspace: str, key: str, before: Mapping[str, Secret], parts: Mapping[str, Secret]) -> None:
        self.reads.append(f"{workspace}/{key}#renewed")
        self.threads.add(threading.current_thread())
        self.before()
        value = self.values[key]
        if isinstance(value, Exception):
            raise value
        self.values[key] = parts["token"].reveal().decode()


def cache_of(keychain: KeyReader, *, read_limit_s: float = FOREVER_S, **more: Any) -> KeyCache:
    return KeyCache(lambda: keychain, read_limit_s=read_limit_s, **more)


def value_of(answer: LoadedKey | KeychainError) -> str:
    assert isinstance(answer, LoadedKey), answer
    return answer.parts["token"].reveal().decode()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, FOREVER_S))


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Set at the end, whatever happened: no thread of a test stays behind."""
    event = threading.Event()
    yield event
    event.set()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_the_values_of_a_real_keychain_are_loaded(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.ensure()
    state = StateStore(home.state_db)
    keychain = Keychain.open(home, state, {"OUTLOOP_KEYRING": "file"})
    keychain.set("acme", "k", {"token": Secret(b"fake-old-value")})
    keychain.rotate("acme", "k", {"token": Secret(b"fake-new-value")})
    cache = KeyCache(lambda: Keychain.open(home, state, {}, may_choose=False))

    async def main() -> None:
        loaded = (await cache.load([record(previous_until=1.0)]))["acme", "k"]
        assert value_of(loaded) == "fake-new-value"
        assert isinstance(loaded, LoadedKey)
        assert loaded.previous == {"token": Secret(b"fake-old-value")}
        assert isinstance((await cache.load([record("other")]))["acme", "other"], KeyMissing)

    run(main())
    state.close()


def test_a_value_is_read_once_and_off_the_event_loop() -> None:
    keychain = Scripted(k="fake-value")
    cache = cache_of(keychain)

    async def main() -> None:
        first = (await cache.load([record()]))["acme", "k"]
        again = (await cache.load([record()]))["acme", "k"]
        assert value_of(first) == "fake-value"
        assert again is first

    run(main())
    assert keychain.reads == ["acme/k"]
    assert all(thread.daemon and thread is not threading.main_thread() for thread in keychain.threads)


def test_one_thread_reads_all_workspaces() -> None:
    keychain = Scripted(**{f"k{number}": "fake-value" for number in range(10)})
    cache = cache_of(keychain)

    async def main() -> None:
        await asyncio.gather(*(cache.load([record(f"k{number}", workspace=f"w{number}")]) for number in range(10)))

    run(main())
    assert len(keychain.reads) == 10
    assert len(keychain.threads) == 1


def test_loads_of_a_workspace_at_the_same_moment_share_one_read(gate: threading.Event) -> None:
    keychain = Scripted(a="fake-value-a", b="fake-value-b")
    keychain.before = gate.wait
    cache = cache_of(keychain)

    async def main() -> None:
        both, one = [record("a"), record("b")], [record("a"), record("b")][:1]
        loads = [asyncio.create_task(cache.load(records)) for records in (both, both, one, both)]
        await until(lambda: keychain.reads)
        gate.set()
        for answers in await asyncio.gather(*loads):
            assert value_of(answers["acme", "a"]) == "fake-value-a"

    run(main())
    assert keychain.reads == ["acme/a", "acme/b"]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(record(generation=2), id="rotated"),
        pytest.param(KeyRecord("acme", "k", "calendly", True, 1, "2027-01-01T00:00:00.000Z", None), id="state-db-made-anew"),
    ],
)
def test_a_changed_record_is_read_anew(changed: KeyRecord) -> None:
    keychain = Scripted(k="fake-old-value")
    cache = cache_of(keychain)

    async def main() -> None:
        await cache.load([record()])
        keychain.values["k"] = "fake-new-value"
        assert value_of((await cache.load([record()]))["acme", "k"]) == "fake-old-value"
        assert value_of((await cache.load([changed]))["acme", "k"]) == "fake-new-value"

    run(main())


def test_a_value_the_upstream_refused_is_read_anew() -> None:
    keychain = Scripted(k="fake-old-value", other="fake-other-value")
    cache = cache_of(keychain)

    async def main() -> None:
        records = [record(), record("other")]
        await cache.load(records)
        keychain.values["k"] = "fake-new-value"
        cache.forget("acme", "k")
        assert value_of((await cache.load(records))["acme", "k"]) == "fake-new-value"

    run(main())
    assert keychain.reads == ["acme/k", "acme/other", "acme/k"]


def test_a_read_under_way_does_not_bring_back_what_was_forgotten(gate: threading.Event) -> None:
    keychain = Scripted(k="fake-old-value")
    keychain.before = gate.wait
    cache = cache_of(keychain)

    async def main() -> None:
        earlier = asyncio.create_task(cache.load([record()]))
        await until(lambda: keychain.reads)
        cache.forget("acme", "k")
        later = asyncio.create_task(cache.load([record()]))
        gate.set()
        assert value_of((await earlier)["acme", "k"]) == "fake-old-value"
        keychain.values["k"] = "fake-new-value"
        await later
        cache.forget("acme", "k")
        assert value_of((await cache.load([record()]))["acme", "k"]) == "fake-new-value"

    run(main())
    assert len(keychain.reads) == 3


def test_a_key_that_is_off_or_gone_does_not_stay_in_memory() -> None:
    keychain = Scripted(a="fake-value-a", b="fake-value-b")
    cache = cache_of(keychain)

    async def main() -> None:
        await cache.load([record("a"), record("b")])
        await cache.load([record("a")])
        await cache.load([record("a"), record("b")])

    run(main())
    assert keychain.reads == ["acme/a", "acme/b", "acme/b"]


def test_workspaces_do_not_drop_each_others_values() -> None:
    keychain = Scripted(k="fake-value")
    cache = cache_of(keychain)

    async def main() -> None:
        for _ in range(3):
            await cache.load([record()])
            await cache.load([record(workspace="beta")])

    run(main())
    assert keychain.reads == ["acme/k", "beta/k"]


def test_the_value_before_a_rotation_is_read_only_within_its_grace() -> None:
    keychain = Scripted(k="fake-value")
    keychain.before_values["k"] = "fake-old-value"
    cache = cache_of(keychain)

    async def main() -> None:
        loaded = (await cache.load([record()]))["acme", "k"]
        assert isinstance(loaded, LoadedKey)
        assert loaded.previous is None
        assert keychain.reads == ["acme/k"]
        loaded = (await cache.load([record(generation=2, previous_until=1.0)]))["acme", "k"]
        assert isinstance(loaded, LoadedKey)
        assert loaded.previous == {"token": Secret(b"fake-old-value")}

    run(main())


def test_nothing_to_load_asks_nobody() -> None:
    keychain = Scripted()
    run(_nothing(cache_of(keychain)))
    assert keychain.reads == []


async def _nothing(cache: KeyCache) -> None:
    assert await cache.load([]) == {}


# Keychains that fail


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        pytest.param(KeyMissing("gone", "add it"), KeyMissing, "gone", id="missing"),
        pytest.param(KeyLocked("shut", "open it"), KeyLocked, "shut", id="locked"),
        pytest.param(UsageError("state.db is broken", "mend it"), KeyLocked, "state.db is broken", id="state-broken"),
        pytest.param(RuntimeError("fake-secret"), KeyLocked, "the keychain cannot be used: RuntimeError", id="unknown"),
    ],
)
def test_an_error_is_an_answer_of_its_key_alone(error: Exception, kind: type[KeychainError], message: str) -> None:
    cache = cache_of(Scripted(a="fake-value-a", k=error))

    async def main() -> None:
        answers = await cache.load([record("a"), record("k")])
        assert value_of(answers["acme", "a"]) == "fake-value-a"
        refused = answers["acme", "k"]
        assert type(refused) is kind
        assert refused.message == message

    run(main())


def test_the_thread_survives_whatever_a_keychain_raises() -> None:
    keychain = Scripted(k=RuntimeError("fake-secret"), other="fake-value")
    cache = cache_of(keychain)

    async def main() -> None:
        await cache.load([record()])
        assert value_of((await cache.load([record("other", workspace="beta")]))["beta", "other"]) == "fake-value"

    run(main())


def test_each_refusal_is_a_new_exception_so_that_no_traceback_grows() -> None:
    cache = cache_of(Scripted(k=KeyMissing("gone")))

    async def main() -> None:
        one, two = [(await cache.load([record()]))["acme", "k"] for _ in range(2)]
        assert one is not two

    run(main())


def test_a_missing_key_is_not_looked_for_again_before_its_record_changes() -> None:
    keychain = Scripted(k=KeyMissing("gone"))
    cache = cache_of(keychain)

    async def main() -> None:
        for _ in range(3):
            assert isinstance((await cache.load([record()]))["acme", "k"], KeyMissing)
        keychain.values["k"] = "fake-value"
        assert value_of((await cache.load([record(generation=2)]))["acme", "k"]) == "fake-value"

    run(main())
    assert len(keychain.reads) == 2


def test_a_locked_keychain_is_asked_once_and_then_left_alone_for_a_while() -> None:
    now = [100.0]
    keychain = Scripted(a=KeyLocked("shut"), b="fake-value-b")
    cache = cache_of(keychain, pause_s=5.0, clock=lambda: now[0])

    async def main() -> None:
        for at in (100.0, 102.0, 104.9):
            now[0] = at
            answers = await cache.load([record("a"), record("b")])
            assert [type(answer) for answer in answers.values()] == [KeyLocked, KeyLocked]
        assert keychain.reads == ["acme/a"]
        keychain.values["a"] = "fake-value-a"
        now[0] = 105.0
        answers = await cache.load([record("a"), record("b")])
        assert [value_of(answer) for answer in answers.values()] == ["fake-value-a", "fake-value-b"]

    run(main())


def test_a_keychain_that_cannot_be_opened_is_tried_again() -> None:
    attempts: list[Exception | KeyReader] = [KeyLocked("shut"), KeyMissing("never stored"), Scripted(k="fake-value")]

    def open_keychain() -> KeyReader:
        attempt = attempts.pop(0)
        if isinstance(attempt, Exception):
            raise attempt
        return attempt

    cache = KeyCache(open_keychain, pause_s=0.0)

    async def main() -> None:
        kinds = [type((await cache.load([record(generation=number)]))["acme", "k"]) for number in (1, 2, 3)]
        assert kinds == [KeyLocked, KeyMissing, LoadedKey]

    run(main())


def test_a_keychain_that_hangs_refuses_and_then_refuses_at_once_until_it_returns(gate: threading.Event) -> None:
    keychain = Scripted(k="fake-value", other="fake-other-value")
    cache = cache_of(keychain, read_limit_s=0.05)

    async def main() -> None:
        await cache.load([record("other", workspace="warm")])
        keychain.before = gate.wait
        refused = (await cache.load([record()]))["acme", "k"]
        assert isinstance(refused, KeyLocked)
        assert refused.message == "the keychain did not answer in time"

        cold = cache.load([record("other", workspace="beta")])
        with pytest.raises(StopIteration) as answered:  # at once: the coroutine ends without having waited for anything
            cold.send(None)
        assert isinstance(answered.value.value["beta", "other"], KeyLocked)
        assert value_of((await cache.load([record("other", workspace="warm")]))["warm", "other"]) == "fake-other-value"
        assert keychain.reads == ["warm/other", "acme/k"]

        gate.set()
        await until(lambda: not cache._reads)  # the stuck call has returned, and what it brought is kept
        assert value_of((await cache.load([record()]))["acme", "k"]) == "fake-value"
        assert value_of((await cache.load([record("other", workspace="beta")]))["beta", "other"]) == "fake-other-value"
        assert keychain.reads == ["warm/other", "acme/k", "beta/other"]

    run(main())


def test_a_slow_keychain_is_waited_for(gate: threading.Event) -> None:
    keychain = Scripted(k="fake-value")
    keychain.before = gate.wait
    cache = cache_of(keychain)

    async def main() -> None:
        load = asyncio.create_task(cache.load([record()]))
        await until(lambda: keychain.reads)
        beats = 0
        while beats < 20:  # the event loop goes on meanwhile
            await asyncio.sleep(0)
            beats += 1
        assert not load.done()
        gate.set()
        assert value_of((await load)["acme", "k"]) == "fake-value"

    run(main())


def test_a_request_that_is_cancelled_does_not_take_the_read_from_the_others(gate: threading.Event) -> None:
    keychain = Scripted(k="fake-value")
    keychain.before = gate.wait
    cache = cache_of(keychain)

    async def main() -> None:
        cancelled, waiting = (asyncio.create_task(cache.load([record()])) for _ in range(2))
        await until(lambda: keychain.reads)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        gate.set()
        assert value_of((await waiting)["acme", "k"]) == "fake-value"
        assert value_of((await cache.load([record()]))["acme", "k"]) == "fake-value"

    run(main())
    assert keychain.reads == ["acme/k"]


def test_an_event_loop_that_ends_while_the_keychain_hangs_breaks_nothing(gate: threading.Event) -> None:
    keychain = Scripted(k="fake-value")
    keychain.before = gate.wait
    cache = cache_of(keychain)

    async def leave() -> None:
        task = asyncio.create_task(cache.load([record()]))
        await until(lambda: keychain.reads)
        task.cancel()

    async def come_back() -> None:
        await until(lambda: not cache._reads)
        assert value_of((await cache.load([record()]))["acme", "k"]) == "fake-value"

    run(leave())
    gate.set()
    run(come_back())


def test_no_value_is_in_what_the_cache_shows_of_itself() -> None:
    cache = cache_of(Scripted(k="fake-value-0123456789"))

    async def main() -> None:
        answers = await cache.load([record()])
        assert "fake-value" not in f"{answers!r} {vars(cache)!r}"

    run(main())


def test_three_hundred_keys_come_in_one_read() -> None:
    keychain = Scripted(**{f"key-{number}": f"fake-value-{number}" for number in range(300)})
    cache = cache_of(keychain)
    read: list[Awaitable[object]] = []

    async def main() -> None:
        records = [record(f"key-{number}") for number in range(300)]
        read.append(asyncio.create_task(cache.load(records)))
        answers = await cache.load(records)
        await read[0]
        assert len({value_of(answer) for answer in answers.values()}) == 300

    run(main())
    assert len(keychain.reads) == 300


OLD, NEW = {"token": Secret(b"fake-old-value")}, {"token": Secret(b"fake-new-value")}


def test_an_exchanged_value_is_stored_by_the_keychains_thread_and_read_anew() -> None:
    keychain = Scripted(k="fake-old-value")
    cache = cache_of(keychain)

    async def main() -> None:
        assert value_of((await cache.load([record()]))["acme", "k"]) == "fake-old-value"
        await cache.renew(record(), OLD, NEW)
        assert value_of((await cache.load([record()]))["acme", "k"]) == "fake-new-value"

    run(main())
    assert keychain.reads == ["acme/k", "acme/k#renewed", "acme/k"]
    assert len(keychain.threads) == 1


def test_a_renewal_by_another_process_is_read_anew() -> None:
    keychain = Scripted(k="fake-old-value")
    cache = cache_of(keychain)

    async def main() -> None:
        await cache.load([record()])
        keychain.values["k"] = "fake-new-value"
        assert value_of((await cache.load([record()]))["acme", "k"]) == "fake-old-value"
        assert value_of((await cache.load([replace(record(), renewals=1)]))["acme", "k"]) == "fake-new-value"

    run(main())


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        pytest.param(KeyReplaced("replaced"), KeyReplaced, id="replaced"),
        pytest.param(KeyMissing("gone"), KeyMissing, id="gone"),
        pytest.param(UsageError("state.db cannot be used"), KeyLocked, id="state"),
        pytest.param(RuntimeError("D-Bus"), KeyLocked, id="anything"),
    ],
)
def test_a_value_that_could_not_be_stored_is_said_so(raised: Exception, expected: type[KeychainError]) -> None:
    cache = cache_of(Scripted(k=raised))

    async def main() -> None:
        with pytest.raises(expected):
            await cache.renew(record(), OLD, NEW)

    run(main())


def test_a_keychain_that_hangs_is_not_waited_for_with_a_value_in_hand(gate: threading.Event) -> None:
    keychain = Scripted(k="fake-old-value")
    keychain.before = gate.wait
    cache = cache_of(keychain, read_limit_s=0.05)

    async def main() -> None:
        for _ in range(2):  # the second finds the thread busy and does not queue behind it
            with pytest.raises(KeyLocked, match="did not answer in time"):
                await cache.renew(record(), OLD, NEW)
        assert isinstance((await cache.load([record()]))["acme", "k"], KeyLocked)
        gate.set()
        await until(lambda: keychain.values["k"] == "fake-new-value")
        await cache.renew(record(), OLD, NEW)

    run(main())
    assert keychain.reads == ["acme/k#renewed"] * 2


# Read for somebody else to keep


def test_what_is_read_for_others_is_kept_by_them_alone_and_drops_nothing_that_is_kept() -> None:
    keychain = Scripted(k="fake-value", bait="planted-value")
    cache = cache_of(keychain)

    async def main() -> None:
        kept = (await cache.load([record()]))["acme", "k"]
        for _ in range(2):
            assert value_of(cache.read([record("bait")])["acme", "bait"]) == "planted-value"
        assert (await cache.load([record()]))["acme", "k"] is kept

    run(main())
    assert keychain.reads == ["acme/k", "acme/bait", "acme/bait"]
    assert {thread.name for thread in keychain.threads} == {"outloop-keychain"}


def test_a_read_that_hangs_is_given_up_in_time_and_asks_nothing_more(gate: threading.Event) -> None:
    keychain = Scripted(bait="planted-value")
    keychain.before = gate.wait
    cache = cache_of(keychain, read_limit_s=0.05)
    for _ in range(3):
        assert isinstance(cache.read([record("bait")])["acme", "bait"], KeyLocked)
    assert keychain.reads == ["acme/bait"]


def test_what_is_not_there_and_what_is_locked_are_told_apart() -> None:
    cache = cache_of(Scripted(gone=KeyMissing("it is not there"), shut=KeyLocked("it is locked")))
    found = cache.read([record("gone"), record("shut")])
    assert [type(found["acme", name]) for name in ("gone", "shut")] == [KeyMissing, KeyLocked]
