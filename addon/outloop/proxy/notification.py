"""A desktop notification when a request waits for the operator or a decoy is used, where the desktop has a program for it.

What is shown, and stands in the arguments of that program for all to see, is names alone: no path, no body.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from outloop.core.approvals import Approval

TITLE = "Outloop: approval needed"
DECOY_TITLE = "Outloop: a decoy was used"
TIMEOUT_S = 10.0

# AppleScript takes the texts as arguments: nothing in them is script.
_OSASCRIPT = ("-e", "on run argv", "-e", "display notification (item 1 of argv) with title (item 2 of argv)", "-e", "end run")
# What a program needs to find the desktop, and nothing else of the proxy's environment.
_DESKTOP = ("PATH", "HOME", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")


@dataclass(frozen=True, slots=True)
class Notifier:
    """Shows notifications with *command* (an absolute path and its fixed arguments); with none it does nothing."""

    command: tuple[str, ...]
    environ: Mapping[str, str]

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
            await asyncio.to_thread(_run, arguments, dict(self.environ))


def _run(arguments: list[str], environ: dict[str, str]) -> None:
    try:
        subprocess.run(
            arguments,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return
