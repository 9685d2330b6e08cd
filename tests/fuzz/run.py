"""`scripts/fuzz`: fuzz one target for a while, from its corpus. What crashes is left in the corpus, where the tests replay it.

python -m fuzz.run TARGET [libFuzzer options]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

CORPUS = Path(__file__).with_name("corpus")


def main() -> None:
    """Run until libFuzzer ends."""
    name, options = sys.argv[1], sys.argv[2:]
    with atheris.instrument_imports(include=["outloop.core", "outloop.store.documents"]):
        from fuzz.targets import TARGETS

    kept = CORPUS / name
    found = Path(tempfile.gettempdir(), "outloop-fuzz", name)
    found.mkdir(parents=True, exist_ok=True)
    # New inputs go to the first folder; crashes beside the seeds, to be kept.
    atheris.Setup(
        [sys.argv[0], f"-artifact_prefix={kept}/", "-max_len=512", "-timeout=20", *options, str(found), str(kept)], TARGETS[name]
    )
    atheris.Fuzz()


main()
