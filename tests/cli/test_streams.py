"""Streams that are closed, cannot say everything or have no reader, and Ctrl-C: never a traceback, whatever the command."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest

from harness.operators import CHECKOUT, PATIENCE_S, Operator
from harness.rows import decision, outcome
from harness.stage import store_keys
from outloop.cli.main import outloop
from outloop.store.audit import AuditWriter

WORDS = {
    "service": "calendly", "key_name": "calendly", "name": "globex", "audit_id": "7Q2M0ABC", "approval_id": "7Q2M0ABC",
    "method": "GET", "url": "https://api.calendly.com/users/me", "workspace": "acme", "shell": "bash", "keep": "90d",
}  # fmt: skip
RUN_ON = ("up", "audit browse")  # until they are interrupted
POOR = "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 PYTHONIOENCODING=ascii "


def leaves(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    for name in command.list_commands(click.Context(command)):
        below = command.get_command(click.Context(command), name)
        assert below is not None
        yield from leaves(below, *path, name)


LEAVES = dict(leaves(outloop))


def line(path: str) -> str:
    given = path.split()
    for parameter in LEAVES[path].params:
        if isinstance(parameter, click.Argument) and parameter.required:
            given.append(WORDS[str(parameter.name)])
        elif isinstance(parameter, click.Option) and parameter.required:
            given += [parameter.opts[0], WORDS[str(parameter.name)]]
    return " ".join(given)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    operator = Operator(tmp_path_factory.mktemp("operator"))
    operator.write_policy("acme", (CHECKOUT / "policies/examples/acme.yaml").read_text())
    store_keys(operator, {"calendly": "cal_pat_FAKE_0123456789abcdef"})
    with closing(AuditWriter(operator.home / "audit.db", time.time)) as audit:
        row = decision(id="01J8Z3K9ABCDEFGHJK7Q2M0ABC", path="/日本語")
        audit.append_now(row)
        audit.append_now(outcome(row))
    return operator


@pytest.mark.parametrize("path", [*(path for path in LEAVES if path not in RUN_ON), "approvals --watch"])
def test_no_stream_that_is_missing_or_poor_brings_a_traceback(settled: Operator, path: str) -> None:
    command = f'"{sys.executable}" -m outloop {line(path) if path in LEAVES else path}'
    closed = [f"{command} {stream}" for stream in ("<&-", ">&-", "2>&-", "<&- >&-")]
    attempts = [*closed, f"{command} </dev/null | true", f"{POOR}{command} </dev/null"]
    script = "\n".join(f'( {attempt} ); echo "= ${{PIPESTATUS[0]}}" >&2' for attempt in attempts)

    done = subprocess.run(
        ["bash", "-c", script], env=settled.variables, capture_output=True, text=True, timeout=PATIENCE_S * 4, check=False
    )

    printed = done.stdout + done.stderr
    assert "Traceback" not in printed
    assert "Exception ignored" not in printed
    codes = [int(said.removeprefix("= ")) for said in done.stderr.splitlines() if said.startswith("= ")]
    assert len(codes) == len(attempts)
    assert set(codes) <= {0, 1, 2}


# Ctrl-C


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    try:
        printed, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode, printed


@pytest.mark.parametrize("command", ["proof calendly -w acme", "env -w acme", "doctor -w acme"])
def test_ctrl_c_ends_what_waits_for_an_answer(settled: Operator, deaf: socket.socket, command: str) -> None:
    arguments = [sys.executable, "-m", "outloop", *command.split(), "--port", str(deaf.getsockname()[1])]
    process = subprocess.Popen(
        arguments, env=settled.variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deaf.settimeout(PATIENCE_S)
    asked, _ = deaf.accept()
    with asked:
        code, printed = interrupted(process)

    assert "Traceback" not in printed
    assert code == 130, printed


def test_ctrl_c_ends_what_follows_the_record(settled: Operator) -> None:
    arguments = [sys.executable, "-m", "outloop", "audit", "tail", "--follow"]
    process = subprocess.Popen(
        arguments, env=settled.variables | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    assert "7Q2M0ABC" in process.stdout.readline()

    code, printed = interrupted(process)

    assert (code, "Traceback" in printed) == (130, False), printed


@pytest.mark.parametrize("keys", [b"\x03", b"\x04"], ids=["ctrl-c", "end-of-input"])
@pytest.mark.parametrize("command", ["key rotate calendly -w acme", "key remove calendly -w acme"])
def test_a_question_can_be_left_and_nothing_has_changed(settled: Operator, command: str, keys: bytes) -> None:
    before = settled.outloop("key", "list", "--json")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "outloop", *command.split()], settled.variables | {"TERM": "xterm"})
    drawn = b""
    while b"?" not in drawn and b"key:" not in drawn:
        assert select.select([terminal], [], [], PATIENCE_S)[0], drawn
        drawn += os.read(terminal, 65536)
    time.sleep(0.2)  # the prompt comes before the terminal is read
    os.write(terminal, keys)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 130, drawn
    assert settled.outloop("key", "list", "--json") == before


# The tab key


@pytest.mark.parametrize(
    ("shell", "arguments", "setup"),
    [
        pytest.param("bash", ["--norc", "--noprofile", "-i"], 'eval "$(outloop completion bash)"', id="bash"),
        pytest.param("zsh", ["-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$(outloop completion zsh)"', id="zsh"),
    ],
)
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        pytest.param("outloop status -w ac", "outloop status -w acme", id="workspace"),
        pytest.param("outloop key enable acme-c", "outloop key enable acme-calendly", id="key"),
        pytest.param("outloop why 7Q", "outloop why 7Q2M0ABC", id="id"),
        pytest.param("outloop prompt -w acme cal", "outloop prompt -w acme calendly", id="service"),
    ],
)
def test_the_tab_key_completes(
    settled: Operator, tmp_path: Path, shell: str, arguments: list[str], setup: str, typed: str, completed: str
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed (apt-get install {shell})")
    (tmp_path / "outloop").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m outloop "$@"\n')
    (tmp_path / "outloop").chmod(0o755)
    variables = settled.variables | {"PATH": f"{tmp_path}{os.pathsep}{settled.variables['PATH']}", "TERM": "dumb", "PS1": "$ "}
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(program, [program, *arguments], variables)
    drawn = b""

    def wait_for(text: bytes) -> None:
        nonlocal drawn
        while text not in drawn:
            assert select.select([terminal], [], [], PATIENCE_S)[0], drawn
            drawn += os.read(terminal, 65536)

    try:
        os.write(terminal, f"{setup}; echo re''ady\n".encode())
        wait_for(b"ready")
        drawn = b""
        os.write(terminal, f"{typed}\t".encode())
        wait_for(completed.encode())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
