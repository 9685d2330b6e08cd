"""The fields of a query, a form or a JSON body, found under every spelling that some server takes for the same field.

Each is arranged once, however many rules look at it, so that no body of an agent's making can hold the proxy up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

from outloop.core.paths import fold

Pairs = tuple[tuple[str, str], ...]

_INDEX = re.compile(r"\[[0-9]*\]")
# PHP turns dots, spaces and brackets in names into underscores (manual, "Variables From External Sources").
_JOINTS = re.compile(r"[ .\[\]_]+")


class Fields:
    """The pairs of a query or form."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def spelled_like(self, name: str) -> Sequence[tuple[str, str]]:
        """Return the pairs whose name some server would take for *name*: without case, ``x[y]`` and ``x_y`` for ``x.y``."""
        return self._by_loose_name.get(_loose(name), ())

    @cached_property
    def _by_loose_name(self) -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = {}
        for name, value in _all_pairs(self._pairs):
            found.setdefault(_loose(name), []).append((name, value))
        return found


class Members:
    """The members of a JSON value, which are addressed by the names of the objects around them."""

    def __init__(self, value: object) -> None:
        self._value = value
        self._everywhere: dict[tuple[str, ...], list[object]] = {(): _without_lists(value)}
        self._names: dict[int, dict[str, list[str]]] = {}

    def at(self, keys: tuple[str, ...]) -> tuple[object, ...]:
        """Return the one value at *keys*, or nothing where an object has not exactly this name, in one spelling only."""
        value = self._value
        for key in keys:
            # Some decoders (Go's encoding/json) match names without case: a second spelling makes the field ambiguous.
            if not isinstance(value, dict) or self._spelled_like(value, key) != [key]:
                return ()
            value = value[key]
        return (value,)

    def everywhere(self, keys: tuple[str, ...]) -> Sequence[object]:
        """Return every value that *keys* lead to, in any spelling and through lists at any level."""
        known = self._everywhere.get(keys)
        if known is None:
            known = self._everywhere[keys] = [
                value
                for found in self.everywhere(keys[:-1])
                if isinstance(found, dict)
                for name in self._spelled_like(found, keys[-1])
                for value in _without_lists(found[name])
            ]
        return known

    def _spelled_like(self, found: dict[str, object], key: str) -> Sequence[str]:
        names = self._names.get(id(found))  # the objects live as long as `self._value`, so that their ids are theirs
        if names is None:
            names = self._names[id(found)] = {}
            for name in found:
                names.setdefault(fold(name), []).append(name)
        return names.get(fold(key), ())


def _all_pairs(pairs: Pairs) -> Iterator[tuple[str, str]]:
    """Yield *pairs* and those that a server which also splits on ``;`` (HTML 4.01 appendix B.2.2) would find among them."""
    for name, value in pairs:
        yield name, value
        if ";" in name or ";" in value:
            for piece in f"{name}={value}".split(";"):
                inner_name, _, inner_value = piece.partition("=")
                yield inner_name, inner_value


def _loose(name: str) -> str:
    return _JOINTS.sub("_", _INDEX.sub("", fold(name))).strip("_")


def _without_lists(value: object) -> list[object]:
    found, pending = [], [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        else:
            found.append(item)
    return found
