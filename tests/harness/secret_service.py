"""A Secret Service of the tests' own: gnome-keyring on a private message bus, with a throw-away keyring that is unlocked."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.partners import needs

PATIENCE_S = 30.0
# The keyring's password comes on standard input; the bus lives as long as the daemon, which ends when it is told to.
_SESSION = 'echo "$DBUS_SESSION_BUS_ADDRESS"; exec gnome-keyring-daemon --foreground --unlock --components=secrets >&2'


@contextmanager
def secret_service(folder: Path) -> Iterator[str]:
    """Run one whose files are in *folder*; yield the address of its bus. Skips where a program is not installed."""
    needs("gnome-keyring-daemon", "gnome-keyring")
    program = needs("dbus-run-session", "dbus-daemon")
    folders = {name: folder / name.lower() for name in ("XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HOME")}
    for each in folders.values():
        each.mkdir(mode=0o700)
    variables = {"PATH": os.environ["PATH"], **{name: str(path) for name, path in folders.items()}}
    with (folder / "log").open("wb") as log:
        session = subprocess.Popen(
            [program, "--", "sh", "-c", _SESSION], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=variables
        )
    with session:
        assert session.stdin is not None
        assert session.stdout is not None
        address = session.stdout.readline().decode().strip()
        session.stdin.write(b"a password of the tests")
        session.stdin.close()
        daemon = _wait_for_daemon(address, folder)
        try:
            yield address
        finally:
            os.kill(daemon, 15)
            session.wait(PATIENCE_S)


def _wait_for_daemon(address: str, folder: Path) -> int:
    """Return the daemon's process id, once it has the service's name: asked earlier, the bus would start another, locked one."""
    from jeepney import DBusAddress, MessageType, new_method_call  # keyring brings it where there is a message bus
    from jeepney.io.blocking import open_dbus_connection

    bus = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
    end = time.monotonic() + PATIENCE_S
    with open_dbus_connection(address) as connection:
        while True:
            asked = new_method_call(bus, "GetConnectionUnixProcessID", "s", ("org.freedesktop.secrets",))
            answer = connection.send_and_get_reply(asked, timeout=PATIENCE_S)
            if answer.header.message_type is not MessageType.error:
                return int(answer.body[0])
            if time.monotonic() > end:
                raise TimeoutError((folder / "log").read_text())
            time.sleep(0.02)
