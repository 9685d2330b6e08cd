"""The entry point: every failure is one line, a hint and an exit code, and nothing heavy is imported to say so."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click
import pytest

import outloop as package
from harness.operators import Operator
from outloop.cli import main as entry
from outloop.cli.main import COMMANDS, main
from outloop.core.errors import KeyLocked, NoError, PolicyError, Problem, UsageError

ERROR = re.compile(r"outloop: error: [^\nA-Z][^\n]*\n(outloop: hint: [^\n]+\n)?")


def raising(error: BaseException) -> click.Command:
    @click.command()
    def command() -> NoReturn:
        raise error

    return command


def test_the_version_is_the_packages(outloop: Callable[..., tuple[int, str, str]]) -> None:
    assert outloop("--version") == (0, f"outloop {package.__version__}\n", "")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command_in_80_columns(outloop: Callable[..., tuple[int, str, str]], flag: str) -> None:
    code, out, err = outloop(flag)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.partition("Commands:\n")[2].splitlines()] == list(COMMANDS)
    assert max(map(len, out.splitlines())) <= 80


def test_no_command_at_all_is_answered_with_the_help(outloop: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = outloop()
    assert (code, err) == (2, "")
    assert "Commands:" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_commands_help_holds_an_example_and_fits_80_columns(
    outloop: Callable[..., tuple[int, str, str]], name: str
) -> None:
    code, out, err = outloop(name, "--help")
    assert (code, err) == (0, "")
    assert f"outloop {name}" in out.partition("Example")[2]
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        pytest.param(["enf"], "no such command 'enf'", "did you mean `env`?", id="mistyped-command"),
        pytest.param(
            ["frobnicate"], "no such command 'frobnicate'", "`outloop --help` shows how it is used", id="unknown-command"
        ),
        pytest.param(["--versoin"], "no such option '--versoin'", "did you mean `--version`?", id="mistyped-option"),
        pytest.param(["ca", "shw"], "no such command 'shw'", "did you mean `show`?", id="mistyped-subcommand"),
        pytest.param(
            ["env"], "missing option '-w' / '--workspace'", "`outloop env --help` shows how it is used", id="missing-option"
        ),
        pytest.param(
            ["env", "-w"], "option '-w' requires an argument", "`outloop --help` shows how it is used", id="missing-value"
        ),
        pytest.param(
            ["prompt", "-w", "acme"],
            "missing argument 'SERVICE'",
            "`outloop prompt --help` shows how it is used",
            id="no-argument",
        ),
        pytest.param(
            ["init", "now"], "got unexpected extra argument (now)", "`outloop init --help` shows how it is used", id="extra"
        ),
        pytest.param(
            ["up", "--port", "0"],
            "invalid value for '--port': 0 is not in the range 1<=x<=65535",
            "`outloop up --help` shows how it is used",
            id="port-out-of-range",
        ),
        pytest.param(
            ["env", "-w", "../etc"],
            "'../etc' cannot name a workspace",
            "use up to 63 of a-z, 0-9, `-` and `_`, with a letter or digit at both ends",
            id="hostile-workspace",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(
    outloop: Callable[..., tuple[int, str, str]], arguments: list[str], error: str, hint: str
) -> None:
    assert outloop(*arguments) == (2, "", f"outloop: error: {error}\noutloop: hint: {hint}\n")


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        pytest.param(NoError("denied", "ask"), 1, "outloop: error: denied\noutloop: hint: ask\n", id="the-answer-is-no"),
        pytest.param(UsageError("bad"), 2, "outloop: error: bad\n", id="wrong-usage"),
        pytest.param(KeyLocked("locked", "unlock"), 1, "outloop: error: locked\noutloop: hint: unlock\n", id="keychain"),
        pytest.param(
            PolicyError((Problem("a.yaml", 7, 9, "unknown field `method`"), Problem("a.yaml", 8, 1, "another"))),
            2,
            "outloop: error: a.yaml:7:9: unknown field `method` (and 1 more)\n"
            "outloop: hint: `outloop policy check` lists every problem at once\n",
            id="policy",
        ),
        pytest.param(
            UsageError("no workspace 'a\n\x1b[2Jb\u202e\udc80'"),
            2,
            "outloop: error: no workspace 'a\\n\\x1b[2Jb\\u202e\\x80'\n",
            id="a-message-with-hostile-text",
        ),
        pytest.param(
            PermissionError(13, "Permission denied", "/etc/x"), 2, "outloop: error: permission denied: /etc/x\n", id="os-error"
        ),
        pytest.param(OSError(28, "No space left on device"), 2, "outloop: error: no space left on device\n", id="disk-full"),
        pytest.param(KeyboardInterrupt(), 130, "\n", id="interrupted"),
        pytest.param(click.Abort(), 130, "", id="interrupted-at-a-prompt"),
    ],
)
def test_every_failure_is_said_in_its_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, printed: str
) -> None:
    monkeypatch.setattr(entry.LazyGroup, "get_command", lambda *_: raising(error))
    assert main(["init"]) == code
    assert capsys.readouterr() == ("", printed)


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry.LazyGroup, "get_command", lambda *_: raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["init"])


def test_help_imports_none_of_the_heavy_packages(operator: Operator) -> None:
    script = (
        "import sys; from outloop.cli.main import main; main(['--help'])\n"
        "heavy = {'mitmproxy', 'pydantic', 'cryptography', 'keyring', 'rich', 'yaml', 'sqlite_utils', 'http.client'}\n"
        "print('imported:', *sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=operator.variables, capture_output=True, text=True, check=True)
    assert done.stderr == "imported:\n"


@pytest.mark.parametrize("arguments", [("--help",), ("service", "list"), ("service", "show", "calendly", "--json")])
def test_a_reader_that_goes_away_leaves_no_traceback(operator: Operator, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "outloop", *arguments]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(command, env=operator.variables, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_an_argument_that_the_terminal_cannot_show_is_shown_escaped(operator: Operator) -> None:
    variables = operator.variables | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "outloop", "env", "-w", b"caf\xc3\xa9\xff"], env=variables, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert ERROR.fullmatch(done.stderr.decode())


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_leaves_no_traceback(operator: Operator, stream: str) -> None:
    number = {"stdin": "0<&-", "stdout": "1>&-", "stderr": "2>&-"}[stream]
    for arguments, code in (('env -w "no such"', 2), ("init", 0), ("service list", 0)):
        script = f'"{sys.executable}" -m outloop {arguments} {number}'
        done = subprocess.run(["sh", "-c", script], env=operator.variables, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stdout + done.stderr
        assert done.returncode == code


def test_an_interrupt_ends_it_without_a_traceback(operator: Operator) -> None:
    script = (
        "import os, signal, click\n"
        "from outloop.cli import main\n"
        "main.LazyGroup.get_command = lambda *_: click.Command('x', callback=lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "raise SystemExit(main.main(['init']))"
    )
    done = subprocess.run([sys.executable, "-c", script], env=operator.variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "\n")


@pytest.mark.parametrize("unreadable", ["file", "folder"])
def test_a_home_that_cannot_be_used_is_one_line(operator: Operator, unreadable: str, tmp_path: Path) -> None:
    operator.home.parent.mkdir(exist_ok=True)
    if unreadable == "file":
        operator.home.write_text("not a folder")
    else:
        operator.home.mkdir(mode=0o777)
        operator.home.chmod(0o777)
    done = operator.run("init")
    assert (done.returncode, done.stdout) == (2, "")
    assert ERROR.fullmatch(done.stderr)


def on_a_terminal(operator: Operator, *arguments: str, **environ: str) -> str:
    """What a terminal of 80 columns gets from ``outloop ARGUMENTS``."""
    master, slave = pty.openpty()
    variables = {**operator.variables, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **environ}
    del variables["NO_COLOR"]
    variables |= environ
    process = subprocess.Popen(
        [sys.executable, "-m", "outloop", *arguments], stdin=slave, stdout=slave, stderr=slave, env=variables, close_fds=True
    )
    os.close(slave)
    received = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not piece:
            break
        received += piece
    process.wait(30)
    os.close(master)
    return received.decode()


@pytest.mark.parametrize("arguments", [("service", "list"), ("service", "show", "calendly"), ("workspace", "list"), ("init",)])
def test_tables_fit_80_columns_on_a_terminal(operator: Operator, arguments: tuple[str, ...]) -> None:
    operator.outloop("workspace", "add", "a" * 54, "--service", "calendly")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(operator, *arguments))
    table = shown.partition("In a workspace file")[0]
    assert len(table.splitlines()) > 2
    assert max(map(len, table.splitlines())) <= 80


def test_colours_are_for_terminals_that_want_them(operator: Operator) -> None:
    assert "\x1b[" in on_a_terminal(operator, "service", "list")
    assert "\x1b[" not in on_a_terminal(operator, "service", "list", NO_COLOR="1").replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "\x1b" not in operator.outloop("service", "list")
