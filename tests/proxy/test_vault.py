"""What log lines are cleaned of: mitmproxy quotes an upstream that breaks HTTP."""

from __future__ import annotations

from outloop.core.scrub import MARK
from outloop.core.secret import Secret
from outloop.proxy.vault import SIGNATURES_REMEMBERED, Vault
from outloop.store.keycache import KeyCache


def vault() -> Vault:
    def nowhere() -> None:
        raise AssertionError("no key is needed to clean a line")

    return Vault(KeyCache(nowhere))  # type: ignore[arg-type]


def signature(number: int) -> Secret:
    return Secret(f"{number:064x}".encode())


def test_a_line_is_cleaned_of_the_signatures_of_late_requests() -> None:
    signed = vault()
    signed.remember([signature(1), signature(2)])

    line = f"Unexpected data from server: b'{1:064x} and {2:064x}'"

    assert signed.clean(line) == f"Unexpected data from server: b'{MARK.decode()} and {MARK.decode()}'"


def test_no_more_than_the_latest_are_remembered() -> None:
    signed = vault()
    for number in range(SIGNATURES_REMEMBERED + 1):
        signed.remember([signature(number)])

    assert signed.clean(f"{0:064x}") == f"{0:064x}"
    assert signed.clean(f"{1:064x}") == MARK.decode()
