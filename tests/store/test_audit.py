from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.children import child
from harness.partners import needs
from harness.rows import IDS, NOW_MS, decision, event, outcome
from outloop.core.errors import AuditError, UsageError
from outloop.core.ledger import COLUMNS
from outloop.store.appender import Appender
from outloop.store.audit import QUEUE_ROWS, AuditWriter
from outloop.store.records import Filters, Records
from outloop.store.schema import open_for_writing

TABLES = {"decisions": "id", "outcomes": "decision_id", "events": "id"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
def writer(path: Path) -> Iterator[AuditWriter]:
    writer = AuditWriter(path, lambda: NOW_MS / 1000, busy_timeout_s=0.2)
    writer.start()
    yield writer
    writer.close()


@pytest.fixture
def filled(writer: AuditWriter, path: Path) -> Path:
    """A record with two rows in each table."""
    for _ in range(2):
        row = decision()
        writer.append_now(row)
        writer.append_now(outcome(row))
        writer.append_now(event("key_added"))
    return path


def rows_of(path: Path, table: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as db:
        return db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


# What a row is once it was committed


def test_a_committed_row_is_there_for_every_other_process(writer: AuditWriter, path: Path) -> None:
    row = decision()

    asyncio.run(writer.commit(row))

    script = f"import sqlite3; print(*sqlite3.connect({str(path)!r}).execute('SELECT id FROM decisions').fetchone())"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == row.id


def test_many_coroutines_share_commits_and_each_row_is_there_once(writer: AuditWriter, path: Path) -> None:
    rows = [decision() for _ in range(300)]

    async def all_at_once() -> None:
        await asyncio.gather(*map(writer.commit, rows))

    asyncio.run(all_at_once())

    assert [row[0] for row in rows_of(path, "decisions")] == [row.id for row in rows]


def test_an_appended_row_follows_without_being_waited_for(writer: AuditWriter, path: Path) -> None:
    row = decision()
    writer.append(row)
    writer.append(outcome(row, status=201))
    writer.close()

    assert Records(path).get(row.id)["status"] == 201


def test_the_event_loop_goes_on_while_a_row_is_on_its_way(writer: AuditWriter, path: Path) -> None:
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")

    async def commit_behind_a_lock() -> None:
        commit = asyncio.create_task(writer.commit(decision()))
        await asyncio.sleep(0)
        assert not commit.done()  # the loop has turned, and the lock is released by the loop itself
        lock.execute("ROLLBACK")
        await commit

    asyncio.run(commit_behind_a_lock())


@pytest.mark.parametrize(("runtime_mode", "synchronous"), [("read", 1), ("write", 2), (None, 1)])
def test_only_writes_wait_for_the_disk_itself(path: Path, runtime_mode: str | None, synchronous: int) -> None:
    statements: list[str] = []
    appender = Appender(path, IDS.next(), 1.0)
    appender._db.conn.set_trace_callback(statements.append)
    appender.append([decision(runtime_mode=runtime_mode)])

    assert appender._db.conn.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert statements[0] == f"PRAGMA synchronous = {'FULL' if synchronous == 2 else 'NORMAL'}"
    assert statements[1] == "BEGIN IMMEDIATE"
    appender.close()


def test_hostile_text_is_stored_inert(writer: AuditWriter, path: Path) -> None:
    row = decision(path="/\x1b]0;owned\x07\udcff", agent="\u202eadmin")
    writer.append_now(row)

    stored = Records(path).get(row.id)

    assert (stored["path"], stored["agent"]) == ("/\\x1b]0;owned\\x07\\xff", "\\u202eadmin")


def test_all_files_are_the_operators_alone(filled: Path) -> None:
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in filled.parent.iterdir()}

    assert modes == dict.fromkeys(("audit.db", "audit.db-wal", "audit.db-shm", "audit.head"), 0o600)


def test_a_record_that_was_open_to_others_is_closed_to_them(path: Path) -> None:
    open_for_writing(path, 1.0).close()
    path.chmod(0o644)

    open_for_writing(path, 1.0).close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# Append-only, against every statement that could change a row, from a connection that sets no pragma


ATTACKS = {
    "update": "UPDATE {table} SET at = 'never'",
    "delete": "DELETE FROM {table}",
    "replace-by-id": "INSERT OR REPLACE INTO {table} SELECT {changed} FROM {table} LIMIT 1",
    "replace-by-place-in-the-chain": "REPLACE INTO {table} SELECT {changed_id} FROM {table} LIMIT 1",
    "upsert": "INSERT INTO {table} SELECT * FROM {table} WHERE true ON CONFLICT ({id}) DO UPDATE SET at = 'never'",
    "update-or-replace": "UPDATE OR REPLACE {table} SET {id} = (SELECT max({id}) FROM {table})",
    "truncate": "DELETE FROM {table} WHERE 1",
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("recursive_triggers", [0, 1])
def test_no_statement_changes_or_removes_a_row(filled: Path, table: str, attack: str, recursive_triggers: int) -> None:
    before = rows_of(filled, table)
    key = TABLES[table]
    columns = [*COLUMNS[table], "writer", "seq", "hash"]
    statement = attack.format(
        table=table,
        id=key,
        changed=", ".join("'never'" if name == "at" else name for name in columns),
        changed_id=", ".join(f"(SELECT 'x' || {key})" if name == key and table != "outcomes" else name for name in columns),
    )
    db = sqlite3.connect(filled)
    db.execute(f"PRAGMA recursive_triggers = {recursive_triggers}")

    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(statement)

    db.rollback()
    assert rows_of(filled, table) == before


@pytest.mark.parametrize("table", TABLES)
def test_there_is_no_rowid_to_aim_at(filled: Path, table: str) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        sqlite3.connect(filled).execute(f"SELECT rowid FROM {table}")


def test_an_outcome_needs_its_decision(writer: AuditWriter) -> None:
    with pytest.raises(AuditError, match="needs its decision"):
        writer.append_now(outcome(decision()))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"decision": "maybe"}, id="no-decision"),
        pytest.param({"proof": 2}, id="proof-is-a-truth-value"),
        pytest.param({"runtime_mode": "both"}, id="no-runtime-mode"),
        pytest.param({"port": 2**70}, id="number-too-large"),
        pytest.param({"at": None}, id="no-time"),
        pytest.param({"path": b"/bytes"}, id="bytes"),
    ],
)
def test_one_bad_row_is_refused_without_taking_others_with_it(
    writer: AuditWriter, path: Path, changes: dict[str, object]
) -> None:
    good = [decision() for _ in range(20)]

    async def together() -> list[BaseException | None]:
        rows = [*good[:10], decision(**changes), *good[10:]]
        return await asyncio.gather(*map(writer.commit, rows), return_exceptions=True)

    answers = asyncio.run(together())

    assert [index for index, answer in enumerate(answers) if answer is not None] == [10]
    assert isinstance(answers[10], AuditError)
    assert [row[0] for row in rows_of(path, "decisions")] == [row.id for row in good]
    assert Records(path).verify().ok


def test_a_second_outcome_is_lost_and_says_so(writer: AuditWriter, path: Path) -> None:
    row = decision()
    writer.append_now(row)
    writer.append(outcome(row, status=200))
    writer.append(outcome(row, status=500))
    writer.append_now(event("flush"))

    assert writer.lost == 1
    assert Records(path).get(row.id)["status"] == 200


# When the disk refuses


def locked(path: Path) -> Callable[[], None]:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    return db.rollback


def test_a_lock_held_elsewhere_refuses_and_passes(writer: AuditWriter, path: Path) -> None:
    writer.append_now(decision())
    release = locked(path)

    with pytest.raises(AuditError, match="locked for too long"):
        writer.append_now(decision())
    health = [writer.healthy]

    release()
    writer.append_now(decision())
    assert [*health, writer.healthy] == [False, True]
    assert Records(path).verify().ok


def test_outcomes_that_the_disk_refused_are_written_when_it_takes_them_again(writer: AuditWriter, path: Path) -> None:
    row = decision()
    writer.append_now(row)
    release = locked(path)
    writer.append(outcome(row, status=204))
    with pytest.raises(AuditError):
        writer.append_now(decision())

    release()

    seen = Records(path).wait_outcome(row.id, timeout_s=30)
    assert seen is not None
    assert seen["status"] == 204
    assert writer.lost == 0


def test_who_queues_up_behind_a_lock_is_not_made_to_wait_twice(path: Path) -> None:
    writer = AuditWriter(path, time.time, busy_timeout_s=1.0)
    writer.start()
    release = locked(path)

    async def three() -> list[BaseException | None]:
        first = asyncio.create_task(writer.commit(decision()))
        while not writer._in_hand:  # until the writer has taken it, and waits for the lock
            await asyncio.sleep(0)
        late = [asyncio.create_task(writer.commit(decision())) for _ in range(2)]
        await asyncio.wait([first])
        await asyncio.sleep(0)
        assert all(task.done() for task in late)
        return [task.exception() for task in (first, *late)]

    answers = asyncio.run(three())
    release()
    writer.close()

    assert all(isinstance(answer, AuditError) for answer in answers)


def test_a_deleted_record_refuses_until_a_restart(path: Path) -> None:
    writer = AuditWriter(path, time.time)
    writer.append_now(decision())
    path.unlink()

    for _ in range(2):
        with pytest.raises(AuditError, match="deleted or replaced while in use") as refused:
            writer.append_now(decision())
    assert "restart" in str(refused.value.hint)
    assert not path.exists()
    with pytest.raises(AuditError):
        writer.append(decision())
        writer.close()

    after = AuditWriter(path, time.time)
    row = decision()
    after.append_now(row)
    after.close()
    assert Records(path).get(row.id)["id"] == row.id
    assert Records(path).verify().first_bad is not None


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_replaced_file_refuses(path: Path, suffix: str) -> None:
    writer = AuditWriter(path, time.time)
    writer.append_now(decision())
    file = Path(f"{path}{suffix}")
    copy = file.read_bytes()
    file.rename(f"{file}.away")
    file.write_bytes(copy)

    with pytest.raises(AuditError, match="deleted or replaced"):
        writer.append_now(decision())


def test_the_file_of_heads_is_watched_too(path: Path) -> None:
    writer = AuditWriter(path, time.time)
    writer.append_now(decision())
    path.with_suffix(".head").unlink()

    with pytest.raises(AuditError, match="deleted or replaced"):
        writer.append_now(decision())


@pytest.fixture
def read_only(path: Path) -> Iterator[Path]:
    """A record that its owner may not write: by mode, and for root, who is above modes, by attribute."""
    writer = AuditWriter(path, time.time)
    writer.append_now(decision())
    writer.close()
    if os.getuid() != 0:
        path.chmod(0o400)
        yield path
        return
    if subprocess.run([needs("chattr", "e2fsprogs"), "+i", str(path)], capture_output=True, check=False).returncode != 0:
        pytest.skip("root writes whatever a mode forbids, and this file system has no immutable files")
    yield path
    subprocess.run(["chattr", "-i", str(path)], check=True)


def test_a_read_only_record_refuses_to_be_written_and_can_be_read(read_only: Path) -> None:
    writer = AuditWriter(read_only, time.time)

    with pytest.raises(AuditError, match="cannot be opened or written") as refused:
        writer.append_now(decision())

    assert "must be writable" in str(refused.value.hint)
    assert Records(read_only).verify().ok


def test_a_folder_that_is_not_there_refuses_at_start(tmp_path: Path) -> None:
    with pytest.raises(AuditError):
        AuditWriter(tmp_path / "gone" / "audit.db", time.time).start()


def test_a_file_that_is_no_database_refuses_at_start(path: Path) -> None:
    path.write_text("not a database, " * 100)

    with pytest.raises(AuditError, match="not an audit record"):
        AuditWriter(path, time.time).start()
    assert path.read_text().startswith("not a database")


@pytest.mark.parametrize(
    "open_it", [lambda path: AuditWriter(path, time.time).start(), lambda path: Records(path).tail(Filters(), 1)]
)
def test_a_record_of_a_newer_outloop_is_left_alone(filled: Path, writer: AuditWriter, open_it: Callable[[Path], object]) -> None:
    writer.close()
    with sqlite3.connect(filled) as db:
        db.execute("INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('outloop-audit', '0999_later', '')")

    with pytest.raises(UsageError, match="newer Outloop") as refused:
        open_it(filled)
    assert "update" in str(refused.value.hint)


FULL_DISK = """
    import resource, sys, time
    from pathlib import Path
    from harness.rows import decision, outcome
    from outloop.core.errors import AuditError
    from outloop.store.audit import AuditWriter

    path = Path(sys.argv[1])
    writer = AuditWriter(path, time.time)
    first = decision()
    writer.append_now(first)
    written = 1
    used = max(file.stat().st_size for file in path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + 20_000, resource.RLIM_INFINITY))
    try:
        while True:
            writer.append_now(decision())
            written += 1
    except AuditError as error:
        print(written, error.message, sep="|")
    writer.append(outcome(first))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    writer.append_now(decision())
    print(first.id, writer.healthy, writer.lost, sep="|")
    writer.close()
"""


def test_a_disk_that_takes_no_more_refuses_and_passes(path: Path) -> None:
    process = child(FULL_DISK, str(path))
    refused, recovered = process.communicate(timeout=60)[0].splitlines()

    written, message = refused.split("|")
    first, healthy, lost = recovered.split("|")
    assert str(path) in message
    assert (healthy, lost) == ("True", "0")
    assert len(rows_of(path, "decisions")) == int(written) + 1
    assert Records(path).get(first)["status"] == 200
    assert Records(path).verify().ok


def test_a_database_that_may_not_grow_says_the_disk_is_full(path: Path) -> None:
    appender = Appender(path, IDS.next(), 1.0)
    pages = appender._db.conn.execute("PRAGMA page_count").fetchone()[0]
    appender._db.conn.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(AuditError, match=r"the disk of .* is full") as refused:
        for _ in range(100):
            appender.append([decision()])
    assert "free some space" in str(refused.value.hint)
    before = len(rows_of(path, "decisions"))

    appender._db.conn.execute("PRAGMA max_page_count = 1000000")
    appender.append([decision()])
    appender.close()

    assert len(rows_of(path, "decisions")) == before + 1
    assert Records(path).verify().ok


def test_a_full_queue_refuses_at_once(path: Path) -> None:
    writer = AuditWriter(path, time.time, busy_timeout_s=30.0)
    writer.start()
    release = locked(path)
    row = event("filler")
    writer.append(row)
    while not writer._in_hand:  # until the thread has taken what it takes, and waits for the lock
        time.sleep(0.001)
    while writer._queue.qsize() < QUEUE_ROWS:
        writer.append(row)

    with pytest.raises(AuditError, match="queue is full"):
        asyncio.run(writer.commit(decision()))
    release()
    writer.close()


def test_after_close_rows_are_refused_instead_of_left_waiting(path: Path) -> None:
    writer = AuditWriter(path, time.time)
    writer.start()
    writer.close()

    with pytest.raises(AuditError, match="has stopped"):
        asyncio.run(writer.commit(decision()))
    with pytest.raises(AuditError, match="has stopped"):
        writer.append_now(decision())
    writer.append(decision())
    assert writer.lost == 1
    assert not writer.healthy


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_the_writer_refuses_everyone_instead_of_leaving_them_waiting(writer: AuditWriter) -> None:
    async def before_and_after_a_row_of_no_table() -> list[BaseException | None]:
        before = [asyncio.create_task(writer.commit(decision())) for _ in range(50)]
        await asyncio.sleep(0)
        writer.append(object())  # type: ignore[arg-type]
        after = [asyncio.create_task(writer.commit(decision())) for _ in range(50)]
        await asyncio.wait([*before, *after])
        return [task.exception() for task in after]

    answers = asyncio.run(before_and_after_a_row_of_no_table())

    assert isinstance(answers[-1], AuditError)
    assert not writer.healthy
    with pytest.raises(AuditError, match="has stopped"):
        writer.append_now(decision())


def test_a_caller_that_was_cancelled_harms_nobody(writer: AuditWriter, path: Path) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(writer.commit(decision()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await writer.commit(decision())

    asyncio.run(cancelled())

    assert writer.healthy
    assert Records(path).verify().ok


# Several writers, and sudden death


def test_two_writers_of_one_record_keep_a_chain_each(path: Path) -> None:
    writers = [AuditWriter(path, time.time) for _ in range(2)]

    def write(writer: AuditWriter) -> None:
        for _ in range(50):
            writer.append_now(decision(id=writer.ids.next()))
        writer.close()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = Records(path).verify()
    assert (found.ok, found.rows, found.writers) == (True, 100, 2)


PROCESS = """
    import sys, time
    from pathlib import Path
    from harness.rows import decision
    from outloop.store.audit import AuditWriter

    writer = AuditWriter(Path(sys.argv[1]), time.time)
    for _ in range(100):
        writer.append_now(decision(id=writer.ids.next()))
    writer.close()
"""


def test_processes_that_start_at_once_on_a_new_record_all_write(path: Path) -> None:
    processes = [child(PROCESS, str(path)) for _ in range(3)]

    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    found = Records(path).verify()
    assert (found.ok, found.rows, found.writers) == (True, 300, 3)


LOAD = """
    import asyncio, sys, time
    from pathlib import Path
    from harness.rows import decision, outcome
    from outloop.store.audit import AuditWriter

    writer = AuditWriter(Path(sys.argv[1]), time.time)
    writer.start()

    async def agent():
        while True:
            row = decision(id=writer.ids.next(), runtime_mode="read")
            await writer.commit(row)
            sys.stdout.write(row.id + "\\n")
            sys.stdout.flush()
            writer.append(outcome(row))

    async def main():
        await asyncio.gather(*(agent() for _ in range(8)))

    asyncio.run(main())
"""


@pytest.mark.parametrize("answered", [1, 200, 1500])
def test_kill_9_under_load_loses_no_committed_row(path: Path, answered: int) -> None:
    process = child(LOAD, str(path))
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(answered)]
    process.send_signal(signal.SIGKILL)
    told += [line.strip() for line in process.stdout if line.endswith("\n")]
    process.wait(timeout=60)

    kept = {row[0] for row in rows_of(path, "decisions")}
    assert set(told) <= kept
    found = Records(path).verify()
    assert found.ok, found.first_bad

    AuditWriter(path, time.time).append_now(decision())
    assert Records(path).verify().ok


def test_ids_of_a_writer_rise_when_the_clock_is_set_back(path: Path) -> None:
    clock = iter([2_000_000_000.0, 2_000_000_000.0, 1_000_000_000.0, 1_500_000_000.0])
    writer = AuditWriter(path, lambda: next(clock))

    ids = [writer.writer, writer.ids.next(), writer.ids.next(), writer.ids.next()]

    assert ids == sorted(set(ids))
