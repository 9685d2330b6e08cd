"""Cleaning response bodies in which there is nothing to find, with twenty secrets loaded.

Figures are by processor time: nothing here waits, and other programs on the machine do not count.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from random import Random
from urllib.parse import quote

from mitmproxy import http

from bench.report import Line, Spread, Target, at_least, at_most, held_to
from bench.upstream import SMALL
from outloop.core.cleaning import BodyCleaner
from outloop.core.exposure import ExposureCheck, Needles
from outloop.core.model import Agent
from outloop.core.scrub import ScrubSet
from outloop.core.secret import Secret
from outloop.proxy.exchange import Exchange, Said
from outloop.proxy.responses import clean_whole, cleaned_head
from outloop.proxy.vault import Opened

PIECE_BYTES = 64 * 1024
BODY_BYTES = 4 * 1024 * 1024
FLOOD_BYTES = 256 * 1024
SECRETS = 20
SMALL_REPLIES = 500
TARGET = at_least(150, " MB/s")
SMALL_TARGET = at_most(60, " µs")
FLOODS = {
    "halves of escapes": b"%2\\u00&#0000",
    "escapes of backslashes": b"\\u005c",
    "backslashes before slashes": b"\\\\\\\\\\\\/",
    "every byte percent-encoded": b"".join(b"%%%02x" % byte for byte in range(0x21, 0x7F)),
    "percents of percents": b"%25",
    "references in references": b"&amp;amp;amp;#65;",
    "beginnings of forms": b"fake-01-",
}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Cleaning:
    """What a workspace with twenty keys cleans by."""

    def __init__(self, random: Random) -> None:
        values = [f"fake-{number:02}-{''.join(random.choices(_LETTERS, k=40))}".encode() for number in range(SECRETS)]
        self.needle = values[0]
        secrets = list(map(Secret, values))
        self.opened = Opened({}, {}, ScrubSet.compile(secrets), Needles.compile(secrets))

    def clean(self, pieces: list[bytes]) -> int:
        """Clean a body; return how many bytes left."""
        cleaner = BodyCleaner(self.opened.scrub_set, ExposureCheck(self.opened.needles))
        left = sum(len(clean) for piece in pieces for clean in cleaner.feed(piece))
        return left + sum(map(len, cleaner.finish()))


def scrubbing(rounds: int) -> Iterator[Line]:
    """Clean bodies in turns with one search of them for one needle."""
    random = Random(0)
    cleaning = Cleaning(random)
    for what, body, target in _bodies(random):
        speeds, found = _speeds(cleaning, body, rounds)
        yield held_to(target, f"scrubbing clean {what}, {SECRETS} secrets", speeds, " MB/s", digits=0, outloop=found)
    floods = {what: _speeds(cleaning, (unit * (FLOOD_BYTES // len(unit) + 1))[:FLOOD_BYTES], 2) for what, unit in FLOODS.items()}
    worst = min(floods, key=lambda what: floods[what][0].figure)
    speeds, found = floods[worst]
    yield Line(f"… the slowest of {len(floods)} hostile floods: {worst}", outloop=found, result=speeds.text(" MB/s", 1))
    small_us = Spread.best_of((_small_us(cleaning) for _ in range(rounds)), min)
    yield held_to(SMALL_TARGET, f"cleaning a head and a reply of {len(SMALL)} bytes", small_us, " µs", digits=1)


def _bodies(random: Random) -> Iterator[tuple[str, bytes, Target | None]]:
    """Yield bodies by name, with the target of each; those without one are dense in what must be undone first."""
    plain, binary = json_body(random, is_escaped=False), random.randbytes(BODY_BYTES)
    escaped = json_body(random, is_escaped=True)
    yield "JSON", plain, TARGET
    yield "binary", binary, TARGET
    yield "HTML", _html(random), TARGET
    yield "base64", base64.b64encode(binary)[:BODY_BYTES], TARGET
    yield "base64 in lines", base64.encodebytes(binary)[:BODY_BYTES], TARGET
    yield "JSON that writes \\/ and \\u00e9", escaped, TARGET
    yield 'JSON that writes \\/, \\n and \\"', _messages(random), TARGET
    yield "JSON in JSON", json.dumps(escaped[: BODY_BYTES // 2].decode(errors="ignore")).encode()[:BODY_BYTES], None
    yield "percent-encoded JSON", quote(plain[: BODY_BYTES // 2], safe="").encode()[:BODY_BYTES], None


def _html(random: Random) -> bytes:
    item = '<li><a href="/items/%x?a=1&amp;b=%d">Ada &amp; Co&#39;s &quot;example&quot;</a></li>\n'
    return "".join(item % (random.getrandbits(64), random.randrange(999)) for _ in range(BODY_BYTES // 75)).encode()[:BODY_BYTES]


def _messages(random: Random) -> bytes:
    text = 'line one\nline "two"\nsee https://example.com/a/b, %x\n'
    messages = [{"body": text % random.getrandbits(32), "id": number} for number in range(BODY_BYTES // 90)]
    return json.dumps(messages).replace("/", "\\/").encode()[:BODY_BYTES]


def json_body(random: Random, *, is_escaped: bool) -> bytes:
    """Return a body such as APIs send: names, times, addresses, ids; where *is_escaped*, as PHP and old encoders write it."""
    name = 'Renée "Example"' if is_escaped else "Ada Example"
    lines: list[str] = []
    size = 0
    while size < BODY_BYTES:
        item = {
            "uri": f"https://api.example.com/items/{random.getrandbits(128):032x}",
            "name": f"{name} {random.randrange(10**6)}",
            "created_at": f"2025-{random.randrange(1, 13):02}-01T09:00:00.{random.randrange(10**6):06}Z",
            "owner": f"https://api.example.com/users/{random.getrandbits(64):016X}",
            "token": "".join(random.choices(_LETTERS, k=24)),
            "count": random.randrange(10**4),
            "done": random.random() < 0.5,
        }
        line = json.dumps(item)
        lines.append(line.replace("/", "\\/") if is_escaped else line)
        size += len(line) + 2
    return "[{}]".format(",\n".join(lines)).encode()[:BODY_BYTES]


def _speeds(cleaning: Cleaning, body: bytes, rounds: int) -> tuple[Spread, str]:
    """Return the speeds in MB/s, and in how many searches for one needle a body is cleaned."""
    pieces = [body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES)]
    cleaned, searched = [], []
    for _ in range(rounds):
        start_s = time.process_time()
        left = cleaning.clean(pieces)
        middle_s = time.process_time()
        assert left == len(body), "a clean body was changed"
        found = max(piece.find(cleaning.needle) for piece in pieces)
        end_s = time.process_time()
        assert found < 0
        cleaned.append(len(body) / (middle_s - start_s) / 1e6)
        searched.append(len(body) / (end_s - middle_s) / 1e6)
    searches = Spread.of(search / clean for search, clean in zip(searched, cleaned, strict=True))
    return Spread.best_of(cleaned, max), f"{searches.figure:.1f} × bytes.find"


def _small_us(cleaning: Cleaning) -> float:
    upstream = http.Response.make(200, SMALL, {"Content-Type": "application/json", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"})
    exchange = Exchange("01", Agent("acme"), Said("GET", "https", "api.example.com", 443, "/json"), 0.0)
    exchange.opened = cleaning.opened
    start_s = time.process_time()
    for _ in range(SMALL_REPLIES):
        response = cleaned_head(exchange, upstream)
        clean_whole(exchange, response)
    return (time.process_time() - start_s) / SMALL_REPLIES * 1e6
