"""`policy check`: everything wrong with policy files, before a proxy meets it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from outloop.core.errors import PolicyError, Problem, UsageError
from outloop.core.model import Workspace
from outloop.core.policy import CatalogueEntry, Document, read_catalogue_entry, read_workspace
from outloop.core.policy.document import Fields, Listing
from outloop.core.policy.models import CaseShape
from outloop.core.policy.problems import Problems
from outloop.core.policy.structure import check_structure
from outloop.store.catalogue import read_catalogue
from outloop.store.documents import MOST_BYTES, operator_uid, read_document, shown_name


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in one file: what it is and holds (one line), or its problems."""

    path: Path
    summary: str = ""
    problems: tuple[Problem, ...] = ()


def check_policies(paths: Sequence[Path], policies: Path, services: Path) -> tuple[Checked, ...]:
    """Check *paths*, files or folders of them; without any, the folder *policies* and the operator's own catalogue *services*.

    A file is told by its content: a list holds policy tests, a title makes a catalogue entry, all else is a workspace's policy.
    Whose a file is counts only where a proxy would read it. Raises UsageError for a path that is not there.
    """
    entries, _ = read_catalogue(services)
    wanted = list(paths) or [folder for folder in (services, policies) if folder.is_dir()]
    trusted = {policies.resolve(), services.resolve()}
    return tuple(_check(path, entries, trusted) for path in policy_files(wanted))


def policy_files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files among *paths*, and those directly in the folders among them. Raises UsageError for one that is neither."""
    for given in paths:
        if given.is_dir():
            yield from sorted(given.glob("[!.]*.yaml"))
        elif given.exists() or given.is_symlink():
            yield given
        else:
            raise UsageError(f"no such file: {given}", "give a policy file, or a folder of them")


def source_line(checked: Checked, problem: Problem) -> str | None:
    """Return the line of the file at which *problem* stands; None where there is none to show."""
    if not checked.path.is_file():
        return None  # a pipe would hang, a device never end
    try:
        with checked.path.open("rb") as file:
            lines = file.read(MOST_BYTES).decode("utf-8", "replace").split("\n")
    except OSError:
        return None
    line = lines[problem.line - 1] if problem.line <= len(lines) else ""
    return line.rstrip("\r") or None


def _check(path: Path, entries: Mapping[str, CatalogueEntry], trusted: set[Path]) -> Checked:
    try:
        document = read_document(path, owner_uid=operator_uid() if path.parent.resolve() in trusted else None)
        return Checked(path, f"{shown_name(path)}: ok, {_contents(document, entries)}")
    except PolicyError as error:
        return Checked(path, problems=error.problems)


def _contents(document: Document, entries: Mapping[str, CatalogueEntry]) -> str:
    if isinstance(document.root, Listing):
        problems = Problems(document)
        check_structure(document, list[CaseShape], problems)
        problems.raise_any()
        return f"{len(document.root.items)} policy tests"
    if isinstance(document.root, Fields) and document.root.key("title") and not document.root.key("workspace"):
        entry = read_catalogue_entry(document)
        return f"catalogue entry with {len(entry.reads)} reads and {len(entry.writes)} writes"
    return _workspace_contents(read_workspace(document, entries))


def _workspace_contents(workspace: Workspace) -> str:
    rules = sum(len(service.rules) for service in workspace.services)
    return f"{_count(len(workspace.services), 'service')} and {_count(rules, 'rule')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
