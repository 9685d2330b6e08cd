"""A collector of OpenTelemetry logs: one POST to it, and what its answer means (OTLP/HTTP)."""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from outloop import __version__
from outloop.core.errors import UsageError
from outloop.core.secret import Secret

TIMEOUT_S = 30.0
ANSWER_LIMIT = 64 * 1024
LONGEST_WAIT_S = 3600.0
LOGS_PATH = "/v1/logs"
RETRYABLE = frozenset({429, 502, 503, 504})
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Reply:
    """What a collector said; `status` 0 where it could not be reached, and `body` then says why. `wait_s` is its Retry-After."""

    status: int
    body: bytes
    wait_s: float | None = None

    @property
    def is_taken(self) -> bool:
        """Tell whether it took what was sent."""
        return 200 <= self.status < 300

    @property
    def may_be_tried_again(self) -> bool:
        """Tell whether the same may be sent again later."""
        return self.status == 0 or self.status in RETRYABLE


@dataclass(slots=True)
class Collector:
    """The collector at *url*, an http or https URL: the whole path, or none for ``/v1/logs``. The connection is kept.

    In clear text only on this machine. No proxy is used, whatever the environment names: it may be Outloop itself.
    """

    url: str
    headers: Mapping[str, Secret] = field(default_factory=dict)
    _connection: http.client.HTTPConnection | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise UsageError(f"{self.url!r} is not a collector's URL", "write it as https://collector.example.com:4318")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise UsageError(
                "rows leave this machine only encrypted",
                "write https://, or name a collector on this machine, such as http://127.0.0.1:4318",
            )
        try:
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            raise UsageError(f"{self.url!r} is not a collector's URL", "its port is not one") from None
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.url = f"{parts.scheme}://{host}{port}{parts.path.rstrip('/') or LOGS_PATH}"

    def post(self, body: bytes) -> Reply:
        """Send *body*, JSON."""
        was_open = self._connection is not None
        try:
            return self._posted(body)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if was_open:  # for long enough, perhaps, that the collector had closed it
                return self.post(body)
            return Reply(0, (str(error) or type(error).__name__).encode())

    def close(self) -> None:
        """Close the connection; the next `post` opens it again."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _posted(self, body: bytes) -> Reply:
        parts = urlsplit(self.url)
        if self._connection is None:
            self._connection = _connection(parts.scheme, str(parts.hostname), parts.port)
        fields = {name: value.reveal().decode() for name, value in self.headers.items()}
        fields |= {"Content-Type": "application/json", "User-Agent": f"outloop/{__version__}"}
        self._connection.request("POST", parts.path, body, fields)
        response = self._connection.getresponse()
        answer = response.read(ANSWER_LIMIT)
        if not response.isclosed():  # more than anybody needs to say
            self.close()
        return Reply(response.status, answer, _wait_s(response.headers.get("Retry-After")))


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())


def _wait_s(value: str | None) -> float | None:
    """Return the seconds that a Retry-After field asks for (RFC 9110 §10.2.3), at most an hour; None where it says nothing."""
    if value is None:
        return None
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        wait_s = float(value) if value.isascii() and value.isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
        return min(max(0.0, wait_s), LONGEST_WAIT_S)
    return None


def read_headers(named: Sequence[str], environ: Mapping[str, str] = os.environ) -> dict[str, Secret]:
    """Return headers by name from *named*, each ``NAME=env:VARIABLE`` or ``NAME=file:PATH``: a value is never an argument.

    Raises UsageError.
    """
    found = {}
    for each in named:
        name, _, source = each.partition("=")
        kind, _, place = source.partition(":")
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum() or kind not in ("env", "file") or not place:
            hint = "write --header Authorization=env:OTLP_AUTHORIZATION, or =file:PATH"
            raise UsageError(
                "--header takes NAME=env:VARIABLE or NAME=file:PATH, so that no value shows in a list of processes", hint
            )
        found[name] = Secret(_value(kind, place, environ).encode())
    return found


def _value(kind: str, place: str, environ: Mapping[str, str]) -> str:
    try:
        text = environ.get(place, "") if kind == "env" else Path(place).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{place} cannot be read: {getattr(error, 'strerror', None) or 'not text'}".lower()) from None
    value = text.strip()
    if not value or not value.isascii() or not value.isprintable():
        raise UsageError(f"{place} holds no header value", "one line of plain ASCII, such as `Bearer …`")
    return value
