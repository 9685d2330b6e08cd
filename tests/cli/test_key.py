"""`outloop key`."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.operators import PATIENCE_S, Operator

Run = Callable[..., tuple[int, str, str]]

VALUE = "fake-token-0123456789"
CUSTOM = """\
workspace: acme
services:
  shop:
    hosts: [api.shop.example]
    auth: {type: basic}
    rules: [{allow: GET /**}]
"""


@pytest.fixture
def piped(outloop: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command with bytes on its standard input."""

    def run(data: bytes | str, *arguments: str) -> tuple[int, str, str]:
        data = data.encode() if isinstance(data, str) else data
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return outloop(*arguments)

    return run


@pytest.fixture
def acme(piped: Run, home: Path) -> Path:
    """A home with one key of Calendly's in the workspace acme."""
    assert piped(VALUE, "key", "add", "calendly", "-w", "acme", "--stdin")[0] == 0
    return home


def write_policy(home: Path, workspace: str, text: str) -> None:
    (home / "policies").mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    path = home / "policies" / f"{workspace}.yaml"
    path.write_text(text)
    path.chmod(0o600)


def listed(outloop: Run) -> list[dict[str, object]]:
    keys: list[dict[str, object]] = json.loads(outloop("key", "list", "--json")[1])
    return keys


# Adding


def test_a_key_is_stored_and_what_to_do_next_is_said(piped: Run, home: Path) -> None:
    code, out, err = piped(VALUE, "key", "add", "calendly", "-w", "acme", "--stdin")
    assert (code, err) == (0, "")
    assert out == (
        f"stored the key acme-calendly of workspace acme in the encrypted file {home}/keyring/values.enc (not an OS keychain)\n"
        "at Calendly, name the token `outloop-acme-calendly`, so that both sides show which is which\n"
        f"wrote {home}/policies/acme.yaml: agents of acme may make Calendly's documented reads\n"
        "runtime access is OFF: no agent can use this key until you run\n"
        "  outloop key enable acme-calendly -w acme\n"
    )


def test_the_file_it_writes_is_a_valid_policy(outloop: Run, acme: Path) -> None:
    assert outloop("policy", "check")[0] == 0
    assert outloop("policy", "explain", "GET", "https://api.calendly.com/users/me", "-w", "acme")[0] == 0


def test_a_key_of_another_name_is_named_in_the_file_it_writes(outloop: Run, piped: Run, home: Path) -> None:
    assert piped(VALUE, "key", "add", "calendly", "-w", "acme", "--name", "mine", "--stdin")[0] == 0
    assert "    key: mine\n" in (home / "policies" / "acme.yaml").read_text()
    assert outloop("policy", "check")[0] == 0
    assert [key["key"] for key in listed(outloop)] == ["mine"]


def test_a_file_that_lacks_the_service_is_not_changed_and_the_block_to_paste_makes_it_whole(
    outloop: Run, piped: Run, home: Path
) -> None:
    head = "workspace: acme\nservices:\n"
    other = "  shop:\n    hosts: [api.shop.example]\n    auth: {type: bearer}\n    rules: [{allow: GET /**}]\n"
    write_policy(home, "acme", head + other)
    code, out, _ = piped(VALUE, "key", "add", "calendly", "-w", "acme", "--name", "mine", "--stdin")
    assert code == 0
    assert (home / "policies" / "acme.yaml").read_text() == head + other
    assert "does not use calendly yet: paste this under `services:`\n" in out
    block = out.partition("`services:`\n")[2].partition("runtime access")[0]
    write_policy(home, "acme", head + block + other)
    assert outloop("policy", "check")[0] == 0
    assert outloop("policy", "explain", "GET", "https://api.calendly.com/users/me", "-w", "acme")[0] == 0


def test_the_name_that_the_policy_gives_is_taken(outloop: Run, piped: Run, home: Path) -> None:
    write_policy(home, "acme", CUSTOM.replace("  shop:\n", "  shop:\n    key: till\n"))
    data = '{"username": "bob", "password": "fake-password"}'
    code, out, _ = piped(data, "key", "add", "shop", "-w", "acme", "--stdin")
    assert code == 0
    assert "outloop key enable till -w acme" in out
    assert "paste" not in out
    code, out, _ = piped(data, "key", "add", "shop", "-w", "acme", "--stdin", "--name", "other")
    assert f"{home}/policies/acme.yaml uses the key till for shop: to use this one, set\n    key: other\n" in out


def test_a_value_of_another_workspace_needs_a_word(piped: Run, acme: Path) -> None:
    code, out, err = piped(VALUE, "key", "add", "calendly", "-w", "beta", "--stdin")
    assert (code, out) == (2, "")
    assert "already stored as acme-calendly of workspace acme" in err
    assert not (acme / "policies" / "beta.yaml").exists()
    assert piped(VALUE, "key", "add", "calendly", "-w", "beta", "--stdin", "--shared-ok")[0] == 0


@pytest.mark.parametrize(
    ("data", "arguments", "error"),
    [
        pytest.param(b"short", ("calendly", "-w", "acme"), "shorter than 8 characters", id="short"),
        pytest.param(b"fake\r\nvalue", ("calendly", "-w", "acme"), "cannot be seen", id="cr-lf"),
        pytest.param(b"fake\0value", ("calendly", "-w", "acme"), "cannot be seen", id="nul"),
        pytest.param(b"\xff\xfe" * 10, ("calendly", "-w", "acme"), "not UTF-8", id="bytes"),
        pytest.param(b"", ("calendly", "-w", "acme"), "is empty", id="empty"),
        pytest.param(b"x" * 300_000, ("calendly", "-w", "acme"), "longer than", id="huge"),
        pytest.param(b"fake-token", ("calendli", "-w", "acme"), "no service 'calendli'", id="unknown-service"),
        pytest.param(b"fake-token", ("calendly",), "missing option", id="no-workspace"),
        pytest.param(b"fake-token", ("calendly", "-w", "../x"), "cannot name a workspace", id="workspace-path"),
        pytest.param(b"fake-token", ("calendly", "-w", "acme", "--name", "a/b"), "cannot name a key", id="name-slash"),
        pytest.param(b"fake-token", ("calendly", "-w", "acme", "--name", "a#previous"), "cannot name a key", id="name-hash"),
        pytest.param(b"fake-token", ("calendly", "-w", "acme", "--name", "ключ"), "cannot name a key", id="name-unicode"),
        pytest.param(b"fake-token", ("calendly", "-w", "acme", "--name", "x" * 300), "cannot name a key", id="name-long"),
        pytest.param(b"fake-token", ("calendly", "-w", "acme", "--name", ""), "cannot name a key", id="name-empty"),
        pytest.param(
            b"fake-token", ("calendly", "fake-token-in-argv", "-w", "acme"), "unexpected extra argument", id="value-in-argv"
        ),
    ],
)
def test_nonsense_stores_nothing(
    outloop: Run, piped: Run, home: Path, data: bytes, arguments: tuple[str, ...], error: str
) -> None:
    code, out, err = piped(data, "key", "add", *arguments, "--stdin")
    assert (code, out) == (2, "")
    assert error in err
    assert err.count("\n") == 2
    assert "Traceback" not in err
    assert listed(outloop) == []
    assert not list((home / "policies").glob("*"))


def test_without_a_terminal_the_prompt_refuses_before_it_asks(piped: Run) -> None:
    code, out, err = piped(VALUE, "key", "add", "calendly", "-w", "acme")
    assert (code, out) == (2, "")
    assert "--stdin takes the value from standard input" in err


def test_a_broken_keychain_is_one_line(piped: Run, acme: Path) -> None:
    (acme / "keyring" / "values.enc").write_bytes(b"altered")
    code, out, err = piped(VALUE, "key", "add", "calendly", "-w", "beta", "--stdin")
    assert (code, out) == (1, "")
    assert "values.enc (not an OS keychain) cannot be used:" in err
    assert err.count("\n") == 2


@pytest.mark.parametrize(
    "command", [("list",), ("enable", "calendly", "-w", "acme"), ("remove", "calendly", "-w", "acme", "--yes")]
)
def test_a_broken_state_is_one_line(outloop: Run, acme: Path, command: tuple[str, ...]) -> None:
    for file in acme.glob("state.db*"):
        file.write_bytes(b"not a database" * 100)
    code, out, err = outloop("key", *command)
    assert (code, out) == (2, "")
    assert "state.db cannot be used: file is not a database" in err
    assert err.count("\n") == 2


# The switch


def test_the_switch_is_turned_by_key_or_service_and_is_on_record(outloop: Run, acme: Path) -> None:
    assert [key["runtime_access"] for key in listed(outloop)] == ["off"]
    assert outloop("key", "enable", "calendly", "-w", "acme") == (0, "runtime access of acme-calendly is now on\n", "")
    assert outloop("key", "enable", "acme-calendly", "-w", "acme")[1] == "runtime access of acme-calendly was already on\n"
    assert [key["runtime_access"] for key in listed(outloop)] == ["on"]
    assert outloop("key", "disable", "calendly", "-w", "acme") == (0, "runtime access of acme-calendly is now OFF\n", "")
    kinds = [row["kind"] for row in Operator(acme.parent).rows("events")]
    assert kinds == ["key_added", "key_enabled", "key_disabled"]


def test_a_broken_policy_does_not_keep_a_key_on(outloop: Run, acme: Path) -> None:
    outloop("key", "enable", "calendly", "-w", "acme")
    (acme / "policies" / "acme.yaml").write_text("nonsense: [")
    assert outloop("key", "disable", "calendly", "-w", "acme")[0] == 0
    assert [key["runtime_access"] for key in listed(outloop)] == ["off"]


@pytest.mark.parametrize("verb", ["enable", "disable", "rotate", "remove"])
def test_a_key_that_is_not_there_is_refused(piped: Run, acme: Path, verb: str) -> None:
    for arguments, error in (
        (("nothing", "-w", "acme"), "workspace acme has no key nothing"),
        (("calendly", "-w", "beta"), "workspace beta has no key\n"),
    ):
        code, out, err = piped(VALUE, "key", verb, *arguments)
        assert (code, out) == (2, "")
        assert error in err


# Listing


def test_a_list_never_shows_a_value(outloop: Run, piped: Run, acme: Path) -> None:
    for shown in (outloop("key", "list"), outloop("key", "list", "--json"), outloop("key", "list", "-w", "acme")):
        assert shown[0] == 0
        assert VALUE[:4] not in shown[1]
        assert VALUE[-2:] not in re.sub(r"T[\d:.]+Z", "", shown[1])  # a time of day may hold it
    (key,) = listed(outloop)
    assert key == {
        "workspace": "acme",
        "key": "acme-calendly",
        "service": "calendly",
        "value": "••••••••",
        "runtime_access": "off",
        "added_at": key["added_at"],
        "last_used": None,
        "last_status": None,
    }
    assert outloop("key", "list", "-w", "beta", "--json")[1] == "[]\n"


def test_an_empty_list_says_how_to_begin(outloop: Run) -> None:
    assert outloop("key", "list") == (0, "", "no key yet: outloop key add SERVICE -w WS\n")


# Rotating and removing


def test_a_rotation_says_how_long_the_old_value_is_scrubbed(outloop: Run, piped: Run, acme: Path) -> None:
    outloop("key", "enable", "calendly", "-w", "acme")
    code, out, _ = piped("fake-token-next-one", "key", "rotate", "calendly", "-w", "acme", "--stdin", "--grace", "30min")
    assert code == 0
    assert "stored the new value of acme-calendly in the encrypted file" in out
    assert "runtime access is on\n" in out
    assert "the old value is scrubbed for another 30min: revoke it at Calendly meanwhile\n" in out
    code, out, _ = piped("fake-token-third-one", "key", "rotate", "calendly", "-w", "acme", "--stdin", "--grace", "0")
    assert code == 0
    assert "scrubbed" not in out


@pytest.mark.parametrize("grace", ["", "1", "h", "1 h", "-1h", "1w", "1.5h", "1h30min", "31d", "9999999999h", "１h", "0x1h"])
def test_a_grace_that_is_no_length_of_time_is_refused(piped: Run, acme: Path, grace: str) -> None:
    code, out, err = piped("fake-token-next-one", "key", "rotate", "calendly", "-w", "acme", "--stdin", f"--grace={grace}")
    assert (code, out) == (2, "")
    assert "hint: " in err


def test_the_same_value_again_is_no_rotation(piped: Run, acme: Path) -> None:
    code, _, err = piped(VALUE, "key", "rotate", "calendly", "-w", "acme", "--stdin")
    assert code == 2
    assert "already stored" in err


def test_a_removal_asks_and_a_script_has_to_say_yes(outloop: Run, piped: Run, acme: Path) -> None:
    code, out, err = piped("y\n", "key", "remove", "calendly", "-w", "acme")
    assert (code, out) == (2, "")
    assert "--yes removes without asking" in err
    assert len(listed(outloop)) == 1
    assert outloop("key", "remove", "calendly", "-w", "acme", "--yes")[0] == 0
    assert listed(outloop) == []


def test_a_key_that_comes_back_under_its_name_is_off(outloop: Run, piped: Run, acme: Path) -> None:
    outloop("key", "enable", "calendly", "-w", "acme")
    outloop("key", "remove", "calendly", "-w", "acme", "--yes")
    assert piped("fake-token-next-one", "key", "add", "calendly", "-w", "acme", "--stdin")[0] == 0
    assert [key["runtime_access"] for key in listed(outloop)] == ["off"]


# On a terminal


def on_a_terminal(operator: Operator, typed: list[tuple[str, str]], *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal of its own; *typed* are prompts to wait for and answers. Return its code and the screen."""
    main, side = pty.openpty()
    command = [sys.executable, "-m", "outloop", *arguments]
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=operator.variables, start_new_session=True)
    os.close(side)
    screen = b""
    waiting = list(typed)
    while select.select([main], [], [], PATIENCE_S)[0]:
        try:
            shown = os.read(main, 4096)
        except OSError:  # Linux says EIO when the other end is closed
            break
        screen += shown
        if not shown:
            break
        if waiting and waiting[0][0].encode() in screen:
            os.write(main, waiting.pop(0)[1].encode() + b"\n")
    code = process.wait(PATIENCE_S)
    os.close(main)
    return code, screen.decode()


def test_a_value_typed_at_the_prompt_is_stored_and_not_shown(operator: Operator) -> None:
    code, screen = on_a_terminal(operator, [("Calendly key:", VALUE)], "key", "add", "calendly", "-w", "acme")
    assert code == 0, screen
    assert "at Calendly, name the token `outloop-acme-calendly`" in screen
    assert VALUE not in screen
    code, screen = on_a_terminal(operator, [("[y/N]", "n")], "key", "remove", "calendly", "-w", "acme")
    assert code == 1
    assert "nothing was removed" in screen
    code, screen = on_a_terminal(operator, [("[y/N]", "y")], "key", "remove", "calendly", "-w", "acme")
    assert code == 0, screen


def test_each_part_is_asked_for_and_only_the_public_one_shown(operator: Operator) -> None:
    operator.write_policy("acme", CUSTOM)
    typed = [("key username:", "bob"), ("key password:", "fake-password")]
    code, screen = on_a_terminal(operator, typed, "key", "add", "shop", "-w", "acme")
    assert code == 0, screen
    assert "bob" in screen
    assert "fake-password" not in screen


def test_standard_input_is_not_read_from_a_terminal(operator: Operator) -> None:
    code, screen = on_a_terminal(operator, [], "key", "add", "calendly", "-w", "acme", "--stdin")
    assert code == 2
    assert "--stdin needs a file or a pipe" in screen


@pytest.mark.parametrize("arguments", [("add", "calendly"), ("add", "calendly", "--stdin")], ids=["prompt", "stdin"])
def test_standard_input_that_is_closed_is_one_line(operator: Operator, arguments: tuple[str, ...]) -> None:
    command = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "outloop", "key", *arguments, "-w", "acme"]
    done = subprocess.run(command, env=operator.variables, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 2, done.stderr


# As JSON


def test_what_was_done_with_a_key_is_told_as_json(outloop: Run, piped: Run, home: Path) -> None:
    def told(code: int, out: str, err: str) -> dict[str, object]:
        assert (code, err) == (0, "")
        assert VALUE not in out
        found = json.loads(out)
        assert isinstance(found, dict)
        return found

    added = told(*piped(VALUE, "key", "add", "calendly", "-w", "acme", "--stdin", "--json"))
    assert listed(outloop) == [{name: added[name] for name in listed(outloop)[0]}]
    assert (added["runtime_access"], added["policy"], added["to_paste"]) == ("off", f"{home}/policies/acme.yaml", None)
    assert told(*outloop("key", "enable", "calendly", "-w", "acme", "--json"))["runtime_access"] == "on"
    assert told(*outloop("key", "disable", "calendly", "-w", "acme", "--json"))["runtime_access"] == "off"
    rotated = told(*piped(f"{VALUE}-new", "key", "rotate", "calendly", "-w", "acme", "--stdin", "--grace", "2h", "--json"))
    assert (rotated["key"], rotated["old_value_scrubbed_s"]) == ("acme-calendly", 7200)
    removed = told(*outloop("key", "remove", "calendly", "-w", "acme", "--yes", "--json"))
    assert removed == {"workspace": "acme", "key": "acme-calendly", "service": "calendly", "removed": True}
    assert listed(outloop) == []


def test_a_block_that_is_still_to_paste_is_told_as_json(piped: Run, home: Path) -> None:
    write_policy(home, "acme", "workspace: acme\n")

    _, out, _ = piped(VALUE, "key", "add", "calendly", "-w", "acme", "--stdin", "--json")

    assert str(json.loads(out)["to_paste"]).startswith("  calendly:")
