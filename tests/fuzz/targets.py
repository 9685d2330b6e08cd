"""What is fuzzed: each target takes any bytes, and raises when something that must always hold does not."""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from functools import cache
from urllib.parse import quote

from harness.policies import CATALOGUE
from outloop.core.cleaning import BodyCleaner
from outloop.core.coding import CODINGS_MAXIMUM, EXPANSION_FLOOR_BYTES, EXPANSION_RATIO, PIECE_BYTES, decoder
from outloop.core.errors import MalformedRequest, PolicyError, ScrubError
from outloop.core.exposure import ExposureCheck, Needles
from outloop.core.hosts import canonical_host, split_authority
from outloop.core.paths import canonical_path, compile_pattern, parse_query, split_target
from outloop.core.policy import read_workspace
from outloop.core.scrub import MARK, Scrubber, ScrubSet, scrub
from outloop.core.secret import Secret
from outloop.store.documents import parse_document
from stateful.search import readings

CODINGS = ("", "gzip", "x-gzip", "deflate", "br", "zstd", "gzip, br", "br, gzip", "deflate, zstd", "gzip, gzip, gzip")
SECRETS = (b"sk_test/Obviously+Fake=Token.1234", b"0123456789abcdef0123456789abcdef", b"%41&amp;fake\\u0041+token=", b"shortone")
# What a fuzzer would take long to spell by itself: after an ESCAPE, one byte chooses what is put in.
ESCAPE = 0xFF
PUT_IN: tuple[Callable[[bytes], bytes], ...] = (
    bytes,
    b64encode,
    lambda secret: urlsafe_b64encode(secret).rstrip(b"="),
    lambda secret: b64encode(b"u:" + secret),
    lambda secret: b64encode(b"xx" + secret + b"y"),
    lambda secret: secret.hex().encode(),
    lambda secret: secret.hex(":").upper().encode(),
    lambda secret: quote(secret, safe="").encode(),
    lambda secret: b"".join(b"%%%02x" % byte for byte in secret),
    lambda secret: b"".join(b"%%25%02X" % byte for byte in secret),
    lambda secret: b"".join(b"\\u%04x" % byte for byte in secret),
    lambda secret: b"".join(b"\\\\u%04X" % byte for byte in secret),
    lambda secret: b"".join(b"&#%d;" % byte for byte in secret),
    lambda secret: b"".join(b"&amp;#x%x;" % byte for byte in secret),
    lambda secret: secret.decode().encode("utf-16-le"),
    lambda secret: secret[::-1],
    lambda secret: secret.swapcase(),
    lambda secret: secret[: len(secret) // 2],
    lambda secret: secret[len(secret) // 2 :],
    lambda secret: b64encode(b"w" * 43 + secret)[:64] + b"\r\n" + b64encode(b"w" * 43 + secret)[64:],
)


def decoding(data: bytes) -> None:
    """A decoder ends in bounded pieces or in ScrubError, and however the data is cut, it says the same."""
    if not data:
        return
    coding, body = CODINGS[data[0] % len(CODINGS)], data[1:]
    whole = _decoded(coding, [body])
    cuts = [body[at : at + 1] for at in range(len(body))] if len(body) < 256 else [body[:7], body[7:]]
    assert whole == _decoded(coding, cuts), "how the data is cut decides what it decodes to"
    if whole is not None:
        # Each layer of a stack may grow its own share; what counts is that the whole is bounded.
        assert len(whole) <= max(EXPANSION_FLOOR_BYTES, EXPANSION_RATIO * len(data)) + CODINGS_MAXIMUM * PIECE_BYTES


def _decoded(coding: str, pieces: list[bytes]) -> bytes | None:
    engine = decoder(coding)
    out = []
    try:
        for piece in pieces:
            for decoded in engine.feed(piece):
                assert 0 < len(decoded) <= PIECE_BYTES
                out.append(decoded)
        engine.finish()
    except ScrubError:
        return None
    return b"".join(out)


def scrubbing(data: bytes) -> None:
    """Nothing that the slow search finds is left; text that holds nothing like a secret stays; cuts change nothing."""
    if len(data) < 2:
        return
    secret, cut = SECRETS[data[0] % len(SECRETS)], data[1]
    text, (scrub_set, needles) = spelled(data[2:], secret), _compiled(secret)
    whole, hits = scrub(scrub_set, text)
    assert bool(hits) == (whole != text) or MARK in text, "what was taken out was not counted"
    scrubber = Scrubber(scrub_set)
    pieces = [text[: cut or 1], *(text[at : at + 1 + cut % 5] for at in range(cut or 1, len(text), 1 + cut % 5))]
    streamed = b"".join([*map(scrubber.feed, pieces), scrubber.finish()])
    assert streamed == whole, "where the stream is cut decides what is left"
    assert not ExposureCheck(needles).feed(whole), "the check finds what the scrubber left"
    if len(secret) > 16:  # a flipped short one is nobody's secret, and the slow search does not ask
        assert not _stands_in(whole, secret), "the slow search finds what the scrubber left"
        assert whole == text or _resembles(text, secret), "what holds nothing of the secret was changed"


@cache
def _compiled(secret: bytes) -> tuple[ScrubSet, Needles]:
    return ScrubSet.compile([Secret(secret)]), Needles.compile([Secret(secret)])


def spelled(data: bytes, secret: bytes) -> bytes:
    """Return *data* with forms of *secret* where it asks for them."""
    out, at = bytearray(), 0
    while at < len(data):
        if data[at] == ESCAPE and at + 1 < len(data):
            out += PUT_IN[data[at + 1] % len(PUT_IN)](secret)
            at += 2
        else:
            out.append(data[at])
            at += 1
    return bytes(out)


def _stands_in(text: bytes, secret: bytes) -> bool:
    """Tell whether *secret* is there plainly: as it is, or after one change that any client makes by itself."""
    return any(secret in reading for reading in _plain_readings(text))


def _plain_readings(text: bytes) -> Iterator[bytes]:
    yield text
    yield re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes.fromhex(found[1].decode()), text)
    yield re.sub(rb"\\u00([0-7][0-9A-Fa-f])", lambda found: bytes.fromhex(found[1].decode()), text)
    yield re.sub(rb"&#(\d{1,3});", lambda found: bytes([int(found[1])]) if int(found[1]) < 256 else found[0], text)


def _resembles(text: bytes, secret: bytes) -> bool:
    """Tell whether any reading of *text* has four bytes in a row with *secret* in common, in whatever case and direction."""
    folded = secret.lower()
    shreds = [shred for whole in (folded, folded[::-1]) for shred in (whole[at : at + 4] for at in range(len(whole) - 3))]
    return any(shred in reading.lower() for reading in readings(text) for shred in shreds)


def cleaning(data: bytes) -> None:
    """A body is cleaned, or refused with ScrubError; what leaves holds no secret; what is refused once stays refused."""
    if len(data) < 2:
        return
    coding, text = CODINGS[data[0] % len(CODINGS)], spelled(data[2:], SECRETS[0])
    scrub_set, needles = _compiled(SECRETS[0])
    cleaner = BodyCleaner(scrub_set, ExposureCheck(needles), coding)
    size = 1 + data[1]
    out = []
    try:
        for at in range(0, len(text), size):
            out += cleaner.feed(text[at : at + size])
        out += cleaner.finish()
    except ScrubError:
        assert not cleaner.exposed
    assert b"" not in out
    assert SECRETS[0] not in b"".join(out)


def paths(data: bytes) -> None:
    """A path has one form, which is its own form, and refusals are MalformedRequest and nothing else."""
    raw = data.decode("latin-1")
    for keep in (False, True):
        try:
            path, _ = split_target(raw)
            once = canonical_path(path, keep_encoded_slash=keep)
        except MalformedRequest:
            continue
        assert canonical_path(once.text, keep_encoded_slash=keep) == once, "its one form has another"
        assert once.text.startswith("/")
        assert once.text.isascii()
        assert "//" not in once.text
        assert not {".", "..", ""} & set(once.segments)
        assert keep or not any("/" in segment for segment in once.segments)
    for read in (parse_query, compile_pattern):
        try:
            read(raw)
        except (MalformedRequest, ValueError):
            continue


def hosts(data: bytes) -> None:
    """A host has one form, which is its own form, and refusals are MalformedRequest and nothing else."""
    raw = data.decode("utf-8", "surrogateescape")
    for read in (canonical_host, lambda text: split_authority(text, 443)[0]):
        try:
            once = read(raw)
        except MalformedRequest:
            continue
        assert canonical_host(once) == once
        assert once.isascii()
        assert once == once.lower()


def policy(data: bytes) -> None:
    """Any text is a workspace or a PolicyError that names places in it, never both and nothing else."""
    text = data.decode("utf-8", "replace")
    try:
        assert read_workspace(parse_document(text, "policies/acme.yaml"), CATALOGUE).name == "acme"
        return
    except PolicyError as error:
        problems = error.problems
    assert problems
    assert all(problem.line >= 1 and problem.column >= 1 and "\n" not in problem.message for problem in problems)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (decoding, scrubbing, cleaning, paths, hosts, policy)
}
