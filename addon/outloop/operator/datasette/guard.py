"""What stands before every page: who may ask, from where, and what a browser may do with the answer.

Loopback is shared. Any page that the operator opens may send requests to it, by a name that it resolves to 127.0.0.1 as well
(DNS rebinding); and a browser sends the cookies of 127.0.0.1 to every port, so that a web server which an agent starts would get
ours. The path therefore begins with a part that nobody can guess, and the cookie is for that path alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
Fields = list[tuple[bytes, bytes]]

# Scripts come from files of ours alone. Styles may stand in a page: Datasette's column labels and Vega's charts do.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Fields = [
    (b"content-security-policy", _POLICY),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_OURS = {name for name, _ in _HEADERS} | {b"cache-control", b"set-cookie"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Guard:
    """Lets a request through to *application* that was made to 127.0.0.1 or localhost at *port*, under *base*, by no other site.

    *base* is a path that begins and ends with ``/``.
    """

    def __init__(self, application: Application, port: int, base: str) -> None:
        self._application = application
        self._hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost")}
        self._base = base.encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer, or pass on, one request."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
        elif scope["type"] == "http":
            refusal = self._refusal(scope)
            if refusal:
                await _answer(send, *refusal)
            else:
                is_csv = scope["raw_path"].partition(b"?")[0].endswith(b".csv")
                await self._application(scope, receive, self._guarded(send, is_csv))

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        hosts = _values(scope["headers"], b"host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return 421, "this address is not one that `outloop audit browse` answers to"
        path = scope["raw_path"].partition(b"?")[0]
        if not path.startswith(self._base):
            return 404, "there is nothing here; open the address that `outloop audit browse` printed"
        if any(origin != b"http://" + hosts[0] for origin in _values(scope["headers"], b"origin")):
            return 403, "another site may not ask"
        if any(site not in (b"same-origin", b"none") for site in _values(scope["headers"], b"sec-fetch-site")):
            return 403, "another site led here: open the address by itself, in a new tab"
        if scope["method"] not in ("GET", "HEAD") and path != self._base + b"-/logout":
            return 405, "the record can only be read"
        return None

    def _guarded(self, send: Send, is_csv: bool) -> Send:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": self._headers(message["headers"])}
            elif is_csv:
                message = {**message, "body": _without_formulas(message.get("body", b""))}
            await send(message)

        return guarded

    def _headers(self, headers: Iterable[tuple[bytes, bytes]]) -> Fields:
        found = [(name.lower(), value) for name, value in headers]
        kept = [(name, value) for name, value in found if name not in _OURS]
        cookies = [(name, self._ours_alone(value)) for name, value in found if name == b"set-cookie"]
        return [*kept, *cookies, *_HEADERS, (b"cache-control", b"private, no-store")]

    def _ours_alone(self, cookie: bytes) -> bytes:
        """Return *cookie* for this path, out of reach of scripts and never sent along by other sites."""
        parts = [part.strip() for part in cookie.split(b";")]
        wanted = (b"path=", b"samesite=", b"httponly")
        kept = [part for part in parts if not part.lower().startswith(wanted)]
        return b"; ".join([*kept, b"Path=" + self._base, b"HttpOnly", b"SameSite=Strict"])


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for each, value in headers if each.lower() == name]


def _without_formulas(rows: bytes) -> bytes:
    """Return CSV in which no cell begins as a formula does: a spreadsheet would run it. Datasette sends whole rows."""
    read = list(csv.reader(io.StringIO(rows.decode(), newline="")))
    if not any(cell.startswith(_FORMULA) for row in read for cell in row):
        return rows
    written = io.StringIO(newline="")
    csv.writer(written).writerows([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in row] for row in read)
    return written.getvalue().encode()


async def _answer(send: Send, status: int, text: str) -> None:
    body = f"outloop: error: {text}\n".encode()
    fields = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
