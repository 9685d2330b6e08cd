"""Every command with `--json`, on homes that are well, empty and broken: what is printed is JSON whole or nothing at all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest

from harness.operators import CHECKOUT, Operator
from harness.rows import decision, outcome
from harness.stage import store_keys
from outloop.cli.main import outloop as program
from outloop.store.audit import AuditWriter

Run = Callable[..., tuple[int, str, str]]
RUNS_ON = "audit browse"  # until it is interrupted (tests/e2e/test_browse.py)
GARBAGE = b"this is no database, and never was one" * 40
# What is given for an argument of that name.
WORDS = {
    "service": "calendly", "key_name": "calendly", "name": "globex", "audit_id": "7Q2M0ABC", "approval_id": "7Q2M0ABC",
    "method": "GET", "url": "https://api.calendly.com/users/me", "workspace": "acme", "keep": "90d",
}  # fmt: skip
ANSWERS = (0, 1, 2)


def leaves(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from leaves(below, *path, name)


def takes_json(command: click.Command) -> bool:
    return any("--json" in parameter.opts for parameter in command.params)


LEAVES = {path: command for path, command in leaves(program) if takes_json(command)}  # which: tests/cli/test_help_examples.py


def arguments(path: str) -> list[str]:
    given = [*path.split(), "--json"]
    for parameter in LEAVES[path].params:
        if isinstance(parameter, click.Argument) and parameter.required:
            given.append(WORDS[str(parameter.name)])
        elif isinstance(parameter, click.Option) and parameter.required:
            given += [parameter.opts[0], WORDS[str(parameter.name)]]
    return given


def well(home: Path) -> None:
    operator = Operator(home.parent)
    operator.write_policy("acme", (CHECKOUT / "policies/examples/acme.yaml").read_text())
    store_keys(operator, {"calendly": "cal_pat_FAKE_0123456789abcdef"})
    with closing(AuditWriter(home / "audit.db", time.time)) as audit:
        row = decision(id="01J8Z3K9ABCDEFGHJK7Q2M0ABC")
        audit.append_now(row)
        audit.append_now(outcome(row))


def empty(home: Path) -> None:
    home.mkdir(mode=0o700)


def without_a_policy_that_can_be_read(home: Path) -> None:
    well(home)
    (home / "policies/acme.yaml").write_text("workspace: acme\nservcies: {}\nrules: [")


def with_a_broken_state(home: Path) -> None:
    well(home)
    (home / "state.db").write_bytes(GARBAGE)


def with_a_broken_record(home: Path) -> None:
    well(home)
    (home / "audit.db").write_bytes(GARBAGE)


def with_a_broken_keychain(home: Path) -> None:
    well(home)
    for path in home.glob("key*"):
        if path.is_file():
            path.write_bytes(GARBAGE)


def open_to_others(home: Path) -> None:
    well(home)
    home.chmod(0o777)


@pytest.mark.parametrize("path", [path for path in LEAVES if path != RUNS_ON])
@pytest.mark.parametrize(
    "settle",
    [
        well, empty, without_a_policy_that_can_be_read, with_a_broken_state, with_a_broken_record, with_a_broken_keychain,
        open_to_others,
    ],
)  # fmt: skip
def test_what_is_printed_is_json_whole_or_nothing(
    outloop: Run, home: Path, path: str, settle: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(home)
    monkeypatch.chdir(home.parent)

    code, out, err = outloop(*arguments(path))

    assert code in ANSWERS, err
    if out:
        assert isinstance(json.loads(out), dict | list)
    else:
        assert code != 0
    said = err.splitlines()
    assert sum(line.startswith("outloop: error: ") for line in said) == (0 if code == 0 else int("outloop: error: " in err))
    assert out or said[0].startswith("outloop: error: "), err
    assert "Traceback" not in err
    assert "FAKE" not in out + err
