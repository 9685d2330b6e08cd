"""The `outloop` command: finds the command's room, and turns every failure into one line, a hint and an exit code.

Exit codes: 0 success, 1 the answer is no (or its reader went away), 2 wrong usage or broken configuration, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

from outloop import __version__
from outloop.core.errors import OutloopError

READER_GONE = 1  # as click answers when it meets the closed pipe first
WRONG_USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT: what a shell reports for a program that died of it


class Entry(NamedTuple):
    """Where a command lives (``module:attribute``) and what `outloop --help` says of it."""

    target: str
    help: str


COMMANDS = {
    "init": Entry("outloop.cli.init:init", "Make the home: folders, certificate authority, keychain."),
    "up": Entry("outloop.cli.up:up", "Run the proxy."),
    "env": Entry("outloop.cli.env:env", "Print the variables an agent needs."),
    "service": Entry("outloop.cli.service:service", "List and show the services that can be bridged."),
    "workspace": Entry("outloop.cli.workspace:workspace", "Add and list workspaces."),
    "agent": Entry("outloop.cli.agent:agent", "Add, list and revoke agents."),
    "key": Entry("outloop.cli.key:key", "Store keys and switch their runtime access."),
    "prompt": Entry("outloop.cli.prompt:prompt", "Print a test prompt to paste into an agent."),
    "proof": Entry("outloop.cli.proof:proof", "Prove access by a call that leaves an audit row."),
    "status": Entry("outloop.cli.status:status", "Show what is proved, what runs and what waits."),
    "doctor": Entry("outloop.cli.doctor:doctor", "Find what stands in the way, and say how to mend it."),
    "policy": Entry("outloop.cli.policy:policy", "Check, test and explain policy."),
    "why": Entry("outloop.cli.policy:why", "Show how a decision came about."),
    "approvals": Entry("outloop.cli.approvals:approvals", "Show what waits for you."),
    "approve": Entry("outloop.cli.approvals:approve", "Let a waiting request pass."),
    "refuse": Entry("outloop.cli.approvals:refuse", "Refuse a waiting request, or end a grant."),
    "audit": Entry("outloop.cli.audit:audit", "Read and verify the record."),
    "ca": Entry("outloop.cli.ca:ca", "Show the certificate authority."),
    "completion": Entry("outloop.cli.completion:completion", "Print what makes a shell complete commands."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command runs, so that `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table: the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command called *cmd_name*."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.target} is not a command")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but knowing the names of commands that were not imported."""
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the table and the options, without importing anything."""
        named = [CompletionItem(name, help=entry.help) for name, entry in COMMANDS.items() if name.startswith(incomplete)]
        return named + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="outloop", message="%(prog)s %(version)s")
def outloop() -> None:
    """Let AI agents use credentials they never see.

    \b
    Example, from nothing to a proved call:
      outloop init
      outloop workspace add acme --service calendly
      outloop key add calendly -w acme
      outloop key enable calendly -w acme
      outloop up                            # in another terminal
      outloop proof calendly -w acme
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run `outloop` with *argv* (without the program's name; default: the process's) and return its exit code."""
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # An argument or a file name may hold what the terminal's encoding cannot say: show it escaped, never as a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _interrupts():
            code = outloop.main(args=None if argv is None else list(argv), prog_name="outloop", standalone_mode=False)
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.message)
        return WRONG_USAGE
    except click.UsageError as error:
        return _complain(_message_of(error), _hint_of(error), WRONG_USAGE)
    except click.ClickException as error:
        return _complain(_message_of(error), None, WRONG_USAGE)
    except OutloopError as error:
        return _complain(error.message, error.hint, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit: give it somewhere to go (`signal` module, note on SIGPIPE).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except OSError as error:
        return _complain(_system_message(error), None, WRONG_USAGE)


@contextmanager
def _interrupts() -> Iterator[None]:
    """Have Ctrl-C end the block as ever, but without what half-made objects then complain of: a traceback of nobody's making."""

    def interrupt(*_: object) -> None:
        sys.unraisablehook = lambda _: None
        raise KeyboardInterrupt

    is_pythons_own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_pythons_own or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _replace_closed_streams() -> None:
    # Whoever starts a program may close its streams (`>&-`); Python then has None where every print expects a file.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  (as long as the process lives)


def _complain(message: str, hint: str | None, code: int) -> int:
    from outloop.core.ledger import inert

    click.echo(f"outloop: error: {inert(message)}", err=True)
    if hint:
        click.echo(f"outloop: hint: {inert(hint)}", err=True)
    return code


def _message_of(error: click.ClickException) -> str:
    # Of an unknown name click appends its guesses to the message; they belong in the hint.
    named = isinstance(error, (click.NoSuchCommand, click.NoSuchOption))
    message = (error.message if named else error.format_message()).rstrip(".")
    return message[:1].lower() + message[1:]


def _hint_of(error: click.UsageError) -> str:
    guesses: Sequence[str] | None = getattr(error, "possibilities", None)
    if guesses:
        return f"did you mean `{guesses[0]}`?"
    return f"`{error.ctx.command_path if error.ctx else 'outloop'} --help` shows how it is used"


def _system_message(error: OSError) -> str:
    what = (error.strerror or type(error).__name__).lower()
    return f"{what}: {os.fsdecode(error.filename)}" if isinstance(error.filename, (str, bytes)) else what
