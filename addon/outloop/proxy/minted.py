"""The tokens that were made from keys: in memory alone, each until it is about to expire or the upstream does not take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outloop.core.auth import Minted, Scheme
from outloop.core.secret import Secret
from outloop.store.state import KeyRecord

MARGIN_S = 60.0  # a token is not sent when it ends this soon: it has a way to go, and clocks differ
GRACE_S = 3600.0  # one that was replaced may come back for this long, in what it was stored in
REJECTED_PAUSE_S = 30.0
MOST_REMEMBERED = 16

KeyId = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A key's tokens at one moment: those to use, by the scheme that each was made for, and all that may come back."""

    usable: tuple[tuple[Scheme, Secret], ...]
    remembered: tuple[Secret, ...]

    def token_for(self, scheme: Scheme) -> Secret | None:
        """Return the token to use for *scheme*: one that was made for another endpoint, audience or scope is not it."""
        return next((token for made_for, token in self.usable if made_for == scheme), None)


@dataclass(slots=True)
class _Token:
    scheme: Scheme
    token: Secret
    minted_s: float
    renew_s: float
    until_s: float  # when it is scrubbed no more
    follows_rejection: bool
    is_usable: bool = True


@dataclass(slots=True)
class _Kept:
    """Of one value of a key, which its stamp stands for; what was made from the value before is scrubbed on, and used no more."""

    stamp: tuple[int, str]
    tokens: list[_Token]
    was_rejected: bool = False


class MintedTokens:
    """Every token in memory, by key. Times are in seconds since the epoch."""

    def __init__(self) -> None:
        self._by_key: dict[KeyId, _Kept] = {}

    def of(self, record: KeyRecord, now_s: float) -> Tokens | None:
        """Return the tokens of the key of *record*, None where there are none."""
        tokens = self._of(record, now_s)
        if not tokens:
            return None
        usable = tuple((each.scheme, each.token) for each in tokens if each.is_usable and each.renew_s > now_s)
        return Tokens(usable, tuple(each.token for each in tokens))

    def keep(self, record: KeyRecord, scheme: Scheme, minted: Minted, now_s: float) -> None:
        """Use *minted* from now on for the key of *record* where it is for *scheme*."""
        kept = self._by_key.setdefault(_id(record), _Kept((record.generation, record.added_at), []))
        tokens = self._of(record, now_s)
        for each in tokens:
            if each.scheme == scheme:
                each.is_usable = False
                each.until_s = min(each.until_s, now_s + GRACE_S)
        margin_s = min(MARGIN_S, (minted.expires_s - now_s) / 5)
        until_s = max(minted.expires_s, now_s + GRACE_S)
        token = _Token(scheme, minted.token, now_s, minted.expires_s - margin_s, until_s, kept.was_rejected)
        kept.tokens = [token, *tokens][:MOST_REMEMBERED]
        kept.was_rejected = False

    def reject(self, key: KeyId, token: Secret, now_s: float) -> None:
        """Use *token* no more: the upstream did not take it.

        One that was made because of that already stays for a while: a service that takes none would have one made for each
        request.
        """
        kept = self._by_key.get(key)
        for each in kept.tokens if kept else ():
            is_second = each.follows_rejection and now_s < each.minted_s + REJECTED_PAUSE_S
            if kept is not None and each.is_usable and each.token == token and not is_second:
                each.is_usable = False
                kept.was_rejected = True

    def drop_disabled(self, keys: Mapping[KeyId, KeyRecord]) -> None:
        """Forget the tokens of keys that are gone, or whose runtime access is off."""
        for key in [key for key in self._by_key if key not in keys or not keys[key].runtime_access]:
            del self._by_key[key]

    @property
    def is_empty(self) -> bool:
        """Tell whether no token was made yet."""
        return not self._by_key

    def _of(self, record: KeyRecord, now_s: float) -> list[_Token]:
        kept = self._by_key.get(_id(record))
        if kept is None:
            return []
        stamp = record.generation, record.added_at
        if kept.stamp != stamp:
            kept.stamp, kept.was_rejected = stamp, False
            for each in kept.tokens:
                each.is_usable = False
                each.until_s = min(each.until_s, now_s + GRACE_S)
        if any(each.until_s <= now_s for each in kept.tokens):
            kept.tokens = [each for each in kept.tokens if each.until_s > now_s]
        return kept.tokens


def _id(record: KeyRecord) -> KeyId:
    return record.workspace, record.name
