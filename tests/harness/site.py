"""`outloop audit browse` on a record with a little of everything in it, some of it hostile."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.operators import Operator
from harness.rows import decision, event, outcome
from outloop.core.ledger import DecisionRow, timestamp
from outloop.store.audit import AuditWriter

HOSTILE = "/<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b]0;owned\x07\u202e"
FORMULA = '=HYPERLINK("http://evil.example/","x")'
APPROVAL = "01KDVDVDVDVDVDVDVDVDVDVDVD"


@dataclass(frozen=True)
class Rows:
    """What stands in the record, by what it is good for."""

    path: Path
    written: DecisionRow
    denied: DecisionRow
    formula: DecisionRow
    proof: DecisionRow
    unmeasured: DecisionRow
    approved: DecisionRow
    under_way: DecisionRow


def filled(operator: Operator) -> Rows:
    """Write a record for *operator* and return what is in it."""
    operator.home.mkdir(mode=0o700)
    path = operator.home / "audit.db"
    writer = AuditWriter(path, time.time)

    def write(result: dict[str, object] | None, **changes: object) -> DecisionRow:
        row = decision(**({"id": writer.ids.next(), "at": timestamp(int(time.time() * 1000))} | changes))
        writer.append_now(row)
        if result is not None:
            writer.append_now(outcome(row, **result))
        return row

    for kind in ("key_added", "key_enabled"):
        writer.append_now(writer.event(kind, workspace="acme", service="calendly", key="acme-calendly"))
    writer.append_now(writer.event("policy_loaded", workspace="acme", detail="0123456789abcdef"))
    writer.append_now(writer.event("approval_requested", workspace="acme", detail=f"{APPROVAL} POST /scheduling_links"))
    writer.append_now(writer.event("approval_approved", workspace="acme", detail=f"{APPROVAL} POST /scheduling_links; here"))
    writer.append_now(writer.event("approval_requested", workspace="acme", detail="01KDVDVDVDVDVDVDVDVDVDVDVE POST /waits"))
    writer.append_now(event("ca_distrusted", host="<script>alert(3)</script>", detail="https://evil.example/"))
    proof = write({}, proof=1)
    written = write(
        {"status": 201, "scrubbed": 3, "upstream_ms": 250.0}, method="POST", runtime_mode="write", path="/scheduling_links"
    )
    approved = write({"status": 201}, method="POST", runtime_mode="write", approval=APPROVAL, session="S1")
    unmeasured = write({"secret_exposed": None}, session="S1")
    denied = write(
        {"status": 403, "upstream_ms": None, "error": "javascript:alert(4)"},
        path=HOSTILE,
        agent="<b>claude",
        decision="deny",
        reason="path_not_allowed",
        key=None,
        rule="<i>acme.yaml:7",
    )
    formula = write({"status": 403}, path=FORMULA, method="@SUM(1)", decision="deny", reason="malformed_request", service=None)
    write({}, method="GET", path="javascript:alert(5)", decision="deny", reason="malformed_request", host="", service=None)
    under_way = write(None, path="/under-way")
    writer.close()
    return Rows(path, written, denied, formula, proof, unmeasured, approved, under_way)


@contextmanager
def serving(operator: Operator) -> Iterator[dict[str, str]]:
    """Yield what `outloop audit browse --json` printed, while it serves the operator's record."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "outloop", "audit", "browse", "--json", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=operator.variables)
    assert process.stdout is not None
    try:
        printed = ""
        while not printed.endswith("}\n"):
            line = process.stdout.readline()
            assert line, f"outloop audit browse ended: exit {process.wait(timeout=60)}"
            printed += line
        yield json.loads(printed)
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stdout.close()
