"""Asking what listens somewhere whether it is Outloop, the way any agent without a token could."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from enum import StrEnum

from outloop.core.model import INTERNAL_HOST
from outloop.operator.call import Listener

ASKING_TIMEOUT_S = 2.0
_GUIDE_LIMIT = 1024 * 1024
_OK = 200
_CHALLENGE = 407
_REALM = 'realm="outloop"'


class Presence(StrEnum):
    """What answered."""

    OUTLOOP = "outloop"
    ANOTHER = "another program"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Found:
    """What answered, and the workspace for which an agent without a token acts there ("" for none)."""

    presence: Presence
    workspace: str = ""


def ask(listener: Listener) -> Found:
    """Ask what listens there; takes two seconds at most for each step."""
    connection = http.client.HTTPConnection(listener.host, listener.port, timeout=ASKING_TIMEOUT_S)
    try:
        connection.request("GET", f"http://{INTERNAL_HOST}/", headers={"Host": INTERNAL_HOST, "Accept": "application/json"})
        response = connection.getresponse()
        if response.status == _CHALLENGE and _REALM in response.headers.get("Proxy-Authenticate", "").lower():
            return Found(Presence.OUTLOOP)
        return _of_guide(response.read(_GUIDE_LIMIT)) if response.status == _OK else Found(Presence.ANOTHER)
    except (ConnectionError, TimeoutError):
        return Found(Presence.NOTHING)
    except (OSError, http.client.HTTPException):
        return Found(Presence.ANOTHER)
    finally:
        connection.close()


def _of_guide(body: bytes) -> Found:
    try:
        guide = json.loads(body)
    except ValueError:
        return Found(Presence.ANOTHER)
    named = guide.get("workspace") if isinstance(guide, dict) else None
    return Found(Presence.OUTLOOP, named) if isinstance(named, str) else Found(Presence.ANOTHER)
