"""A careless upstream: it sends back the credential it was sent, and others that it remembers, in whatever form it is told to.

What it is to answer stands under a request's own number, its query parameter ``n``, so that no two requests are mixed up.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

import brotli
import zstandard

from outloop.attacks.upstream.journal import RecordedRequest
from outloop.attacks.upstream.replies import Reply, chunked, raw, reply

Change = Callable[[bytes], bytes]


def _each(spell: Callable[[int], str]) -> Change:
    return lambda data: "".join(map(spell, data)).encode()


def _wrapped(data: bytes) -> bytes:
    return base64.encodebytes(b"w" * 40 + data).replace(b"\n", b"\r\n")


def _raw_deflate(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(data) + engine.flush()


# What a header can hold comes first.
HEADER_FORMS: dict[str, Change] = {
    "raw": bytes,
    "base64": base64.b64encode,
    "base64-url": lambda data: base64.urlsafe_b64encode(data).rstrip(b"="),
    "base64-of-more": lambda data: base64.b64encode(b"me" + data),
    "hex": lambda data: data.hex().encode(),
    "hex-colons": lambda data: data.hex(":").upper().encode(),
    "percent": lambda data: quote(data, safe="").encode(),
    "percent-all": _each(lambda byte: f"%{byte:02x}"),
    "json-code": _each(lambda byte: f"\\u{byte:04x}"),
    "html-decimal": _each(lambda byte: f"&#{byte};"),
}
FORMS: dict[str, Change] = HEADER_FORMS | {
    "json": lambda data: json.dumps(data.decode("latin-1")).encode(),
    "html": lambda data: html.escape(data.decode("latin-1")).encode("latin-1"),
    "base64-wrapped": _wrapped,
    "utf-16": lambda data: data.decode("latin-1").encode("utf-16"),
    "reversed": lambda data: data[::-1],
    "upper": lambda data: data.upper(),
    "swapped-case": lambda data: data.swapcase(),
}
CODINGS: dict[str, Change] = {
    "": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate, raw": _raw_deflate,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)),
}
PLACES = ("body", "chunks", "header", "header-name", "cookie", "location", "reason", "unlabelled")


@dataclass(frozen=True)
class Plan:
    """How one request is answered: with `status`, what it brought and `remembered`, in `form`, at `place`, under `coding`."""

    status: int = 200
    form: str = "raw"
    place: str = "body"
    coding: str = ""
    retry_after_s: int | None = None
    remembered: tuple[bytes, ...] = ()


class Careless:
    """Answers a recorder's requests. Its table is filled by the test and read by the recorder's threads."""

    def __init__(self) -> None:
        self._plans: dict[str, Plan] = {}
        self._lock = threading.Lock()

    def expect(self, number: int, plan: Plan) -> None:
        """Answer the request with that number by *plan*."""
        with self._lock:
            self._plans[str(number)] = plan

    def __call__(self, request: RecordedRequest) -> Reply:
        """Answer one request; one that nobody announced gets a status of its own."""
        query = parse_qs(urlsplit(request.target).query)
        with self._lock:
            plan = self._plans.get(query.get("n", [""])[0])
        return reply(b"who are you?", status=418) if plan is None else _answer(plan, request, query.get("api_key", []))


def _answer(plan: Plan, request: RecordedRequest, in_query: Sequence[str]) -> Reply:
    brought = [*request.all("authorization"), *request.all("x-api-key"), *(value.encode() for value in in_query)]
    said = b"\n".join([*brought, *plan.remembered])
    headers = [("Content-Type", "text/plain")]
    if plan.retry_after_s is not None:
        headers.append(("Retry-After", str(plan.retry_after_s)))
    spelled = FORMS[plan.form](said)
    if plan.place == "body":
        coded = [("Content-Encoding", plan.coding.split(", raw")[0])] if plan.coding else []
        return reply(CODINGS[plan.coding](b'{"you": "' + spelled + b'"}'), status=plan.status, headers=[*headers, *coded])
    if plan.place == "unlabelled":
        return reply(gzip.compress(spelled), status=plan.status, headers=headers)
    if plan.place == "chunks":
        return chunked(*(spelled[at : at + 7] for at in range(0, len(spelled), 7)), status=plan.status, headers=headers)
    # In a head, one line: the forms are those that a header can hold.
    line = (HEADER_FORMS.get(plan.form) or HEADER_FORMS["base64"])(said.replace(b"\n", b" ")).decode("latin-1")
    if plan.place == "reason":
        return raw(f"HTTP/1.1 {plan.status} {line}\r\nContent-Length: 2\r\n\r\nok".encode("latin-1"))
    extra = {
        "header": ("X-You-Sent", line),
        "header-name": (f"X-{said.hex()}", "you"),
        "cookie": ("Set-Cookie", f"session={line}; Secure"),
        "location": ("Location", f"https://one.example/next?t={line}"),
    }[plan.place]
    return reply(b"ok", status=plan.status, headers=[*headers, extra])
