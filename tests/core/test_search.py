"""What goes out is found as it stands and as it decodes, wherever it is cut, and clean bytes are left alone."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable

import brotli
import pytest
import zstandard

from outloop.core.exposure import Needles
from outloop.core.search import Search
from outloop.core.secret import Secret

ONE, OTHER = b"sk_test/Obviously+Fake=Token.1234", b"another-value-of-another-owner-7"
BODY = b"note=" + ONE + b"&more=" + bytes(range(256)) * 3
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
WANTED = [Needles.compile([Secret(ONE)]), Needles.compile([Secret(OTHER)])]


def places(pieces: Iterable[bytes], encoding: str = "") -> set[int]:
    search = Search(WANTED, encoding)
    return {place for piece in pieces for place, _ in search.feed(piece)}


@pytest.mark.parametrize("name", CODINGS)
def test_a_value_in_a_declared_coding_is_found_wherever_the_body_is_cut(name: str) -> None:
    data = CODINGS[name](BODY)
    for cut in range(len(data) + 1):
        assert places([data[:cut], data[cut:]], name) == {0}, cut


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
def test_a_value_in_a_coding_that_begins_with_a_magic_is_found_without_its_being_declared(name: str) -> None:
    data = CODINGS[name](BODY)
    for cut in range(len(data) + 1):
        assert places([data[:cut], data[cut:]]) == {0}, cut
    assert places([bytes([byte]) for byte in data]) == {0}


def test_codings_on_top_of_each_other_are_undone_in_turn() -> None:
    assert places([CODINGS["br"](CODINGS["gzip"](BODY))], "gzip, br") == {0}


def test_it_tells_whose_value_stands_where() -> None:
    search = Search(WANTED)
    assert list(search.feed(b"x" + OTHER)) == [(1, b"x" + OTHER)]
    assert [place for place, _ in Search(WANTED).feed(OTHER + ONE)] == [0, 1]


@pytest.mark.parametrize("encoding", ["", "identity", "gzip", "aws-chunked", "gzip, gzip, gzip, gzip"])
def test_bytes_are_searched_as_they_stand_whatever_is_said_of_them(encoding: str) -> None:
    assert places([b"x" * 50 + ONE[:9], ONE[9:]], encoding) == {0}


@pytest.mark.parametrize(
    ("data", "encoding", "is_unreadable"),
    [
        pytest.param(b"a plain word", "gzip", True, id="not-what-it-declares"),
        pytest.param(zlib.compress(b"word") + b"more", "deflate", True, id="goes-on-behind-its-end"),
        pytest.param(gzip.compress(bytes(9_000_000), mtime=0), "gzip", True, id="explodes"),
        pytest.param(gzip.compress(b"word", mtime=0), "gzip", False, id="sound"),
        pytest.param(b"a plain word", "aws-chunked", False, id="a-coding-nobody-here-knows"),
        pytest.param(b"\x1f\x8b\x08 and no more", "", False, id="only-begins-so"),
        pytest.param(gzip.compress(bytes(9_000_000), mtime=0), "", False, id="explodes-without-saying-so"),
        pytest.param(b"", "gzip", False, id="empty"),
    ],
)
def test_a_body_is_unreadable_only_where_it_is_not_what_it_says(data: bytes, encoding: str, is_unreadable: bool) -> None:
    search = Search(WANTED, encoding)
    assert list(search.feed(data)) == []
    assert search.is_unreadable is is_unreadable


def test_after_data_that_cannot_be_decoded_the_rest_is_still_searched_as_it_stands() -> None:
    assert places([b"\x1f\x8b\x08 and no more", b" of it ", ONE]) == {0}
