"""A desktop notification when a request waits for the operator or a decoy is used, where the desktop has a program for it.

What is shown, and stands in the arguments of that program for all to see, is names alone: no path, no body.
"""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from outloop.core.approvals import Approval

TITLE = "Outloop: approval needed"
DECOY_TITLE = "Outloop: a decoy was used"
TIMEOUT_S = 10.0
MOST_AT_ONCE = 4

# AppleScript takes the texts as arguments: nothing in them is script.
_OSASCRIPT = ("-e", "on run argv", "-e", "display notification (item 1 of argv) with title (item 2 of argv)", "-e", "end run")
# What a program needs to find the desktop, and nothing else of the proxy's environment.
_DESKTOP = ("PATH", "HOME", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")


@dataclass(frozen=True, slots=True)
class Notifier:
    """Shows notifications with *command* (an absolute path and its fixed arguments); with none it does nothing."""

    command: tuple[str, ...]
    environ: Mapping[str, str]
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE), compare=False)

    @classmethod
    def find(cls, environ: Mapping[str, str], which: Callable[..., str | None] = shutil.which) -> Notifier:
        """Return one for what PATH has: notify-send (freedesktop.org) or osascript (macOS)."""
        kept = {name: environ[name] for name in _DESKTOP if name in environ}
        path = environ.get("PATH", "")
        if found := which("notify-send", path=path):
            return cls((found, "--app-name=outloop", "--"), kept)
        if found := which("osascript", path=path):
            return cls((found, *_OSASCRIPT), kept)
        return cls((), kept)

    def arguments(self, approval: Approval) -> list[str]:
        """Return the whole command line that tells of *approval*."""
        asked = approval.asked
        who = f"{asked.workspace}/{asked.agent}" if asked.agent else asked.workspace
        return self._command_line(TITLE, f"{who} asks {asked.service} for a {asked.method}: {approval.short_id}")

    async def tell(self, approval: Approval) -> None:
        """Show *approval*. Whatever goes wrong goes unnoticed: `outloop approvals` shows it all the same."""
        await self._show(self.arguments(approval))

    async def tell_of_decoy(self, text: str) -> None:
        """Show *text*, which says whose decoy was used by whom. Whatever goes wrong goes unnoticed: the record has it all."""
        await self._show(self._command_line(DECOY_TITLE, text))

    def _command_line(self, title: str, text: str) -> list[str]:
        texts = (text, title) if self.command[1:2] == _OSASCRIPT[:1] else (title, text)
        return [*self.command, *texts]

    async def _show(self, arguments: list[str]) -> None:
        if self.command:
            async with self.slots:
                await _run(arguments, dict(self.environ))


async def _run(arguments: list[str], environ: dict[str, str]) -> None:
    # No thread waits for it: requests need those, and a desktop that hangs is no reason for them to.
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments, env=environ, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True
        )
    except OSError:
        return
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
