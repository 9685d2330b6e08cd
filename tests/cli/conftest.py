"""The command line, run in this process on a home of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from outloop.cli.main import main


class Done(NamedTuple):
    """What a command left: its exit code, and what it printed."""

    code: int
    out: str
    err: str


Outloop = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """OUTLOOP_HOME, not yet made."""
    monkeypatch.setenv("OUTLOOP_HOME", str(tmp_path / "outloop"))
    return tmp_path / "outloop"


@pytest.fixture
def outloop(home: Path, capfd: pytest.CaptureFixture[str]) -> Outloop:
    """Run ``outloop ARGUMENTS`` through its entry point."""

    def run(*arguments: str) -> Done:
        code = main(arguments)
        printed = capfd.readouterr()
        return Done(code, printed.out, printed.err)

    return run
