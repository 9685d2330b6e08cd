"""A mitmproxy script beside the addon, in the proxy's own process: notes each read of the keychain and each address dialled.

A line is appended to the file of the option `witness`: ``read <workspace>/<key>`` or ``dial <host>``. It stands below everything
that Outloop decides with: at the file that holds the values, and at mitmproxy's last hook before a socket is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from mitmproxy import ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from outloop.store.keyfile import EncryptedFile


class Witness:
    """Notes what it sees; says nothing."""

    def __init__(self) -> None:
        self._file = -1

    def load(self, loader: Loader) -> None:
        loader.add_option("witness", str, "", "Append what is read and dialled to this file.")

    def configure(self, updated: set[str]) -> None:
        if "witness" in updated and ctx.options.witness:
            self._file = os.open(ctx.options.witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            EncryptedFile.get_password = self._noting(EncryptedFile.get_password)  # type: ignore[method-assign, assignment]

    def server_connect(self, data: ServerConnectionHookData) -> None:
        if data.server.error is None:
            self._note(f"dial {data.server.sni or data.server.address}")

    def _noting(self, read: Callable[[EncryptedFile, str, str], str | None]) -> Callable[[EncryptedFile, str, str], str | None]:
        def get_password(backend: EncryptedFile, service: str, username: str) -> str | None:
            self._note(f"read {username}")
            return read(backend, service, username)

        return get_password

    def _note(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())


addons = [Witness()]
