from __future__ import annotations

import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.operators import Operator
from harness.rows import decision, outcome
from outloop.core.ledger import DecisionRow, timestamp
from outloop.store.audit import AuditWriter

HOSTILE = "/\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>[bold red]\u202e"


@pytest.fixture
def writer(operator: Operator) -> Iterator[AuditWriter]:
    operator.home.mkdir(mode=0o700)
    writer = AuditWriter(operator.home / "audit.db", time.time)
    writer.start()
    yield writer
    writer.close()


def wrote(writer: AuditWriter, **changes: object) -> DecisionRow:
    """Write a request of this moment with its outcome, and return its decision."""
    row = decision(**({"id": writer.ids.next(), "at": timestamp(int(time.time() * 1000))} | changes))
    writer.append_now(row)
    writer.append_now(outcome(row, status=200 if row.decision == "allow" else 403))
    return row


def on_a_terminal(operator: Operator, *arguments: str, columns: int = 80) -> str:
    """Run outloop on a terminal of that many columns and return what came on it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    command = [sys.executable, "-m", "outloop", *arguments]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=operator.variables | {"TERM": "xterm"})
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # Linux's end of file on a terminal whose other end was closed
        pass
    process.wait(timeout=30)
    os.close(ours)
    # Rich's own bold and italic are no movement; NO_COLOR is set, so there is nothing else.
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode().replace("\r\n", "\n"))


def edit(operator: Operator, column: str, value: str) -> None:
    """Change every decision, as someone would who can write to the file."""
    with sqlite3.connect(operator.home / "audit.db") as db:
        db.execute("DROP TRIGGER decisions_no_update")
        db.execute(f"UPDATE decisions SET {column} = ?", [value])


def test_tail_works_after_everything_has_stopped(operator: Operator, writer: AuditWriter) -> None:
    first, second = wrote(writer), wrote(writer, method="POST", decision="deny", reason="method_not_allowed", rule=None)
    writer.close()

    header, one, other = operator.outloop("audit", "tail").splitlines()

    assert header.split() == ["time", "id", "workspace", "service", "request", "status", "decision"]
    assert one.split()[1:] == [first.id[-8:], "acme", "calendly", "GET", "/users/me", "200", "allow"]
    assert other.split()[1:] == [second.id[-8:], "acme", "calendly", "POST", "/users/me", "403", "deny", "method_not_allowed"]


def test_tail_as_json_has_the_columns_of_the_record(operator: Operator, writer: AuditWriter) -> None:
    row = wrote(writer)

    (shown,) = json.loads(operator.outloop("audit", "tail", "--json"))

    assert (shown["id"], shown["reason"], shown["status"], shown["secret_exposed"], shown["approval"]) == (
        row.id,
        "OK",
        200,
        0,
        None,
    )
    assert len(shown) == 29


def test_no_row_is_an_empty_table_and_an_empty_array(operator: Operator, writer: AuditWriter) -> None:
    assert operator.outloop("audit", "tail") == ""
    assert json.loads(operator.outloop("audit", "tail", "--denied", "--json")) == []


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        pytest.param(["--denied"], [1], id="denied"),
        pytest.param(["--workspace", "globex"], [1], id="workspace"),
        pytest.param(["--service", "posthog"], [2], id="service"),
        pytest.param(["--since", "1h"], [1, 2], id="age"),
        pytest.param(["--since", "90m", "-w", "acme"], [2], id="age-and-workspace"),
        pytest.param(["--since", "2020-01-01"], [0, 1, 2], id="date"),
        pytest.param(["--since", "2999-01-01T00:00:00Z"], [], id="future"),
        pytest.param(["-n", "1"], [2], id="limit"),
    ],
)
def test_filters_choose_rows(operator: Operator, writer: AuditWriter, arguments: list[str], shown: list[int]) -> None:
    rows = [
        wrote(writer, at=timestamp(int((time.time() - 7200) * 1000))),
        wrote(writer, workspace="globex", decision="deny", reason="path_not_allowed"),
        wrote(writer, service="posthog"),
    ]

    found = json.loads(operator.outloop("audit", "tail", "--json", *arguments))

    assert [row["id"] for row in found] == [rows[index].id for index in shown]


def test_tail_fits_80_columns_on_a_terminal(operator: Operator, writer: AuditWriter) -> None:
    path = "/scheduled_events/" + "x" * 200
    wrote(writer, workspace="a-workspace-with-a-long-name", path=path, decision="deny", reason="body_not_allowed")
    wrote(writer, service=None, host="a-long-host-name.internal.example.com")

    lines = on_a_terminal(operator, "audit", "tail").splitlines()

    assert max(map(len, lines)) <= 80
    assert len(lines) < 24
    assert "…" in "".join(lines)


@pytest.mark.parametrize("as_json", [False, True], ids=["people", "json"])
@pytest.mark.parametrize("where", ["terminal", "pipe"])
@pytest.mark.parametrize("edited", [False, True], ids=["as-written", "edited-in-the-file"])
def test_hostile_text_reaches_no_terminal(
    operator: Operator, writer: AuditWriter, where: str, as_json: bool, edited: bool
) -> None:
    row = wrote(writer, path=HOSTILE, agent="\x9b31m")
    writer.close()
    if edited:
        edit(operator, "path", HOSTILE)
    flags = ["--json"] if as_json else []

    for command in (["tail"], ["show", row.id]):
        run = operator.outloop if where == "pipe" else lambda *arguments: on_a_terminal(operator, *arguments)
        shown = run("audit", *command, *flags)

        assert not set(shown) & set("\x1b\x07\x9b\u202e")
        assert "script" in shown


def test_show_prints_one_row_completely(operator: Operator, writer: AuditWriter) -> None:
    row = wrote(writer, session="S1")
    wrote(writer)
    writer.close()

    shown = dict(line.split(None, 1) for line in operator.outloop("audit", "show", row.id[-8:].lower()).splitlines())

    assert (shown["id"], shown["path"], shown["rule"], shown["session"], shown["approval"]) == (
        row.id,
        "/users/me",
        "acme.yaml:7",
        "S1",
        "-",
    )
    assert [*shown][:2] == ["id", "at"]
    assert [*shown][-2:] == ["session", "hash"]
    assert len(shown) == 29


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["people", "json"])
def test_verify_names_an_edited_row_and_exits_1(operator: Operator, writer: AuditWriter, flags: list[str]) -> None:
    row = wrote(writer)
    writer.close()
    edit(operator, "decision", "deny")

    done = operator.run("audit", "verify", *flags)

    assert done.returncode == 1
    assert done.stderr.startswith(f"outloop: error: the record is not whole: decisions row {row.id}, append 1 of writer")
    assert "outloop: hint: " in done.stderr
    if flags:
        assert json.loads(done.stdout)["first_bad"]["id"] == row.id
    else:
        assert done.stdout == ""


def follow(operator: Operator, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "outloop", "audit", "tail", "--follow", *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=operator.variables)


def test_follow_goes_on_with_new_rows(operator: Operator, writer: AuditWriter) -> None:
    old = wrote(writer)
    process = follow(operator, "--json")
    assert process.stdout is not None
    seen = [json.loads(process.stdout.readline())["id"]]

    new = [wrote(writer), wrote(writer)]
    seen += [json.loads(process.stdout.readline())["id"] for _ in new]
    process.terminate()
    process.communicate(timeout=30)

    assert seen == [old.id, *(row.id for row in new)]


def test_follow_prints_lines_of_one_width_for_people(operator: Operator, writer: AuditWriter) -> None:
    row = wrote(writer)
    edit(operator, "path", HOSTILE)
    process = follow(operator)
    assert process.stdout is not None
    line = process.stdout.readline()
    process.terminate()
    process.communicate(timeout=30)

    assert line.split()[2:5] == [row.id[-8:], "acme", "calendly"]
    assert "\x1b" not in line


def test_follow_ends_quietly_when_its_reader_goes_away(operator: Operator, writer: AuditWriter) -> None:
    wrote(writer)
    process = follow(operator)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    while process.poll() is None:
        wrote(writer)

    assert process.stderr.read() == ""
    process.stderr.close()


def test_follow_says_when_the_record_is_taken_away(operator: Operator, writer: AuditWriter) -> None:
    wrote(writer)
    process = follow(operator)
    assert process.stdout is not None
    process.stdout.readline()
    Path(operator.home / "audit.db").unlink()

    _, errors = process.communicate(timeout=30)

    assert process.returncode == 2
    assert "no audit record" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["show", "ZZZZZZZZ"], "no audit row 'ZZZZZZZZ'", id="unknown-id"),
        pytest.param(["show", "\x1b[2J"], "no audit row", id="hostile-id"),
        pytest.param(["show"], "missing argument", id="no-id"),
        pytest.param(["tail", "--since", "yesterday"], "neither an age such as 30m", id="since-in-words"),
        pytest.param(["tail", "--since", "999999w"], "neither an age", id="since-before-time"),
        pytest.param(["tail", "--since", "2026-13-01"], "neither an age", id="since-no-such-month"),
        pytest.param(["tail", "-n", "0"], "0 is not in the range", id="no-rows"),
        pytest.param(["tail", "--workspace", "../acme"], "cannot name a workspace", id="no-workspace-name"),
        pytest.param(["verfiy"], "verfiy", id="typo"),
        pytest.param(["browse", "--port", "70000"], "70000 is not in the range", id="no-such-port"),
    ],
)
def test_wrong_usage_is_one_line_a_hint_and_exit_2(
    operator: Operator, writer: AuditWriter, arguments: list[str], message: str
) -> None:
    wrote(writer)

    done = operator.run("audit", *arguments)

    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error.startswith("outloop: error: ")
    assert message in error
    assert hint.startswith("outloop: hint: ")
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("command", ["tail", "verify", "browse"])
def test_a_home_without_a_record_is_explained(operator: Operator, command: str) -> None:
    done = operator.run("audit", command)

    assert done.returncode == 2
    assert "no audit record" in done.stderr
