"""The operator's side of a test: a home of its own, and the real `outloop` command on it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

CHECKOUT = Path(__file__).resolve().parents[2]
ADDON = CHECKOUT / "addon"
PATIENCE_S = 30.0

Row = dict[str, object]


@dataclass(frozen=True)
class Operator:
    """One home in an empty folder, with the embedded keychain. *python* runs everything that belongs to it.

    *environ* is added to what its programs get: nothing of the test's own but PATH.
    """

    folder: Path
    python: Path = Path(sys.executable)
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """OUTLOOP_HOME."""
        return self.folder / "outloop"

    @property
    def certificate(self) -> Path:
        """The authority that agents have to trust."""
        return self.home / "ca" / "mitmproxy-ca-cert.pem"

    @property
    def variables(self) -> dict[str, str]:
        """The whole environment of the operator's programs."""
        return {
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "PYTHONPATH": str(ADDON),
            "OUTLOOP_HOME": str(self.home),
            "OUTLOOP_KEYRING": "file",
            **self.environ,
        }

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run ``outloop ARGUMENTS``, whatever its exit code."""
        command = [str(self.python), "-m", "outloop", *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=self.variables, timeout=PATIENCE_S, check=False
        )

    def outloop(self, *arguments: str, stdin: str = "") -> str:
        """Run ``outloop ARGUMENTS`` and return what it printed. Raises AssertionError unless it exits 0."""
        done = self.run(*arguments, stdin=stdin)
        if done.returncode != 0:
            raise AssertionError(f"outloop {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def write_policy(self, workspace: str, text: str) -> Path:
        """Write a workspace file, as an editor would."""
        folder = self.home / "policies"
        for each in (self.home, folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{workspace}.yaml"
        path.write_text(text)
        path.chmod(0o600)
        return path

    def add_key(self, service: str, workspace: str, value: str, *, enabled: bool = True) -> None:
        """Store a key and, unless told otherwise, switch its runtime access on."""
        self.outloop("key", "add", service, "-w", workspace, "--stdin", stdin=value)
        if enabled:
            self.outloop("key", "enable", service, "-w", workspace)

    def add_agent(self, name: str, workspace: str) -> str:
        """Mint an agent and return its token."""
        added = json.loads(self.outloop("agent", "add", name, "-w", workspace, "--json"))
        token = urlsplit(str(added["proxy_url"])).password
        assert token, added
        return token

    def rows(self, view: str = "audit") -> list[Row]:
        """Return the rows of a view of the record, oldest first."""
        if not (self.home / "audit.db").exists():
            return []
        record = sqlite3.connect(f"{(self.home / 'audit.db').as_uri()}?mode=ro", uri=True)
        try:
            record.row_factory = sqlite3.Row
            return [dict(row) for row in record.execute(f"SELECT * FROM {view}")]
        finally:
            record.close()

    def wait_for_rows(self, count: int, timeout_s: float = PATIENCE_S) -> list[Row]:
        """Return the audit rows, oldest first, once *count* of them have their outcome. Raises TimeoutError.

        An outcome is written after the reply has left, by another process: there is nothing to wait on but the record.
        """
        end = time.monotonic() + timeout_s
        while True:
            rows = sorted(self.rows(), key=lambda row: str(row["id"]))
            if sum(row["status"] is not None for row in rows) >= count:
                return rows
            if time.monotonic() > end:
                raise TimeoutError(f"the record has not {count} finished rows: {rows}")
            time.sleep(0.02)
