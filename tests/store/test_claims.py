"""The view `claims`: what a proof proved, and what ends that."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.rows import decision, event, outcome
from outloop.core.ledger import DecisionRow, Row
from outloop.store.audit import AuditWriter

OLD_POLICY, NEW_POLICY = "0123456789abcdef", "fedcba9876543210"
Rows = Callable[[], list[Row]]  # ids rise as rows are made: those that come later are made later


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AuditWriter]:
    audit = AuditWriter(tmp_path / "audit.db", time.time)
    yield audit
    audit.close()


def proof(**changes: object) -> DecisionRow:
    return decision(proof=1, **changes)


def answered(row: DecisionRow, **changes: object) -> list[Row]:
    return [row, outcome(row, **changes)]


def read_claim(audit: AuditWriter, path: Path, rows: list[Row]) -> tuple[object, object, object]:
    """Write *rows* and return claim, audit_id and why of reading Calendly in acme."""
    for row in rows:
        audit.append_now(row)
    with sqlite3.connect(path) as db:
        query = "SELECT claim, audit_id, why FROM claims WHERE workspace = 'acme' AND service = 'calendly' AND access = 'read'"
        found: tuple[object, object, object] = db.execute(query).fetchone()
    return found


def key_event(kind: str, **changes: object) -> Row:
    return event(kind, **({"service": "calendly", "key": "acme-calendly"} | changes))


@pytest.mark.parametrize(
    ("kinds", "why"),
    [
        pytest.param(["key_rotated"], "the key was replaced since the last proof", id="rotated"),
        pytest.param(["key_disabled", "key_removed"], "the key was removed since the last proof", id="removed"),
        pytest.param(
            ["key_disabled", "key_removed", "key_added", "key_enabled"],
            "the key was replaced since the last proof",
            id="removed-and-added-again",
        ),
        pytest.param(["key_disabled"], "runtime access is off", id="switched-off"),
    ],
)
def test_a_proof_ends_with_its_key(writer: AuditWriter, tmp_path: Path, kinds: list[str], why: str) -> None:
    rows = [key_event("key_added"), key_event("key_enabled"), *answered(proof()), *map(key_event, kinds)]

    assert read_claim(writer, tmp_path / "audit.db", rows) == ("not claimed", None, why)


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(lambda: [key_event("key_disabled"), key_event("key_enabled")], id="off-and-on-again"),
        pytest.param(lambda: [key_event("key_rotated", key="acme-other")], id="another-key"),
        pytest.param(lambda: [key_event("key_rotated", workspace="globex")], id="another-workspaces-key-of-that-name"),
        pytest.param(lambda: [event("policy_loaded", detail=OLD_POLICY)], id="the-same-policy-loaded-again"),
        pytest.param(lambda: [event("policy_loaded", workspace="globex", detail=NEW_POLICY)], id="another-workspaces-policy"),
        pytest.param(lambda: answered(proof(decision="deny", reason="rate_limited"), status=429), id="a-proof-that-was-denied"),
        pytest.param(lambda: [proof()], id="a-proof-under-way"),
        pytest.param(lambda: answered(decision(), status=500), id="a-failure-that-is-no-proof"),
        pytest.param(lambda: [decision(policy=NEW_POLICY, workspace="globex")], id="another-workspaces-decision"),
        pytest.param(
            lambda: [event("policy_loaded", detail=NEW_POLICY), decision(policy=OLD_POLICY)], id="the-same-policy-is-back"
        ),
    ],
)
def test_a_proof_outlives_what_does_not_concern_it(writer: AuditWriter, tmp_path: Path, later: Rows) -> None:
    enabled, made = key_event("key_enabled"), proof()

    assert read_claim(writer, tmp_path / "audit.db", [enabled, *answered(made), *later()]) == ("verified", made.id, None)


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(lambda: [decision(policy=NEW_POLICY)], id="a-decision-under-another-policy"),
        pytest.param(lambda: [event("policy_loaded", detail=NEW_POLICY)], id="a-proxy-loaded-another"),
        pytest.param(lambda: [event("policy_loaded", detail=None)], id="the-workspace-is-gone"),
    ],
)
def test_a_proof_ends_with_its_policy(writer: AuditWriter, tmp_path: Path, later: Rows) -> None:
    rows = answered(proof())

    found = read_claim(writer, tmp_path / "audit.db", [*rows, *later()])
    assert found == ("not claimed", None, "the policy was changed since the last proof")


@pytest.mark.parametrize(
    ("result", "why"),
    [
        pytest.param({"status": 401, "reason": "key_rejected"}, "the last proof was answered 401: key_rejected", id="rejected"),
        pytest.param({"status": 403}, "the last proof was answered 403: OK", id="forbidden"),
        pytest.param({"reason": "scrub_failed"}, "the last proof was answered 200: scrub_failed", id="cut-off-while-under-way"),
        pytest.param({"secret_exposed": 1}, "the last proof exposed a secret", id="exposed"),
    ],
)
def test_a_key_is_not_claimed_for_having_worked_once(
    writer: AuditWriter, tmp_path: Path, result: dict[str, object], why: str
) -> None:
    rows = [*answered(proof()), *answered(proof(), **result)]

    assert read_claim(writer, tmp_path / "audit.db", rows) == ("not claimed", None, why)


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        pytest.param(["begun"], "a rotation of the key was begun and not finished", id="begun"),
        pytest.param(["begun", "done"], "the key was replaced since the last proof", id="done"),
        pytest.param(["begun", "given up"], "the key was replaced since the last proof", id="given-up"),
    ],
)
def test_a_proof_made_while_a_key_is_rotated_counts_for_nothing(
    writer: AuditWriter, tmp_path: Path, stages: list[str], why: str
) -> None:
    begun, in_between = key_event("key_rotated", detail="begun"), answered(proof())
    rows = [begun, *in_between, *(key_event("key_rotated", detail=stage) for stage in stages[1:])]

    assert read_claim(writer, tmp_path / "audit.db", rows) == ("not claimed", None, why)


def test_a_proof_after_a_rotation_counts(writer: AuditWriter, tmp_path: Path) -> None:
    rows = [key_event("key_enabled"), key_event("key_rotated", detail="begun"), key_event("key_rotated", detail="done")]
    made = proof()

    assert read_claim(writer, tmp_path / "audit.db", [*rows, *answered(made)]) == ("verified", made.id, None)
