"""Policy from text, as tests write it."""

from __future__ import annotations

from outloop.core.errors import PolicyError, Problem
from outloop.core.model import Workspace
from outloop.core.policy import read_workspace
from outloop.store.catalogue import load_catalogue
from outloop.store.documents import parse_document

CATALOGUE = load_catalogue(None)
FILE = "policies/acme.yaml"


def workspace_of(text: str, file: str = FILE) -> Workspace:
    """Return the workspace that *text* describes, with the shipped catalogue. Raises PolicyError."""
    return read_workspace(parse_document(text, file), CATALOGUE)


def problems_of(text: str, file: str = FILE) -> tuple[Problem, ...]:
    """Return every problem of *text*; () for a policy that is right."""
    try:
        workspace_of(text, file)
    except PolicyError as error:
        return error.problems
    return ()


def service_text(fields: str) -> str:
    """Return a policy with one custom bridge, `api`, to which *fields* (lines without indent) are added."""
    lines = "".join(f"    {line}\n" for line in fields.splitlines())
    return f"workspace: acme\nservices:\n  api:\n    hosts: [api.example.com]\n    auth: {{type: bearer}}\n{lines}"


def rules_text(*rules: str) -> str:
    """Return a policy for Calendly with *rules*, each the text after ``- ``."""
    lines = "".join(f"      - {rule}\n" for rule in rules)
    return f"workspace: acme\nservices:\n  calendly:\n    rules:\n{lines}"
