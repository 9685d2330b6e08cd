"""The policy file of a new workspace: it lets a service's documented reads pass, and teaches how to write more."""

from __future__ import annotations

import json
import re
from pathlib import Path

from outloop.core.errors import UsageError
from outloop.core.ledger import inert
from outloop.core.policy.catalogue import CatalogueEntry
from outloop.core.policy.models import NAME
from outloop.store.files import create_file

_PLAIN = re.compile(r"[A-Z,]+ /[A-Za-z0-9/{}*._~-]*")  # a rule that YAML reads as it stands

_HEAD = """\
# What agents of the workspace `{name}` may do. A running proxy follows a change within two seconds.
#   outloop policy check                           every mistake at once
#   outloop policy explain METHOD URL -w {name:<10} what would become of a call
workspace: {name}

# Hosts that no service below claims: deny, or passthrough (tunnelled unopened, without a credential, on record).
# An agent that reaches its own model through this proxy needs passthrough, or a service for it.
egress: deny
"""
_EXAMPLE = """\

# services:
#   calendly:            # `outloop service list` shows more
#     rules:
#       - allow: GET /users/me
"""


def workspace_text(name: str, entry: CatalogueEntry | None) -> str:
    """Return the text of a new workspace file, with the service of *entry* if there is one."""
    return _HEAD.format(name=name) + (f"\nservices:\n{service_block(entry)}" if entry else _EXAMPLE)


def service_block(entry: CatalogueEntry) -> str:
    """Return the lines of one service, to stand under ``services:``. Every documented read is allowed, nothing else.

    ``{param}`` of the service are left as VALUE for the operator to fill.
    """
    reads = [read.text for read in entry.reads] or ([f"GET {entry.proof.target.partition('?')[0]}"] if entry.proof else [])
    lines = [f"  {entry.name}:  # {inert(entry.title)}"]
    if entry.params:
        lines += ["    params:", *(f"      {param}: VALUE" for param in entry.params)]
    lines += [
        "    rules:",
        "      # Order never matters: deny beats ask beats allow, and all else is denied.",
        *(f"      - allow: {_scalar(read)}" for read in reads),
    ]
    if entry.next_proof:
        lines += [
            "      # A write: `ask` has you approve each request, `allow` does not.",
            f"      # - ask: {entry.next_proof.method} {inert(entry.next_proof.target)}",
        ]
    return "".join(f"{line}\n" for line in lines)


def add_workspace(policies: Path, name: str, entry: CatalogueEntry | None) -> Path:
    """Write ``NAME.yaml`` (mode 0600) into the folder *policies* and return its path. *name* is a valid one.

    Raises UsageError when there is such a file, or when the service has blanks that only the operator can fill.
    """
    path = policies / f"{name}.yaml"
    if entry is not None and entry.params:
        raise UsageError(
            f"{entry.name} needs to know: {', '.join(entry.params)}",
            f"outloop workspace add {name}; then paste what `outloop service show {entry.name}` prints, with its values",
        )
    if entry is not None and not re.fullmatch(NAME, f"{name}-{entry.name}"):
        raise UsageError(
            f"the key would be called {name}-{entry.name}, which is longer than 63 characters", "choose a shorter workspace name"
        )
    if not create_file(path, workspace_text(name, entry).encode(), 0o600):
        raise UsageError(f"{path} exists already", "edit it; `outloop policy check` checks it")
    return path


def _scalar(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
