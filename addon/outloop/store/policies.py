"""The workspaces' policies: read at start, watched while running, swapped whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from outloop.core.errors import PolicyError, Problem, UsageError
from outloop.core.model import Workspace
from outloop.core.policy import CatalogueEntry, read_workspace
from outloop.core.policy.difference import difference
from outloop.store.documents import operator_uid, read_document

# An editor may write a file in several steps, and the first half of a policy can be valid and wider than the whole (its deny
# rules missing): what is new is taken when it has stood unchanged for this long.
SETTLE_S = 0.4
# Editors that replace a file leave it absent for a moment.
GONE_AFTER_S = 2.0

Signature = tuple[int, ...]
CatalogueLoader = Callable[[], Mapping[str, CatalogueEntry]]


@dataclass(frozen=True, slots=True)
class Reload:
    """What one look at the folder brought: `changes` now in force, and `problems` that keep the last good in force."""

    changes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(slots=True)
class _Watched:
    """A file: `taken` is the signature last read (whether good or not), `pending` another one and since when it stands."""

    taken: Signature | None = None
    pending: Signature | None = None
    pending_since: float = 0.0
    absent_since: float | None = None

    def has_settled(self, signature: Signature, now: float) -> bool:
        """Tell whether *signature*, the present one, is not `taken` and has stood for long enough."""
        if signature == self.taken:
            self.pending = None
            return False
        if signature != self.pending:
            self.pending, self.pending_since = signature, now
        return now - self.pending_since >= SETTLE_S


class PolicyStore:
    """The policies in *folder*: its ``*.yaml`` files, one workspace each; subfolders and hidden files are ignored.

    *catalogue_loader* returns the catalogue; *services* is the operator's folder of it, watched as well. *owner_uid* is who
    must own the files (None: not asked). `workspaces` may be read from any thread; `load` and `reload` from one.
    """

    def __init__(
        self,
        folder: Path,
        catalogue_loader: CatalogueLoader,
        *,
        services: Path | None = None,
        owner_uid: int | None = operator_uid(),
    ) -> None:
        self.folder = folder
        self._load_catalogue = catalogue_loader
        self._services = services
        self._owner_uid = owner_uid
        self._catalogue: Mapping[str, CatalogueEntry] = {}
        self._workspaces: Mapping[str, Workspace] = MappingProxyType({})
        self._watched: dict[str, _Watched] = {}
        self._watched_services = _Watched()

    @property
    def workspaces(self) -> Mapping[str, Workspace]:
        """The policies in force by workspace name: a snapshot that never changes."""
        return self._workspaces

    @property
    def file_count(self) -> int:
        """How many workspace files the folder held at the last look, valid or not."""
        return sum(watched.absent_since is None for watched in self._watched.values())

    def load(self) -> None:
        """Read everything. Raises UsageError without the folder, and PolicyError with the problems of all files."""
        if not self.folder.is_dir():
            raise UsageError(f"no policy folder at {self.folder}", "`outloop init` makes one")
        found = self._scan()
        self._watched = {name: _Watched(taken=signature) for name, signature in found.items()}
        self._watched_services = _Watched(taken=self._services_signature())
        self._catalogue = self._load_catalogue()
        workspaces, problems = self._read(found)
        if problems:
            raise PolicyError(tuple(problems))
        self._workspaces = MappingProxyType(workspaces)

    def reload(self, now: float) -> Reload:
        """Look for changes and take them; *now* is a monotonic clock in seconds. Cheap where nothing changed: call it often.

        A file that is new or changed is in force once it has stood for `SETTLE_S`. A broken one, and one that is absent for
        less than `GONE_AFTER_S`, leaves the last good in force. Each problem is reported once for each version of its file.
        """
        found = self._scan()
        gone = self._note_absent(found, now)
        problems: list[Problem] = []
        settled = {name: signature for name, signature in found.items() if self._watch(name).has_settled(signature, now)}
        services = self._services_signature()
        if self._watched_services.has_settled(services, now):
            self._watched_services.taken = services
            try:
                self._catalogue = self._load_catalogue()
                settled = found
            except PolicyError as error:
                problems += error.problems
        if not (settled or gone or problems):
            return Reload()
        fresh, faults = self._read(settled)
        return Reload(self._swap(fresh, gone), (*problems, *faults))

    def _watch(self, name: str) -> _Watched:
        return self._watched.setdefault(name, _Watched())

    def _note_absent(self, found: Mapping[str, Signature], now: float) -> frozenset[str]:
        """Return the names of files absent for long enough to be gone, and forget them."""
        gone = set()
        for name, watched in self._watched.items():
            if name in found:
                watched.absent_since = None
            elif watched.absent_since is None:
                watched.absent_since = now
            elif now - watched.absent_since >= GONE_AFTER_S:
                gone.add(name)
        for name in gone:
            del self._watched[name]
        return frozenset(gone)

    def _read(self, names: Mapping[str, Signature]) -> tuple[dict[str, Workspace], list[Problem]]:
        workspaces: dict[str, Workspace] = {}
        problems: list[Problem] = []
        for name, signature in sorted(names.items()):
            path, faults = self.folder / name, tuple[Problem, ...]()
            try:
                workspace = read_workspace(read_document(path, owner_uid=self._owner_uid), self._catalogue)
            except PolicyError as error:
                faults = error.problems
            if _signature(path) != signature:
                continue  # written to while it was read: the next look takes it up again
            self._watch(name).taken = signature
            problems += faults
            if not faults:
                workspaces[workspace.name] = workspace
        return workspaces, problems

    def _swap(self, fresh: Mapping[str, Workspace], gone: frozenset[str]) -> tuple[str, ...]:
        before = self._workspaces
        kept = {name: workspace for name, workspace in before.items() if f"{name}.yaml" not in gone}
        after = self._workspaces = MappingProxyType(kept | dict(fresh))
        names = sorted(before.keys() | after.keys())
        return tuple(line for name in names for line in difference(before.get(name), after.get(name)))

    def _scan(self) -> dict[str, Signature]:
        try:
            with os.scandir(self.folder) as entries:
                names = [entry.name for entry in entries if _is_policy(entry)]
        except OSError:
            return {}
        return {name: _signature(self.folder / name) for name in names}

    def _services_signature(self) -> Signature:
        try:
            paths = sorted(self._services.glob("[!.]*.yaml")) if self._services else []
        except OSError:
            return ()
        return tuple(number for path in paths for number in (hash(path.name), *_signature(path)))


def _is_policy(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(".yaml") and not entry.name.startswith(".") and not entry.is_dir(follow_symlinks=False)


def _signature(path: Path) -> Signature:
    """Return what changes with a file's content or owner; () where there is nothing (a link that leads nowhere, say)."""
    try:
        facts = path.stat()
    except OSError:
        return ()
    return (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino, facts.st_dev, facts.st_mode, facts.st_uid)
