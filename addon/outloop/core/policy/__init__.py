"""Policy: the files a person writes, read into a Workspace. Everything wrong with a file is said at once, with its place."""

from outloop.core.policy.catalogue import CatalogueEntry, read_catalogue_entry
from outloop.core.policy.document import Document
from outloop.core.policy.workspace import read_workspace

__all__ = ["CatalogueEntry", "Document", "read_catalogue_entry", "read_workspace"]
