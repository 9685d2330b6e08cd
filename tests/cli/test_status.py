"""`outloop status`: for people, in a pipe, and as JSON."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

import pytest

from harness.operators import Operator
from harness.rows import decision, event, outcome
from harness.terminal import on_terminal, widest
from outloop.operator.status import SECTIONS
from outloop.store.audit import AuditWriter

POLICY = "workspace: {name}\nservices:\n  calendly:\n    rules: [allow: GET /users/me]\n"
TITLES = ["Claims", "Listeners", "Policies", "Keys", "Decoys", "Pending approvals", "Requests today (UTC)"]


@pytest.fixture
def settled(operator: Operator) -> Operator:
    operator.write_policy("acme", POLICY.format(name="acme"))
    operator.add_key("calendly", "acme", "cal_pat_FAKE_0123456789abcdef")
    return operator


def test_the_first_line_says_what_is_proved_and_what_is_not(settled: Operator) -> None:
    first, *_ = settled.outloop("status").splitlines()
    assert first == "proved: nothing; not proved: acme calendly read, acme calendly write"


def test_every_section_has_its_title_in_a_pipe_as_well(settled: Operator) -> None:
    lines = settled.outloop("status").splitlines()
    assert [line for line in lines if line in TITLES] == TITLES


def test_json_is_one_object_with_every_section_and_column(settled: Operator) -> None:
    with closing(AuditWriter(settled.home / "audit.db", time.time)) as audit:
        row = decision()
        audit.append_now(row)
        audit.append_now(outcome(row))

    found = json.loads(settled.outloop("status", "--json"))

    assert list(found) == ["summary", *SECTIONS]
    for name, columns in SECTIONS.items():
        assert all(tuple(each) == columns for each in found[name]), name
    assert found["keys"][0]["last_status"] == 200


def test_a_home_that_was_never_used_is_no_error(operator: Operator) -> None:
    done = operator.run("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nothing is proved: ")


def test_a_workspace_that_is_not_there_is_one_line_and_a_hint(settled: Operator) -> None:
    done = settled.run("status", "-w", "amce")
    assert done.returncode == 2
    assert done.stderr == "outloop: error: there is no workspace 'amce'\noutloop: hint: did you mean `acme`?\n"


def test_a_broken_policy_is_shown_and_not_an_error(settled: Operator) -> None:
    settled.write_policy("acme", "workspace: acme\nservices:\n  nothing: {}\n")
    done = settled.run("status", "-w", "acme")
    assert (done.returncode, done.stderr) == (0, "")
    assert "acme.yaml:3:" in done.stdout


def test_hostile_text_in_the_record_stays_inert(settled: Operator) -> None:
    with closing(AuditWriter(settled.home / "audit.db", time.time)) as audit:
        audit.append_now(event("key_added", workspace="a\x1b[2Jb", service="\u202ex"))
    assert "\x1b" not in settled.outloop("status")


def test_it_fits_a_terminal_of_80_columns_and_colours_only_where_wanted(settled: Operator) -> None:
    settled.write_policy("a-workspace-with-a-long-name", POLICY.format(name="a-workspace-with-a-long-name"))

    plain = on_terminal(settled, "status", NO_COLOR="1")
    coloured = on_terminal(settled, "doctor", NO_COLOR="")

    _, tables = plain.split("\n", 1)  # the first line is one sentence, however long the names in it are
    assert widest(tables) <= 80
    assert "\x1b[3" not in plain
    assert "\x1b[3" in coloured


def test_no_value_is_shown(settled: Operator) -> None:
    assert "FAKE" not in settled.outloop("status") + settled.outloop("status", "--json")


def test_a_record_that_cannot_be_read_is_one_line(settled: Operator, tmp_path: Path) -> None:
    (settled.home / "audit.db").write_text("not a database, by far, but long enough to be taken for one at first sight")
    done = settled.run("status")
    assert (done.returncode, done.stderr.count("\n")) in ((1, 2), (2, 2))
    assert "Traceback" not in done.stderr
