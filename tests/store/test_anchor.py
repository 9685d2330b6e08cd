"""The anchor: what it attests, who it catches, and that it never attests what was tampered with."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

import pytest
from keyring.backend import KeyringBackend

from harness.operators import Operator
from harness.rows import decision, outcome
from harness.stage import stores
from harness.tampering import rewrite, rewrite_head, tamper
from outloop.core.errors import AuditError, KeyLocked, KeyMissing, NoError
from outloop.core.secret import Secret
from outloop.operator.attestation import Attestation, Standing, Witnesses, attest, witnesses
from outloop.store.anchor import Anchor, anchor_path, read_anchor, renew
from outloop.store.appender import head_path
from outloop.store.audit import AuditWriter
from outloop.store.files import locked
from outloop.store.heads import Head
from outloop.store.home import Home as HomePlace
from outloop.store.keychain import Keychain
from outloop.store.records import Records
from outloop.store.seal import Seal

AT = "2026-02-01T00:00:00.000Z"


class Home:
    """A home with a record and a keychain."""

    def __init__(self, operator: Operator) -> None:
        self.path = operator.home / "audit.db"
        with stores(operator) as (_, keychain):
            self.keychain = keychain

    def wrote(self, requests: int = 2) -> str:
        """Write some rows as a proxy of its own, and return that writer."""
        writer = AuditWriter(self.path, time.time)
        for _ in range(requests):
            row = decision(id=writer.ids.next())
            writer.append_now(row)
            writer.append_now(outcome(row))
        writer.close()
        return writer.writer

    def anchored(self) -> Anchor:
        anchor = renew(self.path, self.keychain, AT)
        assert anchor is not None
        return anchor

    def attest(self) -> Attestation:
        return attest(self.path, Witnesses(lambda: self.keychain, tuple))


@pytest.fixture
def home(operator: Operator) -> Home:
    return Home(operator)


def test_an_anchor_attests_every_writer_up_to_its_head(home: Home) -> None:
    writers = {home.wrote(2), home.wrote(1)}
    anchor = home.anchored()
    home.wrote(3)

    found = home.attest()

    assert (found.standing, found.anchor, found.newer, found.ok) == (Standing.ATTESTED, anchor, 6, True)
    assert {writer: head.seq for writer, head in anchor.heads.items()} == dict(zip(sorted(writers), (4, 2), strict=True))
    assert anchor_path(home.path).stat().st_mode & 0o777 == 0o600


def test_an_anchor_that_would_say_nothing_new_is_not_made(home: Home) -> None:
    home.wrote()
    first = home.anchored()

    assert home.anchored() == first
    home.wrote()
    assert home.anchored().number == 2


def test_the_key_that_signs_is_in_the_keychain_alone(home: Home) -> None:
    home.wrote()
    home.anchored()
    kept = home.keychain.own("record")
    assert kept is not None
    key = json.loads(kept.reveal())["key"]

    for file in home.path.parent.rglob("*"):
        assert not file.is_file() or key.encode() not in file.read_bytes()


def test_who_rewrites_database_and_head_file_alike_is_caught_by_the_keychain(home: Home) -> None:
    writer = home.wrote()
    home.anchored()
    home.wrote()
    rewrite(home.path, writer, f"UPDATE decisions SET path = '/innocent' WHERE writer = '{writer}' AND seq = 1")

    found = home.attest()

    assert found.verification.ok  # nothing beside the database knows better
    assert (found.standing, found.ok) == (Standing.CONTRADICTED, False)
    assert found.note == f"append 4 of writer {writer} was rewritten since then"


def removed_from_the_end(home: Home, writer: str) -> None:
    tamper(home.path, *(f"DELETE FROM {table} WHERE writer = '{writer}' AND seq > 2" for table in ("decisions", "outcomes")))
    with sqlite3.connect(home.path) as db:
        (digest,) = db.execute("SELECT hash FROM outcomes WHERE writer = ? AND seq = 2", [writer]).fetchone()
    rewrite_head(home.path, writer, 2, digest)


def removed_whole(home: Home, writer: str) -> None:
    tamper(home.path, *(f"DELETE FROM {table} WHERE writer = '{writer}'" for table in ("decisions", "outcomes")))
    content = head_path(home.path).read_bytes()
    at = content.index(writer.encode())
    head_path(home.path).write_bytes(content[:at] + content[at + 128 :])


def earlier_list(home: Home, writer: str) -> None:
    kept = anchor_path(home.path).read_bytes()
    home.wrote()
    home.anchored()
    anchor_path(home.path).write_bytes(kept)


def lists_less(home: Home, writer: str) -> None:
    listed = json.loads(anchor_path(home.path).read_bytes())
    listed["heads"] = [head for head in listed["heads"] if head[0] != writer]
    anchor_path(home.path).write_text(json.dumps(listed))


def signs_with_another_key(home: Home, writer: str) -> None:
    class Elsewhere:
        def __init__(self) -> None:
            self.kept: dict[str, Secret] = {}

        def own(self, name: str) -> Secret | None:
            return self.kept.get(name)

        def keep_own(self, name: str, value: Secret) -> None:
            self.kept[name] = value

    anchor_path(home.path).unlink()
    rewrite(home.path, writer, "UPDATE decisions SET path = '/innocent'")
    renew(home.path, Elsewhere(), AT)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(removed_from_the_end, "append 4 of writer {writer} is gone", id="cut-from-the-end"),
        pytest.param(removed_whole, "append 4 of writer {writer} is gone", id="a-whole-writer-is-gone"),
        pytest.param(
            earlier_list, "audit.anchor is an earlier one, number 1: the keychain holds number 2", id="list-rolled-back"
        ),
        pytest.param(lists_less, "audit.anchor was altered: the key in the keychain did not sign it", id="list-shortened"),
        pytest.param(signs_with_another_key, "audit.anchor was altered: the key in the keychain did not sign it", id="own-key"),
        pytest.param(
            lambda home, _: anchor_path(home.path).unlink(),
            "audit.anchor is gone: the keychain holds its number 1",
            id="list-gone",
        ),
        pytest.param(
            lambda home, _: anchor_path(home.path).write_text("[]"), "audit.anchor was altered: it is no list", id="list-is-none"
        ),
        pytest.param(
            lambda home, _: anchor_path(home.path).write_text("{"),
            "audit.anchor was altered: it is no list",
            id="list-is-no-json",
        ),
        pytest.param(
            lambda home, _: home.keychain._delete("#record"), "the keychain no longer holds the key that signed", id="seal-gone"
        ),
    ],
)
def test_what_contradicts_the_anchor_is_named_and_never_anchored_anew(
    home: Home, spoil: Callable[[Home, str], None], said: str
) -> None:
    writer = home.wrote()
    home.anchored()
    spoil(home, writer)

    found = home.attest()

    assert (found.standing, found.ok) == (Standing.CONTRADICTED, False)
    assert said.format(writer=writer) in found.note
    before = anchor_path(home.path).read_bytes() if anchor_path(home.path).exists() else None
    with pytest.raises(NoError, match="not anchored anew") as refused:
        renew(home.path, home.keychain, AT)
    assert found.note in refused.value.message
    assert (anchor_path(home.path).read_bytes() if anchor_path(home.path).exists() else None) == before


def test_a_chain_rewritten_under_a_running_writer_is_not_anchored(home: Home) -> None:
    writer = home.wrote()
    with sqlite3.connect(home.path) as db:
        (digest,) = db.execute("SELECT hash FROM outcomes WHERE seq = 4").fetchone()
    rewrite(home.path, writer, "UPDATE decisions SET path = '/innocent' WHERE seq = 1")

    with pytest.raises(NoError, match=r"append 4 of writer .* was rewritten"):
        renew(home.path, home.keychain, AT, own=(writer, Head(4, digest)))
    assert not anchor_path(home.path).exists()


def test_killed_between_list_and_keychain_the_anchor_still_holds(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.wrote()
    home.anchored()
    home.wrote()
    with monkeypatch.context() as patch:
        patch.setattr(Seal, "keep", lambda *_: None)
        home.anchored()

    assert home.attest().standing is Standing.ATTESTED
    home.wrote()
    assert home.anchored().number == 3


def test_killed_before_the_first_list_the_seal_attests_nothing_and_is_used_later(home: Home) -> None:
    home.wrote()
    Seal.settle(home.keychain)

    assert home.attest().standing is Standing.NONE
    assert home.anchored().number == 1


def test_a_seal_that_outloop_did_not_write_is_refused(home: Home) -> None:
    home.wrote()
    home.keychain.keep_own("record", Secret(b'{"key": "00"}'))

    with pytest.raises(KeyMissing, match="not one that outloop wrote"):
        renew(home.path, home.keychain, AT)
    assert home.attest().standing is Standing.UNCHECKED


def test_with_a_locked_keychain_nothing_unchecked_is_called_whole(home: Home) -> None:
    home.wrote()
    home.anchored()

    def locked_keychain() -> Keychain:
        raise KeyLocked("the keychain is locked", "unlock it")

    found = attest(home.path, Witnesses(locked_keychain, tuple))

    assert (found.verification.ok, found.standing, found.ok) == (True, Standing.UNCHECKED, False)
    assert (found.note, found.hint) == ("the keychain is locked", "unlock it")
    assert attest(home.path, None).ok


def test_an_error_of_a_type_of_its_own_is_a_locked_keychain(home: Home) -> None:
    home.wrote()

    def broken() -> Keychain:
        raise RuntimeError("a value of the keychain's own")

    found = attest(home.path, Witnesses(broken, tuple))

    assert (found.standing, found.note) == (Standing.UNCHECKED, "the keychain cannot be used: RuntimeError")


class Elsewhere(KeyringBackend):
    """An OS keychain that is not the one which the home's state names."""

    priority = 1
    entries: ClassVar[dict[tuple[str, str], str]] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


def test_who_rewrites_the_state_as_well_does_not_do_away_with_the_keychain(
    home: Home, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home was given an OS keychain; record, heads, anchor and the state that names the keychain are all changed."""
    monkeypatch.setattr("outloop.store.seal.viable", lambda: ["elsewhere.Keyring"])
    monkeypatch.setattr("outloop.store.seal.load", lambda *_: Elsewhere())
    place = HomePlace(operator.home)
    Elsewhere.entries.clear()
    writer = home.wrote()
    renew(home.path, Keychain(Elsewhere(), place.keychain_service, "elsewhere"), AT)
    anchor_path(home.path).unlink()
    rewrite(home.path, writer, "UPDATE decisions SET path = '/innocent'")

    for recorded in (None, "outloop.store.keyfile.EncryptedFile"):
        found = attest(home.path, witnesses(place, recorded, lambda: home.keychain, {}))
        assert (found.standing, found.ok) == (Standing.CONTRADICTED, False)
        assert found.note == "elsewhere.Keyring holds its seal, but state.db names another keychain"
    assert attest(home.path, witnesses(place, None, lambda: home.keychain, {"OUTLOOP_KEYRING": "file"})).ok


@pytest.mark.parametrize(
    "listed", ["Infinity", "[" * 100_000, '{"number": 1e999, "at": "", "checkpoints": 0, "heads": []}', "\xff"]
)
def test_a_list_that_nobody_would_write_is_no_traceback(home: Home, listed: str) -> None:
    home.wrote()
    home.anchored()
    anchor_path(home.path).write_bytes(listed.encode("latin-1"))

    assert home.attest().standing is Standing.CONTRADICTED


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE decisions SET seq = 'many' WHERE seq = 1",
        "UPDATE decisions SET seq = x'ff', hash = x'ff' WHERE seq = 1",
        "UPDATE outcomes SET hash = x'ff'",
        "UPDATE decisions SET writer = x'ff'",
        "INSERT INTO checkpoints VALUES (1, x'ff', 1, 2, 'w', 'a', 'z', x'ff', 'x', 1.5, x'00')",
    ],
)
def test_a_record_full_of_what_nobody_would_write_is_named_without_a_traceback(home: Home, statement: str) -> None:
    home.wrote()
    home.anchored()
    tamper(home.path, statement)

    assert not home.attest().ok
    with suppress(NoError):
        home.anchored()
    assert not home.attest().ok


def test_two_processes_do_not_anchor_at_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.wrote()
    monkeypatch.setattr("outloop.store.anchor.LOCK_PATIENCE_S", 0.05)

    with locked(home.path.with_suffix(".lock"), 1), pytest.raises(AuditError, match="another process"):
        home.anchored()
    assert home.anchored().number == 1


def test_an_anchor_of_many_writers_is_read_as_it_was_written(home: Home) -> None:
    for _ in range(20):
        home.wrote(1)

    assert home.anchored() == read_anchor(anchor_path(home.path))
    assert len(Records(home.path).verify().checkpoints) == 0
