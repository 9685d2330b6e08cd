"""Which keychains count, and how one of them is chosen for a home.

Only those on the list are ever used, and by name: what `keyring` would pick by itself depends on the packages that happen to
be installed, and may be its null, plain-text or chaining backend.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from outloop.core.errors import KeyLocked, OutloopError, UsageError

if TYPE_CHECKING:
    from types import TracebackType

    from keyring.backend import KeyringBackend

Result = TypeVar("Result")

EMBEDDED = "outloop.store.keyfile.EncryptedFile"
# keyring's backends that hand values to the operating system or desktop, and what people call them.
OS_KEYCHAINS: Mapping[str, str] = {
    "keyring.backends.macOS.Keyring": "the macOS Keychain",
    "keyring.backends.Windows.WinVaultKeyring": "the Windows Credential Manager",
    "keyring.backends.SecretService.Keyring": "the Secret Service (desktop keyring)",
    "keyring.backends.libsecret.Keyring": "the Secret Service (desktop keyring, by libsecret)",
    "keyring.backends.kwallet.DBusKeyring": "KWallet",
}
# Two ways to one and the same keychain.
ALIKE = frozenset({"keyring.backends.SecretService.Keyring", "keyring.backends.libsecret.Keyring"})
# Long enough for a person to type the password that a locked desktop keyring asks for.
PROBE_LIMIT_S = 60.0


class NoAnswer(KeyLocked):
    """The keychain was still busy, or waiting for its owner, when the time was up."""


class Refusing:
    """Turns whatever a keychain raises into KeyLocked: the fail-closed wrapper of this room.

    Backends let through D-Bus, GLib and Windows errors of types of their own. Of those only the type is told: what they say
    is not known to be free of values.
    """

    def __init__(self, label: str) -> None:
        self._label = label

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not isinstance(error, Exception) or isinstance(error, OutloopError):
            return
        from keyring.errors import KeyringError

        said = str(error).strip().splitlines() if isinstance(error, KeyringError) else []
        reason = said[0].rstrip("!.") if said else type(error).__name__
        raise KeyLocked(
            f"{self._label} cannot be used: {reason}",
            "unlock it and try again; keys are never read from anywhere else",
        ) from error


def load(name: str, folder: Path) -> KeyringBackend:
    """Make the backend called *name*, one of OS_KEYCHAINS or EMBEDDED; *folder* is where the embedded one keeps its files.

    Raises KeyLocked when it is not on the list, or is not to be had on this machine.
    """
    if name == EMBEDDED:
        with Refusing(label(name, folder)):
            from outloop.store.keyfile import EncryptedFile

            return EncryptedFile(folder)
    if name not in OS_KEYCHAINS:
        raise KeyLocked(f"this home's keys are recorded as kept by {name}, which does not guard secrets", _OTHER_HOME)
    with Refusing(label(name, folder)):
        module, _, attribute = name.rpartition(".")
        backend: KeyringBackend = getattr(import_module(module), attribute)()
        return backend


def label(name: str, folder: Path) -> str:
    """Return what people call the backend called *name*."""
    if name == EMBEDDED:
        return f"the encrypted file {folder / 'values.enc'} (not an OS keychain)"
    return OS_KEYCHAINS.get(name, name)


def choose(service: str, environ: Mapping[str, str], folder: Path, limit_s: float = PROBE_LIMIT_S) -> str:
    """Return the name of the best backend that works here and now: an OS keychain, else the embedded one.

    ``OUTLOOP_KEYRING=file`` selects the embedded one; ``PYTHON_KEYRING_BACKEND`` one of OS_KEYCHAINS. A keychain works when a
    value can be stored, read and deleted under *service*. Raises UsageError for names that cannot be, and NoAnswer when one
    does not answer in *limit_s*: it is probably waiting for its owner, and must not be passed over in silence.
    """
    wanted = environ.get("OUTLOOP_KEYRING", "")
    if wanted == "file":
        return EMBEDDED
    if wanted:
        raise UsageError(f"OUTLOOP_KEYRING is {wanted!r}", "`file` is the one value it takes; unset it to use the OS keychain")
    named = environ.get("PYTHON_KEYRING_BACKEND", "")
    if not named:
        candidates = within(limit_s, viable, "the keychain")
        return next((name for name in candidates if _works(name, service, folder, limit_s)), EMBEDDED)
    if named not in OS_KEYCHAINS:
        raise UsageError(
            f"PYTHON_KEYRING_BACKEND names {named}, which is not an OS keychain",
            "unset it, or set OUTLOOP_KEYRING=file to keep keys in an encrypted file",
        )
    if not _works(named, service, folder, limit_s):
        raise KeyLocked(
            f"{label(named, folder)}, which PYTHON_KEYRING_BACKEND names, cannot be used here",
            "unlock it, unset the variable, or set OUTLOOP_KEYRING=file to keep keys in an encrypted file",
        )
    return named


def viable() -> list[str]:
    """Return the names of the OS keychains that keyring deems viable here, best first. Looking may speak to D-Bus."""
    ranked: list[tuple[float, str]] = []
    for name in OS_KEYCHAINS:
        module, _, attribute = name.rpartition(".")
        backend = getattr(import_module(module), attribute)
        if backend.viable:
            ranked.append((backend.priority, name))
    return [name for _, name in sorted(ranked, reverse=True)]


def within(limit_s: float, call: Callable[[], Result], what: str) -> Result:
    """Return the result of *call*, made on a daemon thread: a keychain that waits for its owner cannot be interrupted.

    Raises NoAnswer when it takes longer than *limit_s* seconds, and whatever *call* raises.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  (handed to the thread that waits)
            future.set_exception(error)

    threading.Thread(target=run, name="outloop-keychain-probe", daemon=True).start()
    try:
        return future.result(limit_s)
    except TimeoutError as error:
        if future.done():  # the call itself raised it
            raise
        raise NoAnswer(
            f"{what} did not answer within {limit_s:.0f} s",
            "unlock it and try again, or set OUTLOOP_KEYRING=file to keep keys in an encrypted file instead",
        ) from error


_OTHER_HOME = "restore state.db, or set OUTLOOP_HOME to another folder"


def _works(name: str, service: str, folder: Path, limit_s: float) -> bool:
    user, value = f"probe-{secrets.token_hex(8)}", secrets.token_urlsafe(32)

    def round_trip() -> bool:
        backend = load(name, folder)
        backend.set_password(service, user, value)
        kept = backend.get_password(service, user) == value
        backend.delete_password(service, user)
        return kept

    def attempt() -> bool:
        with Refusing(label(name, folder)):
            return round_trip()

    try:
        return within(limit_s, attempt, label(name, folder))
    except NoAnswer:
        raise
    except KeyLocked:
        return False
