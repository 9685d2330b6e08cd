"""A Python process of its own, to be killed or starved."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def child(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start *script*, which may import the package and the harness; its standard output is to be read."""
    code = "import sys; sys.path[:0] = sys.argv.pop(1).split(':')\n" + textwrap.dedent(script)
    roots = f"{ROOT / 'addon'}:{ROOT / 'tests'}"
    return subprocess.Popen([sys.executable, "-c", code, roots, *arguments], stdout=subprocess.PIPE, text=True)
