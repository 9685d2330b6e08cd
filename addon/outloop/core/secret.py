"""The one type in which a credential travels."""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """A credential value that shows itself only through `reveal`.

    It has a redacted ``repr``, refuses ``str``, formatting, hashing and pickling, and compares in constant time.
    """

    __slots__ = ("__value",)
    __hash__ = None  # type: ignore[assignment]  # a dict or set of secrets would compare hashes, not in constant time

    def __init__(self, value: bytes) -> None:
        self.__value = bytes(value)

    def reveal(self) -> bytes:
        """Return the value. Called where it goes onto the wire, into the keychain or into a scrub set; nowhere else."""
        return self.__value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.__value, other.reveal())

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __repr__(self) -> str:
        return "Secret(•••)"

    def __str__(self) -> NoReturn:
        raise TypeError("a Secret is not text: call reveal() at the place that needs the value")

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError("a Secret cannot be formatted")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")
