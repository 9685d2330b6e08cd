from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from harness.collector import collector
from harness.operators import Operator
from harness.rows import decision, outcome
from harness.stage import TOKEN, store_keys
from outloop.core.ledger import timestamp
from outloop.store.audit import AuditWriter


@pytest.fixture
def home(operator: Operator) -> Operator:
    """A home with five requests of long ago and one of this moment."""
    store_keys(operator, {"calendly": TOKEN})
    writer = AuditWriter(operator.home / "audit.db", time.time)
    for days in (400, 400, 400, 30, 30, 0):
        at = timestamp(int((time.time() - days * 86_400) * 1000))
        row = decision(at=at)
        writer.append_now(row)
        writer.append_now(replace(outcome(row), at=at))
    writer.close()
    return operator


def test_prune_says_what_went_and_verify_goes_on(home: Operator) -> None:
    shown = home.outloop("audit", "prune", "--keep", "90d", "--yes")

    assert shown.startswith("removed 6 appends from before ")
    assert "(3 decisions, 3 outcomes)" in shown
    assert len(home.rows()) == 3
    whole, pruned, anchored = home.outloop("audit", "verify").splitlines()
    assert whole.startswith("7 appends by 2 writers: none edited")  # three requests, and the event
    assert pruned.startswith("6 more were pruned, the last at ")
    assert anchored.startswith("anchored in the keychain at ")
    assert home.outloop("audit", "tail").count("/users/me") == 3
    (event,) = home.rows("events")
    assert event["kind"] == "record_pruned"
    assert str(event["detail"]).startswith("6 appends before ")


def test_prune_as_json(home: Operator) -> None:
    shown = json.loads(home.outloop("audit", "prune", "--keep", "90d", "--yes", "--json"))

    assert {name: shown[name] for name in ("removed", "kept", "decisions", "outcomes", "events")} == {
        "removed": 6,
        "kept": 0,
        "decisions": 3,
        "outcomes": 3,
        "events": 0,
    }
    assert set(shown) >= {"cutoff", "freed_bytes", "free_bytes"}


def test_nothing_to_prune_is_no_failure(home: Operator) -> None:
    assert home.outloop("audit", "prune", "--keep", "500d").startswith("nothing from before ")
    assert len(home.rows()) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--keep", "6d", "--yes"], "--keep takes at least 7d", id="too-little"),
        pytest.param(["--keep", "0s", "--yes"], "--keep takes at least 7d", id="nothing"),
        pytest.param(["--keep", "a year", "--yes"], "is not an age such as 90d", id="in-words"),
        pytest.param(["--yes"], "missing option '--keep'", id="no-age"),
        pytest.param(["--keep", "90d"], "there is no terminal to ask on", id="nobody-to-ask"),
    ],
)
def test_wrong_usage_prunes_nothing(home: Operator, arguments: list[str], message: str) -> None:
    done = home.run("audit", "prune", *arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert "outloop: hint: " in done.stderr
    assert len(home.rows()) == 6


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 6), ("y", 0, 3)])
def test_on_a_terminal_it_asks(home: Operator, answer: str, code: int, left: int) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "outloop", "audit", "prune", "--keep", "90d"]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=home.variables, text=True
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    shown, errors = process.communicate(timeout=30)
    os.close(ours)

    assert "Remove 6 appends from before " in shown
    assert (process.returncode, len(home.rows())) == (code, left), errors


def test_what_a_collector_has_not_got_yet_stays_until_it_has(home: Operator) -> None:
    with collector() as arrived:
        home.outloop("audit", "export", "--otlp", arrived.url)
        target = f"{arrived.url}/v1/logs"
    writer = AuditWriter(home.home / "audit.db", time.time)
    for _ in range(2):
        row = decision(id=writer.ids.next(), at="2020-01-01T00:00:00.000Z")
        writer.append_now(row)
        writer.append_now(replace(outcome(row), at=row.at))
    writer.close()

    refused = home.run("audit", "prune", "--keep", "90d", "--yes")

    assert (refused.returncode, len(home.rows())) == (1, 8)
    # The newest of them stays in any case: keys and agents rest on it.
    assert f"2 appends were not sent to {target} yet" in refused.stderr
    assert "--undelivered" in refused.stderr
    home.outloop("audit", "prune", "--keep", "90d", "--yes", "--undelivered")
    assert len(home.rows()) < 8


def test_with_the_keychain_out_of_reach_nothing_is_pruned(home: Operator) -> None:
    home.outloop("audit", "prune", "--keep", "500d")
    (home.home / "keyring" / "master.key").chmod(0o644)

    done = home.run("audit", "prune", "--keep", "90d", "--yes")

    assert done.returncode == 1
    assert "nothing was pruned: the record is not proved whole" in done.stderr
    assert len(home.rows()) == 6
