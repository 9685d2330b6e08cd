"""Desktop notifications: names alone, as arguments that no program takes for anything else, and never in a request's way."""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from outloop.core.approvals import Approval, Asked, Status
from outloop.proxy.notification import MOST_AT_ONCE, TITLE, Notifier

SECRET = "not-a-real-token-0123456789"


def approval(agent: str = "claude") -> Approval:
    asked = Asked(
        "acme", agent, "calendly", "POST", "api.calendly.com", 443, f"/x?token={SECRET}", f"x: {SECRET}", SECRET, 9,
        "acme.yaml:9", "ask: POST /**", "mark", "binding",
    )  # fmt: skip
    return Approval("01J8Z3K9ABCDEFGHJK7Q2M0AAA", asked, Status.PENDING, 0, 0, 600)


@pytest.mark.parametrize(
    ("programs", "command"),
    [
        pytest.param(("notify-send", "osascript"), ["/bin/notify-send", "--app-name=outloop", "--", TITLE], id="freedesktop"),
        pytest.param(("osascript",), ["/bin/osascript", "-e", "on run argv"], id="macos"),
        pytest.param((), [], id="none"),
    ],
)
def test_what_is_told_is_names_alone_each_an_argument_of_its_own(programs: tuple[str, ...], command: list[str]) -> None:
    notifier = Notifier.find(
        {"PATH": "/bin", "API_TOKEN": SECRET}, lambda name, path: f"/bin/{name}" if name in programs else None
    )

    arguments = notifier.arguments(approval())

    assert arguments[: len(command)] == command
    assert "acme/claude asks calendly for a POST: 7Q2M0AAA" in arguments
    assert SECRET not in str(arguments) + str(notifier.environ)
    # AppleScript sees the texts as items of argv: no `-e` holds any of them.
    scripts = [argument for flag, argument in itertools.pairwise(arguments) if flag == "-e"]
    assert all("acme" not in script for script in scripts)


def test_a_desktop_that_hangs_keeps_no_request_waiting(tmp_path: Path) -> None:
    script = tmp_path / "notify-send"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)

    async def told() -> bool:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))  # what requests do off the loop
        notifier = Notifier((str(script),), {"PATH": "/usr/bin:/bin"})
        telling = [loop.create_task(notifier.tell(approval())) for _ in range(MOST_AT_ONCE * 3)]
        while not notifier.slots.locked():
            await asyncio.sleep(0)
        answered = await asyncio.to_thread(lambda: True)
        still_told = not any(task.done() for task in telling)
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)
        return answered and still_told

    assert asyncio.run(told())


def test_a_program_that_cannot_be_run_goes_unnoticed() -> None:
    asyncio.run(Notifier(("/nonexistent/notify-send",), {}).tell(approval()))
