"""Host spellings: one form passes, every other is refused.

Spellings are from the WHATWG URL Standard ("host parsing", "IPv4 parser") and its web-platform-tests (url/resources/
urltestdata.json), RFC 3986 §3.2, RFC 5952, Orange Tsai's "A New Era of SSRF" and "HostSplit" (Black Hat 2017, 2019) and
PortSwigger's "URL validation bypass" cheat sheet.
"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outloop.core.errors import MalformedRequest
from outloop.core.hosts import canonical_host, is_ip, is_public_address, split_authority


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param("api.calendly.com", "api.calendly.com", id="already-canonical"),
        pytest.param("API.Calendly.COM", "api.calendly.com", id="upper-case"),
        pytest.param("api.calendly.com.", "api.calendly.com", id="root-dot"),
        pytest.param("xn--bcher-kva.example", "xn--bcher-kva.example", id="a-label"),
        pytest.param("XN--BCHER-KVA.example", "xn--bcher-kva.example", id="a-label-upper-case"),
        pytest.param("localhost", "localhost", id="single-label"),
        pytest.param("1.example.com", "1.example.com", id="numeric-first-label"),
        pytest.param("0x7f.example", "0x7f.example", id="hex-first-label"),
        pytest.param("a" * 63 + ".example", "a" * 63 + ".example", id="longest-label"),
        pytest.param("192.0.2.1", "192.0.2.1", id="dotted-quad"),
        pytest.param("2001:db8::1", "2001:db8::1", id="rfc5952"),
        pytest.param("::1", "::1", id="loopback-v6"),
    ],
)
def test_a_host_has_one_canonical_form(raw: str, expected: str) -> None:
    assert canonical_host(raw) == expected
    assert canonical_host(expected) == expected


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("", id="empty"),
        pytest.param(".", id="only-a-dot"),
        pytest.param("..", id="two-dots"),
        pytest.param("api.calendly.com..", id="two-trailing-dots"),
        pytest.param(".calendly.com", id="leading-dot"),
        pytest.param("api..calendly.com", id="empty-label"),
        pytest.param("api.calendly.com:443", id="port-left-over"),
        pytest.param("[2001:db8::1]", id="brackets-left-over"),
        pytest.param("evil.example@api.calendly.com", id="user-info"),
        pytest.param("api.calendly.com%00.evil.example", id="percent-nul"),
        pytest.param("api.calendly.com\x00.evil.example", id="raw-nul"),
        pytest.param("api%2ecalendly.com", id="percent-encoded-dot"),
        pytest.param("api.calendly.com ", id="trailing-space"),
        pytest.param("\tapi.calendly.com", id="leading-tab"),
        pytest.param("api.calendly.com\n", id="trailing-newline"),
        pytest.param("api.calendly.com/", id="slash"),
        pytest.param("api.calendly.com\\.evil.example", id="backslash"),
        pytest.param("api.calendly.com#.evil.example", id="fragment"),
        pytest.param("api.calendly.com?.evil.example", id="question-mark"),
        pytest.param("api.calendly.com;evil.example", id="semicolon"),
        pytest.param("api.calendly.com,evil.example", id="comma"),
        pytest.param("ａｐｉ.calendly.com", id="full-width-letters"),
        pytest.param("api．calendly．com", id="full-width-dots"),
        pytest.param("api。calendly。com", id="ideographic-full-stop"),
        pytest.param("api.calend\u200bly.com", id="zero-width-space"),
        pytest.param("api.calend\u00adly.com", id="soft-hyphen"),
        pytest.param("api.calendl\u0443.com", id="cyrillic-look-alike"),
        pytest.param("api.calendly.c℀m", id="hostsplit-account-of"),
        pytest.param("bücher.example", id="u-label"),
        pytest.param("\u212aelvin.example", id="kelvin-sign-lower-cases-to-k"),
        pytest.param("-api.calendly.com", id="leading-hyphen"),
        pytest.param("api-.calendly.com", id="trailing-hyphen"),
        pytest.param("api_v2.calendly.com", id="underscore"),
        pytest.param("*.calendly.com", id="wildcard"),
        pytest.param("a" * 64 + ".example", id="label-too-long"),
        pytest.param(".".join(["a" * 49] * 5) + ".abcd", id="name-too-long"),
    ],
)
def test_a_host_that_is_no_plain_name_is_refused(raw: str) -> None:
    with pytest.raises(MalformedRequest):
        canonical_host(raw)


@pytest.mark.parametrize(
    "raw",
    [
        *("0x7f.1", "0X7F.1", "0x7f.0.0.1", "0x7f000001", "0x7f.0x0.0x0.0x1", "0x"),
        *("017700000001", "0177.0.0.1", "0177.1", "00.0.0.0", "127.0.0.01", "127.0.0.001"),
        *("2130706433", "127.1", "127.0.1", "0", "1.2.3", "1.2.3.4.5"),
        *("256.0.0.1", "127.0.0.256", "4294967296", "127.0.0.1.", "127.0.0.0x1", "foo.0x4", "foo.09", "api.123"),
        *("１２７.0.0.1", "①②⑦.⓪.⓪.①", "127。0。0。1", "١٢٧.0.0.1", "127.0.0.1\x00", "+127.0.0.1", "127.0.0.1%"),
        *("0:0:0:0:0:0:0:1", "::0001", "2001:DB8::1", "2001:db8::1:0:0:0", "2001:db8::0:1", "::1%25eth0", "fe80::1%eth0", "::1."),
        *(
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
            "::127.0.0.1",
            "0::1",
            ":::1",
            "::1::",
            "1:2:3:4:5:6:7:8:9",
            "::g",
            ":",
            "::ffff:0x7f.1",
        ),
    ],
)
def test_an_ip_address_in_any_other_notation_is_refused(raw: str) -> None:
    with pytest.raises(MalformedRequest):
        canonical_host(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param("API.calendly.com", ("api.calendly.com", 443), id="default-port"),
        pytest.param("api.calendly.com:8443", ("api.calendly.com", 8443), id="port"),
        pytest.param("api.calendly.com.:443", ("api.calendly.com", 443), id="root-dot-and-port"),
        pytest.param("[2001:db8::1]", ("2001:db8::1", 443), id="v6"),
        pytest.param("[2001:db8::1]:65535", ("2001:db8::1", 65535), id="v6-and-port"),
        pytest.param("192.0.2.1:1", ("192.0.2.1", 1), id="v4-and-port"),
    ],
)
def test_an_authority_splits_into_host_and_port(raw: str, expected: tuple[str, int]) -> None:
    assert split_authority(raw, 443) == expected


@pytest.mark.parametrize(
    "raw",
    [
        *("", ":443", "api.calendly.com:", "api.calendly.com:0", "api.calendly.com:0443", "api.calendly.com:65536"),
        *(
            "api.calendly.com:+443",
            "api.calendly.com:-1",
            "api.calendly.com: 443",
            "api.calendly.com:443 ",
            "api.calendly.com:443\n",
        ),
        *("api.calendly.com:https", "api.calendly.com:４４３", "api.calendly.com:443:443", "api.calendly.com:443@evil.example"),
        *("user:password@api.calendly.com:443", "user@api.calendly.com", "evil.example:80@api.calendly.com:443"),
        *("2001:db8::1", "2001:db8::1:443", "[2001:db8::1", "2001:db8::1]", "[2001:db8::1]443", "[2001:db8::1]]:443", "[[::1]]"),
        *("[192.0.2.1]", "[api.calendly.com]:443", "[]", "[]:443", "[::1]:", "[::1]:0", "[::ffff:127.0.0.1]:443", "x[::1]:443"),
        "[::1%25lo]:443",
    ],
)
def test_an_authority_with_two_readings_is_refused(raw: str) -> None:
    with pytest.raises(MalformedRequest):
        split_authority(raw, 443)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", True),
        ("::1", True),
        ("2001:db8::1", True),
        ("api.calendly.com", False),
        ("1.2.3.example", False),
        ("1", False),
    ],
)
def test_an_address_is_told_from_a_name(host: str, expected: bool) -> None:
    assert is_ip(host) is expected


@pytest.mark.parametrize("ip", ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.167.1.1"])
def test_a_routed_v4_address_is_public(ip: str) -> None:
    assert is_public_address(ip)


@pytest.mark.parametrize(
    "ip", ["2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::1"]
)
def test_a_routed_v6_address_is_public(ip: str) -> None:
    assert is_public_address(ip)


@pytest.mark.parametrize(
    "ip",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255", "169.254.169.254"),
        *("172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1"),
        *("203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
        *(
            "::",
            "::1",
            "::7f00:1",
            "fe80::1",
            "fe80::1%eth0",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "100::1",
        ),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:0"),
        *("2002:7f00:1::", "2002:a00:1::1", "2002:c0a8:101::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
        *("2001::1", "2001:0:7f00:1::", "3fff::1", "5f00::1", "4000::1"),
        *("", "localhost", "api.calendly.com", "127.1", "0x7f.1", "2130706433", "8.8.8.8 ", "[::1]"),
    ],
)
def test_what_the_open_internet_does_not_route_is_not_public(ip: str) -> None:
    assert not is_public_address(ip)


@given(st.ip_addresses())
@settings(deadline=None, max_examples=300)
def test_nothing_that_python_calls_private_is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    carries_v4 = isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.sixtofour)
    if not carries_v4 and (not address.is_global or address.is_multicast):
        assert not is_public_address(str(address))


@given(st.text(alphabet=st.sampled_from("aZ09-._:%[]@\u3002\uff0e\u200b x")) | st.ip_addresses().map(str))
@settings(deadline=None, max_examples=500)
def test_what_passes_is_its_own_canonical_form(raw: str) -> None:
    try:
        host = canonical_host(raw)
    except MalformedRequest:
        return
    assert canonical_host(host) == host
    assert host in (raw, raw.lower(), raw.lower().removesuffix("."))
    assert is_ip(host) is (_parses_as_address(host))


def _parses_as_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
