"""Small pure parts of the proxy's rooms."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from mitmproxy import http
from mitmproxy.net.http import http1

from outloop.proxy import heads
from outloop.proxy.addon import MAX_RETRY_AFTER_S, retry_after_s
from outloop.proxy.flows import proxy_credentials
from outloop.proxy.recording import masked_target


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0), ("1", 1), ("17", 17), ("3600", 3600), ("3601", 3600), ("99999999999999999999", 3600),
        ("", 0), ("-1", 0), ("1.5", 0), ("soon", 0), ("٣", 0), (" 5", 0), ("1 2", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("Fri, 31 Dec 9999 23:59:59 GMT", 3600), ("Fri, 99 Foo 9999", 0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_within_an_hour(value: str, expected: int) -> None:
    assert retry_after_s(value) == expected


def test_retry_after_as_a_date_is_counted_from_now() -> None:
    assert 0 < retry_after_s(formatdate(time.time() + 600, usegmt=True)) <= 601
    assert retry_after_s(formatdate(time.time() + 2 * MAX_RETRY_AFTER_S, usegmt=True)) == MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a", "/a"),
        ("/a?b=c&d", "/a?b=c&d"),
        ("/a?", "/a?"),
        ("/a?token=x", "/a?token=***"),
        ("/a?b=1&ACCESS_TOKEN=x&c=2", "/a?b=1&ACCESS_TOKEN=***&c=2"),
        ("/a?api-key=x", "/a?api-key=***"),
        ("/a?apikey=x&x.secret=y", "/a?apikey=***&x.secret=***"),
        ("/a?%74oken=x", "/a?%74oken=***"),
        ("/a?sig=x&code=y&password=z", "/a?sig=***&code=***&password=***"),
        ("/a?a=1;token=x", "/a?a=1;token=***"),
        ("/a?monkey=1&keyboard=2&tokens=3", "/a?monkey=***&keyboard=2&tokens=3"),
        ("/a?token", "/a?token"),
        ("/a?token=", "/a?token=***"),
        ("/a?token=x=y", "/a?token=***"),
        ("/a??token=x", "/a??token=***"),
    ],
)
def test_a_recorded_target_shows_no_value_of_what_sounds_like_a_credential(target: str, expected: str) -> None:
    assert masked_target(target, None) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], None, id="none"),
        pytest.param(["Basic YWNtZTp0b2tlbg=="], ("acme", "token"), id="basic"),
        pytest.param(["basic   YWNtZTp0b2tlbg=="], ("acme", "token"), id="lower-case"),
        pytest.param(["Basic YWNtZTp0bzprZW4="], ("acme", "to:ken"), id="colon-in-the-token"),
        pytest.param(["Basic YWNtZQ=="], ("acme", ""), id="no-colon"),
        pytest.param(["Basic"], ("", ""), id="nothing"),
        pytest.param(["Bearer YWNtZTp0b2tlbg=="], ("", ""), id="another-scheme"),
        pytest.param(["Basic YWNtZTp0b2tlbg==", "Basic YWNtZTp0b2tlbg=="], ("", ""), id="two"),
        pytest.param(["Basic YWNt!ZTp0b2tlbg=="], ("", ""), id="not-base64"),
        pytest.param(["Basic /w=="], ("", ""), id="not-utf-8"),
    ],
)
def test_proxy_credentials_are_basic_or_unreadable(values: list[str], expected: tuple[str, str] | None) -> None:
    request = http.Request.make("GET", "http://x.test/")
    request.headers.set_all("Proxy-Authorization", values)

    assert proxy_credentials(request) == expected


READ = heads.strict_head(http1.read_request_head)


@pytest.mark.parametrize(
    "lines",
    [
        [b"GET / HTTP/1.1", b"Host: x"],
        [b"POST /a?b HTTP/1.1", b"Host: x", b"Content-Length: 3"],
        [b"POST /a HTTP/1.1", b"Host: x", b"Transfer-Encoding: chunked"],
        [b"CONNECT x:443 HTTP/1.1", b"Host: x:443"],
        [b"GET http://x/ HTTP/1.0"],
    ],
    ids=["get", "length", "chunked", "connect", "absolute"],
)
def test_a_plain_head_is_read(lines: list[bytes]) -> None:
    assert not isinstance(READ(lines), heads.UnreadableRequest)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"GET /"], id="no-version"),
        pytest.param([b"GET  / HTTP/1.1"], id="two-spaces"),
        pytest.param([b"GET\t/ HTTP/1.1"], id="tab"),
        pytest.param([b"GET / HTTP/3"], id="another-version"),
        pytest.param([b"GET / HTTP/1.1", b"Host"], id="no-colon"),
        pytest.param([b"GET / HTTP/1.1", b"Host : x"], id="space-before-colon"),
        pytest.param([b"GET / HTTP/1.1", b": x"], id="no-name"),
        pytest.param([b"GET / HTTP/1.1", b"X: a", b" b"], id="folded"),
        pytest.param([b"GET / HTTP/1.1", b" X: a"], id="folded-at-once"),
        pytest.param([b"GET / HTTP/1.1", b"X: a\rb"], id="carriage-return"),
        pytest.param([b"GET / HTTP/1.1", b"X: a\0b"], id="nul"),
        pytest.param([b"GET / HTTP/1.1", b"Content-Length: 1", b"Content-Length: 2"], id="two-lengths"),
        pytest.param([b"GET / HTTP/1.1", b"Content-Length: 1", b"Transfer-Encoding: chunked"], id="length-and-coding"),
        pytest.param([b"GET / HTTP/1.1", b"Content-Length: +1"], id="signed-length"),
        pytest.param([b"GET / HTTP/1.1", b"Content-Length: 1_0"], id="underscored-length"),
        pytest.param([b"GET / HTTP/1.1", b"Content-Length: 18446744073709551617"], id="length-beyond-64-bits"),
        pytest.param([b"GET / HTTP/1.1", b"Transfer-Encoding: gzip, chunked"], id="two-codings"),
        pytest.param([b"GET / HTTP/1.1", b"Transfer-Encoding: identity"], id="identity"),
        pytest.param([b"GET / HTTP/1.1", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], id="chunked-twice"),
        pytest.param([b"GET / HTTP/1.1", *[b"X: 1"] * heads.MAX_HEAD_LINES], id="too-many"),
    ],
)
def test_a_head_without_one_safe_reading_is_unreadable(lines: list[bytes]) -> None:
    assert isinstance(READ(lines), heads.UnreadableRequest)
