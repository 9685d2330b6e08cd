"""The catalogue on disk: the shipped entries, and the operator's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from outloop.core.errors import PolicyError, Problem
from outloop.core.policy import CatalogueEntry, read_catalogue_entry
from outloop.store.documents import operator_uid, read_document

_PACKAGE = Path(__file__).resolve().parents[1]


def load_catalogue(extra: Path | None) -> Mapping[str, CatalogueEntry]:
    """Return every entry by the service's name. One in *extra*, the operator's own folder, replaces a shipped one.

    Raises PolicyError with the problems of all files.
    """
    entries, problems = read_catalogue(extra)
    if problems:
        raise PolicyError(problems)
    return entries


def read_catalogue(extra: Path | None) -> tuple[Mapping[str, CatalogueEntry], tuple[Problem, ...]]:
    """Return the entries that could be read, as `load_catalogue` does, and the problems of the others."""
    entries: dict[str, CatalogueEntry] = {}
    problems: list[Problem] = []
    # The shipped files are part of the program: who can write them can write it, so that asking for their owner adds nothing.
    for folder, owner_uid in ((shipped_folder(), None), (extra, operator_uid())):
        for path in _files(folder):
            try:
                entry = read_catalogue_entry(read_document(path, owner_uid=owner_uid))
                entries[entry.name] = entry
            except PolicyError as error:
                problems += error.problems
    return MappingProxyType(entries), tuple(problems)


def shipped_folder() -> Path:
    """Return where the shipped entries are: inside an installed package, or in the checkout."""
    installed = _PACKAGE / "catalogue"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "policies" / "services"


def _files(folder: Path | None) -> Iterator[Path]:
    if folder is not None and folder.is_dir():
        yield from sorted(folder.glob("[!.]*.yaml"))
