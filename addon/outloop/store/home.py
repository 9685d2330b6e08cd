"""The folder that holds everything Outloop keeps: where it is, and that nobody else can look into it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from outloop.core.errors import UsageError

KEYCHAIN_SERVICE = "outloop"


@dataclass(frozen=True, slots=True)
class Home:
    """A home folder. `is_default` is true for ``~/.outloop``, whose keychain entries carry the plain service name."""

    root: Path
    is_default: bool = False

    @classmethod
    def locate(cls, environ: Mapping[str, str]) -> Home:
        """Return the home that *environ* names: ``OUTLOOP_HOME``, else ``~/.outloop``. Creates nothing.

        Raises UsageError for a relative ``OUTLOOP_HOME``: every change of directory would be another home, with other keys.
        """
        user_home = environ.get("HOME") or environ.get("USERPROFILE")
        default = (Path(user_home) if user_home else Path.home()) / ".outloop"
        named = environ.get("OUTLOOP_HOME", "")
        if not named:
            return cls(default, is_default=True)
        root = Path(named)
        if root.parts[:1] == ("~",):
            root = default.parent.joinpath(*root.parts[1:])
        if not root.is_absolute() or "\0" in named:
            raise UsageError(f"OUTLOOP_HOME is not an absolute path: {named!r}", "write the whole path")
        return cls(root, is_default=os.path.realpath(root) == os.path.realpath(default))

    @property
    def policies(self) -> Path:
        """Workspace files, one ``<workspace>.yaml`` each."""
        return self.root / "policies"

    @property
    def services(self) -> Path:
        """The operator's own catalogue entries."""
        return self.root / "services"

    @property
    def ca(self) -> Path:
        """The certificate authority and the bundles made from it."""
        return self.root / "ca"

    @property
    def audit_db(self) -> Path:
        """The append-only record."""
        return self.root / "audit.db"

    @property
    def state_db(self) -> Path:
        """What changes: switches, token hashes, limit counters, key generations."""
        return self.root / "state.db"

    @property
    def keyring(self) -> Path:
        """Folder of the embedded keychain, for machines on which no OS keychain can be reached."""
        return self.root / "keyring"

    @property
    def keychain_service(self) -> str:
        """The service name of this home's keychain entries; two homes of one user never share an entry."""
        if self.is_default:
            return KEYCHAIN_SERVICE
        return f"{KEYCHAIN_SERVICE}@{hashlib.sha256(os.fsencode(os.path.realpath(self.root))).hexdigest()[:8]}"

    def ensure(self) -> None:
        """Make the home (mode 0700) with its policy and service folders, or check the one that is there.

        Raises UsageError when it is not a folder, not this user's, or open to group or others. Permissions of a home that
        already exists are reported, not mended: whoever opened them may already have changed what is inside.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check()
            for folder in (self.policies, self.services):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the home folder {self.root} cannot be used: {(error.strerror or 'unknown error').lower()}",
                "set OUTLOOP_HOME to a folder of yours, or mend this one",
            ) from error

    def _check(self) -> None:
        if not hasattr(os, "getuid"):  # Windows: access lists instead of modes, and the profile folder is private
            return
        for status in (self.root.lstat(), self.root.stat()):  # the link, where it is one, and the folder
            if status.st_uid != os.getuid():
                raise UsageError(
                    f"the home folder {self.root} belongs to another user",
                    "run as its owner, or set OUTLOOP_HOME to a folder of yours",
                )
        if stat.S_IMODE(self.root.stat().st_mode) & 0o077:
            raise UsageError(
                f"the home folder {self.root} is open to other users",
                f"chmod 700 {self.root} (and look at what is in it: others could have read or changed it)",
            )
