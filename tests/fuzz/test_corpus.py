"""What fuzzing found, and where it begins, replayed without a fuzzer."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")


@pytest.mark.parametrize(
    ("target", "entry"),
    [
        pytest.param(target, entry, id=f"{target}-{entry.name}")
        for target in TARGETS
        for entry in sorted((CORPUS / target).iterdir())
    ],
)
def test_what_was_found_once_holds(target: str, entry: Path) -> None:
    TARGETS[target](entry.read_bytes())


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == TARGETS.keys()
