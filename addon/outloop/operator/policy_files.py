"""The policies of a home as they stand on disk, good and broken: what `status` and `doctor` look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from outloop.core.errors import PolicyError, Problem
from outloop.core.model import Workspace
from outloop.core.policy import CatalogueEntry, read_workspace
from outloop.store.catalogue import read_catalogue
from outloop.store.documents import operator_uid, read_document


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """One workspace file: its policy, or why it has none."""

    path: Path
    workspace: Workspace | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def name(self) -> str:
        """The workspace it is for."""
        return self.path.stem


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """All workspace files of a home, and the catalogue that they were read with; `problems` are those of the catalogue."""

    files: tuple[PolicyFile, ...]
    catalogue: Mapping[str, CatalogueEntry]
    problems: tuple[Problem, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The workspaces that have a file, good or broken."""
        return tuple(file.name for file in self.files)

    @property
    def workspaces(self) -> tuple[Workspace, ...]:
        """The policies that are good."""
        return tuple(file.workspace for file in self.files if file.workspace is not None)

    def of(self, workspace: str | None) -> PolicyFiles:
        """Return these of one workspace alone (None: all)."""
        chosen = tuple(file for file in self.files if workspace in (None, file.name))
        return PolicyFiles(chosen, self.catalogue, self.problems)


def read_policy_files(policies: Path, services: Path) -> PolicyFiles:
    """Read the workspace files in the folder *policies*; *services* is the operator's own folder of the catalogue."""
    catalogue, problems = read_catalogue(services)
    found = sorted(path for path in policies.glob("[!.]*.yaml") if not path.is_dir() or path.is_symlink())
    return PolicyFiles(tuple(_read(path, catalogue) for path in found), catalogue, problems)


def _read(path: Path, catalogue: Mapping[str, CatalogueEntry]) -> PolicyFile:
    try:
        return PolicyFile(path, read_workspace(read_document(path, owner_uid=operator_uid()), catalogue))
    except PolicyError as error:
        return PolicyFile(path, problems=error.problems)
