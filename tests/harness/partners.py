"""Programs and packages that some tests talk to and that not every machine has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def needs(program: str, package: str | None = None) -> str:
    """Return the path of *program*, or skip the test and say which Debian *package* (default: the same name) has it."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed (apt-get install {package or program})")
    return path


def needs_node_package(name: str) -> Path:
    """Return the node_modules folder that holds *name*, or skip the test. `OUTLOOP_TEST_NODE_MODULES` names the folder."""
    needs("node", "nodejs")
    folder = os.environ.get("OUTLOOP_TEST_NODE_MODULES", "")
    if not folder or not Path(folder, name).is_dir():
        pytest.skip(f"{name} is not installed (npm install {name}, and set OUTLOOP_TEST_NODE_MODULES to that node_modules)")
    return Path(folder)
