from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outloop.core.errors import UsageError
from outloop.core.model import RequestLimit
from outloop.store.state import KeyRecord, StateStore, process_is_alive
from outloop.store.state_file import MIGRATIONS

AT = "2026-01-01T00:00:00.000Z"
HASH = "a" * 64
FRESH = itertools.count()
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    opened = StateStore(path)
    yield opened
    opened.close()


def test_a_key_begins_with_runtime_access_off(store: StateStore) -> None:
    record = store.add_key("acme", "acme-calendly", "calendly", AT)
    assert not record.runtime_access
    assert store.snapshot().keys == {("acme", "acme-calendly"): record}


def test_what_one_store_writes_the_next_snapshot_of_another_shows(store: StateStore, path: Path) -> None:
    proxy = StateStore(path)
    assert not proxy.snapshot().keys
    store.add_key("acme", "k", "calendly", AT)
    assert not proxy.snapshot().keys["acme", "k"].runtime_access
    store.set_runtime_access("acme", "k", True)
    assert proxy.snapshot().keys["acme", "k"].runtime_access
    store.set_runtime_access("acme", "k", False)
    assert not proxy.snapshot().keys["acme", "k"].runtime_access
    store.remove_key("acme", "k")
    assert not proxy.snapshot().keys
    proxy.close()


def test_a_store_sees_its_own_changes(store: StateStore) -> None:
    store.snapshot()
    store.add_agent("acme", "agent-1", HASH, AT)
    assert HASH in store.snapshot().agents
    store.revoke_agent("acme", "agent-1", AT)
    assert HASH not in store.snapshot().agents
    store.cool_down("acme", "calendly", 12.5)
    store.set_meta("keychain", "x")
    assert store.snapshot().cooldowns == {("acme", "calendly"): 12.5}
    assert store.snapshot().meta == {"keychain": "x"}


def test_an_unchanged_snapshot_is_the_same_object_and_a_counted_request_does_not_change_it(store: StateStore) -> None:
    store.add_key("acme", "k", "calendly", AT)
    before = store.snapshot()
    store.take("acme", "calendly", RequestLimit(5, 60), 0.0)
    store.register_proxy(1, "127.0.0.1", 8080, AT)
    assert store.snapshot() is before


def test_a_switch_turned_by_hand_in_the_file_counts(store: StateStore, path: Path) -> None:
    store.add_key("acme", "k", "calendly", AT)
    store.set_runtime_access("acme", "k", True)
    assert store.snapshot().keys["acme", "k"].runtime_access
    with sqlite3.connect(path) as other:
        other.execute("UPDATE keys SET runtime_access = 0")
    other.close()
    assert not store.snapshot().keys["acme", "k"].runtime_access


def test_a_snapshot_cannot_be_written_to(store: StateStore) -> None:
    store.add_key("acme", "k", "calendly", AT)
    with pytest.raises(TypeError):
        store.snapshot().keys["acme", "other"] = store.snapshot().keys["acme", "k"]  # type: ignore[index]


def test_no_generation_is_given_twice_not_even_to_a_key_that_comes_back(store: StateStore) -> None:
    seen = [store.add_key("acme", "k", "calendly", AT).generation]
    seen.append(store.rotate_key("acme", "k", 3600.0).generation)
    seen.append(store.add_key("beta", "k", "calendly", AT).generation)
    store.remove_key("acme", "k")
    seen.append(store.add_key("acme", "k", "calendly", AT).generation)
    assert len(set(seen)) == len(seen)
    assert store.snapshot().keys["acme", "k"].previous_until is None


def test_a_rotation_keeps_the_switch_and_says_until_when_the_old_value_counts(store: StateStore) -> None:
    store.add_key("acme", "k", "calendly", AT)
    store.set_runtime_access("acme", "k", True)
    store.rotate_key("acme", "k", 3600.0)
    record = store.snapshot().keys["acme", "k"]
    assert (record.runtime_access, record.previous_until) == (True, 3600.0)
    store.end_grace("acme", "k")
    assert store.snapshot().keys["acme", "k"].previous_until is None


def test_a_renewal_is_no_rotation_and_never_shortens_a_grace(store: StateStore) -> None:
    key = store.add_key("acme", "k", "calendly", AT)

    renewed = store.renew_key("acme", "k", 100.0)
    assert (renewed.generation, renewed.renewals, renewed.previous_until) == (key.generation, 1, 100.0)
    again = store.renew_key("acme", "k", 50.0)
    assert (again.generation, again.renewals, again.previous_until) == (key.generation, 2, 100.0)
    assert store.snapshot().keys["acme", "k"] == again
    with pytest.raises(UsageError):
        store.renew_key("acme", "other", 100.0)


def test_a_workspace_never_reaches_another_ones_key_of_the_same_name(store: StateStore) -> None:
    store.add_key("acme", "k", "calendly", AT)
    store.add_key("beta", "k", "calendly", AT)
    store.set_runtime_access("beta", "k", True)
    store.remove_key("beta", "k")
    assert not store.snapshot().keys["acme", "k"].runtime_access


@pytest.mark.parametrize(
    ("act", "message"),
    [
        pytest.param(lambda s: s.add_key("acme", "k", "other", AT), "already has a key k", id="add-twice"),
        pytest.param(lambda s: s.set_runtime_access("acme", "x", True), "has no key x", id="switch"),
        pytest.param(lambda s: s.rotate_key("acme", "x", None), "has no key x", id="rotate"),
        pytest.param(lambda s: s.remove_key("beta", "k"), "has no key k", id="remove-elsewhere"),
        pytest.param(lambda s: s.add_agent("acme", "a", "b" * 64, AT), "already has an agent a", id="agent-twice"),
        pytest.param(lambda s: s.revoke_agent("acme", "x", AT), "has no agent x", id="revoke"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    store: StateStore, act: Callable[[StateStore], object], message: str
) -> None:
    store.add_key("acme", "k", "calendly", AT)
    store.add_agent("acme", "a", HASH, AT)
    before = store.snapshot()
    with pytest.raises(UsageError, match=message):
        act(store)
    assert store.snapshot() == before


def test_the_name_of_a_revoked_agent_is_free_and_both_are_remembered(store: StateStore) -> None:
    store.add_agent("acme", "a", HASH, AT)
    store.revoke_agent("acme", "a", AT)
    store.add_agent("acme", "a", "b" * 64, "2026-01-02T00:00:00.000Z")
    assert list(store.snapshot().agents) == ["b" * 64]
    assert [(agent.token_hash, agent.revoked_at) for agent in store.agents()] == [(HASH, AT), ("b" * 64, None)]


@pytest.mark.parametrize("name", ["a/b", "a#b", "ключ", "'; DROP TABLE keys; --", "x" * 10_000, "\x1b[31m", ""])
def test_any_name_is_only_data(store: StateStore, name: str) -> None:
    store.add_key(name, name, name, AT)
    store.set_runtime_access(name, name, True)
    assert store.snapshot().keys[name, name].runtime_access
    store.remove_key(name, name)
    assert not store.snapshot().keys


def test_three_hundred_keys_are_all_there(store: StateStore) -> None:
    for number in range(300):
        store.add_key(f"workspace-{number % 7}", f"key-{number}", "calendly", AT)
    assert len(store.snapshot().keys) == 300


# Limits


def test_a_limit_lets_its_count_pass_and_says_how_long_to_wait(store: StateStore) -> None:
    limit = RequestLimit(count=3, period_s=60)
    assert [store.take("acme", "calendly", limit, at) for at in (0.0, 10.0, 20.0)] == [None] * 3
    assert store.take("acme", "calendly", limit, 30.0) == 30
    assert store.take("acme", "calendly", limit, 59.5) == 1
    assert store.take("acme", "calendly", limit, 60.0) is None
    assert store.take("acme", "calendly", limit, 60.0) == 10


def test_a_refused_request_is_not_counted(store: StateStore) -> None:
    limit = RequestLimit(count=1, period_s=10)
    store.take("acme", "calendly", limit, 0.0)
    for at in range(1, 10):
        assert store.take("acme", "calendly", limit, float(at)) == 10 - at
    assert store.take("acme", "calendly", limit, 10.0) is None


def test_workspaces_and_services_are_counted_apart(store: StateStore) -> None:
    limit = RequestLimit(count=1, period_s=60)
    assert store.take("acme", "calendly", limit, 0.0) is None
    assert store.take("acme", "posthog", limit, 0.0) is None
    assert store.take("beta", "calendly", limit, 0.0) is None
    assert store.take("acme", "calendly", limit, 0.0) == 60


def test_a_clock_that_is_set_back_neither_opens_the_limit_nor_locks_for_longer_than_a_period(store: StateStore) -> None:
    limit = RequestLimit(count=2, period_s=60)
    store.take("acme", "calendly", limit, 1_000_000.0)
    store.take("acme", "calendly", limit, 1_000_000.0)
    assert store.take("acme", "calendly", limit, 500.0) == 60
    assert store.take("acme", "calendly", limit, 559.0) == 1
    assert store.take("acme", "calendly", limit, 560.0) is None


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateStore]:
    """One store for many examples, each of which counts a service of its own."""
    opened = StateStore(tmp_path_factory.mktemp("counted") / "state.db")
    yield opened
    opened.close()


@given(
    st.integers(1, 4),
    st.integers(1, 10),
    st.lists(st.floats(0, 4, allow_nan=False).map(lambda step: round(step, 3)), min_size=1, max_size=30),
)
def test_no_window_ever_holds_more_than_the_count(counted: StateStore, count: int, period_s: int, steps: list[float]) -> None:
    limit, now, service = RequestLimit(count, period_s), 0.0, f"service-{next(FRESH)}"
    taken: list[float] = []
    for step in steps:
        now += step
        wait_s = counted.take("acme", service, limit, now)
        if wait_s is None:
            taken.append(now)
        else:
            assert 1 <= wait_s <= period_s
        assert len([at for at in taken if at > now - period_s]) <= count


def _take_many(path: str, count: int, results: object) -> None:
    store = StateStore(Path(path))
    taken = sum(store.take("acme", "calendly", RequestLimit(50, 60), 100.0) is None for _ in range(count))
    results.put(taken)  # type: ignore[attr-defined]


def test_processes_share_one_limit_and_make_the_file_together(path: Path) -> None:
    results = SPAWN.Queue()
    processes = [SPAWN.Process(target=_take_many, args=(str(path), 40, results)) for _ in range(3)]
    for process in processes:
        process.start()
    taken = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert sum(taken) == 50


def _add_many(path: str, workspace: str) -> None:
    store = StateStore(Path(path))
    for number in range(25):
        store.add_key(workspace, f"key-{number}", "calendly", AT)


def test_two_processes_that_write_at_once_lose_nothing(path: Path, store: StateStore) -> None:
    processes = [SPAWN.Process(target=_add_many, args=(str(path), workspace)) for workspace in ("acme", "beta")]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        store.snapshot()  # a reader is never refused
    assert [process.exitcode for process in processes] == [0, 0]
    keys = store.snapshot().keys.values()
    assert len(keys) == 50
    assert len({key.generation for key in keys}) == 50


def test_threads_share_a_store(store: StateStore) -> None:
    problems: list[BaseException] = []

    def work(workspace: str) -> None:
        try:
            for number in range(10):
                store.add_key(workspace, str(number), "calendly", AT)
                assert (workspace, str(number)) in store.snapshot().keys
                store.take(workspace, "calendly", RequestLimit(100, 60), 0.0)
        except BaseException as error:  # noqa: BLE001  (shown by the test)
            problems.append(error)

    threads = [threading.Thread(target=work, args=(f"workspace-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(store.snapshot().keys) == 40


def test_a_writer_killed_in_its_transaction_leaves_no_trace(path: Path, store: StateStore) -> None:
    store.add_key("acme", "k", "calendly", AT)
    killed = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE');"
        "c.execute('UPDATE keys SET runtime_access = 1'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", killed, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not store.snapshot().keys["acme", "k"].runtime_access
    store.set_runtime_access("acme", "k", True)
    assert store.snapshot().keys["acme", "k"].runtime_access


# Decoys


def test_a_decoy_is_none_of_the_keys_and_has_its_name_among_theirs(store: StateStore) -> None:
    store.add_key("acme", "k", "calendly", AT)
    store.add_decoy("acme", "bait", "calendly", AT)
    assert list(store.snapshot().keys) == [("acme", "k")]
    assert list(store.snapshot().decoys) == [("acme", "bait")]
    for add in (store.add_key, store.add_decoy):
        for name in ("k", "bait"):
            with pytest.raises(UsageError, match="already has a key"):
                add("acme", name, "calendly", AT)
    store.remove_key("acme", "bait")
    assert not store.snapshot().decoys


def test_a_decoy_cannot_be_switched_on_rotated_or_made_a_key_not_even_by_hand(store: StateStore, path: Path) -> None:
    store.add_key("acme", "k", "calendly", AT)
    store.add_decoy("acme", "bait", "calendly", AT)
    with pytest.raises(UsageError, match="has no key bait"):
        store.set_runtime_access("acme", "bait", True)
    with pytest.raises(UsageError, match="has no key bait"):
        store.rotate_key("acme", "bait", None)
    with sqlite3.connect(path) as other:
        for change in (
            "SET runtime_access = 1 WHERE name = 'bait'",
            "SET decoy = 0 WHERE name = 'bait'",
            "SET decoy = 1 WHERE name = 'k'",
            "SET decoy = 2 WHERE name = 'bait'",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                other.execute(f"UPDATE keys {change}")
    other.close()
    record = store.snapshot().decoys["acme", "bait"]
    assert (record.runtime_access, record.previous_until) == (False, None)


def test_a_file_of_the_version_before_is_brought_up_to_date_with_its_keys_as_they_were(path: Path) -> None:
    version = 2
    old = sqlite3.connect(path)
    old.executescript("".join(MIGRATIONS[:version]) + f"PRAGMA user_version = {version};")
    old.execute("INSERT INTO keys VALUES ('acme', 'on', 'calendly', 1, 1, ?, 3600.0)", (AT,))
    old.execute("INSERT INTO keys VALUES ('acme', 'off', 'calendly', 0, 2, ?, NULL)", (AT,))
    old.execute("UPDATE counters SET value = 2 WHERE name = 'generation'")
    old.commit()
    old.close()

    store = StateStore(path)
    keys = store.snapshot().keys

    assert keys == {
        ("acme", "off"): KeyRecord("acme", "off", "calendly", False, 2, AT, None),
        ("acme", "on"): KeyRecord("acme", "on", "calendly", True, 1, AT, 3600.0),
    }
    assert not store.snapshot().decoys
    store.add_decoy("acme", "bait", "calendly", AT)
    assert store.snapshot().decoys["acme", "bait"].generation == 3
    store.close()


# Proxies


def test_proxies_are_listed_newest_first_and_dead_ones_forgotten(store: StateStore) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    store.register_proxy(os.getppid(), "127.0.0.1", 8080, "2026-01-01T00:00:00.000Z")
    store.register_proxy(os.getpid(), "127.0.0.1", 9090, "2026-01-02T00:00:00.000Z")
    store.register_proxy(ended.pid, "127.0.0.1", 7070, "2026-01-03T00:00:00.000Z")
    assert [proxy.port for proxy in store.proxies()] == [9090, 8080]
    assert [proxy.port for proxy in store.proxies(is_alive=lambda pid: True)] == [9090, 8080]
    store.unregister_proxy(os.getpid())
    assert [proxy.port for proxy in store.proxies()] == [8080]


@pytest.mark.parametrize("pid", [2**22 + 1, 2**40, 2**63 - 1])
def test_a_process_id_that_cannot_be_is_not_alive(pid: int) -> None:
    assert not process_is_alive(pid)


# Meta


def _settle(path: str, value: str, results: object) -> None:
    results.put(StateStore(Path(path)).settle_meta("keychain", value))  # type: ignore[attr-defined]


def test_of_processes_that_settle_a_fact_one_wins_and_all_agree(path: Path) -> None:
    results = SPAWN.Queue()
    processes = [SPAWN.Process(target=_settle, args=(str(path), str(number), results)) for number in range(3)]
    for process in processes:
        process.start()
    settled = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
    assert len(settled) == 1


# Files that are not as they should be


def test_the_file_and_its_log_are_for_their_owner_only_whatever_the_umask(path: Path) -> None:
    umask = os.umask(0)
    try:
        store = StateStore(path)
        store.add_key("acme", "k", "calendly", AT)
        store.snapshot()
    finally:
        os.umask(umask)
    files = list(path.parent.iterdir())
    assert {file.name for file in files} == {"state.db", "state.db-wal", "state.db-shm"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    store.close()


def test_a_file_deleted_under_a_running_proxy_turns_everything_off(store: StateStore, path: Path) -> None:
    store.add_key("acme", "k", "calendly", AT)
    store.set_runtime_access("acme", "k", True)
    store.add_agent("acme", "a", HASH, AT)
    assert store.snapshot().keys["acme", "k"].runtime_access
    for file in path.parent.glob("state.db*"):
        file.unlink()
    assert not store.snapshot().keys
    assert not store.snapshot().agents
    store.add_key("acme", "k", "calendly", AT)
    assert not store.snapshot().keys["acme", "k"].runtime_access


def test_a_file_put_in_the_others_place_is_read_anew(store: StateStore, path: Path, tmp_path: Path) -> None:
    store.add_key("acme", "k", "calendly", AT)
    store.snapshot()
    (tmp_path / "elsewhere").mkdir()
    other = StateStore(tmp_path / "elsewhere" / "state.db")
    other.add_key("acme", "other", "calendly", AT)
    other.close()
    store.close()
    for file in path.parent.glob("state.db-*"):
        file.unlink()
    (tmp_path / "elsewhere" / "state.db").replace(path)
    assert list(store.snapshot().keys) == [("acme", "other")]


def _schema_of_tomorrow(path: Path) -> None:
    StateStore(path).add_key("acme", "k", "calendly", AT)
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 999")
    other.close()


@pytest.mark.parametrize(
    ("spoil", "message", "hint"),
    [
        pytest.param(lambda path: path.write_bytes(b"not a database, certainly" * 100), "not a database", "move", id="garbage"),
        pytest.param(lambda path: path.mkdir(), "unable to open", "own it", id="a-folder"),
        pytest.param(_schema_of_tomorrow, "newer outloop", "upgrade", id="newer-schema"),
        pytest.param(lambda path: path.symlink_to(path.parent / "no" / "such"), "unable to open", "own it", id="dangling-link"),
        pytest.param(lambda path: path.parent.rmdir(), "unable to open", "own it", id="no-folder"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], object], message: str, hint: str
) -> None:
    path = tmp_path / "home" / "state.db"
    path.parent.mkdir()
    spoil(path)
    store = StateStore(path)
    for use in (store.snapshot, store.agents, store.proxies, lambda: store.take("acme", "c", RequestLimit(1, 1), 0.0)):
        with pytest.raises(UsageError, match=message) as refused:
            use()
        assert hint in (refused.value.hint or "")
        assert "\n" not in refused.value.message


def test_a_file_cut_short_is_refused(path: Path) -> None:
    store = StateStore(path)
    for number in range(50):
        store.add_key("acme", str(number), "calendly", AT)
    store.close()
    os.truncate(path, 8192)
    with pytest.raises(UsageError, match="cannot be used"):
        StateStore(path).snapshot()


def test_a_file_locked_for_long_is_refused_and_works_again_afterwards(store: StateStore, path: Path) -> None:
    store.snapshot()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(UsageError, match="locked"):
        store.take("acme", "calendly", RequestLimit(1, 60), 0.0)
    store.snapshot()  # reading goes on
    holder.execute("ROLLBACK")
    holder.close()
    assert store.take("acme", "calendly", RequestLimit(1, 60), 0.0) is None
