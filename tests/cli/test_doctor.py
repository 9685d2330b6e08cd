"""`outloop doctor`: what is printed, and the exit code. What is found: the tests of that name in tests/operator and tests/e2e."""

from __future__ import annotations

import json

import pytest

from harness.operators import Operator
from harness.proxy import free_port
from harness.terminal import on_terminal, widest

POLICY = "workspace: acme\nservices:\n  calendly:\n    rules: [allow: GET /users/me]\n"


@pytest.fixture
def settled(operator: Operator) -> Operator:
    operator.outloop("init")
    operator.write_policy("acme", POLICY)
    operator.add_key("calendly", "acme", "cal_pat_FAKE_0123456789abcdef")
    return operator


def test_in_a_pipe_each_finding_is_one_line_with_its_fix(settled: Operator) -> None:
    done = settled.run("doctor", "--port", str(free_port()))
    found = json.loads(settled.run("doctor", "--json", "--port", str(free_port())).stdout)

    lines = done.stdout.splitlines()
    assert len(lines) == len(found)
    assert {line.split()[0] for line in lines} <= {"ok", "warning", "failure", "skipped"}
    assert all("  fix: " in line for line in lines if line.startswith(("warning", "failure")))


def test_json_is_an_array_of_objects_with_the_columns(settled: Operator) -> None:
    done = settled.run("doctor", "--json")
    assert {tuple(each) for each in json.loads(done.stdout)} == {("check", "result", "finding", "fix")}


def test_what_stops_the_proof_is_said_last_with_what_mends_it(settled: Operator) -> None:
    port = free_port()
    done = settled.run("doctor", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr == (
        f"outloop: error: this would stop the proof: proxy: no proxy runs on 127.0.0.1:{port}\n"
        f"outloop: hint: outloop up --port {port}\n"
    )


def test_a_home_with_nothing_in_it_is_examined_all_the_same(operator: Operator) -> None:
    done = operator.run("doctor", "--json")
    failed = {each["check"] for each in json.loads(done.stdout) if each["result"] == "failure"}
    assert (done.returncode, failed) == (1, {"proxy", "authority", "policy"})


def test_a_workspace_that_is_not_there_is_wrong_usage(settled: Operator) -> None:
    done = settled.run("doctor", "-w", "amce")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("outloop: hint: did you mean `acme`?\n")


def test_it_fits_a_terminal_of_80_columns(settled: Operator) -> None:
    drawn = on_terminal(settled, "doctor", NO_COLOR="1")
    assert widest(drawn) <= 80
    assert "\x1b[3" not in drawn


def test_no_value_is_shown(settled: Operator) -> None:
    done = settled.run("doctor")
    assert "FAKE" not in done.stdout + done.stderr


def test_an_attack_takes_no_workspace_and_no_port(operator: Operator) -> None:
    for arguments in (("-w", "acme"), ("--port", "8080")):
        done = operator.run("doctor", "--attack", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("outloop: error: --attack makes a workspace and a proxy of its own\noutloop: hint: ")


def test_only_chooses_among_attacks(operator: Operator) -> None:
    done = operator.run("doctor", "--only", "calling")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("outloop: hint: outloop doctor --attack --only calling\n")


def test_an_attack_makes_no_home(operator: Operator) -> None:
    drawn = on_terminal(operator, "doctor", "--attack", "--only", "calling", NO_COLOR="1")

    assert widest(drawn) <= 80
    assert "Attacks on this installation" in drawn
    assert not operator.home.exists()
