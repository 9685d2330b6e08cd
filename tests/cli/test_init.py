"""`outloop init`."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest


def test_it_makes_a_private_home_and_names_the_keychain(outloop: Callable[..., tuple[int, str, str]], home: Path) -> None:
    code, out, err = outloop("init")
    assert (code, err) == (0, "")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {path.name for path in home.iterdir()} >= {"ca", "policies", "services", "state.db"}
    assert "keychain     the encrypted file" in out
    assert "Next: outloop workspace add" in out


def test_a_second_time_changes_nothing(outloop: Callable[..., tuple[int, str, str]]) -> None:
    first = json.loads(outloop("init", "--json")[1])
    assert json.loads(outloop("init", "--json")[1]) == first
    assert set(first) == {"home", "policies", "keychain", "bundle", "fingerprint", "expires"}


def test_a_home_that_others_can_open_is_refused(outloop: Callable[..., tuple[int, str, str]], home: Path) -> None:
    home.mkdir()
    home.chmod(0o755)
    code, out, err = outloop("init")
    assert (code, out) == (2, "")
    assert err.startswith(f"outloop: error: the home folder {home} is open to other users\noutloop: hint: chmod 700")


def test_a_relative_home_is_refused(outloop: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTLOOP_HOME", "somewhere")
    code, out, err = outloop("init")
    assert (code, out) == (2, "")
    assert err.startswith("outloop: error: OUTLOOP_HOME is not an absolute path")
