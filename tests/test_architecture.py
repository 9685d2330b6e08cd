"""The house: which room may know which, and what the pure core may not touch."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "addon" / "outloop"
MODULES = sorted(PACKAGE.rglob("*.py"))

# room → the rooms it may import from
ROOMS = {
    "core": {"core"},
    "store": {"store", "core"},
    "proxy": {"proxy", "store", "core"},
    "attacks": {"attacks", "proxy", "store", "core"},
    "operator": {"operator", "attacks", "proxy", "store", "core"},
    "cli": {"cli", "operator", "proxy", "store", "core"},
}
AT_HOME = {
    "mitmproxy": {"proxy", "attacks"},
    "keyring": {"store"},
    "sqlite3": {"store"},
    "sqlite_utils": {"store"},
    "yaml": {"store"},
    "click": {"cli"},
    "rich": {"cli"},
}
CORE_PACKAGES = {"pydantic", "pydantic_core", "ahocorasick_rs", "brotli", "zstandard", "cryptography"}
# Clocks, chance, files, environment, network, processes, threads, logs.
WORLD = {
    *("asyncio", "concurrent", "contextvars", "ctypes", "fcntl", "getpass", "glob", "http", "importlib", "locale", "logging"),
    *("mmap", "multiprocessing", "os", "pathlib", "platform", "pwd", "queue", "random", "sched", "secrets", "select"),
    *("selectors", "shelve", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl", "stat", "subprocess", "sys"),
    *("syslog", "tempfile", "threading.Thread", "threading.Timer", "time", "urllib.request", "uuid", "warnings", "webbrowser"),
}
CLOCKS_AND_FILES = {"open", "input", "now", "utcnow", "today", "getenv"}


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


def _imports(path: Path) -> Iterator[str]:
    """Yield every module that *path* imports, wherever in the file; of `from a import b` both a and a.b."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else ""


def _modules_of(*rooms: str) -> list[object]:
    return [pytest.param(path, id=str(path.relative_to(PACKAGE))) for path in MODULES if _room(path) in rooms]


@pytest.mark.parametrize("path", _modules_of(*ROOMS))
def test_imports_point_one_way(path: Path) -> None:
    rooms = {name.split(".")[1] for name in _imports(path) if name.startswith("outloop.")} & set(ROOMS)

    assert rooms <= ROOMS[_room(path)]


@pytest.mark.parametrize("path", _modules_of(*ROOMS))
def test_each_part_of_the_world_is_known_to_its_rooms_alone(path: Path) -> None:
    strangers = {name for name in _imports(path) if _room(path) not in AT_HOME.get(name.split(".")[0], {_room(path)})}

    assert strangers == set()


@pytest.mark.parametrize("path", _modules_of(*ROOMS))
def test_attacks_are_known_to_the_doctor_alone(path: Path) -> None:
    knows = any(name.startswith("outloop.attacks") for name in _imports(path))

    assert not knows or _room(path) == "attacks" or path.is_relative_to(PACKAGE / "operator" / "doctor")


@pytest.mark.parametrize("path", _modules_of("core"))
def test_the_core_is_pure(path: Path) -> None:
    names = set(_imports(path))
    tops = {name.split(".")[0] for name in names} - {"outloop"}
    calls = {
        node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    }

    assert (names | tops) & WORLD == set()
    assert tops <= CORE_PACKAGES | sys.stdlib_module_names
    assert calls & CLOCKS_AND_FILES == set()


def test_every_room_has_modules() -> None:
    assert {_room(path) for path in MODULES} == {*ROOMS, ""}
