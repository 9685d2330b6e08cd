"""Every example in every help text, run as it stands on a home as an operator would have it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import click
import pytest

from harness.operators import CHECKOUT, PATIENCE_S, Operator
from harness.rows import decision, outcome
from harness.stage import store_keys
from outloop.cli.main import outloop
from outloop.core.approvals import Asked
from outloop.store.approvals import ApprovalStore
from outloop.store.audit import AuditWriter

# What is not run, and why; each key is the beginning of an example.
SKIPPED = {
    "outloop up": "runs until it is interrupted (tests/cli/test_up.py)",
    "outloop proof": "needs a running proxy (tests/cli/test_proof.py)",
    "outloop audit browse": "runs until it is interrupted (tests/e2e/test_browse.py)",
    "outloop audit tail --workspace acme --follow": "runs until it is interrupted (tests/cli/test_audit.py)",
    "outloop audit export --otlp": "runs until it is interrupted (tests/cli/test_otlp.py)",
    "outloop approvals --watch": "wants a terminal to draw on",
    "outloop key add calendly -w acme": "asks for the value on a terminal (tests/cli/test_key.py)",
    "outloop key rotate": "asks for the value on a terminal (tests/cli/test_key.py)",
    "outloop key remove": "asks on a terminal (tests/cli/test_key.py)",
    "pass show": "needs a password store",
    "outloop completion fish": "needs fish (tests/cli/test_completion.py)",
    'eval "$(outloop completion zsh)"': "needs zsh (tests/cli/test_completion.py)",
}
# What prints no facts, and why.
NO_JSON = {
    "outloop up": "it runs",
    "outloop completion": "it prints a program for a shell",
    "outloop audit export": "it prints rows as JSON, or sends them",
}
FROM_NOTHING = ("outloop init", "outloop workspace add")
# `policy explain` and `doctor` answer no with 1: the example asks about a write, and no proxy runs here.
MAY_SAY_NO = ("outloop policy explain", "outloop doctor")
AUDIT_ID = "01J8Z3K9ABCDEFGHJK7Q2M0ABC"  # answers to both short ids that examples use


def commands(command: click.Command, path: str = "outloop") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, f"{path} {name}")


def examples(command: click.Command) -> list[str]:
    """Return the lines of the block that begins with "Example"; comments after a command are left out."""
    text = textwrap.dedent(command.help or "")
    _, found, after = text.partition("Example")
    block = after.split("\n\n")[0].splitlines()[1:] if found else []
    return [line.partition("  #")[0].strip() for line in block if line.strip()]


COMMANDS = dict(commands(outloop))
EXAMPLES = sorted({example for command in COMMANDS.values() for example in examples(command)})


def skip_reason(example: str) -> str | None:
    return next((reason for beginning, reason in SKIPPED.items() if example.startswith(beginning)), None)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_shows_an_example_of_itself(path: str) -> None:
    assert any(path in example for example in examples(COMMANDS[path])), path


def test_every_reason_to_skip_is_of_an_example_that_there_is() -> None:
    assert [beginning for beginning in SKIPPED if not any(example.startswith(beginning) for example in EXAMPLES)] == []


@pytest.fixture
def folder(operator: Operator) -> Path:
    """Where examples are run, with the files that they name and a program called `outloop`."""
    for name in ("policies/tests/acme.yaml", "drafts/acme.yaml"):
        (operator.folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(CHECKOUT / "policies/tests/acme.yaml", operator.folder / "policies/tests/acme.yaml")
    shutil.copy(CHECKOUT / "policies/examples/acme.yaml", operator.folder / "drafts/acme.yaml")
    program = operator.folder / "bin" / "outloop"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m outloop "$@"\n')
    program.chmod(0o755)
    for name in ("claude", "jq"):  # what examples start besides; a real jq is not on every machine
        (program.parent / name).write_text("#!/bin/sh\ncat > /dev/null\n")
        (program.parent / name).chmod(0o755)
    return operator.folder


def settle(operator: Operator, example: str) -> None:
    """Make a home with the workspace acme, its keys, a row on record, and a request that waits for the operator."""
    operator.write_policy("acme", (CHECKOUT / "policies/examples/acme.yaml").read_text())
    (operator.home / "policies" / "tests").mkdir(mode=0o700)
    shutil.copy(CHECKOUT / "policies/tests/acme.yaml", operator.home / "policies/tests/acme.yaml")
    store_keys(operator, {"calendly": "cal_pat_FAKE_0123456789abcdef", "posthog": "phx_FAKE_0123456789abcdef"})
    with closing(AuditWriter(operator.home / "audit.db", time.time)) as audit:
        row = decision(id=AUDIT_ID)
        audit.append_now(row)
        audit.append_now(outcome(row))
    with closing(ApprovalStore(operator.home / "state.db")) as approvals:
        asked = Asked(
            workspace="acme",
            agent="claude",
            service="calendly",
            method="POST",
            host="api.calendly.com",
            port=443,
            path="/scheduling_links",
            headers="",
            body="",
            body_bytes=0,
            rule="acme.yaml:11",
            rule_text="ask: POST /scheduling_links",
            rule_mark="mark",
            binding="binding",
        )
        approvals.ask(asked, AUDIT_ID, time.time())
    if example.startswith("outloop agent revoke"):
        operator.outloop("agent", "add", "reviewer", "-w", "acme")


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_works_as_it_stands(operator: Operator, folder: Path, example: str) -> None:
    reason = skip_reason(example)
    if reason is not None:
        pytest.skip(reason)
    if not example.startswith(FROM_NOTHING):
        settle(operator, example)
    variables = operator.variables | {"PATH": f"{folder / 'bin'}:{operator.variables['PATH']}"}

    done = run(example, folder, variables)

    says_no = example.startswith(MAY_SAY_NO) and done.returncode == 1
    assert done.returncode == 0 or says_no, done.stdout + done.stderr
    assert says_no or "outloop: error:" not in done.stderr, done.stderr
    assert "FAKE" not in done.stdout + done.stderr


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)])
def test_every_command_that_prints_facts_prints_them_as_json(path: str) -> None:
    options = [option for parameter in COMMANDS[path].params for option in parameter.opts]

    assert ("--json" in options) is (path not in NO_JSON)


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each.startswith("outloop ") and not set(each) & set("|<>")])
def test_the_example_works_as_json(operator: Operator, folder: Path, example: str) -> None:
    reason = skip_reason(example) or next((why for path, why in NO_JSON.items() if example.startswith(path)), None)
    if reason is not None:
        pytest.skip(reason)
    if not example.startswith(FROM_NOTHING):
        settle(operator, example)
    variables = operator.variables | {"PATH": f"{folder / 'bin'}:{operator.variables['PATH']}"}

    done = run(f"{example} --json", folder, variables)

    assert isinstance(json.loads(done.stdout), dict | list), done.stdout + done.stderr
    assert done.returncode == 0 or (example.startswith(MAY_SAY_NO) and done.returncode == 1), done.stderr
    assert "FAKE" not in done.stdout + done.stderr


def run(example: str, folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    # pipefail: of `eval "$(outloop env)"` the exit code is that of what was printed, so stderr is looked at as well.
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {example.replace('curl ', 'true ')}"],
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
