"""The embedded keychain: a keyring backend for machines on which no OS keychain can be reached.

Values stand in one file, sealed with AES-256-GCM under a random key in a file beside it. That guards them where files are
copied, synchronised or backed up one by one, and shows any change made to them; it does not guard them from a program that
runs as the same user, which an OS keychain at least makes ask.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError, KeyringLocked, PasswordDeleteError

MAGIC = b"outloop keyring 1\n"
KEY_BYTES = 32
NONCE_BYTES = 12  # random, for each write: NIST SP 800-38D §8.2.2 allows 2^32 writes under one key
LOCK_TIMEOUT_S = 10.0
SIZE_LIMIT_BYTES = 16 * 1024 * 1024

Entries = dict[str, dict[str, str]]


class EncryptedFile(KeyringBackend):
    """Passwords by service and user name in the folder *folder* (mode 0700, made when the first one is stored).

    Raises KeyringLocked, saying why, for files that are not this user's, open to others, altered, cut short or without their
    key.
    """

    # Never picked by keyring itself, only by name: a negative priority stands below every other backend.
    priority = -1

    def __init__(self, folder: Path) -> None:
        # Not the base class's: it would take attributes from KEYRING_PROPERTY_* variables.
        self._folder = folder
        self._key_file = folder / "master.key"
        self._values_file = folder / "values.enc"

    def get_password(self, service: str, username: str) -> str | None:
        """Return the password, or None."""
        return self._read().get(service, {}).get(username)

    def set_password(self, service: str, username: str, password: str) -> None:
        """Store the password. When this returns, it has reached the disk."""
        with self._locked():
            entries = self._read()
            entries.setdefault(service, {})[username] = password
            self._replace(entries)

    def delete_password(self, service: str, username: str) -> None:
        """Delete the password. Raises PasswordDeleteError when there is none."""
        with self._locked():
            entries = self._read()
            if entries.get(service, {}).pop(username, None) is None:
                raise PasswordDeleteError("no such entry")
            self._replace(entries)

    def _read(self) -> Entries:
        sealed = self._contents(self._values_file)
        if sealed is None:
            return {}
        master_key = self._contents(self._key_file)
        if master_key is None:
            raise KeyringLocked(f"{self._key_file} is gone, and without it {self._values_file} cannot be read")
        if len(master_key) != KEY_BYTES:
            raise KeyringLocked(f"{self._key_file} is not a key: it was altered or cut short")
        head = len(MAGIC) + NONCE_BYTES
        if not sealed.startswith(MAGIC):
            raise KeyringLocked(f"{self._values_file} is not an outloop keyring, or one of a newer version")
        try:
            plain = AESGCM(master_key).decrypt(sealed[len(MAGIC) : head], sealed[head:], MAGIC)
        except (InvalidTag, ValueError) as error:
            raise KeyringLocked(f"{self._values_file} was altered, or belongs to another {self._key_file.name}") from error
        entries: Entries = json.loads(plain)
        return entries

    def _replace(self, entries: Entries) -> None:
        """Seal and write, so that readers and a crash see the file as it was or as it will be. The lock is held."""
        master_key = self._contents(self._key_file)
        if master_key is None:
            master_key = secrets.token_bytes(KEY_BYTES)
            self._put(self._key_file, master_key)
        nonce = secrets.token_bytes(NONCE_BYTES)
        plain = json.dumps(entries, sort_keys=True).encode()
        self._put(self._values_file, MAGIC + nonce + AESGCM(master_key).encrypt(nonce, plain, MAGIC))

    def _put(self, path: Path, content: bytes) -> None:
        # One name, used under the lock: what a killed writer left behind is overwritten by the next.
        aside = path.with_suffix(path.suffix + ".new")
        aside.unlink(missing_ok=True)
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_all(handle, content)
            os.fsync(handle)
        finally:
            os.close(handle)
        aside.replace(path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # the new name, too, must survive a power cut
        finally:
            os.close(folder)

    def _contents(self, path: Path) -> bytes | None:
        try:
            # Not through a link, and not waiting for the other end of a pipe that stands in the file's place.
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyringLocked(_unreadable(path, error)) from error
        try:
            _check_private(path, os.fstat(handle))
            with os.fdopen(handle, "rb", closefd=False) as file:
                return file.read(SIZE_LIMIT_BYTES)
        finally:
            os.close(handle)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock. The kernel lets go of it when a process dies."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                _lock(handle, self._folder, time.monotonic() + LOCK_TIMEOUT_S)
                yield
            finally:
                os.close(handle)
        except OSError as error:
            raise KeyringError(_unreadable(self._folder, error)) from error


def _write_all(handle: int, content: bytes) -> None:
    with os.fdopen(handle, "wb", closefd=False) as file:
        file.write(content)


def _lock(handle: int, folder: Path, give_up_at: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                raise KeyringLocked(f"another process holds {folder} for longer than {LOCK_TIMEOUT_S:.0f} s") from None
            time.sleep(0.01)


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyringLocked(f"{path} is not a regular file")
    if status.st_uid != os.getuid():
        raise KeyringLocked(f"{path} belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise KeyringLocked(f"{path} is open to other users (chmod 600 it, and rotate the keys: they may have been read)")
    if status.st_size >= SIZE_LIMIT_BYTES:
        raise KeyringLocked(f"{path} is larger than {SIZE_LIMIT_BYTES} bytes")


def _unreadable(path: Path, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return f"{path} is a symbolic link"
    return f"{path} cannot be used: {(error.strerror or 'unknown error').lower()}"
