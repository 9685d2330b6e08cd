from __future__ import annotations

import pytest

from outloop.core.tokens import token_hash


def test_a_token_is_kept_as_its_sha256() -> None:
    assert token_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4, example 1


@pytest.mark.parametrize("sent", ["", "\ud800", "ключ", "\0", "x" * 100_000])
def test_whatever_an_agent_sends_can_be_looked_up(sent: str) -> None:
    assert len(token_hash(sent)) == 64
