"""Making a proof: the call goes the agents' way, and only the record speaks of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import time

import pytest

from outloop.core.auth import Bearer
from outloop.core.errors import NoError, UsageError
from outloop.core.ledger import DecisionRow, OutcomeRow, timestamp
from outloop.core.model import HostClaim, Probe, Service
from outloop.operator import proof
from outloop.operator.call import Answer
from outloop.operator.next_proof import filled
from outloop.operator.proof import prove
from outloop.store.audit import AuditWriter
from outloop.store.records import Records

SAFE = Probe("GET", "/users/me")
NEXT = Probe("POST", "/scheduling_links", 201, {"max_event_count": 1, "owner": "{owner}", "owner_type": "EventType"})
CALENDLY = Service(
    "calendly", "Calendly", (HostClaim("api.calendly.com"),), Bearer(), "acme-calendly", proof=SAFE, next_proof=NEXT
)
USER = "https://api.calendly.com/users/AAAA"
EVENT_TYPE = "https://api.calendly.com/event_types/BBBB"


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Proxy:
    """Answers calls as a proxy with a record does: `answers` by target, each stamped with the id of a row it has written."""

    writer: AuditWriter
    answers: Mapping[str, tuple[int, object]]
    workspace: str | None = "acme"
    decision: tuple[str, str] = ("allow", "OK")
    has_outcome: bool = True
    is_stamped: bool = True
    sent: list[tuple[str, str, Mapping[str, object] | None]] = field(default_factory=list)

    def __call__(self, method: str, claim: HostClaim, target: str, body: Mapping[str, object] | None = None) -> Answer:
        self.sent.append((method, target, body))
        status, document = self.answers[target]
        audit_id, at = self.writer.ids.next(), timestamp(int(time() * 1000))
        row = DecisionRow(
            id=audit_id, at=at, workspace=self.workspace, service="calendly", key="acme-calendly", method=method,
            scheme="https", host=claim.host, port=claim.port, path=target, decision=self.decision[0], reason=self.decision[1],
        )  # fmt: skip
        self.writer.append_now(row)
        if self.has_outcome:
            self.writer.append_now(OutcomeRow(decision_id=audit_id, at=at, status=status, secret_exposed=0))
        return Answer(status, audit_id if self.is_stamped else "", json.dumps(document).encode())


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
def proxy(record: Path) -> Proxy:
    answers = {
        "/users/me": (200, {"resource": {"uri": USER}}),
        "/event_types?user=https%3A%2F%2Fapi.calendly.com%2Fusers%2FAAAA&active=true&count=1": (
            200,
            {"collection": [{"uri": EVENT_TYPE}]},
        ),
        "/scheduling_links": (201, {"resource": {}}),
    }
    return Proxy(AuditWriter(record, time), answers)


def test_a_good_call_is_proved_by_its_row(proxy: Proxy, record: Path) -> None:
    made = prove(proxy, Records(record), CALENDLY, "acme", SAFE, now)
    assert made.fault is None
    assert made.lines[:-1] == (
        "Calendly API access through Outloop",
        "GET /users/me",
        "HTTP 200",
        "decision: allow / OK",
        "secret_exposed: false",
        "runtime_verified: yes",
    )
    assert proxy.sent == [("GET", "/users/me", None)]


def test_nothing_that_listens_is_said_with_what_to_do(record: Path) -> None:
    def call(method: str, claim: HostClaim, target: str, body: Mapping[str, object] | None = None) -> Answer:
        raise NoError("no proxy listens on 127.0.0.1:8080", "start it with `outloop up`")

    made = prove(call, Records(record), CALENDLY, "acme", SAFE, now)
    assert made.fault is not None
    assert made.fault.line == "HTTP no answer"
    assert made.fault.line in made.lines
    assert made.fault.next_step == "start it with `outloop up`"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(Answer(200, "", b"{}"), "did not come through Outloop", id="no-stamp"),
        pytest.param(Answer(200, "01J", b"{}"), "did not come through Outloop", id="a-short-stamp"),
        pytest.param(Answer(200, "x' OR 1=1 --".ljust(26), b"{}"), "did not come through Outloop", id="a-hostile-stamp"),
        pytest.param(Answer(200, "0" * 26, b"{}"), "not in this home's record", id="a-stamp-of-another-home"),
        pytest.param(Answer(407, "", b""), "does not know this agent", id="a-challenge"),
    ],
)
def test_an_answer_without_a_row_proves_nothing_whatever_it_says(
    proxy: Proxy, record: Path, answer: Answer, message: str
) -> None:
    prove(proxy, Records(record), CALENDLY, "acme", SAFE, now)  # there is a record, with a good row in it

    made = prove(lambda *_: answer, Records(record), CALENDLY, "acme", SAFE, now)
    assert made.fault is not None
    assert message in made.fault.message
    assert made.lines[2:] == (
        f"HTTP {answer.status}",
        "decision: none",
        "secret_exposed: not measured",
        "runtime_verified: no",
        "audit entry exists: no",
    )


def test_a_stamp_when_there_is_no_record_at_all_proves_nothing(record: Path) -> None:
    made = prove(lambda *_: Answer(200, "0" * 26, b""), Records(record), CALENDLY, "acme", SAFE, now)
    assert made.fault is not None
    assert made.lines[-1] == "audit entry exists: no"


def test_the_row_of_an_earlier_good_call_cannot_be_shown_again(proxy: Proxy, record: Path) -> None:
    old = proxy("GET", CALENDLY.hosts[0], "/users/me")
    later = datetime.fromtimestamp(time() + 1, UTC)
    made = prove(lambda *_: old, Records(record), CALENDLY, "acme", SAFE, lambda: later)
    assert made.fault is not None
    assert made.fault.message == "the audit row is older than the call"
    assert made.fault.line == made.lines[-1] == f"audit entry exists: {old.audit_id}"


def test_a_call_that_was_made_for_another_workspace_proves_nothing_for_this_one(proxy: Proxy, record: Path) -> None:
    proxy.workspace = "globex"
    made = prove(proxy, Records(record), CALENDLY, "acme", SAFE, now)
    assert made.fault is not None
    assert made.fault.message == "the call was made for the workspace `globex`, not `acme`"


def test_a_call_whose_outcome_does_not_come_is_not_proved(proxy: Proxy, record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "OUTCOME_TIMEOUT_S", 0.0)
    proxy.has_outcome = False
    made = prove(proxy, Records(record), CALENDLY, "acme", SAFE, now)
    assert made.fault is not None
    assert made.fault.line == "HTTP no answer"
    assert made.lines[-1].removeprefix("audit entry exists: ").isalnum(), "the row is there, and named"


def test_a_refused_call_says_why_and_what_to_do(proxy: Proxy, record: Path) -> None:
    proxy.decision = ("deny", "runtime_access_off")
    made = prove(proxy, Records(record), CALENDLY, "acme", SAFE, now)
    assert made.fault is not None
    assert made.fault.line == "decision: deny / runtime_access_off"
    assert made.fault.next_step == "outloop key enable acme-calendly -w acme"


def test_the_owner_of_the_next_proof_is_found_by_reading(proxy: Proxy) -> None:
    made = filled(NEXT, {}, proxy, CALENDLY)
    assert made.body == {"max_event_count": 1, "owner": EVENT_TYPE, "owner_type": "EventType"}
    assert {method for method, _, _ in proxy.sent} == {"GET"}, "nothing is written to find it"


def test_an_owner_that_was_given_is_used_without_a_call(proxy: Proxy) -> None:
    assert filled(NEXT, {"owner": EVENT_TYPE}, proxy, CALENDLY).body == {
        "max_event_count": 1,
        "owner": EVENT_TYPE,
        "owner_type": "EventType",
    }
    assert proxy.sent == []


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((403, {"title": "Permission Denied"}), id="forbidden"),
        pytest.param((200, {"collection": []}), id="no-event-type"),
        pytest.param((200, {"collection": [{}]}), id="an-event-type-without-a-name"),
        pytest.param((200, ["nonsense"]), id="another-shape"),
        pytest.param((200, {"collection": [{"uri": 7}]}), id="a-name-that-is-a-number"),
    ],
)
def test_an_owner_that_cannot_be_found_is_asked_for(proxy: Proxy, answer: tuple[int, object]) -> None:
    proxy.answers = {target: answer if target.startswith("/event_types") else known for target, known in proxy.answers.items()}
    with pytest.raises(NoError, match="no event type could be found") as caught:
        filled(NEXT, {}, proxy, CALENDLY)
    assert caught.value.hint == "give one of your event types: --with owner=URI"


@pytest.mark.parametrize(
    ("probe", "values", "message"),
    [
        pytest.param(NEXT, {"owners": "x"}, "has no blank `owners`", id="a-wrong-name"),
        pytest.param(SAFE, {"owner": "x"}, "has no blank `owner`", id="no-blanks"),
        pytest.param(Probe("POST", "/x", 201, {"team": "{team}"}), {}, "needs `team`", id="a-blank-nobody-can-find"),
    ],
)
def test_blanks_and_values_must_match(proxy: Proxy, probe: Probe, values: Mapping[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        filled(probe, values, proxy, CALENDLY)
