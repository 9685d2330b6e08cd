"""Faults under load: agents ask on while the record is taken away, and no answer goes out without its row."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from harness.children import child
from harness.operators import Operator
from harness.proxy import Proxy, running_proxy
from harness.raw_agent import tunnel
from harness.stage import HOST, running_stage
from outloop.attacks.upstream.recorder import Recorder

AGENTS = 4
REFUSED = 503


@dataclass
class Load:
    """Agents that ask as fast as they are answered; `answered` holds status and id of each answer."""

    proxy: Proxy
    answered: list[tuple[int, str]] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)
    _came: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def running(self) -> Iterator[Load]:
        agents = [threading.Thread(target=self._ask_on) for _ in range(AGENTS)]
        for agent in agents:
            agent.start()
        try:
            yield self
        finally:
            self._is_over.set()
            for agent in agents:
                agent.join(30)

    def wait_for(self, status: int, count: int) -> None:
        """Return once *count* more answers with that status have come."""
        before = self.count(status)
        with self._came:
            assert self._came.wait_for(lambda: self.count(status) >= before + count, timeout=60), self.proxy.log

    def count(self, status: int) -> int:
        return sum(each == status for each, _ in self.answered)

    def ids(self, status: int) -> set[str]:
        return {audit_id for each, audit_id in self.answered if each == status}

    def _ask_on(self) -> None:
        while not self._is_over.is_set():
            try:
                with tunnel(self.proxy, f"{HOST}:443") as agent:
                    while not self._is_over.is_set():
                        for method in ("GET", "POST"):
                            answer = agent.ask(f"{method} /x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n".encode())
                            self._note(answer.status, answer.header("outloop-audit-id") or "")
            except (OSError, HTTPException, AssertionError):
                continue  # the connection was refused or closed: nothing was answered

    def _note(self, status: int, audit_id: str) -> None:
        with self._came:
            self.answered.append((status, audit_id))
            self._came.notify_all()


def ids_on_record(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT id FROM decisions")}


def test_locked_under_load_it_refuses_and_goes_on_when_the_lock_is_gone(
    ready: Operator, upstream: Recorder, upstream_ca: Path
) -> None:
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as stage, Load(stage.proxy).running() as load:
        load.wait_for(200, 20)
        with closing(sqlite3.connect(ready.home / "audit.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            arrived = len(upstream.requests)
            load.wait_for(REFUSED, 5)
            # Those that were let through already may still be on their way.
            assert len(upstream.requests) <= arrived + AGENTS
            holder.execute("ROLLBACK")
        load.wait_for(200, 20)
        answered = load.ids(200)

    with closing(sqlite3.connect(ready.home / "audit.db")) as db:
        assert answered <= ids_on_record(db)
    assert json.loads(ready.outloop("audit", "verify", "--json"))["ok"] is True


def test_deleted_under_load_every_answer_has_its_row_in_what_was_deleted_and_then_nothing_passes(
    ready: Operator, upstream: Recorder, upstream_ca: Path
) -> None:
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as stage, Load(stage.proxy).running() as load:
        load.wait_for(200, 20)
        with closing(sqlite3.connect(ready.home / "audit.db")) as witness:
            ids_on_record(witness)  # holds the files open, whatever becomes of their names
            for file in ready.home.glob("audit.db*"):
                file.unlink()
            load.wait_for(REFUSED, 10)
            answered = load.ids(200)
            assert answered <= ids_on_record(witness)
        stage.proxy.stop()

    assert "was deleted or replaced while in use" in stage.proxy.log
    assert not (ready.home / "audit.db").exists()


def test_a_newer_record_keeps_a_proxy_from_starting(ready: Operator, upstream: Recorder, upstream_ca: Path) -> None:
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca):
        pass
    with sqlite3.connect(ready.home / "audit.db") as db:
        db.execute("INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('outloop-audit', '0999_later', '')")

    with running_proxy(ready, {}, is_awaited=False) as proxy:
        code = proxy.process.wait(30)

    assert code == 2
    assert "audit.db was written by a newer Outloop (0999_later)" in proxy.log
    assert "outloop: hint: update Outloop" in proxy.log


WRITER = """
    import sys, time
    from pathlib import Path
    from harness.rows import decision, outcome
    from outloop.store.audit import AuditWriter

    writer = AuditWriter(Path(sys.argv[1]), time.time)
    for _ in range(150):
        row = decision(id=writer.ids.next())
        writer.append_now(row)
        writer.append(outcome(row))
        print(row.id)
    writer.close()
"""


def test_two_proxies_and_four_writers_on_one_home_keep_a_chain_each(
    ready: Operator, upstream: Recorder, upstream_ca: Path
) -> None:
    with (
        running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as one,
        running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as other,
        Load(one.proxy).running() as first,
        Load(other.proxy).running() as second,
    ):
        writers = [child(WRITER, str(ready.home / "audit.db")) for _ in range(4)]
        written = [process.communicate(timeout=120)[0].split() for process in writers]
        first.wait_for(200, 20)
        second.wait_for(200, 20)
        answered = first.ids(200) | second.ids(200)
        assert first.count(REFUSED) + second.count(REFUSED) == 0
        stopping = [threading.Thread(target=stage.proxy.stop) for stage in (one, other)]
        for thread in stopping:  # at once: both anchor
            thread.start()
        for thread in stopping:
            thread.join(30)

    assert [len(ids) for ids in written] == [150] * 4
    with closing(sqlite3.connect(ready.home / "audit.db")) as db:
        assert answered | {audit_id for ids in written for audit_id in ids} <= ids_on_record(db)
    verified = json.loads(ready.outloop("audit", "verify", "--json"))
    assert (verified["ok"], verified["anchor"]["standing"], verified["anchor"]["newer"]) == (True, "attested", 0)
    assert verified["writers"] == 6


def test_with_a_reader_that_never_ends_requests_go_on(ready: Operator, upstream: Recorder, upstream_ca: Path) -> None:
    with running_stage(ready, upstream, [HOST], upstream_ca=upstream_ca) as stage:
        assert stage.curl("/before").status == 200
        with closing(sqlite3.connect(f"{(ready.home / 'audit.db').as_uri()}?mode=ro", uri=True)) as reader:
            reader.execute("BEGIN")
            before = ids_on_record(reader)
            with Load(stage.proxy).running() as load:
                load.wait_for(200, 60)
            assert load.count(REFUSED) == 0
            assert ids_on_record(reader) == before
            assert json.loads(ready.outloop("audit", "verify", "--json"))["ok"] is True
        with closing(sqlite3.connect(ready.home / "audit.db")) as db:
            assert load.ids(200) <= ids_on_record(db)
