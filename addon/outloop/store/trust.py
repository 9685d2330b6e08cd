"""The trust files made for one home: what agents trust, and what the proxy trusts upstream.

Both stand beside the certificate authority (`store/authority.py`) and are plain PEM.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import certifi
from cryptography import x509

from outloop.core.errors import UsageError
from outloop.store.files import replace_file
from outloop.store.home import Home

# Where an agent's programs are told to look for certificates (operator/environment.py sets these; here they are read).
CA_FILE_VARIABLES = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "DENO_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
)
CA_FOLDER_VARIABLE = "SSL_CERT_DIR"

_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_PRESET_MARK = "# what was preset in the environment\n"
_END_MARK = "# Outloop's own\n"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")


def bundle(home: Home, preset: Mapping[str, str]) -> Path:
    """Write what agents trust and return the file: public roots, what *preset* (an environment) named, and our authority.

    `ensure_authority` comes first. Each set of preset certificates has a file of its own, so that two shells do not change
    each other's trust; a preset that is itself such a file gives what had been preset when it was written.
    """
    added = [der for path in _preset_files(preset) for der in _preset_certificates(home, path)]
    roots = [*_certificates(Path(certifi.where())), *_first_readable(_SYSTEM_ROOTS)]
    own = _certificates(home.ca / "mitmproxy-ca-cert.pem")
    return _write_trust(home.ca, "bundle", roots, added, own)


def wget_settings(bundle: Path) -> Path:
    """Write a wgetrc that names *bundle*, beside it, and return it: a wget built on GnuTLS reads no variable for that."""
    path = bundle.with_suffix(".wgetrc")
    replace_file(path, f"ca_certificate = {bundle}\n".encode(), 0o644)
    return path


def upstream_trust(home: Home, base: Path | None, extra: Path | None) -> Path:
    """Write what the proxy trusts upstream and return the file: *base* (default: the public roots) and *extra*.

    Never our own authority: an upstream that shows a certificate signed by it is not one. Raises UsageError when a named file
    cannot be read or holds no certificate.
    """
    roots = _named_certificates(base) if base else _certificates(Path(certifi.where()))
    added = _named_certificates(extra) if extra else []
    if not base and not added:
        return _write_trust(home.ca, "upstream", roots, [], [])
    return _write_trust(home.ca, "upstream", [], [*roots, *added], [])


def _preset_files(preset: Mapping[str, str]) -> list[Path]:
    files = [Path(preset[name]) for name in CA_FILE_VARIABLES if preset.get(name)]
    for folder in filter(None, preset.get(CA_FOLDER_VARIABLE, "").split(os.pathsep)):
        files += sorted(Path(folder).glob("*")) if Path(folder).is_dir() else []
    return list(dict.fromkeys(files))


def _preset_certificates(home: Home, path: Path) -> list[bytes]:
    """The certificates of a preset file; none when it cannot be read, as for the program that would have read it."""
    try:
        text = path.read_bytes() if path.is_file() else b""
    except OSError:
        return []
    if path.resolve().parent == home.ca.resolve():
        text = text.partition(_PRESET_MARK.encode())[2].partition(_END_MARK.encode())[0]
    return _parse(text)


def _named_certificates(path: Path) -> list[bytes]:
    try:
        found = _certificates(path)
    except OSError as error:
        raise UsageError(f"cannot read the certificates in {path}: {(error.strerror or 'unknown error').lower()}") from error
    if not found:
        raise UsageError(f"{path} holds no certificate", "name a PEM file with `-----BEGIN CERTIFICATE-----` in it")
    return found


def _first_readable(paths: Iterable[str]) -> list[bytes]:
    for path in paths:
        try:
            return _certificates(Path(path))
        except OSError:
            continue
    return []


def _certificates(path: Path) -> list[bytes]:
    return _parse(path.read_bytes())


def _parse(text: bytes) -> list[bytes]:
    """The DER forms of the readable certificates in *text*: one bad block makes OpenSSL refuse a whole file."""
    found = []
    for block in _PEM.findall(text):
        try:
            der = base64.b64decode(block)
            with warnings.catch_warnings(action="ignore"):  # of roots with odd serial numbers
                x509.load_der_x509_certificate(der)
        except ValueError:
            continue
        found.append(der)
    return found


def _write_trust(folder: Path, name: str, roots: Iterable[bytes], added: Iterable[bytes], own: Iterable[bytes]) -> Path:
    own_set = dict.fromkeys(own)
    root_set = dict.fromkeys(der for der in roots if der not in own_set)
    added_set = dict.fromkeys(der for der in added if der not in own_set and der not in root_set)
    parts = [f"# Written by Outloop: changes are lost\n{''.join(map(_pem_text, root_set))}"]
    parts += [_PRESET_MARK, *map(_pem_text, added_set), _END_MARK, *map(_pem_text, own_set)]
    digest = hashlib.sha256(b"".join(added_set)).hexdigest()[:12]
    path = folder / (f"{name}-{digest}.pem" if added_set else f"{name}.pem")
    replace_file(path, "".join(parts).encode(), 0o644)
    return path


def _pem_text(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"
