"""What a disk, a clock and a long-winded reader do to the record, and what is said about it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from harness.operators import Operator
from harness.rows import decision, outcome
from harness.stage import TOKEN, store_keys
from outloop.core.ledger import UlidFactory, timestamp
from outloop.store import appender
from outloop.store.audit import AuditWriter
from outloop.store.records import Filters, Records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


def write(writer: AuditWriter, count: int) -> None:
    for _ in range(count):
        writer.append_now(decision(id=writer.ids.next()))


# A reader that does not let go


@pytest.fixture
def small_log(monkeypatch: pytest.MonkeyPatch) -> int:
    """The log is long at 400 KB, and looked at every ten rows."""
    monkeypatch.setattr(appender, "LOG_LIMIT_BYTES", 400_000)
    monkeypatch.setattr(appender, "CHECKPOINT_ROWS", 10)
    return 400_000


def test_a_reader_that_holds_the_record_for_long_is_reported_and_the_log_is_cut_once_it_has_gone(
    path: Path, small_log: int
) -> None:
    writer = AuditWriter(path, time.time)
    write(writer, 1)
    log = path.with_name("audit.db-wal")
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM decisions").fetchone()
        write(writer, 300)
        assert log.stat().st_size > small_log  # every row was taken all the same
        events = reader.execute("SELECT count(*) FROM events").fetchone()
        assert events == (0,)  # and the reader sees the record as it was
    write(writer, 60)
    writer.close()

    with closing(sqlite3.connect(path)) as db:
        ((kind, detail),) = db.execute("SELECT kind, detail FROM events").fetchall()
    assert kind == "record_log_grows"
    assert "wait for a program that has read in audit.db for long" in detail
    assert Records(path).verify().ok


def test_a_log_that_was_let_grow_is_cut(path: Path, small_log: int) -> None:
    writer = AuditWriter(path, time.time)
    write(writer, 1)
    log = path.with_name("audit.db-wal")
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM decisions").fetchone()
        write(writer, 600)
        grown = log.stat().st_size
    write(writer, 60)
    cut = log.stat().st_size
    writer.close()

    assert grown > small_log >= cut


def test_readers_that_come_and_go_do_not_let_it_grow(path: Path, small_log: int) -> None:
    writer = AuditWriter(path, time.time)
    write(writer, 1)
    for _ in range(60):
        Records(path).tail(Filters(), 10)
        write(writer, 10)
    size = path.with_name("audit.db-wal").stat().st_size
    writer.close()

    assert size < small_log
    assert list(Records(path).ends()) == [writer.writer]


def test_doctor_names_a_log_that_has_grown(operator: Operator) -> None:
    store_keys(operator, {"calendly": TOKEN})
    writer = AuditWriter(operator.home / "audit.db", time.time)
    write(writer, 1)
    with (operator.home / "audit.db-wal").open("ab") as log:
        log.truncate(70 * 1024 * 1024)  # sparse
    done = operator.run("doctor", "--json")
    writer.close()

    said = [finding for finding in json.loads(done.stdout) if "write-ahead log has grown" in str(finding)]
    assert len(said) == 1
    assert "fuser" in str(said[0])


# The clock


def test_a_clock_set_back_while_a_proxy_writes_leaves_a_record_that_is_whole_and_in_order(path: Path) -> None:
    clock = [1_796_000_000.0]
    writer = AuditWriter(path, lambda: clock[0])
    ids = []
    for moment in (1_796_000_000.0, 1_796_000_001.0, 1_700_000_000.0, 1_700_000_001.0, 1_796_000_002.0):
        clock[0] = moment
        row = decision(id=writer.ids.next(), at=timestamp(int(moment * 1000)))
        writer.append_now(row)
        writer.append_now(outcome(row))
        ids.append(row.id)
    writer.close()

    records = Records(path)
    assert records.verify().ok
    assert [row["id"] for row in records.tail(Filters(), 10)] == ids
    assert [row["id"] for row in records.each(Filters())] == ids


# A disk that takes no more, and a record that is not to be had


STARVED = """
import resource, sys
from pathlib import Path
home = Path(sys.argv[1])
used = max(file.stat().st_size for file in home.glob("audit.db*"))
resource.setrlimit(resource.RLIMIT_FSIZE, (used * int(sys.argv[2]) // 100, resource.RLIM_INFINITY))
from outloop.cli.main import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture
def home(operator: Operator) -> Operator:
    """A home with three hundred requests of long ago."""
    store_keys(operator, {"calendly": TOKEN})
    old = UlidFactory(lambda: 1_700_000_000_000, bytes)
    with closing(AuditWriter(operator.home / "audit.db", time.time)) as writer:
        for _ in range(300):
            row = decision(id=old.next(), at="2023-11-14T22:13:20.000Z", path="/" + "x" * 2000)
            writer.append(row)
            writer.append(outcome(row, at=row.at))
    return operator


@pytest.mark.parametrize("percent", [0, 1, 2, 4, 100])
def test_a_prune_on_a_full_disk_says_so_and_harms_nothing(home: Operator, percent: int) -> None:
    command = [sys.executable, "-c", STARVED, str(home.home), str(percent), "audit", "prune", "--keep", "90d", "--yes"]
    done = subprocess.run(command, capture_output=True, text=True, env=home.variables, check=False)

    assert (done.returncode, "Traceback" in done.stderr) in ((0, False), (1, False), (2, False)), done.stderr
    assert done.returncode == 0 or done.stderr.startswith("outloop: error: "), done.stderr
    assert percent > 1 or done.returncode != 0
    assert done.returncode == 0 or "full" in done.stderr
    verified = home.run("audit", "verify")
    assert verified.returncode == 0, verified.stderr
    home.outloop("audit", "prune", "--keep", "90d", "--yes")
    assert len(home.rows()) == 1


@pytest.mark.parametrize("command", [["verify"], ["prune", "--keep", "90d", "--yes"], ["export"], ["tail"]])
def test_a_record_of_a_newer_outloop_is_left_alone(home: Operator, command: list[str]) -> None:
    with sqlite3.connect(home.home / "audit.db") as db:
        db.execute("INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('outloop-audit', '0999_later', '')")
    before = (home.home / "audit.db").read_bytes()

    done = home.run("audit", *command)

    assert done.returncode == 2
    assert "was written by a newer Outloop (0999_later)" in done.stderr
    assert "update Outloop" in done.stderr
    assert (home.home / "audit.db").read_bytes() == before


@pytest.mark.parametrize("command", [["verify"], ["prune", "--keep", "90d", "--yes"], ["export"], ["tail"]])
def test_a_record_that_is_gone_is_not_begun_anew_by_who_only_reads(home: Operator, command: list[str]) -> None:
    for file in home.home.glob("audit.db*"):
        file.unlink()

    done = home.run("audit", *command)

    assert done.returncode == 2
    assert "there is no audit record" in done.stderr
    assert not (home.home / "audit.db").exists()


def test_a_prune_waits_for_whoever_writes_and_then_says_who_to_look_for(home: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in home.variables.items():
        monkeypatch.setenv(name, value)
    with closing(sqlite3.connect(home.home / "audit.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        done = home.run("audit", "prune", "--keep", "90d", "--yes")
        holder.execute("ROLLBACK")

    assert done.returncode == 1
    assert "locked for too long" in done.stderr
    assert "fuser" in done.stderr
    assert len(home.rows()) == 300


def test_a_record_restored_from_a_backup_is_behind_its_anchor(home: Operator) -> None:
    backup = home.folder / "backup"
    shutil.copytree(home.home, backup)
    with closing(AuditWriter(home.home / "audit.db", time.time)) as writer:
        write(writer, 3)
    home.outloop("audit", "prune", "--keep", "9999d", "--yes")  # takes nothing, and anchors
    for name in ("audit.db", "audit.head"):
        shutil.copy(backup / name, home.home / name)
    for name in ("audit.db-wal", "audit.db-shm"):
        (home.home / name).unlink(missing_ok=True)

    done = home.run("audit", "verify")

    assert done.returncode == 1
    assert "is not what was anchored in the keychain" in done.stderr
