"""`outloop approvals`, `approve` and `refuse`, and the live screen on a real terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.operators import PATIENCE_S, Operator, Row
from outloop.core.approvals import LIFE_S, Approval, Asked, Status
from outloop.store.approvals import ApprovalStore
from outloop.store.home import Home

Run = Callable[..., tuple[int, str, str]]
IDS = ("01J8Z3K9ABCDEFGHJK7Q2M0AAA", "01J8Z3K9ABCDEFGHJK7Q2M0BBB", "01J8Z3K9ABCDEFGHJK7Q2M0CCC")
FACTS = (
    *("id", "asked_at", "age_s", "workspace", "agent", "service", "method", "host", "path", "headers", "body", "body_bytes"),
    *("rule", "rule_text", "status", "until"),
)


@pytest.fixture
def store(home: Path) -> Iterator[ApprovalStore]:
    Home(home).ensure()
    opened = ApprovalStore(home / "state.db")
    yield opened
    opened.close()


def ask(store: ApprovalStore, number: int = 0, path: str = "/scheduling_links", **changes: str) -> Approval:
    fields = {"agent": "claude", "body": '{"max_event_count": 1}', "headers": "content-type: application/json"} | changes
    what = Asked(
        "acme", fields["agent"], "calendly", "POST", "api.calendly.com", 443, path, fields["headers"], fields["body"], 21,
        "acme.yaml:9", "ask: POST /scheduling_links", "mark", f"binding-{number}",
    )  # fmt: skip
    approval = store.ask(what, IDS[number], time.time()).approval
    assert approval is not None
    return approval


def status(store: ApprovalStore, approval: Approval) -> Status | None:
    found = store.find(approval.id)
    return found.status if found else None


def events(home: Path) -> list[Row]:
    return Operator(home.parent).rows("events")


def test_what_waits_is_a_line_with_a_short_id(outloop: Run, store: ApprovalStore) -> None:
    ask(store, agent="")
    code, out, _ = outloop("approvals")
    assert code == 0
    head, line = out.splitlines()
    assert head.split() == ["id", "age", "status", "workspace", "agent", "service", "request", "body"]
    assert line.split(maxsplit=2)[0] == "7Q2M0AAA"
    assert line.split(maxsplit=2)[2].split() == [
        *("pending", "acme", "-", "calendly", "POST", "/scheduling_links", '{"max_event_count":', "1}")
    ]


def test_json_has_every_fact_and_nothing_it_is_bound_by(outloop: Run, store: ApprovalStore) -> None:
    ask(store)
    [fact] = json.loads(outloop("approvals", "--json")[1])
    assert tuple(fact) == FACTS
    assert (fact["id"], fact["status"], fact["agent"], fact["body"]) == (IDS[0], "pending", "claude", '{"max_event_count": 1}')


def test_nothing_is_said_to_wait_where_nothing_does(outloop: Run) -> None:
    assert outloop("approvals") == (0, "", "nothing waits for you\n")
    assert outloop("approvals", "--json") == (0, "[]\n", "")


def test_a_yes_is_on_record_before_it_counts_and_says_where_it_was_given(outloop: Run, store: ApprovalStore, home: Path) -> None:
    approval = ask(store)
    code, out, err = outloop("approve", "7q2m0aaa")
    assert (code, out, err) == (0, "approved 7Q2M0AAA: POST /scheduling_links, once, within ten minutes\n", "")
    assert status(store, approval) is Status.APPROVED
    [event] = events(home)
    told = {name: event[name] for name in ("kind", "workspace", "agent", "service", "host")}
    assert told == {
        "kind": "approval_approved", "workspace": "acme", "agent": "claude", "service": "calendly", "host": "api.calendly.com",
    }  # fmt: skip
    assert event["detail"] == f"{IDS[0]} POST /scheduling_links; not at a terminal"


def test_no_yes_counts_that_cannot_be_put_on_record(outloop: Run, store: ApprovalStore, home: Path) -> None:
    approval = ask(store)
    (home / "audit.db").write_bytes(b"this is no database, and never was one" * 40)
    for command in (("approve", "7Q2M0AAA"), ("approve", "7Q2M0AAA", "--for", "10m"), ("refuse", "7Q2M0AAA")):
        code, out, err = outloop(*command)
        assert (code, out) == (1, "")
        assert "damaged" in err
    assert status(store, approval) is Status.PENDING


def test_a_grant_is_listed_and_ended_by_refusing_it(outloop: Run, store: ApprovalStore, home: Path) -> None:
    approval = ask(store)
    assert (
        outloop("approve", "7Q2M0AAA", "--for", "2h")[1] == "granted 7Q2M0AAA: `ask: POST /scheduling_links` for claude of acme\n"
    )
    [fact] = json.loads(outloop("approvals", "--json")[1])
    assert fact["status"] == "granted"
    assert outloop("refuse", "7Q2M0AAA", "--because", "enough")[1] == "revoked 7Q2M0AAA: POST /scheduling_links\n"
    assert outloop("approvals", "--json")[1] == "[]\n"
    assert status(store, approval) is Status.REVOKED
    details = {str(row["kind"]): str(row["detail"]) for row in events(home)}
    assert list(details) == ["approval_granted", "approval_revoked"]
    assert details["approval_granted"].startswith(f"{IDS[0]} POST /scheduling_links; ask: POST /scheduling_links until 20")
    assert details["approval_revoked"] == f"{IDS[0]} POST /scheduling_links; because: enough; not at a terminal"


def test_hostile_text_stays_inert(outloop: Run, store: ApprovalStore, home: Path) -> None:
    approval = ask(store, path="/\x1b[2J\u202e", body="[red]\x1b]0;x\x07[/red]")
    for command in (("approvals",), ("approvals", "--json"), ("refuse", "7Q2M0AAA", "--because", "a\nb\x1b[1m")):
        code, out, err = outloop(*command)
        assert code == 0
        assert not set("\x1b\x07\u202e") & set(out + err)
    found = store.find(approval.id)
    assert found is not None
    assert found.because == "a b\\x1b[1m"


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        pytest.param(("approve", "ZZZZ"), 2, "there is no approval 'ZZZZ'", id="unknown"),
        pytest.param(("approve", "01J8Z3K9"), 2, "more than one approval answers to '01J8Z3K9'", id="ambiguous"),
        pytest.param(("approve", ""), 2, "there is no approval ''", id="empty"),
        pytest.param(("approve",), 2, "missing argument", id="no-id"),
        pytest.param(("approve", "7Q2M0AAA", "--for", "ten"), 2, "'ten' is not a length of time", id="no-length"),
        pytest.param(("approve", "7Q2M0AAA", "--for", "10"), 2, "'10' is not a length of time", id="no-unit"),
        pytest.param(("approve", "7Q2M0AAA", "--for", "0m"), 2, "a grant lasts from a second to a day", id="no-time"),
        pytest.param(("approve", "7Q2M0AAA", "--for", "25h"), 2, "a grant lasts from a second to a day", id="too-long"),
        pytest.param(("approve", "7Q2M0AAA", "--for", "٣m"), 2, "is not a length of time", id="other-digits"),
        pytest.param(("approve", "7Q2M0CCC"), 1, "approval 7Q2M0CCC was used", id="used"),
        pytest.param(("refuse", "7Q2M0CCC"), 1, "approval 7Q2M0CCC was used", id="refused-too-late"),
        pytest.param(("approvals", "--watch"), 2, "--watch needs a terminal", id="no-terminal"),
        pytest.param(("approvals", "--watch", "--json"), 2, "do not go together", id="both"),
    ],
)
def test_nonsense_decides_nothing(
    outloop: Run, store: ApprovalStore, home: Path, arguments: tuple[str, ...], code: int, error: str
) -> None:
    waiting = [ask(store, number) for number in range(2)]
    used = store.approve(ask(store, 2).id, time.time())
    assert used is not None
    store.use(used, time.time())
    done = outloop(*arguments)
    assert done[:2] == (code, "")
    assert error in done[2]
    assert done[2].count("\n") == 2
    assert [status(store, each) for each in waiting] == [Status.PENDING] * 2
    assert events(home) == []


def test_what_ran_out_is_not_listed_and_cannot_be_approved(outloop: Run, store: ApprovalStore, home: Path) -> None:
    approval = ask(store)
    store.sweep(time.time() + LIFE_S)
    assert outloop("approvals", "--json")[1] == "[]\n"
    code, _, err = outloop("approve", "7Q2M0AAA")
    assert (code, err.splitlines()[0]) == (1, "outloop: error: approval 7Q2M0AAA has expired")
    assert status(store, approval) is Status.EXPIRED


# The live screen


class Terminal:
    """A real terminal with `outloop approvals --watch` on it."""

    def __init__(self, screen: int, process: subprocess.Popen[bytes]) -> None:
        self._screen = screen
        self._process = process
        self._drawn = b""

    def wait_for(self, *texts: str) -> None:
        """Return once every text has been drawn since the last call. Raises AssertionError, with what was drawn."""
        end = time.monotonic() + PATIENCE_S
        while not all(text.encode() in self._drawn for text in texts):
            assert time.monotonic() < end, self._drawn.decode("utf-8", "replace")
            if select.select([self._screen], [], [], 0.1)[0]:
                self._drawn += os.read(self._screen, 65536)
        self._drawn = b""

    @property
    def drawn(self) -> bytes:
        """What was drawn since the last text that was waited for."""
        return self._drawn

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self._screen, (rows, columns))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def press(self, keys: str) -> None:
        os.write(self._screen, keys.encode())

    def press_until(self, key: str, happened: Callable[[], bool]) -> None:
        """Press *key* again as long as it is not heard: a key right after the list has changed does nothing."""
        end = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < end, self._drawn
            self.press(key)
            if select.select([self._screen], [], [], 0.5)[0]:
                self._drawn += os.read(self._screen, 65536)

    def ended(self) -> int:
        end = time.monotonic() + PATIENCE_S
        with contextlib.suppress(OSError):
            while self._process.poll() is None:
                assert time.monotonic() < end, "it did not end"
                if select.select([self._screen], [], [], 0.1)[0]:
                    self._drawn += os.read(self._screen, 65536)
            while select.select([self._screen], [], [], 0.1)[0]:
                self._drawn += os.read(self._screen, 65536)
        return self._process.wait(PATIENCE_S)


@pytest.fixture
def terminal(home: Path, store: ApprovalStore) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 110))
    before = termios.tcgetattr(theirs)
    variables = {**Operator(home.parent).variables, "TERM": "xterm"}
    # Ctrl-C reaches whoever the terminal controls.
    begin = (
        "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);os.execv(sys.executable, sys.argv[1:])"
    )
    command = [sys.executable, "-c", begin, sys.executable, "-m", "outloop", "approvals", "--watch"]
    process = subprocess.Popen(command, env=variables, stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        yield Terminal(ours, process)
        if process.poll() is not None:
            assert termios.tcgetattr(theirs) == before, "the terminal is left as it was"
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        os.close(theirs)
        os.close(ours)


def test_the_screen_shows_what_comes_and_keys_decide_on_it(terminal: Terminal, store: ApprovalStore, home: Path) -> None:
    terminal.wait_for("Nothing waits for you.")
    first = ask(store, 0)
    terminal.wait_for("\a", "7Q2M0AAA", "https://api.calendly.com/scheduling_links", '{"max_event_count": 1}', "acme.yaml:9")

    terminal.press_until("a", lambda: status(store, first) is Status.APPROVED)
    second = ask(store, 1, "/other")
    terminal.wait_for("7Q2M0BBB")
    terminal.press("\x1b[B")
    terminal.press("r")
    terminal.wait_for("refuse because:")
    terminal.press("nöt now")
    terminal.wait_for("nöt now")
    terminal.press("\r")
    terminal.wait_for("refused: POST /other")
    terminal.press("q")

    assert terminal.ended() == 0
    refused = store.find(second.id)
    assert refused is not None
    assert (refused.status, refused.because) == (Status.REFUSED, "nöt now")
    assert [row["kind"] for row in events(home)] == ["approval_approved", "approval_refused"]
    assert " at /dev/" in str(events(home)[0]["detail"])


def test_ctrl_c_leaves_the_screen_and_the_terminal_as_it_was(terminal: Terminal) -> None:
    terminal.wait_for("Nothing waits for you.")
    terminal.press("\x03")
    assert terminal.ended() in (0, 130)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_one_that_is_told_to_end_leaves_the_terminal_as_it_was(terminal: Terminal, number: signal.Signals) -> None:
    terminal.wait_for("Nothing waits for you.")

    terminal.signal(number)

    assert terminal.ended() == 128 + number
    assert terminal.drawn.rpartition(b"\x1b[?1049")[2].startswith(b"l"), "the screen that was there before is back"


def test_ctrl_z_does_not_leave_a_screen_half_drawn(terminal: Terminal, store: ApprovalStore) -> None:
    terminal.wait_for("Nothing waits for you.")

    terminal.press("\x1a")
    ask(store)

    terminal.wait_for("7Q2M0AAA")
    terminal.press("q")
    assert terminal.ended() == 0


def test_a_screen_that_changes_its_size_is_drawn_anew(terminal: Terminal, store: ApprovalStore) -> None:
    ask(store, path="/" + "x" * 500, body="y" * 2000)
    terminal.wait_for("7Q2M0AAA", "j/k choose")

    terminal.resize(14, 40)
    terminal.wait_for("a larger terminal shows the rest", "j/k choose")
    terminal.press_until("r", lambda: b"refuse because:" in terminal.drawn)
    terminal.press("\x1bq")

    terminal.press_until("q", lambda: terminal.is_over)
    assert terminal.ended() == 0
