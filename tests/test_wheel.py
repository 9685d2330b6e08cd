"""The wheel, installed where no checkout is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.operators import CHECKOUT
from outloop.attacks.tables import TABLES, cases_of


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_the_package_the_catalogue_and_the_schema(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    assert {"outloop/__init__.py", "outloop/schema.json"} <= names
    shipped = {f"outloop/catalogue/{path.name}" for path in (CHECKOUT / "policies" / "services").glob("*.yaml")}
    assert shipped
    assert {name for name in names if name.startswith("outloop/catalogue/")} == shipped
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {"outloop"}


def test_the_wheel_carries_the_pages_of_the_record(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    folder = CHECKOUT / "addon" / "outloop" / "operator" / "datasette"
    pages = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".py", ".html", ".css", ".js", ".yaml")]

    assert {path.parent.name for path in pages} == {"datasette", "plugins", "static", "templates"}
    assert {f"outloop/{path.relative_to(folder.parents[1])}" for path in pages} <= names


def test_an_installed_wheel_knows_its_services_without_a_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environ = {**os.environ, "PYTHONPATH": str(site), "OUTLOOP_HOME": str(tmp_path / "outloop")}

    listed = subprocess.run(
        [sys.executable, "-m", "outloop", "service", "list", "--json"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        check=False,
    )
    where = subprocess.run(
        [sys.executable, "-c", "import outloop; print(outloop.__file__)"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        check=True,
    )

    assert where.stdout.decode().startswith(str(site))
    assert (listed.returncode, listed.stderr) == (0, b"")
    assert "calendly" in {service["service"] for service in json.loads(listed.stdout)}


# Python runs this at the start of every program: what only developers install is not there.
USERS_ALONE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""
DEVELOPERS = {"aiohttp", "harness", "hypothesis", "httpbin", "httpx", "jsonschema", "pytest", "requests", "trustme"}


def test_an_installed_wheel_holds_against_every_attack(wheel: Path, tmp_path: Path) -> None:
    site, start, temporary = tmp_path / "site", tmp_path / "start", tmp_path / "temporary"
    zipfile.ZipFile(wheel).extractall(site)
    for folder in (start, temporary):
        folder.mkdir()
    (start / "sitecustomize.py").write_text(USERS_ALONE.replace("{packages}", repr(DEVELOPERS)))
    environ = {"PATH": os.defpath, "HOME": str(tmp_path / "nobody"), "TMPDIR": str(temporary)}
    environ["PYTHONPATH"] = f"{start}{os.pathsep}{site}"

    done = subprocess.run(
        [sys.executable, "-m", "outloop", "doctor", "--attack", "--json"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    cases = [case for table in TABLES for case in cases_of(table)]
    assert sum(group["passed"] for group in json.loads(done.stdout)) == len(cases)
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "nobody").exists()
