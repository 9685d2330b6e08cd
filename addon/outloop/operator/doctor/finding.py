"""What a check of `outloop doctor` says: one line with the cause, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """What a finding means: FAILURE stops the proof, WARNING does not, SKIPPED could not be looked at."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `check` is the check's name, `text` says what was found and why, `fix` what to do ("" for nothing).

    Neither ever holds a secret, nor what a program under test printed.
    """

    check: str
    result: Result
    text: str
    fix: str = ""


def ok(check: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(check, Result.OK, text)


def warning(check: str, text: str, fix: str) -> Finding:
    """Return something to mend that does not stop the proof."""
    return Finding(check, Result.WARNING, text, fix)


def failure(check: str, text: str, fix: str) -> Finding:
    """Return what stops the proof."""
    return Finding(check, Result.FAILURE, text, fix)


def skipped(check: str, text: str) -> Finding:
    """Return why nothing was looked at."""
    return Finding(check, Result.SKIPPED, text)
