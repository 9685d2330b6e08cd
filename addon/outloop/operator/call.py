"""One call through the proxy, made the way any agent makes it: CONNECT, TLS, HTTP/1.1.

Only Outloop's own authority is trusted here: an answer that did not come through this home's proxy does not get past TLS.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from outloop import __version__
from outloop.core.errors import NoError
from outloop.core.model import HostClaim
from outloop.core.refusal import AUDIT_HEADER

TIMEOUT_S = 30.0
ANSWER_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a proxy listens. `is_found` is false where this is only the usual place, and nothing is known to be there."""

    host: str
    port: int
    is_found: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `audit_id` is empty when no Outloop stamped it, `body` is cut at 1 MiB."""

    status: int
    audit_id: str
    body: bytes = field(repr=False)

    def json(self) -> object:
        """Return the body read as JSON; None when it is not."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Caller:
    """An agent's standing place: a proxy, the authority it trusts (a PEM file), and who it says it is ("" where not needed)."""

    listener: Listener
    authority: Path
    workspace: str = ""
    token: str = field(default="", repr=False)

    def __call__(self, method: str, claim: HostClaim, target: str, body: Mapping[str, object] | None = None) -> Answer:
        """Send one https request and return the answer, the proxy's own refusals included.

        Raises NoError, with a hint, when nothing listens, the certificate is not this home's, or the answer is broken.
        """
        where = f"{self.listener.host}:{self.listener.port}"
        try:
            with contextlib.closing(socket.create_connection((self.listener.host, self.listener.port), TIMEOUT_S)) as raw:
                refused = self._connect(raw, claim)
                if refused:
                    return refused
                context = ssl.create_default_context(cafile=str(self.authority))
                with context.wrap_socket(raw, server_hostname=claim.host) as wrapped:
                    return _exchange(wrapped, method, claim, target, body)
        except ConnectionRefusedError as error:
            raise NoError(f"no proxy listens on {where}", "start it with `outloop up`, or name its port with --port") from error
        except ssl.SSLCertVerificationError as error:
            raise NoError(
                f"what answered on {where} does not hold this home's certificate authority",
                "restart the proxy with the same OUTLOOP_HOME as this shell",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            said = getattr(error, "strerror", None) or str(error)
            reason = " ".join(said.lower().split()) or type(error).__name__
            raise NoError(f"no usable answer from {where}: {reason}", "see what the proxy printed") from error

    def _connect(self, raw: socket.socket, claim: HostClaim) -> Answer | None:
        """Open the tunnel (RFC 9110 §9.3.6). Return the proxy's answer if it is a refusal."""
        name = f"{bracketed(claim.host)}:{claim.port}"
        lines = [f"CONNECT {name} HTTP/1.1", f"Host: {name}"]
        if self.token:
            user = base64.b64encode(f"{self.workspace}:{self.token}".encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {user}")
        raw.sendall("\r\n".join([*lines, "", ""]).encode())
        with http.client.HTTPResponse(raw, method="CONNECT") as response:
            response.begin()
            return None if response.status == http.client.OK else _answer(response)


def bracketed(host: str) -> str:
    """Return *host* as it stands in a URL or a Host header: an IPv6 address in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]" if ":" in host else host


def _exchange(wrapped: ssl.SSLSocket, method: str, claim: HostClaim, target: str, body: Mapping[str, object] | None) -> Answer:
    connection = http.client.HTTPConnection(claim.host, claim.port)
    connection.sock = wrapped
    headers = {"User-Agent": f"outloop-proof/{__version__}", "Accept": "application/json", "Connection": "close"}
    content = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(body).encode()
    # http.client leaves a default port out of Host only for its own default, 80.
    host = bracketed(claim.host)
    headers["Host"] = host if claim.port == http.client.HTTPS_PORT else f"{host}:{claim.port}"
    connection.request(method, target, content, headers)
    return _answer(connection.getresponse())


def _answer(response: http.client.HTTPResponse) -> Answer:
    return Answer(response.status, response.headers.get(AUDIT_HEADER, ""), response.read(ANSWER_LIMIT))
