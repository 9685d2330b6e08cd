"""A policy file as plain data that remembers its places.

YAML 1.1 typing is not applied: ``0123456``, ``12:30``, ``no`` and ``1_000`` are text. Only a plain scalar in JSON's own spelling
(``1``, ``-1.5``, ``true``, ``false``, ``null``, RFC 8259) has JSON's meaning; a quoted one is always text.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from outloop.core.model import Place

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,300})(?:\.[0-9]{1,300})?(?:[eE][+-]?[0-9]{1,3})?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "": None}

JsonScalar = str | int | float | bool | None
Step = str | int


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value: `text` as written (escapes resolved), whether it stood in quotes or in a block, and its place (1-based)."""

    text: str
    quoted: bool
    line: int
    column: int

    @property
    def value(self) -> JsonScalar:
        """The JSON value a plain scalar spells (an empty one: null), else its text."""
        if self.quoted:
            return self.text
        if self.text in _WORDS:
            return _WORDS[self.text]
        if not _NUMBER.fullmatch(self.text):
            return self.text
        number: int | float = json.loads(self.text)
        return number if math.isfinite(number) else self.text


@dataclass(frozen=True, slots=True)
class Listing:
    """A list and the place where it begins."""

    items: tuple[Node, ...]
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping, its keys unique and in file order, and the place where it begins."""

    entries: tuple[tuple[Scalar, Node], ...]
    line: int
    column: int

    def __iter__(self) -> Iterator[tuple[Scalar, Node]]:
        return iter(self.entries)

    def get(self, name: str) -> Node | None:
        """Return the value under *name*, or None."""
        return next((value for key, value in self.entries if key.text == name), None)

    def key(self, name: str) -> Scalar | None:
        """Return the key *name* itself, with its place, or None."""
        return next((key for key, _ in self.entries if key.text == name), None)


Node = Scalar | Listing | Fields


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content. `file` is the name that problems and audit rows show: its folder's name and its own."""

    file: str
    root: Node

    @property
    def stem(self) -> str:
        """The file's name without folder and ending: what the workspace or service in it is called."""
        return self.file.rpartition("/")[2].rpartition(".")[0]

    @property
    def digest(self) -> str:
        """SHA-256 (first 16 hex digits) of the content: comments, blanks and the order of fields do not count."""
        canonical = json.dumps(_canonical(self.root), separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def place(self, node: Node) -> Place:
        """Return where *node* stands."""
        return Place(self.file, node.line, node.column)


def plain(node: Node) -> object:
    """Return *node* as dicts with text keys, lists and JSON scalars."""
    if isinstance(node, Fields):
        return {key.text: plain(value) for key, value in node}
    if isinstance(node, Listing):
        return [plain(item) for item in node.items]
    return node.value


def find(node: Node, steps: tuple[Step, ...]) -> tuple[Node, tuple[Step, ...]]:
    """Follow *steps* (keys and indexes) from *node* as far as they lead; return the node reached and the steps left over."""
    for index, step in enumerate(steps):
        following = _step(node, step)
        if following is None:
            return node, steps[index:]
        node = following
    return node, ()


def _step(node: Node, step: Step) -> Node | None:
    if isinstance(node, Fields) and isinstance(step, str):
        return node.get(step)
    if isinstance(node, Listing) and isinstance(step, int) and step < len(node.items):
        return node.items[step]
    return None


def _canonical(node: Node) -> object:
    if isinstance(node, Fields):
        return {"fields": sorted([key.text, _canonical(value)] for key, value in node)}
    if isinstance(node, Listing):
        return {"list": [_canonical(item) for item in node.items]}
    return [node.text, node.quoted]
