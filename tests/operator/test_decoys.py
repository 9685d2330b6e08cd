"""Planting and removing decoys: what is stored, what is refused, and what is on record."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from outloop.core.auth import Basic, Bearer, Headers, Scheme
from outloop.core.errors import KeyLocked, KeyMissing, UsageError
from outloop.core.lookalike import DEFAULT_SHAPE
from outloop.core.secret import Secret
from outloop.operator.decoys import DecoyKeeper, DecoyPlan, decoy_plan, made_up
from outloop.operator.keys import KeyPlan, Keys
from outloop.store.catalogue import load_catalogue
from outloop.store.home import Home
from outloop.store.keychain import Keychain
from outloop.store.state import StateStore

VALUE = "planted-and-never-a-key-0246813579"
KEY = "fake-token-0123456789"
PLACEHOLDER = "outloop-injects-the-key-here"


class Desk:
    """The real stores of a home, and the events in order."""

    def __init__(self, folder: Path) -> None:
        home = Home(folder / "home")
        home.ensure()
        self.state = StateStore(home.state_db)
        self.keychain = Keychain.open(home, self.state, {"OUTLOOP_KEYRING": "file"})
        self.events: list[tuple[str, str, str | None]] = []
        self.decoys = DecoyKeeper(self.state, lambda: self.keychain, self.record, lambda: 1_767_268_800.0)
        self.keys = Keys(self.state, lambda: self.keychain, self.record, lambda: 1_767_268_800.0)

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
        self.events.append((kind, workspace, detail or key))

    def plant(self, value: str = VALUE, workspace: str = "acme", name: str | None = None, scheme: Scheme | None = None) -> None:
        self.decoys.plant(plan(workspace, name, scheme), {"token": Secret(value.encode())})

    def add_key(self, value: str = KEY, workspace: str = "acme", **more: bool) -> None:
        self.keys.add(key_plan(workspace), {"token": Secret(value.encode())}, **more)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    with closing(desk.state):
        yield desk


def key_plan(workspace: str = "acme", scheme: Scheme | None = None) -> KeyPlan:
    return KeyPlan(workspace, "calendly", "Calendly", f"{workspace}-calendly", (scheme or Bearer()).parts)


def plan(workspace: str = "acme", name: str | None = None, scheme: Scheme | None = None) -> DecoyPlan:
    return decoy_plan(key_plan(workspace, scheme), name, None, {f"{workspace}-calendly"}, [PLACEHOLDER])


def test_a_decoy_is_stored_and_is_none_of_the_keys(desk: Desk) -> None:
    desk.plant()

    assert list(desk.state.snapshot().decoys) == [("acme", "acme-calendly-decoy")]
    assert not desk.state.snapshot().keys
    assert desk.keychain.get("acme", "acme-calendly-decoy")["token"] == Secret(VALUE.encode())
    assert desk.events == [("decoy_planted", "acme", "acme/acme-calendly-decoy")]


def test_removing_it_leaves_nothing_of_it(desk: Desk) -> None:
    desk.plant()
    found = desk.decoys.find("acme", "acme-calendly-decoy")
    assert found is not None
    desk.decoys.remove(found)

    assert not desk.state.snapshot().decoys
    with pytest.raises(KeyMissing):
        desk.keychain.get("acme", "acme-calendly-decoy")
    assert desk.events[-1] == ("decoy_removed", "acme", "acme/acme-calendly-decoy")


@pytest.mark.parametrize("verb", ["enable", "disable", "rotate"])
def test_nothing_that_is_done_to_a_key_can_be_done_to_a_decoy(desk: Desk, verb: str) -> None:
    desk.plant()
    with pytest.raises(UsageError, match="is a decoy: it opens nothing"):
        desk.keys.find("acme", "acme-calendly-decoy")
    with pytest.raises(UsageError):
        if verb == "rotate":
            desk.state.rotate_key("acme", "acme-calendly-decoy", None)
        else:
            desk.state.set_runtime_access("acme", "acme-calendly-decoy", verb == "enable")


def test_a_decoy_is_not_the_only_key_of_its_service(desk: Desk) -> None:
    desk.plant()
    with pytest.raises(UsageError, match="has no key"):
        desk.keys.find("acme", "calendly")
    desk.add_key()
    assert desk.keys.find("acme", "calendly").name == "acme-calendly"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(KEY, id="the-key"),
        pytest.param(f"prefix-{KEY}-suffix", id="holds-the-key"),
        pytest.param(KEY[2:19], id="stands-in-the-key"),
    ],
)
@pytest.mark.parametrize("owner", ["acme", "beta"])
def test_what_shares_its_text_with_a_stored_key_is_no_decoy(desk: Desk, value: str, owner: str) -> None:
    desk.add_key(workspace=owner)
    with pytest.raises(UsageError, match=f"stored as the key {owner}-calendly of workspace {owner}"):
        desk.plant(value)
    assert not desk.state.snapshot().decoys


def test_a_value_from_before_a_rotation_is_a_key_while_its_grace_lasts(desk: Desk) -> None:
    desk.add_key()
    desk.keys.rotate(key_plan(), {"token": Secret(b"fake-token-after-the-rotation")}, 3600)
    with pytest.raises(UsageError, match="stored as the key"):
        desk.plant(KEY)


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("owner", ["acme", "beta"])
def test_a_decoy_is_stored_as_no_key_however_it_is_asked_for(desk: Desk, owner: str, is_shared: bool) -> None:
    desk.plant(workspace=owner)
    with pytest.raises(UsageError, match=f"planted as the decoy {owner}-calendly-decoy of workspace {owner}"):
        desk.add_key(VALUE, shared_ok=is_shared)
    desk.add_key()
    with pytest.raises(UsageError, match="planted as the decoy"):
        desk.keys.rotate(key_plan(), {"token": Secret(VALUE.encode())}, 0, shared_ok=is_shared)
    assert desk.keychain.get("acme", "acme-calendly")["token"] == Secret(KEY.encode())


def test_one_value_is_planted_once(desk: Desk) -> None:
    desk.plant()
    with pytest.raises(UsageError, match="planted as the decoy"):
        desk.plant(workspace="beta")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param("fifteen-letters", "16 characters or more", id="short"),
        pytest.param(PLACEHOLDER, "in place of a key", id="a-placeholder"),
        pytest.param(PLACEHOLDER[:16], "in place of a key", id="part-of-a-placeholder"),
    ],
)
def test_what_is_met_without_anybody_trying_is_no_decoy(desk: Desk, value: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        desk.plant(value)


@pytest.mark.parametrize("name", ["acme-calendly", "acme-calendly-decoy"])
def test_a_name_stands_for_one_thing(desk: Desk, name: str) -> None:
    desk.plant()
    with pytest.raises(UsageError):
        desk.plant("another-value-that-was-never-a-key", name=name)
    with pytest.raises(UsageError, match="already has a key"):
        desk.keys.add(
            KeyPlan("acme", "calendly", "Calendly", "acme-calendly-decoy", Bearer().parts), {"token": Secret(b"x" * 20)}
        )


def test_where_the_keychain_keeps_nothing_nothing_was_planted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object) -> None:
        raise KeyLocked("the keychain is locked")

    monkeypatch.setattr(desk.keychain, "set", locked)
    with pytest.raises(KeyLocked):
        desk.plant()
    assert not desk.state.snapshot().decoys
    assert [kind for kind, *_ in desk.events] == ["decoy_planted", "decoy_removed"]


def test_where_the_keychain_keeps_what_was_to_go_the_decoy_stays(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object) -> None:
        raise KeyLocked("the keychain is locked")

    desk.plant()
    monkeypatch.setattr(desk.keychain, "delete", locked)
    found = desk.decoys.find("acme", "acme-calendly-decoy")
    assert found is not None
    with pytest.raises(KeyLocked):
        desk.decoys.remove(found)
    assert desk.decoys.find("acme", "acme-calendly-decoy") == found


def test_of_a_pair_the_secret_part_alone_is_watched_for(desk: Desk) -> None:
    named = plan(scheme=Basic())
    values = made_up(named, secrets.choice)
    desk.decoys.plant(named, values)

    assert set(values) == {"username", "password"}
    assert desk.keychain.get("acme", "acme-calendly-decoy") == {"password": values["password"]}


def test_every_secret_part_has_a_value_of_its_own() -> None:
    values = made_up(plan(scheme=Headers(("X-App", "X-Key", "X-Sign"), frozenset({"X-App"}))), secrets.choice)
    assert len({value.reveal() for value in values.values()}) == 3
    assert all(len(values[name].reveal()) >= 40 for name in ("X-Key", "X-Sign"))


def test_a_decoy_looks_like_what_the_catalogue_knows_of_the_services_tokens() -> None:
    entry = load_catalogue(None)["calendly"]
    made = made_up(decoy_plan(key_plan(), None, entry, (), ()), secrets.choice)["token"].reveal().decode()
    header, payload, signature = made.split(".")
    padded = header + "=" * (-len(header) % 4)
    assert json.loads(base64.urlsafe_b64decode(padded))["alg"] == "ES256"
    assert payload.startswith("eyJ")
    assert len(signature) == 86
    assert decoy_plan(key_plan(), None, None, (), ()).shape == DEFAULT_SHAPE
