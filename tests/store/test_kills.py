"""kill -9 at every step of everything that writes: what was told is there, nothing is half there, and the next run goes on."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.killing import killed_at_each_step
from harness.operators import Operator
from harness.rows import decision, outcome
from harness.stage import TOKEN, store_keys, stores
from outloop.core.ledger import Row
from outloop.operator.attestation import Standing, Witnesses, attest
from outloop.store.anchor import renew
from outloop.store.audit import AuditWriter
from outloop.store.records import Records

OLD = "2020-01-01T00:00:00.000Z"

WRITE = """
import time
from pathlib import Path
from harness.rows import decision, outcome
from outloop.store.appender import Appender
from outloop.core.ledger import UlidFactory

ids = UlidFactory(lambda: int(time.time() * 1000), os.urandom)
appender = Appender(Path(sys.argv[1]), ids.next(), 5.0)
for mode in ("read", "write"):
    row = decision(id=ids.next(), runtime_mode=mode)
    appender.append([row])
    print(row.id, flush=True)
    appender.append([outcome(row)])
appender.close()
"""
ANCHOR = """
from pathlib import Path
from outloop.store.anchor import renew
from outloop.store.home import Home
from outloop.store.keychain import Keychain
from outloop.store.state import StateStore

home = Home(Path(sys.argv[1]))
keychain = Keychain.open(home, StateStore(home.state_db), {"OUTLOOP_KEYRING": "file"})
renew(home.audit_db, keychain, "2026-01-01T00:00:00.000Z")
"""
PRUNE = """
from pathlib import Path
from outloop.operator.attestation import Witnesses
from outloop.operator.pruning import Pruning
from outloop.store import pruning
from outloop.store.home import Home
from outloop.store.keychain import Keychain
from outloop.store.state import StateStore

pruning.STEP_APPENDS, pruning.SHORTEST_PAUSE_S = 4, 0.0
home = Home(Path(sys.argv[1]))
keychain = Keychain.open(home, StateStore(home.state_db), {"OUTLOOP_KEYRING": "file"})
witnesses = Witnesses(lambda: keychain, tuple)
pruning = Pruning(home.audit_db, witnesses, lambda: keychain, lambda *_: None, "me", False, 1_796_000_000.0)
for _ in pruning.carry_out(pruning.plan(90 * 86400)):
    pass
pruning.give_back()
"""


@pytest.fixture
def home(operator: Operator) -> Operator:
    """A home with a keychain and a record of ten old requests and a young one, anchored."""
    store_keys(operator, {"calendly": TOKEN})
    write(operator, 10, OLD)
    write(operator, 1, "2026-11-01T00:00:00.000Z")
    return operator


def write(operator: Operator, requests: int, at: str) -> None:
    writer = AuditWriter(operator.home / "audit.db", time.time)
    for _ in range(requests):
        row = decision(id=writer.ids.next(), at=at)
        rows: list[Row] = [row, replace(outcome(row), at=at)]
        for each in rows:
            writer.append_now(each)
    writer.close()
    with stores(operator) as (_, keychain):
        renew(operator.home / "audit.db", keychain, at)


def standing(operator: Operator) -> tuple[bool, Standing]:
    with stores(operator) as (_, keychain):
        found = attest(operator.home / "audit.db", Witnesses(lambda: keychain, tuple))
    assert found.verification.first_bad is None, found.verification.first_bad
    return found.ok, found.standing


def ids(path: Path) -> set[str]:
    with sqlite3.connect(path) as db:
        return {row[0] for row in db.execute("SELECT id FROM decisions")}


def test_a_write_is_there_whole_or_not_at_all_and_always_if_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    writer = AuditWriter(path, time.time)
    writer.append_now(decision(id=writer.ids.next()))
    writer.close()
    deaths = 0
    told: set[str] = set()
    for step, printed in killed_at_each_step(WRITE, str(path), stride=2):
        told |= set(printed.split())
        deaths += bool(step)
        found = Records(path).verify()
        assert found.ok, (step, found.first_bad)
        assert told <= ids(path)

    assert deaths > 10
    assert len(told) > 2


def test_a_record_that_was_being_made_is_made_by_the_next(tmp_path: Path) -> None:
    for step, printed in killed_at_each_step(WRITE, str(tmp_path / "{step}.db"), stride=4):
        path = max(tmp_path.glob("*.db"), key=lambda found: int(found.stem), default=None) if step else None
        if path is None:
            continue
        writer = AuditWriter(path, time.time)
        writer.append_now(decision(id=writer.ids.next()))
        writer.close()
        found = Records(path).verify()
        assert found.ok, (step, found.first_bad)
        assert set(printed.split()) <= ids(path)


def test_an_anchor_is_the_one_before_or_the_new_one(home: Operator) -> None:
    deaths = 0
    for step, _ in killed_at_each_step(ANCHOR, str(home.home), stride=3):
        deaths += bool(step)
        assert standing(home) == (True, Standing.ATTESTED), step
        if step % 2:
            write(home, 1, "2026-11-01T00:00:00.000Z")  # something new to attest

    assert deaths > 10


def test_a_first_anchor_is_there_or_not(operator: Operator) -> None:
    store_keys(operator, {"calendly": TOKEN})
    writer = AuditWriter(operator.home / "audit.db", time.time)
    writer.append_now(decision())
    writer.close()
    seen = []
    for step, _ in killed_at_each_step(ANCHOR, str(operator.home), stride=2):
        ok, how = standing(operator)
        assert ok, step
        seen.append(how)

    assert seen[-1] is Standing.ATTESTED
    assert seen == sorted(seen, key=[Standing.NONE, Standing.ATTESTED].index)


def test_a_prune_leaves_all_or_nothing_of_each_step(home: Operator) -> None:
    path = home.home / "audit.db"
    left = [len(ids(path))]
    deaths = 0
    for step, _ in killed_at_each_step(PRUNE, str(home.home), stride=4):
        deaths += bool(step)
        assert standing(home) == (True, Standing.ATTESTED), step
        left.append(len(ids(path)))

    assert deaths > 20
    assert left == sorted(left, reverse=True)
    assert left[-1] == 1
