"""What every test may rely on: an empty home of its own, and upstreams that an authority made for the run vouches for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from harness.operators import Operator
from outloop.attacks.upstream.certs import Authority

# A slow machine is not a failure, and a run is the same every time: what hypothesis finds becomes a row in a table.
hypothesis.settings.register_profile("outloop", deadline=None, derandomize=True, max_examples=200)
hypothesis.settings.load_profile("outloop")

AMBIENT = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "PYTHON_KEYRING_BACKEND"),
    *("CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
)


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_users_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the home, the keychain or the proxy of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in AMBIENT:
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        home = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(home))
        patch.setenv("OUTLOOP_HOME", str(home / "outloop"))
        patch.setenv("OUTLOOP_KEYRING", "file")
        yield


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The authority that upstreams are signed by."""
    return Authority()


@pytest.fixture(scope="session")
def upstream_ca(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its certificate, for `OUTLOOP_UPSTREAM_CA`."""
    return authority.write_bundle(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    """An operator with an empty home."""
    return Operator(tmp_path)
