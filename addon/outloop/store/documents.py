"""Policy files on disk: whose they are, and strict YAML with the place of every value.

Strict means: one document, no anchors, aliases, tags, merge keys, directives or duplicate keys, text keys only, no characters
that show as something else. What is left is JSON's data model in YAML's clothes.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from outloop.core.errors import PolicyError, Problem
from outloop.core.policy.document import Document, Fields, Listing, Node, Scalar
from outloop.core.policy.problems import MOST_PROBLEMS, masked

MOST_BYTES = 1024 * 1024
_MOST_NODES = 50_000
_DEEPEST = 32
_OPEN_TO_OTHERS = stat.S_IWGRP | stat.S_IWOTH

# Control characters, bidirectional overrides, zero-width characters and separators: text that shows as something else, or not
# at all ("Trojan Source", CVE-2021-42574).
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
# Possessive: a megabyte of blanks is looked at once.
_UNQUOTED_STAR = re.compile(r"[ \t]*+(?:-[ \t]++)*+(?:\{[ \t]*+)?((?:allow|ask|deny)[ \t]*+:[ \t]*+)(\*.*)")
_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def operator_uid() -> int | None:
    """Return the user id that policy files must have; None where the system knows no owners (Windows)."""
    return os.getuid() if hasattr(os, "getuid") else None


def shown_name(path: Path) -> str:
    """Return the name under which problems and audit rows show *path*: its folder's name and its own."""
    return "/".join(path.parts[-2:])


def read_document(path: Path, *, owner_uid: int | None) -> Document:
    """Read the policy file at *path*, at most 1 MiB of UTF-8.

    It must be a regular file in its folder (a link may lead to a neighbour, not elsewhere), owned by *owner_uid* or root, and
    neither it nor its folder writable by others; with None ownership is not asked. Raises PolicyError.
    """
    return parse_document(_read_text(path, owner_uid), shown_name(path))


def parse_document(text: str, file: str) -> Document:
    """Parse *text*; *file* is the name that problems show. Raises PolicyError."""
    _refuse_invisible(text, file)
    try:
        root = _Composer(file).compose(text)
    except yaml.MarkedYAMLError as error:
        raise PolicyError(_syntax_problems(text, file, error)) from None
    except yaml.YAMLError as error:
        raise _refusal(file, 1, 1, f"not yaml: {_first_line(str(error))}") from None
    return Document(file, root)


def _read_text(path: Path, owner_uid: int | None) -> str:
    file = shown_name(path)
    try:
        content = _read_bytes(path, owner_uid)
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = len(before.rpartition(b"\n")[2].decode("utf-8")) + 1
        raise _refusal(file, before.count(b"\n") + 1, column, "not utf-8", "save the file as utf-8") from None
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else "it is no file name"
        raise _refusal(file, 1, 1, f"cannot be read: {what.lower()}") from None


def _read_bytes(path: Path, owner_uid: int | None) -> bytes:
    file = shown_name(path)
    # Not Path.resolve: before Python 3.13 it meets a link in a circle with a RuntimeError.
    folder, real = Path(os.path.realpath(path.parent)), Path(os.path.realpath(path, strict=True))
    if not real.is_relative_to(folder):
        raise _refusal(file, 1, 1, "a link that leads out of its folder", "put the file itself here")
    # Asked of the open file, so that it is the one that is read; O_NONBLOCK so that a pipe does not hang.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with os.fdopen(os.open(real, flags), "rb") as opened:
        facts = os.fstat(opened.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise _refusal(file, 1, 1, "not a regular file")
        if owner_uid is not None:
            _refuse_foreign(file, facts, owner_uid, str(path))
            _refuse_foreign(file, real.parent.stat(), owner_uid, str(real.parent), "its folder is ")
        content = opened.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise _refusal(file, 1, 1, "larger than 1 MiB")
    return content


def _refuse_foreign(file: str, facts: os.stat_result, owner_uid: int, path: str, what: str = "") -> None:
    if facts.st_uid not in (owner_uid, 0):
        raise _refusal(file, 1, 1, f"{what}owned by another user (uid {facts.st_uid})", f"chown it: chown {owner_uid} {path}")
    if facts.st_mode & _OPEN_TO_OTHERS:
        raise _refusal(file, 1, 1, f"{what}writable by others, who could widen what it allows", f"chmod go-w {path}")


def _refuse_invisible(text: str, file: str) -> None:
    # \r\n is a line end; a lone \r would be one to YAML and none to most editors.
    found = _INVISIBLE.search(text.replace("\r\n", "\n"))
    if found is None:
        return
    before = text.replace("\r\n", "\n")[: found.start()]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    if found[0] == "\ufeff" and not before:
        raise _refusal(file, 1, 1, "the file begins with a byte-order mark", "save it as utf-8 without one")
    raise _refusal(file, line, column, f"an invisible character, U+{ord(found[0]):04X}", "delete it")


@dataclass(slots=True)
class _Composer:
    """Builds nodes from YAML's events: nothing is resolved, converted or expanded."""

    file: str
    nodes: int = field(default=0)

    def compose(self, text: str) -> Node:
        loader = _LOADER(text)
        try:
            loader.get_event()  # the stream's start
            opening = loader.get_event()
            if isinstance(opening, yaml.StreamEndEvent):
                raise _refusal(self.file, 1, 1, "the file is empty")
            if opening.version or opening.tags:
                raise self._refuse(opening, "directives are not allowed")
            root = self._node(loader, loader.get_event(), 0)
            loader.get_event()  # the document's end
            following = loader.get_event()
            if not isinstance(following, yaml.StreamEndEvent):
                raise self._refuse(following, "a second document", "one file holds one document: remove the `---`")
            return root
        finally:
            loader.dispose()

    def _node(self, loader: Any, event: Any, depth: int) -> Node:
        self._check(event, depth)
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := loader.get_event(), yaml.SequenceEndEvent):
                items.append(self._node(loader, inner, depth + 1))
            return Listing(tuple(items), *_position(event))
        entries: dict[str, tuple[Scalar, Node]] = {}
        while not isinstance(inner := loader.get_event(), yaml.MappingEndEvent):
            key = self._key(loader, inner, depth + 1, entries)
            entries[key.text] = (key, self._node(loader, loader.get_event(), depth + 1))
        return Fields(tuple(entries.values()), *_position(event))

    def _key(self, loader: Any, event: Any, depth: int, entries: dict[str, tuple[Scalar, Node]]) -> Scalar:
        self._check(event, depth)
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refuse(event, "a key must be text", "quote a value that begins with `{` or `[`")
        key = _scalar(event)
        if key.text == "<<" and not key.quoted:
            raise self._refuse(event, "merge keys are not allowed", "write the fields out")
        if key.text in entries:
            first = entries[key.text][0].line
            raise self._refuse(event, f"the key `{key.text[:60]}` stands here twice", f"the first is on line {first}")
        return key

    def _check(self, event: Any, depth: int) -> None:
        self.nodes += 1
        if isinstance(event, yaml.AliasEvent):
            raise self._refuse(event, "aliases are not allowed", f'write the value out, or quote it: "*{str(event.anchor)[:60]}"')
        if event.anchor is not None:
            raise self._refuse(event, "anchors are not allowed", "write the value out; quote a value that begins with `&`")
        if event.tag is not None:
            raise self._refuse(event, "tags are not allowed", 'quote a value that begins with "!"')
        if depth > _DEEPEST:
            raise self._refuse(event, f"nested deeper than {_DEEPEST} levels")
        if self.nodes > _MOST_NODES:
            raise self._refuse(event, f"more than {_MOST_NODES} values")
        if isinstance(event, yaml.ScalarEvent) and _INVISIBLE.search(event.value):
            raise self._refuse(event, "an escape that stands for an invisible character")

    def _refuse(self, event: Any, message: str, hint: str | None = None) -> PolicyError:
        return _refusal(self.file, *_position(event), message, hint)


def _scalar(event: Any) -> Scalar:
    return Scalar(event.value, event.style not in (None, ""), *_position(event))


def _position(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _syntax_problems(text: str, file: str, error: yaml.MarkedYAMLError) -> tuple[Problem, ...]:
    """Return what is wrong with YAML that cannot be parsed; every unquoted ``deny: * /x``, where that is the cause."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    stars = [(at, found) for at, source in enumerate(text.splitlines(), 1) if (found := _UNQUOTED_STAR.match(source))]
    if any(at == line for at, _ in stars):
        return tuple(
            Problem(
                file,
                at,
                found.start(2) + 1,
                "an unquoted `*` begins a yaml alias",
                f'quote it: {found[1]}"{found[2].rstrip()[:60]}"',
            )
            for at, found in stars[:MOST_PROBLEMS]
        )
    message, hint = _syntax_message(error)
    return (_problem(file, line, column, message, hint),)


def _syntax_message(error: yaml.MarkedYAMLError) -> tuple[str, str | None]:
    problem = _first_line(error.problem or error.context or "cannot be parsed")
    if "alias" in (error.context or ""):
        return "an unquoted `*` begins a yaml alias", 'quote the value: "*"'
    if "cannot start any token" in problem:
        return "a tab, `@`, `%` or a backtick cannot stand here unquoted", "indent with spaces; quote the value"
    if "mapping values are not allowed" in problem:
        return "a second `: ` on one line", "quote the value, or begin a new line"
    if "could not find expected ':'" in problem:
        return "a field without `:`", "write `name: value`"
    return f"not yaml: {problem}", None


def _refusal(file: str, line: int, column: int, message: str, hint: str | None = None) -> PolicyError:
    return PolicyError((_problem(file, line, column, message, hint),))


def _problem(file: str, line: int, column: int, message: str, hint: str | None) -> Problem:
    return Problem(file, line, column, masked(message), masked(hint) if hint else None)


def _first_line(text: str) -> str:
    return text.splitlines()[0][:200] if text else "cannot be parsed"
