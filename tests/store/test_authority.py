"""The authority signs what mitmproxy asks of it, and real clients accept the leaves."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from mitmproxy.certs import CertStore

from outloop.core.errors import UsageError
from outloop.store.authority import LIFETIME, RENEWAL, ensure_authority
from outloop.store.home import Home
from outloop.store.trust import bundle

NOW = datetime.now(UTC)
NAME = "api.calendly.com"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.ensure()
    return home


def leaf_files(home: Home, folder: Path) -> tuple[Path, Path]:
    """Let this mitmproxy sign a leaf for NAME; return its chain and its key."""
    store = CertStore.from_store(home.ca, "mitmproxy", 2048)
    entry = store.get_cert(NAME, [x509.DNSName(NAME)])
    chain, key = folder / "leaf.pem", folder / "leaf.key"
    chain.write_bytes(entry.cert.to_pem() + b"".join(link.to_pem() for link in entry.chain_certs))
    key.write_bytes(
        entry.privatekey.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return chain, key


@contextmanager
def serving(chain: Path, key: Path) -> Iterator[int]:
    """Answer one TLS request at a time on loopback with `hello`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(raw, server_side=True) as client:
                        client.recv(65536)
                        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
                except OSError:
                    continue

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def handshake(port: int, context: ssl.SSLContext) -> None:
    with socket.create_connection(("127.0.0.1", port), 5) as raw, context.wrap_socket(raw, server_hostname=NAME):
        pass


def test_the_files_are_private_and_in_the_layout_that_mitmproxy_reads(home: Home) -> None:
    authority = ensure_authority(home, NOW)
    assert authority.certificate == home.ca / "mitmproxy-ca-cert.pem"
    assert stat.S_IMODE(home.ca.stat().st_mode) == 0o700
    assert stat.S_IMODE((home.ca / "mitmproxy-ca.pem").stat().st_mode) == 0o600
    assert b"PRIVATE" not in authority.certificate.read_bytes()
    assert CertStore.from_store(home.ca, "mitmproxy", 2048).default_ca.to_pem() == authority.certificate.read_bytes()


def test_a_second_call_changes_nothing(home: Home) -> None:
    first = ensure_authority(home, NOW)
    before = (home.ca / "mitmproxy-ca.pem").read_bytes()
    assert ensure_authority(home, NOW + timedelta(days=30)) == first
    assert (home.ca / "mitmproxy-ca.pem").read_bytes() == before


def test_it_may_sign_leaves_only_and_for_servers_only(home: Home) -> None:
    ensure_authority(home, NOW)
    certificate = x509.load_pem_x509_certificate((home.ca / "mitmproxy-ca.pem").read_bytes())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value == x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.SERVER_AUTH]
    )
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == LIFETIME


def test_two_homes_have_authorities_with_different_names_and_keys(tmp_path: Path) -> None:
    homes = [Home(tmp_path / name) for name in ("a", "b")]
    certificates = []
    for each in homes:
        each.ensure()
        ensure_authority(each, NOW)
        certificates.append(x509.load_pem_x509_certificate((each.ca / "mitmproxy-ca-cert.pem").read_bytes()))
    assert certificates[0].subject != certificates[1].subject
    assert certificates[0].public_key() != certificates[1].public_key()


def test_python_accepts_a_leaf_even_when_it_verifies_strictly(home: Home, tmp_path: Path) -> None:
    ensure_authority(home, NOW)
    context = ssl.create_default_context(cafile=str(bundle(home, {})))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with serving(*leaf_files(home, tmp_path)) as port:
        handshake(port, context)


def test_python_refuses_a_leaf_of_another_homes_authority(home: Home, tmp_path: Path) -> None:
    ensure_authority(home, NOW)
    other = Home(tmp_path / "other")
    other.ensure()
    ensure_authority(other, NOW)
    context = ssl.create_default_context(cafile=str(bundle(home, {})))
    with serving(*leaf_files(other, tmp_path)) as port, pytest.raises(ssl.SSLCertVerificationError):
        handshake(port, context)


NODE = (
    "require('https').get({host: '127.0.0.1', port: process.argv[1], servername: 'api.calendly.com',"
    " checkServerIdentity: (_, cert) => require('tls').checkServerIdentity('api.calendly.com', cert)},"
    " answer => answer.pipe(process.stdout)).on('error', error => { console.error(error.message); process.exit(1) })"
)


@pytest.mark.parametrize(
    ("program", "arguments", "variable"),
    [
        pytest.param(
            "curl", ["-sS", "--connect-to", f"{NAME}:443:127.0.0.1:PORT", f"https://{NAME}/"], "CURL_CA_BUNDLE", id="curl"
        ),
        pytest.param("node", ["-e", NODE, "PORT"], "NODE_EXTRA_CA_CERTS", id="node"),
    ],
)
def test_a_program_accepts_a_leaf_with_the_bundle_and_not_without(
    home: Home, tmp_path: Path, program: str, arguments: list[str], variable: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program} (Debian: {program.replace('node', 'nodejs')})")
    ensure_authority(home, NOW)
    trusted = bundle(home, {})
    with serving(*leaf_files(home, tmp_path)) as port:
        command = [program, *(argument.replace("PORT", str(port)) for argument in arguments)]
        plain = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        accepted = subprocess.run(command, env=plain | {variable: str(trusted)}, capture_output=True, timeout=30, check=False)
        refused = subprocess.run(command, env=plain, capture_output=True, timeout=30, check=False)
    assert (accepted.returncode, accepted.stdout) == (0, b"hello"), accepted.stderr
    assert refused.returncode != 0


@pytest.mark.parametrize(
    ("age", "is_renewed"),
    [
        pytest.param(timedelta(days=0), False, id="new"),
        pytest.param(LIFETIME - RENEWAL - timedelta(days=3), False, id="not-yet"),
        pytest.param(LIFETIME - RENEWAL, True, id="ninety-days-before-the-end"),
        pytest.param(LIFETIME * 2, True, id="long-expired"),
    ],
)
def test_it_is_renewed_in_time(home: Home, age: timedelta, is_renewed: bool) -> None:
    first = ensure_authority(home, NOW)
    later = ensure_authority(home, NOW + age)
    assert (later.fingerprint != first.fingerprint) is is_renewed
    assert later.not_after - (NOW + age) >= RENEWAL - timedelta(days=1)


def test_what_was_signed_before_a_renewal_stays_valid_after_it(home: Home, tmp_path: Path) -> None:
    ensure_authority(home, NOW - LIFETIME + RENEWAL)
    files = leaf_files(home, tmp_path)
    before = (home.ca / "mitmproxy-ca-cert.pem").read_bytes()
    ensure_authority(home, NOW)
    assert (home.ca / "mitmproxy-ca-cert.pem").read_bytes() != before
    context = ssl.create_default_context(cafile=str(bundle(home, {})))
    with serving(*files) as port:
        handshake(port, context)


def test_processes_that_start_together_end_with_one_authority(home: Home) -> None:
    found: list[str] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        found.append(ensure_authority(home, NOW).fingerprint)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert sorted(path.name for path in home.ca.iterdir()) == ["mitmproxy-ca-cert.pem", "mitmproxy-ca.pem"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"-----BEGIN EC PRIVATE KEY-----\n", id="cut"),
        pytest.param(b"\xff\x00 nonsense", id="nonsense"),
    ],
)
def test_a_broken_authority_is_refused_and_left_as_it_is(home: Home, content: bytes) -> None:
    ensure_authority(home, NOW)
    (home.ca / "mitmproxy-ca.pem").write_bytes(content)
    with pytest.raises(UsageError, match="broken") as caught:
        ensure_authority(home, NOW)
    assert caught.value.hint
    assert (home.ca / "mitmproxy-ca.pem").read_bytes() == content


def test_a_certificate_of_another_key_is_refused(home: Home, tmp_path: Path) -> None:
    ensure_authority(home, NOW)
    other = Home(tmp_path / "other")
    other.ensure()
    ensure_authority(other, NOW)
    pair = home.ca / "mitmproxy-ca.pem"
    key, _, _ = pair.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    pair.write_bytes(key + (other.ca / "mitmproxy-ca-cert.pem").read_bytes())
    with pytest.raises(UsageError, match="broken"):
        ensure_authority(home, NOW)


def test_an_rsa_authority_is_refused(home: Home, tmp_path: Path) -> None:
    CertStore.create_store(tmp_path / "rsa", "mitmproxy", 2048)
    ensure_authority(home, NOW)
    (home.ca / "mitmproxy-ca.pem").write_bytes((tmp_path / "rsa" / "mitmproxy-ca.pem").read_bytes())
    with pytest.raises(UsageError, match="broken"):
        ensure_authority(home, NOW)


@pytest.mark.parametrize("name", [".", "mitmproxy-ca.pem"])
def test_a_key_that_others_could_read_is_refused(home: Home, name: str) -> None:
    ensure_authority(home, NOW)
    (home.ca / name).chmod(0o755)
    with pytest.raises(UsageError, match="open to other users"):
        ensure_authority(home, NOW)


def test_a_key_behind_a_link_is_refused(home: Home, tmp_path: Path) -> None:
    ensure_authority(home, NOW)
    pair = home.ca / "mitmproxy-ca.pem"
    pair.rename(tmp_path / "elsewhere.pem")
    pair.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(UsageError, match="open to other users, or not yours"):
        ensure_authority(home, NOW)


def test_a_public_file_that_was_swapped_is_put_right(home: Home, tmp_path: Path) -> None:
    authority = ensure_authority(home, NOW)
    right = authority.certificate.read_bytes()
    authority.certificate.write_bytes(b"another")
    ensure_authority(home, NOW)
    assert authority.certificate.read_bytes() == right
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    authority.certificate.unlink()
    authority.certificate.symlink_to(victim)
    ensure_authority(home, NOW)
    assert authority.certificate.read_bytes() == right
    assert victim.read_bytes() == b"kept"
