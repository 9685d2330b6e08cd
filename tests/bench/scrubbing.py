"""Cleaning response bodies in which there is nothing to find, with twenty secrets loaded.

Figures are by processor time: nothing here waits, and other programs on the machine do not count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from random import Random

from bench.report import Line, Spread, at_least, held_to
from bench.upstream import SMALL
from outloop.core.cleaning import BodyCleaner
from outloop.core.exposure import ExposureCheck, Needles
from outloop.core.scrub import ScrubSet
from outloop.core.secret import Secret

PIECE_BYTES = 64 * 1024
BODY_BYTES = 8 * 1024 * 1024
SECRETS = 20
SMALL_REPLIES = 500
TARGET = at_least(150, " MB/s")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Cleaning:
    """What a workspace with twenty keys cleans by."""

    def __init__(self, random: Random) -> None:
        values = [f"fake-{number:02}-{''.join(random.choices(_LETTERS, k=40))}".encode() for number in range(SECRETS)]
        self.needle = values[0]
        self._scrub_set = ScrubSet.compile(map(Secret, values))
        self._needles = Needles.compile(map(Secret, values))

    def clean(self, pieces: list[bytes]) -> int:
        """Clean a body; return how many bytes left."""
        cleaner = BodyCleaner(self._scrub_set, ExposureCheck(self._needles))
        left = sum(len(clean) for piece in pieces for clean in cleaner.feed(piece))
        return left + sum(map(len, cleaner.finish()))


def scrubbing(rounds: int) -> Iterator[Line]:
    """Clean bodies in turns with one search of them for one needle."""
    random = Random(0)
    cleaning = Cleaning(random)
    for what, body in (("JSON", json_body(random, is_escaped=False)), ("binary", random.randbytes(BODY_BYTES))):
        speeds, found = _speeds(cleaning, body, rounds)
        yield held_to(TARGET, f"scrubbing clean {what}, {SECRETS} secrets", speeds, " MB/s", digits=0, outloop=found)
    speeds, found = _speeds(cleaning, json_body(random, is_escaped=True), rounds)
    yield Line("scrubbing JSON that writes \\/ and \\u00e9", outloop=found, result=speeds.text(" MB/s", 0))
    small_us = Spread.best_of((_small_us(cleaning) for _ in range(rounds)), min)
    yield Line(f"scrubbing a reply of {len(SMALL)} bytes", result=small_us.text(" µs", 1))


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
    start_s = time.process_time()
    for _ in range(SMALL_REPLIES):
        cleaning.clean([SMALL])
    return (time.process_time() - start_s) / SMALL_REPLIES * 1e6
