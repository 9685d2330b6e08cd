"""The user's mitmproxy configuration, as an attacked proxy gets it: theirs, less what would reach out of the throw-away home."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mitmproxy import optmanager
from mitmproxy.exceptions import OptionsError

from outloop.core.errors import NoError

_NAMES = ("config.yaml", "config.yml")
_WRITTEN = ("save_stream_file", "hardump")  # files that mitmproxy writes


def write_configuration(folder: Path, settings: Mapping[str, object], environ: Mapping[str, str]) -> None:
    """Write mitmproxy's configuration to *folder*: that of *environ*'s user, with *settings* over it.

    What it says is in force over ``--set`` too. Raises NoError when mitmproxy could not read the user's.
    """
    theirs: dict[str, object] = {}
    home = Path(environ.get("HOME") or Path.home())
    for path in (home / ".mitmproxy" / name for name in _NAMES):
        theirs |= _read(path)
    elsewhere = {name: str(folder / name) for name in _WRITTEN if theirs.get(name)}
    # JSON is YAML.
    (folder / _NAMES[0]).write_text(json.dumps({**theirs, **elsewhere, **settings}), encoding="utf-8")


def _read(path: Path) -> dict[str, object]:
    try:
        found = optmanager.parse(path.read_text(encoding="utf-8"))
        return {str(name): value for name, value in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, OptionsError) as error:
        raise NoError(f"mitmproxy cannot read {path}: {str(error).splitlines()[0]}") from None
