"""One contract that every backend passes, what the embedded one survives, and how a home gets its keychain."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError, KeyringLocked, PasswordDeleteError

from harness.operators import ADDON
from harness.rows import decision
from harness.secret_service import secret_service
from outloop.core.errors import KeyLocked, KeyMissing, KeyReplaced, UsageError
from outloop.core.secret import Secret
from outloop.operator.attestation import Standing, Witnesses, attest
from outloop.store.anchor import renew
from outloop.store.audit import AuditWriter
from outloop.store.backends import EMBEDDED, NoAnswer, choose, load, within
from outloop.store.home import Home
from outloop.store.keychain import BACKEND_META, PREVIOUS, Keychain
from outloop.store.keyfile import EncryptedFile
from outloop.store.seal import Seal, strays
from outloop.store.state import StateStore

SECRET_SERVICE = "keyring.backends.SecretService.Keyring"
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with secret_service(tmp_path_factory.mktemp("secret-service")) as address:
        yield address


@pytest.fixture
def on_the_bus(bus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus)


@pytest.fixture(params=[EMBEDDED, SECRET_SERVICE], ids=["embedded", "gnome-keyring"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> KeyringBackend:
    if request.param == SECRET_SERVICE:
        request.getfixturevalue("on_the_bus")
    return load(request.param, tmp_path / "keyring")


@pytest.fixture
def keychain(backend: KeyringBackend, tmp_path: Path) -> Keychain:
    return Keychain(backend, f"outloop@{tmp_path.name}", "the test's keychain")


def token(value: str) -> dict[str, Secret]:
    return {"token": Secret(value.encode())}


# The contract


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"token": "fake-token-0123456789"}, id="token"),
        pytest.param({"username": "ac_123", "password": "fake-pass:word/with=signs"}, id="two-parts"),
        pytest.param({"X-App-Id": "an-id", "X-App-Key": "fake-key-0123"}, id="headers"),
        pytest.param({"X-Api-Key": "fake-key-0123"}, id="one-part-of-another-name"),
        pytest.param({"token": '{"type": "fake-service-account"}'}, id="a-token-that-looks-like-several-parts"),
        pytest.param({"token": "{not json at all"}, id="a-token-that-begins-like-several-parts"),
        pytest.param({"token": "пароль-ключ-\U0001f511"}, id="unicode"),
        pytest.param({"token": "x" * 16384}, id="long"),
        pytest.param({"token": " spaces and 'quotes' \"in\" it \\ "}, id="blanks-and-quotes"),
    ],
)
def test_what_is_stored_comes_back(keychain: Keychain, parts: dict[str, str]) -> None:
    stored = {name: Secret(value.encode()) for name, value in parts.items()}
    keychain.set("acme", "acme-calendly", stored)
    assert keychain.get("acme", "acme-calendly") == stored


def test_a_single_token_is_stored_as_its_text_for_other_programs_to_read(
    keychain: Keychain, backend: KeyringBackend, tmp_path: Path
) -> None:
    keychain.set("acme", "acme-calendly", token("fake-token-0123456789"))
    assert backend.get_password(f"outloop@{tmp_path.name}", "acme/acme-calendly") == "fake-token-0123456789"


def test_a_value_is_replaced(keychain: Keychain) -> None:
    keychain.set("acme", "k", token("fake-old-value"))
    keychain.set("acme", "k", token("fake-new-value"))
    assert keychain.get("acme", "k") == token("fake-new-value")
    assert keychain.previous("acme", "k") is None


def test_a_rotation_keeps_the_value_before_and_only_that(keychain: Keychain) -> None:
    for value in ("fake-first-value", "fake-second-value", "fake-third-value"):
        keychain.rotate("acme", "k", token(value))
    assert keychain.get("acme", "k") == token("fake-third-value")
    assert keychain.previous("acme", "k") == token("fake-second-value")
    keychain.delete_previous("acme", "k")
    assert keychain.previous("acme", "k") is None
    assert keychain.get("acme", "k") == token("fake-third-value")


def test_what_is_deleted_is_missing_with_what_was_before_it(keychain: Keychain) -> None:
    keychain.set("acme", "k", token("fake-old-value"))
    keychain.rotate("acme", "k", token("fake-new-value"))
    keychain.delete("acme", "k")
    with pytest.raises(KeyMissing, match="acme/k is not in the test's keychain"):
        keychain.get("acme", "k")
    assert keychain.previous("acme", "k") is None
    keychain.delete("acme", "k")


def test_keys_of_one_name_in_two_workspaces_are_two(keychain: Keychain) -> None:
    keychain.set("acme", "k", token("fake-acme-value"))
    keychain.set("beta", "k", token("fake-beta-value"))
    keychain.delete("beta", "k")
    assert keychain.get("acme", "k") == token("fake-acme-value")


def test_two_homes_do_not_see_each_others_keys(backend: KeyringBackend, tmp_path: Path) -> None:
    one, two = (Keychain(backend, f"outloop@{tmp_path.name}-{name}", "x") for name in ("one", "two"))
    one.set("acme", "k", token("fake-value-of-one"))
    with pytest.raises(KeyMissing):
        two.get("acme", "k")


def test_what_outloop_keeps_for_itself_is_no_key_and_no_key_can_be_it(keychain: Keychain) -> None:
    keychain.set("acme", "record", {"token": Secret(b"of-a-key-called-record")})
    assert keychain.own("record") is None

    seal = Seal.settle(keychain)
    seal.keep(keychain, 7, "ab" * 64)

    kept = Seal.read(keychain)
    assert kept is not None
    assert (kept.signer, kept.number, kept.signature) == (seal.signer, 7, "ab" * 64)
    assert keychain.get("acme", "record") == {"token": Secret(b"of-a-key-called-record")}
    with pytest.raises(UsageError):
        keychain.get("#record", "x")


def test_a_record_is_anchored_and_held_against_its_anchor(keychain: Keychain, tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    writer = AuditWriter(path, time.time)
    writer.append_now(decision())
    writer.close()
    renew(path, keychain, "2026-02-01T00:00:00.000Z")

    found = attest(path, Witnesses(lambda: keychain, tuple))

    assert (found.standing, found.newer) == (Standing.ATTESTED, 0)


@pytest.mark.usefixtures("on_the_bus")
def test_a_seal_in_an_os_keychain_is_found_whatever_the_state_says(tmp_path: Path) -> None:
    service = f"outloop@{tmp_path.name}"
    assert strays(service, tmp_path, None) == []
    Seal.settle(Keychain(load(SECRET_SERVICE, tmp_path), service, "the desktop's"))

    for recorded in (None, EMBEDDED):
        assert any("Secret Service" in found for found in strays(service, tmp_path, recorded))
    assert strays(f"{service}-of-another-home", tmp_path, EMBEDDED) == []


def test_another_way_to_the_same_keychain_is_no_other_keychain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libsecret = "keyring.backends.libsecret.Keyring"
    Seal.settle(Keychain(EncryptedFile(tmp_path), "outloop", "the one keychain behind both"))
    monkeypatch.setattr("outloop.store.seal.viable", lambda: [SECRET_SERVICE, libsecret])
    monkeypatch.setattr("outloop.store.seal.load", lambda *_: EncryptedFile(tmp_path))

    assert strays("outloop", tmp_path, SECRET_SERVICE) == strays("outloop", tmp_path, libsecret) == []
    assert len(strays("outloop", tmp_path, EMBEDDED)) == 2


def test_many_keys_are_kept_apart(keychain: Keychain) -> None:
    for number in range(30):
        keychain.set("acme", f"key-{number}", token(f"fake-value-{number}"))
    assert all(keychain.get("acme", f"key-{number}") == token(f"fake-value-{number}") for number in range(30))


@pytest.mark.parametrize("name", ["a/b", "k#previous", "", "with space", "ключ", "a\nb", "a\0b", "../../etc"])
def test_a_name_that_could_stand_for_another_entry_is_refused(keychain: Keychain, name: str) -> None:
    for workspace, key in ((name, "k"), ("acme", name)):
        with pytest.raises(UsageError, match="cannot name a keychain entry"):
            keychain.set(workspace, key, token("fake-value"))
        with pytest.raises(UsageError, match="cannot name a keychain entry"):
            keychain.get(workspace, key)


@pytest.mark.parametrize("text", ["{}", "{broken", '{"token": 1}', '{"token": null}', '{"a": {"b": "c"}}'])
def test_an_entry_that_somebody_else_wrote_is_no_key(
    keychain: Keychain, backend: KeyringBackend, tmp_path: Path, text: str
) -> None:
    backend.set_password(f"outloop@{tmp_path.name}", "acme/k", text)
    with pytest.raises(KeyMissing, match="not one that outloop wrote"):
        keychain.get("acme", "k")


def test_a_backend_reports_what_it_cannot_delete(backend: KeyringBackend) -> None:
    with pytest.raises(PasswordDeleteError):
        backend.delete_password("outloop", "acme/never-stored")


def test_no_value_is_in_what_a_keychain_shows_of_itself(keychain: Keychain) -> None:
    keychain.set("acme", "k", token("fake-value-0123456789"))
    assert "fake-value" not in f"{keychain!r} {vars(keychain)!r} {keychain.get('acme', 'k')!r}"


# Backends that fail


class Failing(KeyringBackend):
    priority = -1

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def get_password(self, service: str, username: str) -> str | None:
        if self._error:
            raise self._error
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        return None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(KeyringLocked("Failed to unlock the collection!"), "Failed to unlock the collection", id="locked"),
        pytest.param(KeyringError("Can't get password\nfrom keychain"), "Can't get password", id="two-lines"),
        pytest.param(OSError("fake-secret"), "OSError", id="system"),
        pytest.param(RuntimeError("fake-secret"), "RuntimeError", id="glib"),
        pytest.param(type("DBusErrorResponse", (Exception,), {})("fake-secret"), "DBusErrorResponse", id="d-bus"),
        pytest.param(UnicodeDecodeError("utf-8", b"fake-secret", 0, 1, "x"), "UnicodeDecodeError", id="not-text"),
    ],
)
def test_whatever_a_backend_raises_is_a_locked_keychain_and_says_nothing_unknown(error: Exception, message: str) -> None:
    keychain = Keychain(Failing(error), "outloop", "the keychain")
    for use in (keychain.get, keychain.previous, keychain.delete):
        with pytest.raises(KeyLocked) as refused:
            use("acme", "k")
        assert refused.value.message == f"the keychain cannot be used: {message}"


def test_a_backend_that_forgets_is_noticed_when_a_value_is_stored() -> None:
    with pytest.raises(KeyLocked, match="did not keep"):
        Keychain(Failing(None), "outloop", "the keychain").set("acme", "k", token("fake-value"))


# The embedded backend


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keyring"


def stored(folder: Path) -> EncryptedFile:
    """A backend in *folder* with one entry."""
    embedded = EncryptedFile(folder)
    embedded.set_password("outloop", "acme/k", "fake-value-0123456789")
    return embedded


def replaced(path: Path) -> Path:
    """Make room for something else at *path*."""
    path.unlink()
    return path


def flipped(path: Path, index: int) -> None:
    data = bytearray(path.read_bytes())
    data[index] ^= 1
    path.write_bytes(data)


def test_no_file_of_the_embedded_keychain_holds_a_value_or_a_name_or_is_open_to_others(folder: Path) -> None:
    umask = os.umask(0)
    try:
        stored(folder)
    finally:
        os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.name for file in folder.iterdir()} == {"master.key", "values.enc", "lock"}
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        assert not any(word in file.read_bytes() for word in (b"fake-value", b"acme", b'outloop"'))


def test_the_same_values_are_never_sealed_alike(folder: Path) -> None:
    embedded = stored(folder)
    before = (folder / "values.enc").read_bytes()
    embedded.set_password("outloop", "acme/k", "fake-value-0123456789")
    assert (folder / "values.enc").read_bytes() != before


def test_an_empty_keychain_makes_no_file_when_it_is_read(folder: Path) -> None:
    assert EncryptedFile(folder).get_password("outloop", "acme/k") is None
    assert not folder.exists()


def test_properties_in_the_environment_do_not_move_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYRING_PROPERTY__FOLDER", "/nowhere")
    monkeypatch.setenv("KEYRING_PROPERTY__VALUES_FILE", "/nowhere")
    assert stored(folder).get_password("outloop", "acme/k") == "fake-value-0123456789"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        *(
            pytest.param(lambda f, at=at: flipped(f / "values.enc", at), message, id=f"flipped-{name}")
            for name, at, message in (
                ("version", 0, "not an outloop keyring"),
                ("nonce", 20, "was altered"),
                ("value", 40, "was altered"),
                ("tag", -1, "was altered"),
            )
        ),
        pytest.param(lambda f: flipped(f / "master.key", 3), "was altered", id="flipped-key"),
        pytest.param(lambda f: os.truncate(f / "values.enc", 0), "not an outloop keyring", id="emptied"),
        pytest.param(lambda f: os.truncate(f / "values.enc", 20), "was altered", id="cut-in-the-nonce"),
        pytest.param(lambda f: os.truncate(f / "values.enc", 60), "was altered", id="cut-short"),
        pytest.param(lambda f: (f / "values.enc").open("ab").write(b"x"), "was altered", id="longer"),
        pytest.param(lambda f: os.truncate(f / "values.enc", 2**34), "larger than", id="enormous"),
        pytest.param(lambda f: os.truncate(f / "master.key", 16), "not a key", id="short-key"),
        pytest.param(lambda f: os.truncate(f / "master.key", 0), "not a key", id="empty-key"),
        pytest.param(lambda f: (f / "master.key").unlink(), "is gone", id="no-key"),
        pytest.param(lambda f: (f / "master.key").chmod(0o640), "open to other users", id="key-open-to-group"),
        pytest.param(lambda f: (f / "values.enc").chmod(0o604), "open to other users", id="values-open-to-others"),
        pytest.param(lambda f: replaced(f / "values.enc").symlink_to(f / "lock"), "symbolic link", id="link"),
        pytest.param(lambda f: os.mkfifo(replaced(f / "values.enc"), 0o600), "not a regular", id="pipe"),
        pytest.param(lambda f: replaced(f / "values.enc").mkdir(), "not a regular", id="folder"),
    ],
)
def test_files_that_were_touched_lock_the_keychain_and_are_left_alone(
    folder: Path, spoil: Callable[[Path], object], message: str
) -> None:
    embedded = stored(folder)
    spoil(folder)
    key_before = (folder / "master.key").read_bytes() if (folder / "master.key").exists() else None
    uses: tuple[Callable[[], object], ...] = (
        lambda: embedded.get_password("outloop", "acme/k"),
        lambda: embedded.set_password("outloop", "acme/other", "fake-value"),
        lambda: embedded.delete_password("outloop", "acme/k"),
    )
    for use in uses:
        with pytest.raises(KeyringLocked, match=message):
            use()
    assert ((folder / "master.key").read_bytes() if (folder / "master.key").exists() else None) == key_before


def test_files_of_another_user_lock_the_keychain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = stored(folder)
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(KeyringLocked, match="another user"):
        embedded.get_password("outloop", "acme/k")


def test_values_of_another_home_do_not_open_here(tmp_path: Path) -> None:
    stored(tmp_path / "one")
    two = stored(tmp_path / "two")
    (tmp_path / "one" / "values.enc").replace(tmp_path / "two" / "values.enc")
    with pytest.raises(KeyringLocked, match=r"belongs to another master\.key"):
        two.get_password("outloop", "acme/k")


def _store_many(folder: str, workspace: str) -> None:
    embedded = EncryptedFile(Path(folder))
    for number in range(20):
        embedded.set_password("outloop", f"{workspace}/{number}", f"fake-value-{workspace}-{number}")


def test_processes_that_store_at_once_lose_nothing(folder: Path) -> None:
    folder.parent.mkdir(exist_ok=True)
    processes = [SPAWN.Process(target=_store_many, args=(str(folder), workspace)) for workspace in ("acme", "beta", "gamma")]
    for process in processes:
        process.start()
    embedded = EncryptedFile(folder)
    while any(process.is_alive() for process in processes):
        embedded.get_password("outloop", "acme/0")  # a reader sees the file whole, always
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for workspace in ("acme", "beta", "gamma"):
        for number in range(20):
            assert embedded.get_password("outloop", f"{workspace}/{number}") == f"fake-value-{workspace}-{number}"


@pytest.mark.parametrize("point", ["before-the-write", "in-the-write", "before-the-rename", "after-the-rename"])
def test_a_writer_killed_at_any_point_leaves_the_old_or_the_new_values(folder: Path, point: str) -> None:
    embedded = stored(folder)
    killed = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from outloop.store import keyfile
        def die(*_): os.kill(os.getpid(), 9)
        write, replace = keyfile._write_all, Path.replace
        if sys.argv[2] == "before-the-write": keyfile._write_all = die
        if sys.argv[2] == "in-the-write": keyfile._write_all = lambda handle, content: (write(handle, content[:30]), die())
        if sys.argv[2] == "before-the-rename": Path.replace = die
        if sys.argv[2] == "after-the-rename": Path.replace = lambda *names: (replace(*names), die())
        keyfile.EncryptedFile(Path(sys.argv[1])).set_password("outloop", "acme/k", "fake-new-value")
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", killed, str(folder), point], env={**os.environ, "PYTHONPATH": str(ADDON)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    expected = "fake-new-value" if point == "after-the-rename" else "fake-value-0123456789"
    assert embedded.get_password("outloop", "acme/k") == expected
    embedded.set_password("outloop", "acme/k", "fake-next-value")
    assert embedded.get_password("outloop", "acme/k") == "fake-next-value"
    assert {file.name for file in folder.iterdir()} == {"master.key", "values.enc", "lock"}


def test_a_disk_that_is_full_leaves_the_old_values(folder: Path) -> None:
    embedded = stored(folder)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        with pytest.raises(KeyringError, match="cannot be used"):
            embedded.set_password("outloop", "acme/other", "fake-value" * 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert embedded.get_password("outloop", "acme/k") == "fake-value-0123456789"
    embedded.set_password("outloop", "acme/other", "fake-value")


def test_a_folder_that_cannot_be_made_is_an_error_of_the_keychain(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyringError, match="cannot be used"):
        EncryptedFile(tmp_path / "file" / "keyring").set_password("outloop", "acme/k", "fake-value")


def test_a_lock_held_for_long_is_not_waited_for_in_vain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    embedded = stored(folder)
    monkeypatch.setattr("outloop.store.keyfile.LOCK_TIMEOUT_S", 0.05)
    with (folder / "lock").open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(KeyringLocked, match="another process holds"):
            embedded.set_password("outloop", "acme/k", "fake-value")
        assert embedded.get_password("outloop", "acme/k") == "fake-value-0123456789"  # reading needs no lock


# The choice


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.ensure()
    return made


@pytest.fixture
def state(home: Home) -> Iterator[StateStore]:
    store = StateStore(home.state_db)
    yield store
    store.close()


@pytest.fixture
def no_bus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/nothing-here")


def test_the_file_is_chosen_where_it_is_asked_for_and_said_plainly(home: Home, state: StateStore) -> None:
    keychain = Keychain.open(home, state, {"OUTLOOP_KEYRING": "file"})
    assert keychain.label == f"the encrypted file {home.keyring}/values.enc (not an OS keychain)"
    assert state.snapshot().meta[BACKEND_META] == EMBEDDED


@pytest.mark.usefixtures("no_bus")
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the OS keychain is always there")
def test_the_file_is_chosen_where_no_keychain_can_be_reached(home: Home, state: StateStore) -> None:
    assert "not an OS keychain" in Keychain.open(home, state, {}).label


@pytest.mark.usefixtures("on_the_bus")
def test_the_desktop_keyring_is_chosen_where_it_works_and_kept_for_good(
    home: Home, state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keychain = Keychain.open(home, state, {})
    assert keychain.label.startswith("the Secret Service")
    keychain.set("acme", "k", token("fake-value-0123456789"))
    assert not home.keyring.exists()
    assert Keychain.open(home, state, {}, may_choose=False).get("acme", "k") == token("fake-value-0123456789")

    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nothing/here")
    with pytest.raises(KeyLocked, match="Secret Service"):
        Keychain.open(home, state, {}).get("acme", "k")
    assert not home.keyring.exists()


def test_a_locked_desktop_keyring_locks_its_home_and_is_passed_over_by_a_new_one(
    tmp_path: Path, home: Home, state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import secretstorage

    folder = tmp_path / "secret-service"
    folder.mkdir()
    with secret_service(folder) as address:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        keychain = Keychain.open(home, state, {})
        keychain.set("acme", "k", token("fake-value-0123456789"))
        with closing(secretstorage.dbus_init()) as connection:
            secretstorage.get_default_collection(connection).lock()
        # Nobody can answer the daemon's question here: that is a refusal, and a quick one.
        with pytest.raises(KeyLocked, match=r"Secret Service.*cannot be used"):
            keychain.get("acme", "k")
        with pytest.raises(KeyLocked, match=r"Secret Service.*cannot be used"):
            keychain.set("acme", "k", token("fake-value-of-another"))
        assert choose("outloop@another", {}, home.keyring) == EMBEDDED


@pytest.mark.usefixtures("on_the_bus")
def test_a_probe_leaves_nothing_behind(home: Home, bus: str) -> None:
    import secretstorage

    assert choose("outloop@probe", {}, home.keyring) == SECRET_SERVICE
    with closing(secretstorage.dbus_init()) as connection:
        assert list(secretstorage.search_items(connection, {"service": "outloop@probe"})) == []


def test_a_proxy_chooses_no_keychain(home: Home, state: StateStore) -> None:
    with pytest.raises(KeyMissing, match="no key was ever stored"):
        Keychain.open(home, state, {"OUTLOOP_KEYRING": "file"}, may_choose=False)
    assert BACKEND_META not in state.snapshot().meta


@pytest.mark.parametrize(
    "name",
    [
        "keyring.backends.null.Keyring",
        "keyring.backends.fail.Keyring",
        "keyring.backends.chainer.ChainerBackend",
        "keyrings.alt.file.PlaintextKeyring",
        "keyrings.alt.file.EncryptedKeyring",
        "os.system",
        "",
    ],
)
def test_a_backend_that_does_not_guard_secrets_is_refused_even_when_it_is_recorded(
    home: Home, state: StateStore, name: str
) -> None:
    state.set_meta(BACKEND_META, name)
    with pytest.raises(KeyLocked, match="does not guard secrets"):
        Keychain.open(home, state, {})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}, "not an OS keychain"),
        ({"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}, "not an OS keychain"),
        ({"PYTHON_KEYRING_BACKEND": "keyring.backends.chainer.ChainerBackend"}, "not an OS keychain"),
        ({"PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring"}, "not an OS keychain"),
        ({"OUTLOOP_KEYRING": "plaintext"}, "OUTLOOP_KEYRING is 'plaintext'"),
        ({"OUTLOOP_KEYRING": "FILE"}, "OUTLOOP_KEYRING is 'FILE'"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else None,
)
def test_a_variable_that_names_no_keychain_is_refused(
    home: Home, state: StateStore, variables: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Keychain.open(home, state, variables)
    assert BACKEND_META not in state.snapshot().meta


@pytest.mark.usefixtures("no_bus")
def test_a_keychain_that_is_named_and_cannot_be_reached_is_not_replaced(home: Home, state: StateStore) -> None:
    with pytest.raises(KeyLocked, match="PYTHON_KEYRING_BACKEND"):
        Keychain.open(home, state, {"PYTHON_KEYRING_BACKEND": SECRET_SERVICE})
    assert BACKEND_META not in state.snapshot().meta


def test_the_choice_does_not_change_once_a_key_is_stored(home: Home, state: StateStore) -> None:
    state.set_meta(BACKEND_META, SECRET_SERVICE)
    state.add_key("acme", "k", "calendly", "2026-01-01T00:00:00.000Z")
    with pytest.raises(KeyLocked, match="OUTLOOP_KEYRING asks for the encrypted file"):
        Keychain.open(home, state, {"OUTLOOP_KEYRING": "file"})
    state.remove_key("acme", "k")
    assert "encrypted file" in Keychain.open(home, state, {"OUTLOOP_KEYRING": "file"}).label


def test_plain_text_packages_that_happen_to_be_installed_are_not_even_looked_at(home: Home) -> None:
    """keyrings.alt, where installed, makes keyring itself fall back to a file of base64."""
    loaded = (
        "import sys; from pathlib import Path; from outloop.store.backends import choose;"
        "choose('outloop', {}, Path(sys.argv[1])); print(any(name.startswith('keyrings') for name in sys.modules))"
    )
    variables = {**os.environ, "PYTHONPATH": str(ADDON), "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nothing/here"}
    done = subprocess.run(
        [sys.executable, "-c", loaded, str(home.keyring)], env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_keyring_is_imported_only_when_a_keychain_is_opened() -> None:
    modules = "outloop.store.keychain, outloop.store.keycache, outloop.operator.keys, outloop.cli.key"
    code = f"import sys, {modules}; print('keyring' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ADDON)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_call_that_hangs_is_given_up(home: Home) -> None:
    release = threading.Event()
    with pytest.raises(NoAnswer, match="the keychain did not answer within 0 s"):
        within(0.01, release.wait, "the keychain")
    release.set()


def test_a_call_within_its_time_returns_or_raises_as_it_would() -> None:
    assert within(60, lambda: 7, "x") == 7
    with pytest.raises(TimeoutError, match="its own"):
        within(60, lambda: (_ for _ in ()).throw(TimeoutError("its own")), "x")


def test_previous_entries_have_a_name_no_key_can_have() -> None:
    assert "#" in PREVIOUS


def test_an_exchanged_value_takes_the_place_of_the_one_it_was_had_for(keychain: Keychain) -> None:
    first, second = token("fake-refresh-token-1"), token("fake-refresh-token-2")
    keychain.set("acme", "k", first)

    for _ in range(2):  # again, by one who does not know whether the first time was done
        keychain.renew("acme", "k", first, second)

        assert keychain.get("acme", "k") == second
        assert keychain.previous("acme", "k") == first
    keychain.delete("acme", "k")


def test_an_exchanged_value_never_takes_the_place_of_another(keychain: Keychain) -> None:
    keychain.set("acme", "k", token("fake-value-of-the-operator"))

    with pytest.raises(KeyReplaced):
        keychain.renew("acme", "k", token("fake-refresh-token-1"), token("fake-refresh-token-2"))
    assert keychain.get("acme", "k") == token("fake-value-of-the-operator")
    keychain.delete("acme", "k")
    with pytest.raises(KeyMissing):
        keychain.renew("acme", "k", token("fake-refresh-token-1"), token("fake-refresh-token-2"))
