"""A body is decoded, scrubbed and measured on its way; what cannot be proved clean never leaves."""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import tarfile
import tracemalloc
import urllib.parse
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from outloop.core import cleaning
from outloop.core.cleaning import BodyCleaner, clean_value
from outloop.core.errors import ScrubError
from outloop.core.exposure import ExposureCheck, Needles
from outloop.core.scrub import MARK, ScrubSet
from outloop.core.secret import Secret

SECRET = b"sk_test/Obviously+Fake=Token.1234"
SCRUB_SET = ScrubSet.compile([Secret(SECRET)])
NEEDLES = Needles.compile([Secret(SECRET)])
CLEAN = json.dumps([{"id": number, "name": "Ada"} for number in range(60)]).encode()


def cleaner(coding: str = "") -> BodyCleaner:
    return BodyCleaner(SCRUB_SET, ExposureCheck(NEEDLES), coding)


def cleaned(body: BodyCleaner, pieces: list[bytes]) -> bytes:
    out = [piece for data in pieces for piece in body.feed(data)] + body.finish()
    assert b"" not in out
    return b"".join(out)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def raw_deflate(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


def flushed(data: bytes) -> bytes:
    """Return *data* as gzip in which every byte ends a block of its own: cut anywhere, all before it can be read."""
    engine = zlib.compressobj(wbits=31)
    blocks = [engine.compress(bytes([byte])) + engine.flush(zlib.Z_FULL_FLUSH) for byte in data]
    return b"".join([*blocks, engine.flush()])


CODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "identity": ("", bytes),
    "gzip": ("gzip", gzip.compress),
    "gzip-blocks": ("gzip", flushed),
    "zlib": ("deflate", zlib.compress),
    "raw-deflate": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstd),
    "zstd-in-gzip": ("zstd, gzip", lambda data: gzip.compress(zstd(data))),
}
FORMS = {
    "raw": SECRET,
    "percent": urllib.parse.quote(SECRET, safe="").encode(),
    "json": json.dumps({"t": SECRET.decode()}).replace("/", "\\/").encode(),
    "html": "".join(f"&#{byte};" for byte in SECRET).encode(),
    "basic": base64.b64encode(b"user:" + SECRET),
    "hex": SECRET.hex().encode(),
    "utf-16": SECRET.decode().encode("utf-16"),
}


@pytest.mark.parametrize(("coding", "encode"), [pytest.param(*coder, id=name) for name, coder in CODERS.items()])
@pytest.mark.parametrize("form", [pytest.param(form, id=name) for name, form in FORMS.items()])
def test_a_form_in_a_coding_is_taken_out_wherever_it_is_cut(coding: str, encode: Callable[[bytes], bytes], form: bytes) -> None:
    coded = encode(b'{"a": "' + form + b'"}')
    whole = cleaned(cleaner(coding), [coded])

    assert MARK in whole
    assert not ExposureCheck(NEEDLES).feed(whole)
    for cut in range(0, len(coded), 1 + len(coded) // 90):
        assert cleaned(cleaner(coding), [coded[:cut], coded[cut:]]) == whole
    assert cleaned(cleaner(coding), [coded[i : i + 1] for i in range(len(coded))]) == whole


@pytest.mark.parametrize(("coding", "encode"), [pytest.param(*coder, id=name) for name, coder in CODERS.items()])
def test_a_clean_body_is_what_was_coded(coding: str, encode: Callable[[bytes], bytes]) -> None:
    body = cleaner(coding)

    assert cleaned(body, [encode(CLEAN)]) == CLEAN
    assert (body.hits, body.exposed) == (0, False)


def test_hits_are_counted() -> None:
    body = cleaner("gzip")
    cleaned(body, [gzip.compress(SECRET + b" " + SECRET.hex().encode() + b" " + SECRET)])

    assert body.hits == 3


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for number in range(20):
            content = random.Random(number).randbytes(9_000)
            member = tarfile.TarInfo(f"file-{number}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


DOWNLOADS = [
    pytest.param(archive(), id="tar-gz"),
    pytest.param(gzip.compress(CLEAN), id="gzip"),
    pytest.param(gzip.compress(CLEAN) + b"\0" * 512, id="gzip-padded"),
    pytest.param(gzip.compress(CLEAN)[:-9], id="gzip-cut-short"),
    pytest.param(gzip.compress(CLEAN)[:60] + random.Random(1).randbytes(400), id="gzip-corrupt"),
    pytest.param(b"\x1f\x8b\x08", id="gzip-magic-alone"),
    pytest.param(b"\x1f\x8b", id="less-than-the-magic"),
    pytest.param(zstd(CLEAN * 50), id="zstd"),
    pytest.param(zlib.compress(CLEAN), id="zlib"),
    pytest.param(b"x\x9c is how zlib begins, and this text as well", id="text-like-zlib"),
    pytest.param(b"xylophone", id="text-beginning-with-x"),
    pytest.param(random.Random(9).randbytes(150_000), id="random"),
    pytest.param(b"", id="empty"),
]


@pytest.mark.parametrize("data", DOWNLOADS)
def test_an_unlabelled_download_arrives_byte_for_byte(data: bytes) -> None:
    for size in (1 + len(data), 700, 61):
        body = cleaner()
        assert cleaned(body, [data[start : start + size] for start in range(0, len(data), size)]) == data
        assert body.hits == 0


HIDDEN = [
    pytest.param("", gzip.compress, id="gzip"),
    pytest.param("identity", zlib.compress, id="zlib"),
    pytest.param("", zstd, id="zstd"),
    pytest.param("", lambda data: gzip.compress(b"clean") + gzip.compress(data), id="gzip-second-member"),
    pytest.param("", lambda data: gzip.compress(data)[:-8], id="gzip-cut-short"),
    pytest.param("", lambda data: gzip.compress(data) + b"junk", id="gzip-with-junk-behind"),
    pytest.param("gzip", lambda data: gzip.compress(gzip.compress(data)), id="gzip-twice-labelled-once"),
    pytest.param("br", lambda data: brotli.compress(zstd(data)), id="zstd-in-br-labelled-br"),
]


@pytest.mark.parametrize(("coding", "encode"), HIDDEN)
def test_a_secret_in_an_unlabelled_compressed_body_is_refused(coding: str, encode: Callable[[bytes], bytes]) -> None:
    coded = encode(b'{"a": "' + SECRET + b'"}')

    for pieces in ([coded], [coded[i : i + 1] for i in range(len(coded))]):
        with pytest.raises(ScrubError, match="holds a secret"):
            cleaned(cleaner(coding), pieces)


def test_of_an_unlabelled_body_no_byte_leaves_before_what_it_holds_is_known() -> None:
    coded = flushed(b'{"a": "' + SECRET + b'"}')
    body = cleaner()
    left = b""
    with pytest.raises(ScrubError, match="holds a secret"):
        for index in range(len(coded)):
            left += b"".join(body.feed(coded[index : index + 1]))

    readable = zlib.decompressobj(wbits=31).decompress(left)
    assert readable == b'{"a": "'[: len(readable)]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_is_not_what_it_is_labelled_as_is_refused(coding: str) -> None:
    with pytest.raises(ScrubError):
        cleaned(cleaner(coding), [b'{"plain": true}'])


def test_a_body_in_an_unknown_coding_is_refused_before_it_comes() -> None:
    with pytest.raises(ScrubError):
        cleaner("exi")


def test_an_unlabelled_bomb_is_refused() -> None:
    engine = zlib.compressobj(9, wbits=31)
    bomb = b"".join([*(engine.compress(bytes(1 << 20)) for _ in range(48)), engine.flush()])

    with pytest.raises(ScrubError, match="beyond all proportion"):
        cleaned(cleaner(), [bomb])


def test_an_unlabelled_body_that_others_could_decompress_is_refused_when_it_is_not_read() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=24)
    engine = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    with pytest.raises(ScrubError, match="too large a window"):
        cleaned(cleaner(), [engine.compress(CLEAN) + engine.flush()])


def test_an_unlabelled_body_that_decodes_to_nothing_for_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "WAITING_LIMIT_BYTES", 10_000)
    frame = zstandard.ZstdCompressor().compressobj()
    begun = frame.compress(b"... s") + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) + frame.flush()
    skipped = b"\x50\x2a\x4d\x18" + (4_000_000).to_bytes(4, "little") + bytes(4_000_000)

    with pytest.raises(ScrubError, match="too long without content"):
        cleaned(cleaner(), [begun, *(skipped[start : start + 1000] for start in range(0, 50_000, 1000))])


def scrubs_another(check_knows: bytes = SECRET) -> BodyCleaner:
    """Return a cleaner whose scrub set lacks a secret that its check knows."""
    return BodyCleaner(ScrubSet.compile([Secret(b"another-secret")]), ExposureCheck(Needles.compile([Secret(check_knows)])))


def test_what_the_scrubber_misses_the_check_stops() -> None:
    body = scrubs_another()
    assert body.feed(b"{} ") == [b"{} "]

    with pytest.raises(ScrubError, match="the check found a secret"):
        body.feed(b'{"a": "' + SECRET + b'"} ')
    assert body.exposed is False


def test_exposed_tells_that_part_of_a_secret_had_left() -> None:
    body = scrubs_another()
    assert b"".join(body.feed(SECRET[:20])) != b""

    with pytest.raises(ScrubError, match="the check found a secret"):
        body.feed(SECRET[20:] + b" ")
    assert body.exposed is True


def test_after_a_failure_nothing_more_leaves() -> None:
    body = scrubs_another()
    with pytest.raises(ScrubError):
        body.feed(SECRET + b" ")

    with pytest.raises(ScrubError, match="the check found a secret"):
        body.feed(b"clean")
    with pytest.raises(ScrubError, match="the check found a secret"):
        body.finish()


def test_the_check_also_sees_what_was_held_back_to_the_end() -> None:
    body = BodyCleaner(ScrubSet.compile([Secret(SECRET + b"-and-more")]), ExposureCheck(NEEDLES))
    assert body.feed(SECRET) == []

    with pytest.raises(ScrubError, match="the check found a secret"):
        body.finish()


def test_events_leave_as_they_come() -> None:
    events = [b": hello\n\n", b'data: {"x": 1}\n\n', b"data: [DONE]\n\n", b":\n\n"]
    body = cleaner()

    assert [body.feed(event) for event in events] == [[event] for event in events]
    assert body.finish() == []


def test_a_body_that_is_held_back_whole_yields_no_pieces() -> None:
    body = cleaner()

    assert body.feed(SECRET[:9]) == []
    assert body.feed(b"") == []
    assert body.finish() == [SECRET[:9]]


def test_without_secrets_bodies_are_decoded_and_pass() -> None:
    def bare(coding: str) -> BodyCleaner:
        return BodyCleaner(ScrubSet.compile([]), ExposureCheck(Needles.compile([])), coding)

    assert cleaned(bare("gzip"), [gzip.compress(SECRET)]) == SECRET
    assert cleaned(bare(""), [gzip.compress(SECRET)]) == gzip.compress(SECRET)


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_memory_stays_flat_over_a_long_body(coding: str) -> None:
    chance = random.Random(4)
    engine = zlib.compressobj(1, wbits=31)
    body = cleaner(coding)
    tracemalloc.start()
    for megabyte in range(10):
        data = chance.randbytes(1 << 18) * 4
        for start in range(0, len(data), 1 << 16):
            piece = data[start : start + (1 << 16)]
            body.feed(engine.compress(piece) if coding else piece)
        if megabyte == 2:
            tracemalloc.reset_peak()
            early, _ = tracemalloc.get_traced_memory()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak - early < 4 * 1024 * 1024


@pytest.mark.parametrize(
    ("value", "expected", "hits"),
    [
        pytest.param(b"Bearer " + SECRET, b"Bearer " + MARK, 1, id="authorization"),
        pytest.param(b"/?t=" + FORMS["percent"] + b"&u=1", b"/?t=" + MARK + b"&u=1", 1, id="location"),
        pytest.param(b"sid=" + SECRET + b"; Path=/; HttpOnly", b"sid=" + MARK + b"; Path=/; HttpOnly", 1, id="set-cookie"),
        pytest.param(b'Basic realm="' + SECRET + b'"', b'Basic realm="' + MARK + b'"', 1, id="www-authenticate"),
        pytest.param(SECRET.lower(), MARK, 1, id="lower-cased-name"),
        pytest.param(b"application/json", b"application/json", 0, id="clean"),
        pytest.param(b"", b"", 0, id="empty"),
    ],
)
def test_a_header_value_is_cleaned(value: bytes, expected: bytes, hits: int) -> None:
    assert clean_value(SCRUB_SET, value) == (expected, hits)
