"""How an agent of a workspace gets to the running proxy: where it listens, and whether it needs a token there."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
from collections.abc import Collection, Sequence

from outloop.core.model import INTERNAL_HOST
from outloop.operator.call import Listener
from outloop.store.state import ProxyRecord

USUAL_PORT = 8080  # mitmproxy's
LOOPBACK = "127.0.0.1"
_EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104  (compared with, never bound)
_ASKING_TIMEOUT_S = 2.0
_GUIDE_LIMIT = 1024 * 1024
_OK = 200
_CHALLENGE = 407


def find_listener(proxies: Sequence[ProxyRecord], port: int | None) -> Listener:
    """Return the proxy on *port*, else the newest of *proxies*, else the usual place, which is then not `is_found`.

    A proxy that listens on every address is reached on loopback.
    """
    for proxy in proxies:
        if port in (None, proxy.port):
            return Listener(LOOPBACK if proxy.host in _EVERY_ADDRESS else proxy.host, proxy.port)
    return Listener(LOOPBACK, port or USUAL_PORT, is_found=False)


def is_listening(listener: Listener) -> bool:
    """Tell whether anything accepts connections there."""
    try:
        socket.create_connection((listener.host, listener.port), _ASKING_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def needs_token(listener: Listener, workspace: str, files: Collection[str]) -> bool:
    """Tell whether an agent of *workspace* must show a token to the proxy at *listener*.

    A running proxy is asked, for it may have been given ``outloop_workspace`` or another policy folder. Where none answers,
    the rule decides that it will follow: without a token an agent acts for the one workspace there is, and on loopback only.
    *files* are the names of all workspace files, valid or not.
    """
    if not _is_loopback(listener.host):
        return True
    told = _tokenless_workspace(listener)
    if told is not None:
        return told != workspace
    return set(files) != {workspace}


def _tokenless_workspace(listener: Listener) -> str | None:
    """The workspace for which an agent without a token acts there: "" for none, None when no Outloop answers."""
    connection = http.client.HTTPConnection(listener.host, listener.port, timeout=_ASKING_TIMEOUT_S)
    try:
        connection.request("GET", f"http://{INTERNAL_HOST}/", headers={"Host": INTERNAL_HOST, "Accept": "application/json"})
        response = connection.getresponse()
        if response.status == _CHALLENGE:
            return ""
        guide = json.loads(response.read(_GUIDE_LIMIT)) if response.status == _OK else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    named = guide.get("workspace") if isinstance(guide, dict) else None
    return named if isinstance(named, str) else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
