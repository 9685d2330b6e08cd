"""Agents' tokens: what is kept of them."""

from __future__ import annotations

import hashlib


def token_hash(token: str) -> str:
    """Return the SHA-256 of *token* in hex: the only form in which a token is stored.

    A plain hash does for a random value of 256 bits; slow and salted ones are for what people make up. Any text has one, lone
    surrogates too, so that whatever an agent sends can be looked up.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
