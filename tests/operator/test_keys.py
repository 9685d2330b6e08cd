from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from outloop.core.auth import Basic, Bearer, Headers, Part
from outloop.core.errors import AuditError, KeyLocked, KeyMissing, UsageError
from outloop.core.ledger import DecisionRow, OutcomeRow
from outloop.core.secret import Secret
from outloop.operator.keys import KeyPlan, Keys
from outloop.operator.values import MAX_LENGTH, checked_value, read_values
from outloop.store.audit import AuditWriter
from outloop.store.home import Home
from outloop.store.keychain import PREVIOUS, Keychain
from outloop.store.records import Records
from outloop.store.state import StateStore

VALUE = "fake-token-0123456789"
TOKEN = Part("token")
NOON = 1_767_268_800.0


class Desk:
    """An operator's desk: the real stores of a home, a clock to turn, and the events with the switch as it was at each."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.ensure()
        self.state = StateStore(self.home.state_db)
        self.keychain = Keychain.open(self.home, self.state, {"OUTLOOP_KEYRING": "file"})
        self.now = NOON
        self.events: list[tuple[str, str, str]] = []
        self.audit_fails = False
        self.keys = Keys(self.state, lambda: self.keychain, self.record, lambda: self.now)

    def record(
        self,
        kind: str,
        *,
        workspace: str,
        agent: str | None = None,
        service: str | None = None,
        key: str | None = None,
        detail: str | None = None,
    ) -> None:
        if self.audit_fails:
            raise AuditError("the audit record is full")
        known = self.state.snapshot().keys.get((workspace, key or ""))
        switch = "absent" if known is None else "on" if known.runtime_access else "off"
        self.events.append((kind, f"{workspace}/{key}", switch))

    def add(self, workspace: str = "acme", value: str = VALUE, **more: bool) -> KeyPlan:
        made = plan(workspace)
        self.keys.add(made, token(value), **more)
        return made


def plan(workspace: str = "acme", service: str = "calendly", parts: tuple[Part, ...] = (TOKEN,)) -> KeyPlan:
    return KeyPlan(workspace, service, service.title(), f"{workspace}-{service}", parts)


def token(value: str) -> dict[str, Secret]:
    return {"token": Secret(value.encode())}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.state.close()


def test_a_key_is_stored_with_runtime_access_off(desk: Desk) -> None:
    desk.add()
    record = desk.state.snapshot().keys["acme", "acme-calendly"]
    assert (record.service, record.runtime_access, record.added_at) == ("calendly", False, "2026-01-01T12:00:00.000Z")
    assert desk.keychain.get("acme", "acme-calendly") == token(VALUE)


def test_every_change_is_an_event_before_it_takes_effect(desk: Desk) -> None:
    added = desk.add()
    desk.keys.switch(desk.keys.find("acme", "calendly"), True)
    desk.keys.rotate(added, token("fake-token-next-one"), 3600)
    desk.keys.switch(desk.keys.find("acme", "calendly"), False)
    desk.keys.remove(desk.keys.find("acme", "calendly"))
    assert desk.events == [
        ("key_added", "acme/acme-calendly", "absent"),
        ("key_enabled", "acme/acme-calendly", "off"),
        ("key_rotated", "acme/acme-calendly", "on"),
        ("key_disabled", "acme/acme-calendly", "on"),
        ("key_removed", "acme/acme-calendly", "off"),
    ]


def test_without_an_audit_record_nothing_changes(desk: Desk) -> None:
    added = desk.add()
    before = desk.state.snapshot()
    desk.audit_fails = True
    record = desk.keys.find("acme", "calendly")
    acts: list[Callable[[], object]] = [
        lambda: desk.keys.switch(record, True),
        lambda: desk.keys.rotate(added, token("fake-token-next-one"), 3600),
        lambda: desk.add("beta", "fake-token-of-beta"),
        lambda: desk.keys.remove(record),
    ]
    for act in acts:
        with pytest.raises(AuditError):
            act()
        assert desk.state.snapshot() == before
        assert desk.keychain.get("acme", "acme-calendly") == token(VALUE)
    with pytest.raises(KeyMissing):
        desk.keychain.get("beta", "beta-calendly")


def test_a_switch_that_is_so_already_is_no_event(desk: Desk) -> None:
    desk.add()
    assert not desk.keys.switch(desk.keys.find("acme", "calendly"), False)
    assert [kind for kind, *_ in desk.events] == ["key_added"]


def test_a_key_is_found_by_its_name_or_by_its_only_service(desk: Desk) -> None:
    desk.add()
    assert desk.keys.find("acme", "acme-calendly").name == desk.keys.find("acme", "calendly").name == "acme-calendly"
    desk.keys.add(replace(plan(), name="second"), token("fake-token-number-two"))
    with pytest.raises(UsageError, match="several keys for calendly") as refused:
        desk.keys.find("acme", "calendly")
    assert refused.value.hint == "say which: acme-calendly, second"
    with pytest.raises(UsageError, match="has no key posthog"):
        desk.keys.find("acme", "posthog")
    with pytest.raises(UsageError, match=r"workspace beta has no key$"):
        desk.keys.find("beta", "calendly")


# Adding


def test_a_name_that_is_taken_is_refused_and_its_value_stays(desk: Desk) -> None:
    desk.add()
    with pytest.raises(UsageError, match="already has a key acme-calendly"):
        desk.add(value="fake-token-another")
    with pytest.raises(UsageError, match="already has a key acme-calendly"):
        desk.keys.add(replace(plan(), service="posthog"), token("fake-token-another"))
    assert desk.keychain.get("acme", "acme-calendly") == token(VALUE)


def test_a_key_whose_value_was_lost_is_added_again_switched_off(desk: Desk) -> None:
    desk.add()
    desk.keys.switch(desk.keys.find("acme", "calendly"), True)
    generation = desk.keys.find("acme", "calendly").generation
    desk.keychain.delete("acme", "acme-calendly")
    desk.add(value="fake-token-once-more")
    record = desk.keys.find("acme", "calendly")
    assert not record.runtime_access
    assert record.generation > generation
    assert desk.keychain.get("acme", "acme-calendly") == token("fake-token-once-more")


def test_a_key_that_the_keychain_does_not_take_is_not_added(desk: Desk) -> None:
    (desk.home.keyring / "master.key").parent.mkdir(mode=0o700, exist_ok=True)
    (desk.home.keyring / "values.enc").mkdir()
    with pytest.raises(KeyLocked):
        desk.keys.add(plan(), token(VALUE), shared_ok=True)
    assert not desk.state.snapshot().keys
    assert [kind for kind, *_ in desk.events] == ["key_added", "key_removed"]


@pytest.mark.parametrize("at", ["current", "one-part-of-several"])
def test_a_value_of_another_workspace_is_refused_unless_told(desk: Desk, at: str) -> None:
    parts = Basic().parts
    if at == "current":
        desk.add("acme")
    else:
        both = {"username": Secret(b"somebody"), "password": Secret(VALUE.encode())}
        desk.keys.add(plan("acme", parts=parts), both)
    with pytest.raises(UsageError, match="already stored as acme-calendly of workspace acme") as refused:
        desk.add("beta")
    assert VALUE not in f"{refused.value.message}{refused.value.hint}"
    assert ("beta", "beta-calendly") not in desk.state.snapshot().keys
    desk.add("beta", shared_ok=True)
    assert desk.keychain.get("beta", "beta-calendly") == token(VALUE)


def test_a_rotation_to_a_value_of_another_workspace_is_refused(desk: Desk) -> None:
    desk.add("acme")
    beta = desk.add("beta", "fake-token-of-beta")
    with pytest.raises(UsageError, match="already stored as acme-calendly"):
        desk.keys.rotate(beta, token(VALUE), 3600)
    assert desk.keychain.get("beta", "beta-calendly") == token("fake-token-of-beta")


def test_a_public_part_may_be_the_same_everywhere(desk: Desk) -> None:
    for workspace in ("acme", "beta"):
        parts = {"username": Secret(b"the-same-account"), "password": Secret(f"fake-password-of-{workspace}".encode())}
        desk.keys.add(plan(workspace, parts=Basic().parts), parts)
    assert len(desk.state.snapshot().keys) == 2


def test_one_workspace_may_use_a_value_under_two_names(desk: Desk) -> None:
    desk.add()
    desk.keys.add(replace(plan(), name="second"), token(VALUE))
    assert len(desk.state.snapshot().keys) == 2


def test_what_finds_a_shared_value_is_not_stored(desk: Desk) -> None:
    desk.add()
    with pytest.raises(UsageError):
        desk.add("beta")
    at_rest = b"".join(file.read_bytes() for file in desk.home.root.rglob("*") if file.is_file())
    assert VALUE.encode() not in at_rest


# Rotating


def test_a_rotation_keeps_the_old_value_for_its_grace_and_the_switch_as_it_is(desk: Desk) -> None:
    added = desk.add()
    desk.keys.switch(desk.keys.find("acme", "calendly"), True)
    before = desk.keys.find("acme", "calendly")
    desk.keys.rotate(added, token("fake-token-next-one"), 3600)
    after = desk.keys.find("acme", "calendly")
    assert after.generation > before.generation
    assert (after.runtime_access, after.previous_until) == (True, NOON + 3600)
    assert desk.keychain.get("acme", "acme-calendly") == token("fake-token-next-one")
    assert desk.keychain.previous("acme", "acme-calendly") == token(VALUE)


def test_a_rotation_without_grace_keeps_nothing(desk: Desk) -> None:
    added = desk.add()
    desk.keys.rotate(added, token("fake-token-number-two"), 3600)
    desk.keys.rotate(added, token("fake-token-number-three"), 0)
    assert desk.keychain.previous("acme", "acme-calendly") is None
    assert desk.keys.find("acme", "calendly").previous_until is None


def test_a_rotation_to_the_value_that_is_stored_is_refused(desk: Desk) -> None:
    added = desk.add()
    generation = desk.keys.find("acme", "calendly").generation
    with pytest.raises(UsageError, match="already stored"):
        desk.keys.rotate(added, token(VALUE), 3600)
    assert desk.keys.find("acme", "calendly").generation == generation
    assert desk.keychain.previous("acme", "acme-calendly") is None


def test_a_lost_value_is_mended_by_a_rotation(desk: Desk) -> None:
    added = desk.add()
    desk.keychain.delete("acme", "acme-calendly")
    desk.keys.rotate(added, token("fake-token-next-one"), 3600)
    assert desk.keychain.get("acme", "acme-calendly") == token("fake-token-next-one")
    assert desk.keys.find("acme", "calendly").previous_until is None


def test_an_old_value_is_deleted_by_the_next_command_after_its_grace(desk: Desk) -> None:
    desk.keys.rotate(desk.add(), token("fake-token-next-one"), 3600)
    desk.now += 3599
    desk.add("beta", "fake-token-of-beta")
    assert desk.keychain.previous("acme", "acme-calendly") == token(VALUE)
    desk.now += 1
    desk.add("gamma", "fake-token-of-gamma")
    assert desk.keychain.previous("acme", "acme-calendly") is None
    assert desk.keys.find("acme", "calendly").previous_until is None


# Removing


def test_a_removed_key_leaves_nothing_in_the_keychain(desk: Desk) -> None:
    desk.keys.rotate(desk.add(), token("fake-token-next-one"), 3600)
    desk.keys.remove(desk.keys.find("acme", "calendly"))
    assert not desk.state.snapshot().keys
    with pytest.raises(KeyMissing):
        desk.keychain.get("acme", "acme-calendly")
    assert desk.keychain.previous("acme", "acme-calendly") is None


def test_a_key_that_the_keychain_does_not_let_go_is_off_and_still_listed(desk: Desk) -> None:
    desk.add()
    desk.keys.switch(desk.keys.find("acme", "calendly"), True)
    (desk.home.keyring / "values.enc").write_bytes(b"altered")
    with pytest.raises(KeyLocked):
        desk.keys.remove(desk.keys.find("acme", "calendly"))
    assert not desk.keys.find("acme", "calendly").runtime_access
    assert [kind for kind, *_ in desk.events][-2:] == ["key_removed", "key_disabled"]  # the record says what is so


# Listing


def test_a_list_shows_the_switch_and_the_last_use_and_nothing_of_the_value(desk: Desk) -> None:
    desk.add()
    desk.add("beta", "fake-token-of-beta")
    uses = [{"workspace": "beta", "key": "beta-calendly", "last_used": "2026-01-01T13:00:00.000Z", "last_status": 200}]
    rows = desk.keys.listed(None, uses)
    assert [(row["key"], row["runtime_access"], row["last_used"], row["last_status"]) for row in rows] == [
        ("acme-calendly", "off", None, None),
        ("beta-calendly", "off", "2026-01-01T13:00:00.000Z", 200),
    ]
    assert {row["value"] for row in rows} == {"••••••••"}
    assert [row["workspace"] for row in desk.keys.listed("beta", [])] == ["beta"]


def test_a_list_does_not_ask_the_keychain(desk: Desk) -> None:
    desk.add()

    def refuse() -> Keychain:
        raise AssertionError("the keychain was opened")

    keys = Keys(desk.state, refuse, desk.record, lambda: desk.now)
    assert len(keys.listed(None, [])) == 1
    assert keys.switch(keys.find("acme", "calendly"), True)


def test_the_last_use_is_what_the_audit_record_says(desk: Desk) -> None:
    audit = AuditWriter(desk.home.audit_db, lambda: NOON)
    audit.append_now(audit.event("key_added", workspace="beta", service="calendly", key="beta-calendly"))
    at = "2026-01-01T12:00:00.000Z"
    used = audit.ids.next()
    audit.append_now(DecisionRow(id=used, at=at, workspace="acme", key="acme-calendly", decision="allow", reason="OK"))
    audit.append_now(OutcomeRow(decision_id=used, at=at, status=404))
    audit.close()
    desk.add("acme")
    desk.add("beta", "fake-token-of-beta")
    rows = desk.keys.listed(None, Records(desk.home.audit_db).key_uses())
    assert [(row["key"], row["last_used"], row["last_status"]) for row in rows] == [
        ("acme-calendly", at, 404),
        ("beta-calendly", None, None),
    ]


# Values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("1234567", "shorter than 8", id="seven"),
        pytest.param("fake\rvalue", "cannot be seen", id="cr"),
        pytest.param("fake\nvalue", "cannot be seen", id="lf"),
        pytest.param("fake-value\n", "cannot be seen", id="lf-at-the-end"),
        pytest.param("fake\0value", "cannot be seen", id="nul"),
        pytest.param("fake\tvalue", "cannot be seen", id="tab"),
        pytest.param("fake\x1b[31mvalue", "cannot be seen", id="escape"),
        pytest.param("fake\x85value", "cannot be seen", id="c1"),
        pytest.param("fake\u200bvalue", "cannot be seen", id="zero-width"),
        pytest.param("\ufefffake-value", "cannot be seen", id="bom"),
        pytest.param("fake\u202evalue", "cannot be seen", id="right-to-left"),
        pytest.param("fake\ud800value", "cannot be seen", id="lone-surrogate"),
        pytest.param(" fake-value", "begins or ends with a space", id="leading-space"),
        pytest.param("fake-value ", "begins or ends with a space", id="trailing-space"),
        pytest.param("fake-value\u00a0", "begins or ends with a space", id="no-break-space"),
        pytest.param("        ", "begins or ends with a space", id="spaces"),
        pytest.param("Bearer fake-value", "word Bearer", id="bearer"),
        pytest.param("x" * (MAX_LENGTH + 1), "longer than", id="too-long"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_and_not_repeated(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        checked_value(TOKEN, text)
    assert "fake" not in f"{refused.value.message}{refused.value.hint}"


@pytest.mark.parametrize("text", ["12345678", "with space inside", "пароль-ключ", "x" * MAX_LENGTH, "a=b&c;d,e\"f'"])
def test_a_value_that_can_be_meant_is_taken_as_it_is(text: str) -> None:
    assert checked_value(TOKEN, text).reveal() == text.encode()


def test_a_public_part_may_be_short_and_is_named_when_it_is_wrong() -> None:
    assert checked_value(Part("username", is_secret=False), "bob").reveal() == b"bob"
    with pytest.raises(UsageError, match="the value of `username` is empty"):
        checked_value(Part("username", is_secret=False), "")


@pytest.mark.parametrize("data", [b"fake-value", b"fake-value\n", b"fake-value\r\n"])
def test_one_line_break_at_the_end_of_standard_input_is_not_the_values(data: bytes) -> None:
    assert read_values((TOKEN,), data) == token("fake-value")


@pytest.mark.parametrize(
    "data", [b"fake-value\n\n", b"fake-value\n\r\n", b"fake\nvalue\n", b"\nfake-value", b"fake-value\xff", b"", b"\n"]
)
def test_more_than_one_line_on_standard_input_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        read_values((TOKEN,), data)


def test_a_single_part_of_another_name_is_text_too() -> None:
    assert read_values(Headers(names=("X-Api-Key",)).parts, b"fake-value\n") == {"X-Api-Key": Secret(b"fake-value")}


def test_several_parts_are_one_object() -> None:
    data = b'{"username": "bob", "password": "fake-password"}\n'
    assert read_values(Basic().parts, data) == {"username": Secret(b"bob"), "password": Secret(b"fake-password")}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"fake-password", id="text"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'{"username": "bob"}', id="part-missing"),
        pytest.param(b'{"username": "bob", "password": "fake-password", "x": "y"}', id="part-too-many"),
        pytest.param(b'{"username": "bob", "password": 12345678}', id="number"),
        pytest.param(b'{"username": "bob", "password": "short"}', id="short"),
        pytest.param(b'{"username": "bob", "password": "fake-one", "password": "fake-password"}', id="twice"),
        pytest.param(b'{"username": "bob", "password": "fake\\npassword"}', id="line-break"),
        pytest.param(b'{"a":' * 100_000, id="deep"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_an_object_that_does_not_hold_the_parts_is_refused_and_not_repeated(data: bytes) -> None:
    with pytest.raises(UsageError) as refused:
        read_values(Basic().parts, data)
    assert "fake" not in f"{refused.value.message}{refused.value.hint}"


def test_the_parts_of_a_bearer_are_one_token() -> None:
    assert Bearer().parts == (TOKEN,)
    assert PREVIOUS not in plan().name
