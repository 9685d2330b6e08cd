"""The one lock: for every Python, checked by hash, tied to no index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
LOCK = (CHECKOUT / "requirements.lock").read_text()
ENTRIES = re.findall(r"^([a-z0-9-]+)==(\S+)(?: ; (.+?))? \\\n((?:    --hash=\S+(?: \\)?\n)*)", LOCK, re.MULTILINE)


def _declared() -> set[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    lines = [line for group in [*groups, *project["dependency-groups"].values()] for line in group]
    return {re.split(r"[\[<>=; ]", line)[0].lower().replace("_", "-") for line in lines}


def test_it_names_no_index() -> None:
    assert [line for line in LOCK.splitlines() if "index" in line or "://" in line or "find-links" in line] == []


def test_every_entry_is_checked_by_hash() -> None:
    assert len(ENTRIES) == len(re.findall(r"^[a-z]", LOCK, re.MULTILINE))
    assert [name for name, _, _, hashes in ENTRIES if "--hash=sha256:" not in hashes] == []


def test_it_holds_what_the_project_declares() -> None:
    assert _declared() - {name for name, *_ in ENTRIES} == set()


@pytest.mark.parametrize(
    ("marker", "version"),
    [
        pytest.param("python_full_version < '3.12'", r"11\.0\.2", id="3.11"),
        pytest.param("python_full_version >= '3.12'", r"12\.([2-9]|\d\d)\..*", id="3.12-and-later"),
    ],
)
def test_each_python_has_its_mitmproxy(marker: str, version: str) -> None:
    [locked] = [locked for name, locked, condition, _ in ENTRIES if (name, condition) == ("mitmproxy", marker)]

    assert re.fullmatch(version, locked)
