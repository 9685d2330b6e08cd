"""`scripts/demo`, less its set-up: what a newcomer sees first."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from harness.operators import ADDON, CHECKOUT
from harness.partners import needs

PROOF = r"""Calendly API access through Outloop
GET /users/me
HTTP 200
decision: allow / OK
secret_exposed: false
runtime_verified: yes
audit entry exists: [0-9A-HJKMNP-TV-Z]{26}
"""


def test_the_demo_proves_a_call_from_an_empty_home_and_leaves_nothing_behind(tmp_path: Path) -> None:
    needs("curl")
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONPATH": f"{CHECKOUT / 'tests'}{os.pathsep}{ADDON}",
    }

    done = subprocess.run(
        [sys.executable, "-m", "harness.demo"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    assert re.search(PROOF, done.stdout), shown
    assert "HTTP 403" in shown
    assert "method_not_allowed" in shown
    assert "Traceback" not in shown
    assert list(temporary.iterdir()) == []
    assert not (home / ".outloop").exists()
