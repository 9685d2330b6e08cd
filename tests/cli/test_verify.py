from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from harness.operators import Operator
from harness.rows import decision, event, outcome
from harness.stage import TOKEN, store_keys, stores
from harness.tampering import rewrite
from outloop.store.anchor import renew
from outloop.store.audit import AuditWriter


@pytest.fixture
def writer(operator: Operator) -> Iterator[AuditWriter]:
    store_keys(operator, {"calendly": TOKEN})
    writer = AuditWriter(operator.home / "audit.db", time.time)
    row = decision()
    for each in (row, outcome(row), event("key_added")):
        writer.append_now(each)
    yield writer
    writer.close()


def anchor(operator: Operator) -> None:
    with stores(operator) as (_, keychain):
        renew(operator.home / "audit.db", keychain, "2026-02-01T00:00:00.000Z")


def test_verify_says_that_the_record_is_whole(operator: Operator, writer: AuditWriter) -> None:
    assert operator.outloop("audit", "verify").splitlines() == [
        "3 appends by 1 writers: none edited, removed, reordered or cut off",
        "not held against an anchor in the keychain: a proxy anchors it when it stops",
    ]


def test_verify_says_what_the_anchor_attests(operator: Operator, writer: AuditWriter) -> None:
    anchor(operator)
    writer.append_now(event("key_enabled"))

    assert operator.outloop("audit", "verify").splitlines() == [
        "4 appends by 1 writers: none edited, removed, reordered or cut off",
        "anchored in the keychain at 2026-02-01T00:00:00.000Z: all 3 appends from then are there; 1 came since",
    ]
    assert json.loads(operator.outloop("audit", "verify", "--json")) == {
        "ok": True,
        "appends": 4,
        "writers": 1,
        "first_bad": None,
        "pruned": 0,
        "checkpoints": 0,
        "anchor": {
            "standing": "attested",
            "at": "2026-02-01T00:00:00.000Z",
            "appends": 3,
            "writers": 1,
            "newer": 1,
            "note": None,
        },
    }


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["people", "json"])
def test_verify_names_what_the_anchor_contradicts_and_exits_1(operator: Operator, writer: AuditWriter, flags: list[str]) -> None:
    anchor(operator)
    writer.close()
    rewrite(operator.home / "audit.db", writer.writer, "UPDATE decisions SET path = '/innocent'")

    done = operator.run("audit", "verify", *flags)

    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    said = f"append 3 of writer {writer.writer} was rewritten since then"
    assert error == f"outloop: error: the record is not what was anchored in the keychain: {said}"
    assert "audit.anchor" in hint
    if flags:
        assert json.loads(done.stdout)["anchor"]["note"] == said
