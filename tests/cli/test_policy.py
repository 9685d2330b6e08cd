"""`outloop policy` and `outloop why`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.rows import NOW_MS, decision, outcome
from outloop.core.ledger import timestamp
from outloop.store.audit import AuditWriter

Outloop = Callable[..., tuple[int, str, str]]
ACME = """workspace: acme
services:
  calendly:
    rules:
      - allow: GET /**
      - deny: "* /data_compliance/**"
        reason: deletion stays with a person
"""
URL = "https://api.calendly.com"


@pytest.fixture
def policies(home: Path, outloop: Outloop) -> Path:
    """The policy folder of a home with one workspace, acme."""
    outloop("workspace", "list")  # makes the home
    folder = home / "policies"
    (folder / "acme.yaml").write_text(ACME)
    (folder / "acme.yaml").chmod(0o600)
    return folder


def test_a_good_policy_is_said_to_be_so(outloop: Outloop, policies: Path) -> None:
    assert outloop("policy", "check") == (0, "policies/acme.yaml: ok, 1 service and 2 rules\n", "")


def test_no_policy_allows_nothing(outloop: Outloop) -> None:
    assert outloop("policy", "check") == (0, "", "no policy files: nothing is allowed\n")


def test_every_problem_comes_with_its_line_and_a_caret(outloop: Outloop, policies: Path) -> None:
    (policies / "acme.yaml").write_text(ACME.replace("allow: GET", "allow: get").replace("reason:", "resaon:"))
    code, out, err = outloop("policy", "check")

    assert (code, err) == (2, "outloop: error: 2 problems in 1 policy file\n")
    assert (
        out
        == """policies/acme.yaml:5:16: unknown method `get`
      5 |       - allow: get /**
        |                ^
  hint: did you mean `GET`? methods are written in upper case
policies/acme.yaml:7:9: unknown field `resaon`
      7 |         resaon: deletion stays with a person
        |         ^
  hint: did you mean `reason`?
"""
    )


def test_an_unquoted_star_is_told_how_to_quote(outloop: Outloop, policies: Path) -> None:
    (policies / "acme.yaml").write_text(ACME.replace('"* /data_compliance/**"', "* /data_compliance/**"))
    code, out, _ = outloop("policy", "check")

    assert code == 2
    assert '  hint: quote it: deny: "* /data_compliance/**"\n' in out


def test_a_secret_in_the_file_is_not_shown_with_its_line(outloop: Outloop, policies: Path) -> None:
    secret = "sk_live_00000000fakefake"
    (policies / "acme.yaml").write_text(f"{ACME}    headers: {{X-Id: {secret}, Authorization: Bearer fake-token-of-nobody}}\n")
    _, out, err = outloop("policy", "check")

    assert "looks like a secret" in out
    assert secret not in out + err
    assert "fake-token-of-nobody" not in out + err


def test_a_line_that_would_act_on_the_terminal_is_shown_inert(outloop: Outloop, policies: Path) -> None:
    (policies / "acme.yaml").write_bytes(b"workspace: acme\nx: \x1b[2J\xe2\x80\xaegnp\n")
    code, out, _ = outloop("policy", "check")

    assert code == 2
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_the_caret_stands_right_in_long_and_wide_lines(outloop: Outloop, policies: Path) -> None:
    (policies / "acme.yaml").write_text(f"{{workspace: acme, {' ' * 300}'字字': 1, {' ' * 300}}}\n")
    _, out, _ = outloop("policy", "check")
    source, caret = out.splitlines()[1:3]

    assert len(source) < 130
    assert caret.index("^") == source.index("'字字'")


def test_what_is_no_file_is_told_and_not_waited_for(outloop: Outloop, policies: Path) -> None:
    os.mkfifo(policies / "pipe.yaml", 0o600)
    (policies / "loop.yaml").symlink_to("loop.yaml")
    code, out, _ = outloop("policy", "check")

    assert code == 2
    assert "policies/pipe.yaml:1:1: not a regular file\n" in out
    assert "policies/loop.yaml:1:1: cannot be read: " in out


def test_problems_as_json(outloop: Outloop, policies: Path) -> None:
    (policies / "acme.yaml").write_text("workspace: acme\negres: deny\n")
    code, out, _ = outloop("policy", "check", "--json")

    assert code == 2
    assert json.loads(out) == [
        {
            "file": "policies/acme.yaml",
            "line": 2,
            "column": 1,
            "message": "unknown field `egres`",
            "hint": "did you mean `egress`?",
        }
    ]


def test_files_are_told_by_what_is_in_them(outloop: Outloop, tmp_path: Path) -> None:
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    (drafts / "a-test.yaml").write_text("- {name: x, request: GET https://a.com/, expect: {decision: deny}}\n")
    (drafts / "tracker.yaml").write_text("title: Tracker\nhosts: [a.com]\nauth: {type: bearer}\nreads: [GET /x]\n")
    (drafts / "wide.yaml").write_text("workspace: wide\n")
    (drafts / "wide.yaml").chmod(0o666)

    assert outloop("policy", "check", str(drafts)) == (
        0,
        "drafts/a-test.yaml: ok, 1 policy tests\n"
        "drafts/tracker.yaml: ok, catalogue entry with 1 reads and 0 writes\n"
        "drafts/wide.yaml: ok, 0 services and 0 rules\n",
        "",
    )


def test_whose_a_file_is_counts_where_a_proxy_would_read_it(outloop: Outloop, policies: Path) -> None:
    (policies / "acme.yaml").chmod(0o666)

    assert "writable by others" in outloop("policy", "check")[1]
    assert "writable by others" in outloop("policy", "check", str(policies / "acme.yaml"))[1]


def test_the_operators_own_catalogue_is_checked_too(outloop: Outloop, policies: Path) -> None:
    services = policies.parent / "services"
    services.mkdir(mode=0o700, exist_ok=True)
    (services / "tracker.yaml").write_text("title: Tracker\n")
    (services / "tracker.yaml").chmod(0o600)
    code, out, _ = outloop("policy", "check")

    assert code == 2
    assert "services/tracker.yaml:1:1: missing field `hosts`" in out
    assert "policies/acme.yaml: ok" in out


def test_policy_tests_pass_or_tell_what_differs(outloop: Outloop, policies: Path, tmp_path: Path) -> None:
    (policies / "tests").mkdir()
    good = "- name: reads pass\n  request: GET https://api.calendly.com/users/me\n  expect: {decision: allow}\n"
    (policies / "tests" / "acme.yaml").write_text(good)

    assert outloop("policy", "test") == (0, "1 of 1 policy test passed\n", "")

    (policies / "tests" / "acme.yaml").write_text(good + good.replace("reads", "writes").replace("GET", "POST"))
    code, out, err = outloop("policy", "test")
    assert code == 1
    assert err == "outloop: error: 1 policy test failed\noutloop: hint: `outloop policy explain METHOD URL -w WS` says why\n"
    assert "test       writes pass\n" in out
    assert "expected   allow\n" in out
    assert "got        deny / method_not_allowed\n" in out
    assert "1 of 2 policy tests passed\n" in out

    code, out, _ = outloop("policy", "test", "--json")
    assert [(each["test"], each["passed"]) for each in json.loads(out)] == [("reads pass", True), ("writes pass", False)]


def test_an_allowed_request_is_explained_with_exit_0(outloop: Outloop, policies: Path) -> None:
    code, out, err = outloop("policy", "explain", "GET", f"{URL}/users/me", "-w", "acme")

    assert (code, err) == (0, "")
    assert "decision   allow\nreason     OK\nrule       allow GET /**\nplace      policies/acme.yaml:5\n" in out


def test_a_denied_request_is_explained_with_exit_1_and_what_to_paste(outloop: Outloop, policies: Path) -> None:
    code, out, err = outloop("policy", "explain", "POST", f"{URL}/scheduling_links", "-w", "acme", "--body", '{"a": 1}')

    assert (code, err) == (1, "")
    assert "Smallest change that would allow it: add to policies/acme.yaml, under services: calendly: rules\n" in out
    assert "\n      - allow: POST /scheduling_links\n" in out


def test_what_a_person_set_is_said_to_be_so(outloop: Outloop, policies: Path) -> None:
    _, out, _ = outloop("policy", "explain", "GET", f"{URL}/data_compliance/x", "-w", "acme")

    assert "What stands against it: a person set the deny rule at policies/acme.yaml:6 (deletion stays with a person)" in out


def test_an_explanation_as_json(outloop: Outloop, policies: Path) -> None:
    code, out, _ = outloop("policy", "explain", "POST", f"{URL}/x", "-w", "acme", "--json")
    found = json.loads(out)

    assert code == 1
    assert (found["decision"], found["reason"], found["rule"]) == ("deny", "method_not_allowed", None)
    assert found["changes"] == [
        {"do": "add to policies/acme.yaml, under services: calendly: rules", "yaml": "- allow: POST /x", "person_set": False}
    ]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param(("check", "missing.yaml"), "no such file: missing.yaml", id="no-file"),
        pytest.param(("test", "missing"), "no such file: missing", id="no-tests"),
        pytest.param(("test",), "there are no policy tests", id="no-tests-folder"),
        pytest.param(("explain", "GET", "foo", "-w", "acme"), "'foo' is not a url", id="no-url"),
        pytest.param(("explain", "G T", f"{URL}/", "-w", "acme"), "'G T' is not a method", id="no-method"),
        pytest.param(("explain", "GET", f"{URL}/", "-w", "acm"), "there is no workspace 'acm'", id="no-workspace"),
        pytest.param(("explain", "GET", f"{URL}/"), "missing option", id="workspace-left-out"),
        pytest.param(("explain", "GET", f"{URL}/", "-w", "acme", "--body", "{"), "the body is not json", id="no-json"),
        pytest.param(("explain", "GET", f"{URL}/", "-w", "acme", "--body", "[" * 9999), "the body is not json", id="deep-json"),
        pytest.param(("chek",), "no such command 'chek'", id="no-command"),
    ],
)
def test_nonsense_is_answered_in_one_line_with_exit_2(
    outloop: Outloop, policies: Path, arguments: tuple[str, ...], error: str
) -> None:
    code, out, err = outloop("policy", *arguments)

    assert (code, out) == (2, "")
    assert err.startswith("outloop: error: ")
    assert error in err
    assert len(err.splitlines()) <= 2


def test_why_explains_a_row_by_its_short_id(outloop: Outloop, home: Path, policies: Path) -> None:
    row = decision(method="POST", path="/scheduling_links", decision="deny", reason="method_not_allowed", rule=None)
    writer = AuditWriter(home / "audit.db", lambda: NOW_MS / 1000)
    writer.append_now(row)
    writer.append_now(outcome(row, status=403, at=timestamp(NOW_MS)))
    writer.close()
    code, out, err = outloop("why", row.id[-8:])

    assert (code, err) == (0, "")
    assert "request    POST https://api.calendly.com/scheduling_links\n" in out
    assert "asked by agent `claude` of acme, answered 403" in out
    assert "      - allow: POST /scheduling_links\n" in out
    assert json.loads(outloop("why", row.id, "--json")[1])["reason"] == "method_not_allowed"


def test_why_of_no_row_is_wrong_usage(outloop: Outloop, policies: Path) -> None:
    code, _, err = outloop("why", "01NOSUCHROW")

    assert code == 2
    assert err.startswith("outloop: error: ")
