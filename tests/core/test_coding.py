"""Codings are undone in bounded pieces; what cannot be read in one way only is refused."""

from __future__ import annotations

import gzip
import itertools
import random
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from outloop.core.coding import PIECE_BYTES, ExpansionError, coding_by_magic, decoder, may_become_magic
from outloop.core.errors import ScrubError

TEXT = b'{"name": "Ada", "note": "\xc3\xa9"} ' * 40
NOISE = random.Random(2).randbytes(300_000)


def deflate_raw(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


CODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZIP", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw-deflate": ("deflate", deflate_raw),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstd),
    "identity": ("identity", bytes),
    "none": ("", bytes),
    "gzip-members": ("gzip", lambda data: gzip.compress(data[:7]) + gzip.compress(b"") + gzip.compress(data[7:])),
    "zstd-frames": ("zstd", lambda data: zstd(data[:7]) + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstd(data[7:])),
    "gzip-then-br": ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
    "three-deep": ("deflate,identity ,zstd,  GZip", lambda data: gzip.compress(zstd(zlib.compress(data)))),
}
CODINGS = [pytest.param(name, encode, id=id_) for id_, (name, encode) in CODERS.items()]
COMPRESSIONS = [case for case in CODINGS if case.id not in ("identity", "none")]


def decoded(name: str, pieces: list[bytes]) -> bytes:
    undo = decoder(name)
    out = [part for piece in pieces for part in undo.feed(piece)]
    undo.finish()
    assert all(0 < len(part) <= PIECE_BYTES for part in out)
    return b"".join(out)


@pytest.mark.parametrize(("name", "encode"), CODINGS)
@pytest.mark.parametrize("data", [TEXT, NOISE, bytes(1_000_000), b"x", b""], ids=["text", "noise", "zeros", "byte", "empty"])
def test_what_was_coded_comes_back(name: str, encode: Callable[[bytes], bytes], data: bytes) -> None:
    coded = encode(data)

    assert decoded(name, [coded]) == data
    assert decoded(name, [coded[start : start + 1000] for start in range(0, len(coded), 1000)]) == data


@pytest.mark.parametrize(("name", "encode"), CODINGS)
@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES])
def test_a_body_as_long_as_a_piece_comes_back_whole(name: str, encode: Callable[[bytes], bytes], size: int) -> None:
    assert decoded(name, [encode(bytes(size))]) == bytes(size)


@pytest.mark.parametrize(("name", "encode"), CODINGS)
def test_it_may_be_cut_at_every_byte(name: str, encode: Callable[[bytes], bytes]) -> None:
    coded = encode(TEXT[:90])

    assert decoded(name, [coded[start : start + 1] for start in range(len(coded))]) == TEXT[:90]
    assert all(decoded(name, [coded[:cut], coded[cut:]]) == TEXT[:90] for cut in range(len(coded) + 1))


@pytest.mark.parametrize(("name", "encode"), COMPRESSIONS)
def test_no_data_at_all_is_an_empty_body(name: str, encode: Callable[[bytes], bytes]) -> None:
    assert decoded(name, []) == b""
    assert decoded(name, [b""]) == b""


@pytest.mark.parametrize(("name", "encode"), COMPRESSIONS)
def test_data_that_ends_early_is_refused(name: str, encode: Callable[[bytes], bytes]) -> None:
    coded = encode(TEXT)

    for cut in (1, 3, len(coded) // 2, len(coded) - 1):
        with pytest.raises(ScrubError):
            decoded(name, [coded[:cut]])


@pytest.mark.parametrize(("name", "encode"), COMPRESSIONS)
@pytest.mark.parametrize("is_apart", [False, True], ids=["in-one-piece", "apart"])
def test_bytes_behind_the_end_are_refused(name: str, encode: Callable[[bytes], bytes], is_apart: bool) -> None:
    with pytest.raises(ScrubError):
        decoded(name, [encode(TEXT), b"secret"] if is_apart else [encode(TEXT) + b"secret"])


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("data", [b'{"plain": "text that was never compressed"}', b"\x1f\x8b\x08junk junk junk", b"\xff" * 50])
def test_data_that_is_not_what_it_is_labelled_as_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(ScrubError):
        decoded(name, [data])


@pytest.mark.parametrize(("label", "actual"), list(itertools.permutations(["gzip", "zlib", "br", "zstd"], 2)))
def test_one_coding_labelled_as_another_is_refused(label: str, actual: str) -> None:
    with pytest.raises(ScrubError):
        decoded(CODERS[label][0], [CODERS[actual][1](TEXT)])


@pytest.mark.parametrize("name", ["compress", "aes128gcm", "gzip, exi", "gzip;q=1", "dcb", "gzip br"])
def test_an_unknown_coding_is_refused(name: str) -> None:
    with pytest.raises(ScrubError, match="cannot be read"):
        decoder(name)


def test_a_fourth_coding_is_refused() -> None:
    with pytest.raises(ScrubError, match="too many times"):
        decoder("gzip, gzip, gzip, gzip")


def zeros(add: Callable[[bytes], bytes], end: Callable[[], bytes], count: int) -> bytes:
    """Return *count* MiB of zeros as an engine with *add* and *end* compresses them."""
    return b"".join([*(add(bytes(1 << 20)) for _ in range(count)), end()])


def deflated_zeros(window_bits: int, count: int) -> bytes:
    engine = zlib.compressobj(9, wbits=window_bits)
    return zeros(engine.compress, engine.flush, count)


def brotli_zeros(count: int) -> bytes:
    engine = brotli.Compressor(quality=5)
    return zeros(engine.process, engine.finish, count)


def zstd_zeros(count: int) -> bytes:
    engine = zstandard.ZstdCompressor().compressobj()
    return zeros(engine.compress, engine.flush, count)


BOMBS = [
    pytest.param("gzip", lambda: deflated_zeros(31, 64), id="gzip"),
    pytest.param("deflate", lambda: deflated_zeros(15, 64), id="zlib"),
    pytest.param("br", lambda: brotli_zeros(256), id="br"),
    pytest.param("zstd", lambda: zstd_zeros(256), id="zstd"),
    pytest.param("gzip, gzip", lambda: gzip.compress(deflated_zeros(31, 256)), id="gzip-in-gzip"),
    pytest.param("gzip, gzip", lambda: gzip.compress(gzip.compress(b"") * 50_000), id="empty-members"),
    pytest.param("zstd", lambda: zstd(b"") * 50_000, id="empty-frames"),
]


@pytest.mark.parametrize(("name", "make"), BOMBS)
def test_a_bomb_is_refused_in_little_memory(name: str, make: Callable[[], bytes]) -> None:
    coded = make()
    undo = decoder(name)
    tracemalloc.start()
    with pytest.raises(ExpansionError):
        for start in range(0, len(coded), PIECE_BYTES):
            for _ in undo.feed(coded[start : start + PIECE_BYTES]):
                pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 40 * 1024 * 1024


def test_a_zstd_window_larger_than_browsers_take_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=24)
    engine = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    with pytest.raises(ExpansionError, match="window"):
        decoded("zstd", [engine.compress(TEXT) + engine.flush()])


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param(gzip.compress(TEXT), "gzip", id="gzip"),
        pytest.param(zlib.compress(TEXT, 1), "deflate", id="zlib-fast"),
        pytest.param(zlib.compress(TEXT, 9), "deflate", id="zlib-best"),
        pytest.param(zstd(TEXT), "zstd", id="zstd"),
        pytest.param(b"\x5f\x2a\x4d\x18\0\0\0\0", "zstd", id="zstd-skippable"),
        pytest.param(b'{"a": 1}', None, id="json"),
        pytest.param(b"xml is text", None, id="x"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_compressed_data_is_known_by_its_first_bytes(head: bytes, expected: str | None) -> None:
    assert coding_by_magic(head) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        *(pytest.param(head, True, id=repr(head)) for head in (b"", b"x", b"\x1f", b"\x1f\x8b", b"\x28\xb5\x2f", b"P*M")),
        *(pytest.param(head, False, id=repr(head)) for head in (b":", b"{", b"x!", b"\x1f\x8b\x08", b"\x1f ", b"(c)", b":\n\n")),
    ],
)
def test_a_body_waits_only_while_its_first_bytes_may_be_magic(head: bytes, expected: bool) -> None:
    assert may_become_magic(head) is expected
