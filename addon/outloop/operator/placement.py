"""Where a key belongs: the service it opens, and what the workspace's policy file says, or still has to say, about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outloop.core.model import Workspace
from outloop.core.policy import CatalogueEntry
from outloop.operator.keys import KeyPlan
from outloop.operator.setup import service_block, workspace_text
from outloop.store.files import create_file


@dataclass(frozen=True, slots=True)
class Placement:
    """A key's plan and its policy file. `policy_key` is the key that the file names for the service, None where it lacks the
    service; then `entry` is the catalogue's."""

    plan: KeyPlan
    file: Path
    policy_key: str | None
    entry: CatalogueEntry | None

    @property
    def block(self) -> str:
        """The lines that give the service to the workspace, to stand under ``services:``; empty where the file has it."""
        if self.entry is None:
            return ""
        first, *others = service_block(self.entry).splitlines(keepends=True)
        named = [] if self.plan.name == default_name(self.plan.workspace, self.entry.name) else [f"    key: {self.plan.name}\n"]
        return "".join([first, *named, *others])

    def create_file(self) -> bool:
        """Write the workspace's file where there is none. False when there is one, or only the operator could fill its blanks."""
        if self.entry is None or self.entry.params or self.file.exists():
            return False
        text = workspace_text(self.plan.workspace, self.entry).replace(service_block(self.entry), self.block)
        return create_file(self.file, text.encode(), 0o600)


def default_name(workspace: str, service: str) -> str:
    """Return what a key is called where the policy names none."""
    return f"{workspace}-{service}"


def place(
    workspace: str,
    service: str,
    name: str | None,
    policies: Path,
    policy: Workspace | None,
    look_up: Callable[[str], CatalogueEntry],
) -> Placement:
    """Return where the key *name* (None: the policy's name for it, else the default) of *service* belongs.

    *policy* is the workspace's, None where it has none; *look_up* finds catalogue entries and raises UsageError for others.
    """
    file = policies / f"{workspace}.yaml"
    used = policy.service(service) if policy is not None else None
    if used is not None:
        plan = KeyPlan(workspace, service, used.title, name or used.key, used.auth.parts)
        return Placement(plan, file, used.key, None)
    entry = look_up(service)
    plan = KeyPlan(workspace, service, entry.title, name or default_name(workspace, service), entry.auth.parts)
    return Placement(plan, file, None, entry)
