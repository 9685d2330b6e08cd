"""What agents trust, and what the proxy trusts upstream."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import certifi
import pytest
import trustme

from outloop.core.errors import UsageError
from outloop.store.authority import ensure_authority
from outloop.store.home import Home
from outloop.store.trust import CA_FILE_VARIABLES, bundle, upstream_trust


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.ensure()
    ensure_authority(home, datetime.now(UTC))
    return home


@pytest.fixture
def corporate(tmp_path: Path) -> Path:
    path = tmp_path / "corporate.pem"
    trustme.CA(organization_name="Corporate").cert_pem.write_to_path(str(path))
    return path


def certificates(path: Path) -> list[bytes]:
    """The certificates that OpenSSL takes from *path*, as DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    return context.get_ca_certs(binary_form=True)


def own(home: Home) -> bytes:
    return certificates(home.ca / "mitmproxy-ca-cert.pem")[0]


def test_agents_trust_the_public_roots_and_our_authority(home: Home) -> None:
    path = bundle(home, {})
    found = certificates(path)
    assert path == home.ca / "bundle.pem"
    assert own(home) in found
    assert set(certificates(Path(certifi.where()))) <= set(found)
    assert path.read_bytes().count(b"BEGIN CERTIFICATE") == len(set(found)), "each certificate stands once"


@pytest.mark.parametrize("variable", [*CA_FILE_VARIABLES, "SSL_CERT_DIR"])
def test_what_was_preset_stays_trusted(home: Home, corporate: Path, variable: str) -> None:
    value = corporate.parent if variable == "SSL_CERT_DIR" else corporate
    found = certificates(bundle(home, {variable: str(value)}))
    assert certificates(corporate)[0] in found
    assert own(home) in found


def test_a_preset_that_is_our_own_bundle_keeps_what_was_preset_then(home: Home, corporate: Path) -> None:
    first = bundle(home, {"SSL_CERT_FILE": str(corporate)})
    content = first.read_bytes()
    assert bundle(home, dict.fromkeys(CA_FILE_VARIABLES, str(first))) == first
    assert first.read_bytes() == content


def test_one_shells_preset_is_not_trusted_by_another(home: Home, corporate: Path) -> None:
    with_it = bundle(home, {"SSL_CERT_FILE": str(corporate)})
    without = bundle(home, {})
    assert with_it != without
    assert certificates(corporate)[0] not in certificates(without)


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param({"SSL_CERT_FILE": "/nowhere/at/all.pem"}, id="missing-file"),
        pytest.param({"SSL_CERT_DIR": "/nowhere:"}, id="missing-folder"),
        pytest.param({"SSL_CERT_FILE": ""}, id="empty"),
        pytest.param({"SSL_CERT_FILE": "/"}, id="folder-as-file"),
        pytest.param({"SSL_CERT_FILE": "/dev/zero"}, id="endless-device"),
        pytest.param({"SSL_CERT_FILE": certifi.where()}, id="the-public-roots-again"),
    ],
)
def test_a_preset_that_adds_nothing_changes_nothing(home: Home, preset: Mapping[str, str]) -> None:
    assert bundle(home, preset) == home.ca / "bundle.pem"


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", id="not-a-certificate"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", id="not-base64"),
        pytest.param(b"\xff\xfe\x00-----BEGIN CERTIFICATE-----", id="binary"),
    ],
)
def test_one_bad_block_does_not_make_the_whole_bundle_unreadable(home: Home, corporate: Path, garbage: bytes) -> None:
    corporate.write_bytes(garbage + corporate.read_bytes())
    found = certificates(bundle(home, {"SSL_CERT_FILE": str(corporate)}))
    assert own(home) in found


def test_a_private_key_beside_a_preset_certificate_is_left_out(home: Home, tmp_path: Path) -> None:
    pair = tmp_path / "pair.pem"
    trustme.CA().issue_cert("a.example").private_key_and_cert_chain_pem.write_to_path(str(pair))
    assert b"PRIVATE" not in bundle(home, {"SSL_CERT_FILE": str(pair)}).read_bytes()


def test_upstream_the_public_roots_are_trusted_and_our_own_authority_is_not(home: Home) -> None:
    found = certificates(upstream_trust(home, None, None))
    assert set(found) == set(certificates(Path(certifi.where())))
    assert own(home) not in found


def test_upstream_an_extra_file_is_added_to_the_roots(home: Home, corporate: Path) -> None:
    found = certificates(upstream_trust(home, None, corporate))
    assert set(found) == {*certificates(Path(certifi.where())), *certificates(corporate)}


def test_upstream_a_base_takes_the_place_of_the_roots(home: Home, corporate: Path, tmp_path: Path) -> None:
    extra = tmp_path / "extra.pem"
    trustme.CA(organization_name="Extra").cert_pem.write_to_path(str(extra))
    found = certificates(upstream_trust(home, corporate, extra))
    assert set(found) == {*certificates(corporate), *certificates(extra)}


def test_two_proxies_with_different_upstream_trust_do_not_share_a_file(home: Home, corporate: Path) -> None:
    assert (
        len({upstream_trust(home, None, None), upstream_trust(home, None, corporate), upstream_trust(home, corporate, None)}) == 3
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "cannot read the certificates in", id="missing"),
        pytest.param(b"no certificate", "holds no certificate", id="no-certificate"),
    ],
)
@pytest.mark.parametrize("place", ["base", "extra"])
def test_upstream_a_named_file_must_hold_certificates(
    home: Home, tmp_path: Path, content: bytes | None, message: str, place: str
) -> None:
    named = tmp_path / "named.pem"
    if content is not None:
        named.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        upstream_trust(home, named if place == "base" else None, named if place == "extra" else None)
