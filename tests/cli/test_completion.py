"""Shell completion: what is offered, and that it never gets in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from harness.operators import Operator
from harness.rows import decision, outcome
from outloop.cli.main import COMMANDS
from outloop.store.audit import AuditWriter
from outloop.store.home import Home
from outloop.store.state import StateStore

ROW = decision(id="01J8Z3K9ABCDEFGHJK7Q2M0ABC")


@pytest.fixture
def settled(operator: Operator) -> Operator:
    """An operator with two workspaces, a key of each, an agent, and a row on record."""
    home = Home(operator.home)
    home.ensure()
    for name in ("acme", "globex"):
        operator.write_policy(name, f"workspace: {name}\n")
    with closing(StateStore(home.state_db)) as state, closing(AuditWriter(home.audit_db, time.time)) as audit:
        state.add_key("acme", "acme-calendly", "calendly", "2026-01-01T00:00:00Z")
        state.add_key("globex", "globex-posthog", "posthog", "2026-01-01T00:00:00Z")
        state.add_decoy("acme", "acme-bait", "calendly", "2026-01-01T00:00:00Z")
        state.add_agent("acme", "reviewer", "0" * 64, "2026-01-01T00:00:00Z")
        audit.append_now(ROW)
        audit.append_now(outcome(ROW))
    return operator


def offered(operator: Operator, line: str) -> list[str]:
    """Return what bash would be offered at the end of *line*."""
    words = line.split(" ")
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1), "_OUTLOOP_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-m", "outloop"], env=operator.variables | asked, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [each.partition(",")[2] for each in done.stdout.split()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("outloop ", list(COMMANDS), id="commands"),
        pytest.param("outloop wo", ["workspace"], id="a-command-begun"),
        pytest.param("outloop key r", ["remove", "rotate"], id="a-subcommand"),
        pytest.param("outloop status --j", ["--json"], id="an-option"),
        pytest.param("outloop status -w ", ["acme", "globex"], id="workspaces"),
        pytest.param("outloop status -w g", ["globex"], id="a-workspace-begun"),
        pytest.param("outloop proof -w acme ", ["calendly", "posthog"], id="services-of-catalogue-and-keys"),
        pytest.param("outloop key enable ", ["acme-calendly", "globex-posthog"], id="keys"),
        pytest.param("outloop key enable -w globex ", ["globex-posthog"], id="keys-of-the-workspace"),
        pytest.param("outloop key remove ", ["acme-bait", "acme-calendly", "globex-posthog"], id="keys-and-decoys"),
        pytest.param("outloop key remove -w globex ", ["globex-posthog"], id="decoys-of-the-workspace"),
        pytest.param("outloop agent revoke -w acme ", ["reviewer"], id="agents"),
        pytest.param("outloop why ", ["7Q2M0ABC"], id="ids"),
        pytest.param("outloop audit show 7Q", ["7Q2M0ABC"], id="an-id-begun"),
        pytest.param("outloop completion ", ["bash", "zsh", "fish"], id="shells"),
        pytest.param("outloop frobnicate x", [], id="an-unknown-command"),
        pytest.param("outloop status -w ../ -", None, id="a-hostile-workspace"),
    ],
)
def test_what_is_offered(settled: Operator, line: str, words: list[str] | None) -> None:
    found = offered(settled, line)
    assert words is None or sorted(found) == sorted(words)


@pytest.mark.parametrize("line", ["outloop status -w ", "outloop key enable ", "outloop why ", "outloop approve "])
def test_an_empty_machine_is_offered_nothing_and_left_empty(operator: Operator, line: str) -> None:
    assert offered(operator, line) == []
    assert not operator.home.exists()


@pytest.mark.parametrize("line", ["outloop status -w ", "outloop key enable ", "outloop why ", "outloop approve "])
def test_a_broken_home_is_offered_nothing_and_no_complaint(operator: Operator, line: str) -> None:
    operator.home.mkdir(mode=0o700)
    for name in ("state.db", "audit.db", "policies"):
        (operator.home / name).write_text("not what it should be")
    assert offered(operator, line) == []


def test_hostile_names_are_not_offered(settled: Operator) -> None:
    for name in ("$(touch owned)", "a b", "a\nb", "-rf", "`x`"):
        (settled.home / "policies" / f"{name}.yaml").write_text("")
    assert offered(settled, "outloop status -w ") == ["acme", "globex"]


def test_no_value_of_a_key_and_no_token_is_in_what_is_offered(settled: Operator) -> None:
    assert "0" * 64 not in str([offered(settled, "outloop agent revoke "), offered(settled, "outloop key enable ")])


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        pytest.param(
            "bash",
            'eval "$(outloop completion bash)"; COMP_WORDS=(outloop status -w g); COMP_CWORD=3;'
            ' _outloop_completion outloop; echo "${COMPREPLY[@]}"',
            id="bash",
        ),
        pytest.param("fish", "outloop completion fish | source; complete -C 'outloop status -w g'", id="fish"),
        pytest.param("zsh", 'autoload -U compinit; compinit -u; eval "$(outloop completion zsh)"; echo globex', id="zsh"),
    ],
)
def test_the_shell_takes_what_is_printed(settled: Operator, tmp_path: Path, shell: str, script: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed (apt-get install {shell})")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "outloop").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m outloop "$@"\n')
    (folder / "outloop").chmod(0o755)
    variables = settled.variables | {"PATH": f"{folder}{os.pathsep}{settled.variables['PATH']}"}

    done = subprocess.run([program, "-c", script], env=variables, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "globex", "")
