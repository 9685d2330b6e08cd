"""How things stand, and what may be claimed of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.rows import decision, event, outcome
from outloop.core.approvals import Asked
from outloop.core.ledger import DecisionRow, Row, timestamp
from outloop.operator.claims import claims, summary
from outloop.operator.policy_files import read_policy_files
from outloop.operator.status import SECTIONS, Status
from outloop.operator.status import status as look_at
from outloop.store.approvals import ApprovalStore
from outloop.store.audit import AuditWriter
from outloop.store.home import Home
from outloop.store.overview import Overview
from outloop.store.records import Record, Records
from outloop.store.state import StateStore

POLICY = "workspace: acme\nservices:\n  calendly:\n    rules: [allow: GET /users/me]\n"
BRIDGE = "  api:\n    hosts: [api.example.com]\n    auth: {type: bearer}\n    rules: [allow: GET /x]\n"


class House:
    """A home with the workspace acme, its key switched on, and a record that is written as a proxy would."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.state = StateStore(home.state_db)
        self.audit = AuditWriter(home.audit_db, time.time)
        self.write_policy("acme", POLICY)
        self.state.add_key("acme", "acme-calendly", "calendly", timestamp(0))
        self.state.set_runtime_access("acme", "acme-calendly", True)

    def write_policy(self, name: str, text: str) -> None:
        path = self.home.policies / f"{name}.yaml"
        path.write_text(text)
        path.chmod(0o600)

    def write(self, *rows: Row) -> None:
        for row in rows:
            self.audit.append_now(row)

    def prove(self, **changes: object) -> DecisionRow:
        """Write a proof under the policy that is on disk."""
        (workspace,) = read_policy_files(self.home.policies, self.home.services).of("acme").workspaces
        row = decision(**({"proof": 1, "policy": workspace.digest} | changes))
        self.write(row, outcome(row))
        return row

    def claimed(self, workspace: str | None = None) -> dict[tuple[str, str, str], tuple[object, object]]:
        policies = read_policy_files(self.home.policies, self.home.services).of(workspace)
        found = claims(policies, self.state.snapshot().keys, self.recorded(workspace))
        return {
            (str(each["workspace"]), str(each["service"]), str(each["access"])): (each["audit_id"], each["why"]) for each in found
        }

    def recorded(self, workspace: str | None) -> Sequence[Record]:
        return Overview(self.home.audit_db).claims(workspace) if self.home.audit_db.exists() else ()

    def look(self, workspace: str | None = None, now: datetime | None = None) -> Status:
        has_record = self.home.audit_db.exists()
        return look_at(
            self.state,
            Overview(self.home.audit_db) if has_record else None,
            Records(self.home.audit_db).key_uses() if has_record else (),
            read_policy_files(self.home.policies, self.home.services),
            ApprovalStore(self.home.state_db),
            now or datetime.now(UTC),
            workspace,
        )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    home = Home(tmp_path / "outloop")
    home.ensure()
    made = House(home)
    with closing(made.state), closing(made.audit):
        yield made


READ, WRITE = ("acme", "calendly", "read"), ("acme", "calendly", "write")


def test_a_proof_under_key_and_policy_as_they_are_is_claimed_with_row_and_agent(house: House) -> None:
    row = house.prove()

    (read, write) = claims(
        read_policy_files(house.home.policies, house.home.services),
        house.state.snapshot().keys,
        Overview(house.home.audit_db).claims(),
    )

    assert (read["claim"], read["audit_id"], read["at"], read["agent"]) == ("verified", row.id, row.at, "claude")
    assert (write["claim"], write["why"]) == ("not claimed", "no proof has run")
    assert summary([read, write]) == "proved: acme calendly read; not proved: acme calendly write"


def edit_policy(house: House) -> None:
    house.write_policy("acme", POLICY.replace("GET /users/me", "GET /**"))


def break_policy(house: House) -> None:
    house.write_policy("acme", "workspace: acme\nservices: [\n")


def remove_policy(house: House) -> None:
    (house.home.policies / "acme.yaml").unlink()


def drop_service(house: House) -> None:
    house.write_policy("acme", f"workspace: acme\nservices:\n{BRIDGE}")


def override_service(house: House) -> None:
    entry = house.home.services / "calendly.yaml"
    entry.write_text("title: Calendly\nhosts: [api.calendly.com]\nauth: {type: bearer}\nproof: GET /users/me\n")
    entry.chmod(0o600)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(edit_policy, "the policy was changed since the last proof", id="edited-with-no-proxy-to-load-it"),
        pytest.param(override_service, "the policy was changed since the last proof", id="another-catalogue-entry"),
        pytest.param(break_policy, "the policy is broken: ", id="broken"),
        pytest.param(remove_policy, "the workspace has no policy", id="gone"),
        pytest.param(drop_service, "the policy does not name the service", id="service-dropped"),
        pytest.param(
            lambda house: house.state.set_runtime_access("acme", "acme-calendly", False), "runtime access is off", id="off"
        ),
        pytest.param(
            lambda house: house.state.remove_key("acme", "acme-calendly"), "the key acme-calendly is not stored", id="no-key"
        ),
        pytest.param(
            lambda house: house.write(event("key_rotated", service="calendly", key="acme-calendly")),
            "the key was replaced since the last proof",
            id="rotated",
        ),
    ],
)
def test_nothing_is_claimed_of_what_is_no_longer_so(house: House, change: Callable[[House], object], why: str) -> None:
    house.prove()
    change(house)

    audit_id, said = house.claimed()[READ]

    assert audit_id is None
    assert str(said).startswith(why)


def test_a_service_that_names_no_proof_cannot_be_claimed_and_says_so(house: House) -> None:
    house.write_policy("acme", POLICY + BRIDGE)
    house.state.add_key("acme", "acme-api", "api", timestamp(0))

    found = house.claimed()

    assert found["acme", "api", "read"] == (None, "the service names no proof that reads")
    assert found["acme", "api", "write"] == (None, "the service names no proof that writes")


def test_a_workspace_is_looked_at_alone(house: House) -> None:
    house.write_policy("globex", POLICY.replace("acme", "globex"))
    house.write(decision(workspace="globex"))
    house.prove()

    found = house.look("acme")

    assert {row["workspace"] for section in ("claims", "policies", "keys") for row in found.sections[section]} == {"acme"}
    assert "globex" not in found.summary
    assert "globex" in house.look().summary


def test_todays_requests_are_counted_by_decision_and_reason_and_no_others(house: House) -> None:
    yesterday, first, second, denied = decision(), decision(), decision(), decision(decision="deny", reason="path_not_allowed")
    cut = decision()
    house.write(yesterday, first, second, denied, cut, outcome(cut, status=502, reason="scrub_failed"))
    at = datetime.fromisoformat(yesterday.at)
    # Rows of the tests are a second apart: a day that begins right after the first.
    counted = Overview(house.home.audit_db).counts(int((at + timedelta(seconds=1)).timestamp() * 1000))

    assert [(row["decision"], row["reason"], row["requests"]) for row in counted] == [
        ("allow", "OK", 2),
        ("allow", "scrub_failed", 1),
        ("deny", "path_not_allowed", 1),
    ]
    assert [row["requests"] for row in house.look(now=at).sections["today"]] == [3, 1, 1]
    assert house.look(now=at + timedelta(days=1)).sections["today"] == []


def test_a_proxy_that_does_not_answer_is_said_so(house: House) -> None:
    house.state.register_proxy(os.getpid(), "127.0.0.1", 1, "2026-01-01T00:00:00Z")
    (row,) = house.look().sections["listeners"]
    assert (row["listener"], row["answers"], row["workers"], row["pids"]) == ("127.0.0.1:1", "no", 1, [os.getpid()])


def test_a_policy_that_a_running_proxy_has_an_earlier_version_of_is_said_so(house: House) -> None:
    house.state.register_proxy(os.getpid(), "127.0.0.1", 1, "2026-01-01T00:00:00Z")
    (digest,) = (each.digest for each in read_policy_files(house.home.policies, house.home.services).workspaces)

    def loaded() -> object:
        (row,) = house.look().sections["policies"]
        return row["loaded"]

    assert loaded() == "no"
    house.write(event("policy_loaded", detail=digest))
    assert loaded() == "yes"
    edit_policy(house)
    assert loaded() == "an earlier version"


def test_a_broken_policy_is_a_row_with_its_problem_beside_the_good_ones(house: House) -> None:
    house.write_policy("globex", "workspace: globex\nservices:\n  nothing: {}\n")
    by_name = {row["workspace"]: row for row in house.look().sections["policies"]}
    assert by_name["acme"]["problem"] is None
    assert "globex.yaml:3:" in str(by_name["globex"]["problem"])


def test_only_approvals_that_wait_are_shown(house: House) -> None:
    store = ApprovalStore(house.home.state_db)
    now = time.time()
    common = {"headers": "", "body": "", "body_bytes": 0, "rule": "acme.yaml:7", "rule_text": "ask", "rule_mark": "m"}
    for number, path in enumerate(("/waiting", "/approved")):
        asked = Asked(
            "acme",
            "claude",
            "calendly",
            "POST",
            "api.calendly.com",
            443,
            path,
            binding=str(number),
            **common,  # type: ignore[arg-type]
        )
        store.ask(asked, f"0{number}{'A' * 24}", now)
    store.approve(f"01{'A' * 24}", now)

    (row,) = house.look().sections["approvals"]
    assert row["request"] == "POST https://api.calendly.com/waiting"
    assert house.look("globex").sections["approvals"] == []
    store.close()


def test_every_row_has_the_columns_of_its_section_and_no_others(house: House) -> None:
    house.prove()
    house.write_policy("globex", "services: []\n")
    for name, section in house.look().sections.items():
        assert all(set(row) <= set(SECTIONS[name]) for row in section), name


def test_a_home_with_nothing_in_it_claims_nothing() -> None:
    assert summary([]) == "nothing is proved: no workspace uses a service yet"


def test_a_long_list_is_cut_in_the_one_line() -> None:
    many = [{"workspace": "w", "service": f"s{n}", "access": "read", "claim": "not claimed"} for n in range(9)]
    assert summary(many) == "proved: nothing; not proved: w s0 read, w s1 read, w s2 read and 6 more"
