"""Which token is used, until when it is scrubbed, and what becomes of it when its key or its service says no."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outloop.core.auth import Jwt, Minted, OAuth2
from outloop.core.secret import Secret
from outloop.proxy.minted import GRACE_S, MARGIN_S, MOST_REMEMBERED, REJECTED_PAUSE_S, MintedTokens
from outloop.store.state import KeyRecord

RECORD = KeyRecord("acme", "k", "calendly", True, 1, "2026-01-01T00:00:00.000Z", None)
KEY = ("acme", "k")
SCHEME = Jwt("HS256")
OTHER = Jwt("HS256", (("aud", "others"),))
NOW_S = 1000.0


def token(number: int = 1) -> Secret:
    return Secret(f"minted-token-{number}".encode())


def kept(
    lifetime_s: float = 3600.0, *, number: int = 1, tokens: MintedTokens | None = None, now_s: float = NOW_S
) -> MintedTokens:
    tokens = tokens or MintedTokens()
    tokens.keep(RECORD, SCHEME, Minted(token(number), now_s + lifetime_s), now_s)
    return tokens


def used(tokens: MintedTokens, now_s: float = NOW_S, record: KeyRecord = RECORD) -> str | None:
    found = tokens.of(record, now_s)
    secret = found.token_for(SCHEME) if found else None
    return secret.reveal().decode() if secret else None


def scrubbed(tokens: MintedTokens, now_s: float = NOW_S, record: KeyRecord = RECORD) -> list[str]:
    found = tokens.of(record, now_s)
    return [secret.reveal().decode() for secret in found.remembered] if found else []


@pytest.mark.parametrize(
    ("lifetime_s", "used_until_s"),
    [
        pytest.param(3600.0, 3600.0 - MARGIN_S, id="long"),
        pytest.param(300.0, 300.0 - MARGIN_S, id="five-minutes"),
        pytest.param(10.0, 8.0, id="ten-seconds"),
    ],
)
def test_a_token_is_used_until_shortly_before_it_ends_and_scrubbed_longer(lifetime_s: float, used_until_s: float) -> None:
    tokens = kept(lifetime_s)

    assert used(tokens, NOW_S + used_until_s - 0.1) == "minted-token-1"
    assert used(tokens, NOW_S + used_until_s) is None
    last_s = NOW_S + max(lifetime_s, GRACE_S)
    assert scrubbed(tokens, last_s - 0.1) == ["minted-token-1"]
    assert scrubbed(tokens, last_s) == []


def test_a_token_that_was_replaced_is_scrubbed_for_its_grace() -> None:
    tokens = kept(10**7)
    kept(number=2, tokens=tokens, now_s=NOW_S + 5)

    assert used(tokens, NOW_S + 5) == "minted-token-2"
    assert scrubbed(tokens, NOW_S + 5 + GRACE_S - 1) == ["minted-token-2", "minted-token-1"]
    assert "minted-token-1" not in scrubbed(tokens, NOW_S + 5 + GRACE_S)


def test_a_token_serves_the_scheme_it_was_made_for_alone() -> None:
    tokens = kept()
    found = tokens.of(RECORD, NOW_S)
    assert found is not None
    assert found.token_for(OTHER) is None
    assert found.token_for(OAuth2("refresh_token", "https://login.example.com")) is None

    tokens.keep(RECORD, OTHER, Minted(token(2), NOW_S + 600), NOW_S)

    assert used(tokens) == "minted-token-1"
    assert scrubbed(tokens) == ["minted-token-2", "minted-token-1"]


@pytest.mark.parametrize(
    "record",
    [replace(RECORD, generation=2), replace(RECORD, added_at="2027-01-01T00:00:00.000Z")],
    ids=["rotated", "state-made-anew"],
)
def test_a_key_with_another_value_has_no_token_and_the_old_one_is_scrubbed_on(record: KeyRecord) -> None:
    tokens = kept(10**7)

    assert used(tokens, NOW_S + 1, record) is None
    assert scrubbed(tokens, NOW_S + GRACE_S, record) == ["minted-token-1"]
    assert scrubbed(tokens, NOW_S + 1 + GRACE_S, record) == []


def test_a_renewed_key_keeps_its_token() -> None:
    assert used(kept(), record=replace(RECORD, renewals=3, previous_until=5.0)) == "minted-token-1"


def test_a_token_that_is_not_taken_is_used_no_more_and_its_successor_has_a_pause() -> None:
    tokens = kept()
    tokens.reject(KEY, token(1), NOW_S + 1)
    assert used(tokens) is None
    kept(number=2, tokens=tokens, now_s=NOW_S + 2)

    tokens.reject(KEY, token(2), NOW_S + 3)
    assert used(tokens) == "minted-token-2"
    tokens.reject(KEY, token(2), NOW_S + 2 + REJECTED_PAUSE_S)
    assert used(tokens) is None
    assert scrubbed(tokens) == ["minted-token-2", "minted-token-1"]


def test_a_late_answer_to_an_older_token_takes_nothing_from_the_present_one() -> None:
    tokens = kept()
    kept(number=2, tokens=tokens)

    tokens.reject(KEY, token(1), NOW_S)
    tokens.reject(("acme", "other"), token(2), NOW_S)

    assert used(tokens) == "minted-token-2"


def test_the_memory_of_tokens_is_bounded() -> None:
    tokens = MintedTokens()
    for number in range(100):
        kept(number=number, tokens=tokens)

    assert scrubbed(tokens) == [f"minted-token-{number}" for number in range(99, 99 - MOST_REMEMBERED, -1)]


@pytest.mark.parametrize("keys", [{}, {KEY: replace(RECORD, runtime_access=False)}], ids=["gone", "off"])
def test_a_key_that_may_not_be_used_has_its_tokens_dropped(keys: dict[tuple[str, str], KeyRecord]) -> None:
    tokens = kept()
    tokens.drop_disabled({KEY: RECORD})
    assert used(tokens)

    tokens.drop_disabled(keys)

    assert tokens.is_empty
    assert scrubbed(tokens) == []
