"""The error tree: what can go wrong, and what each means to the person or program that meets it.

OutloopError                 one lower-case line, and a hint where there is one
├── UsageError               wrong usage or broken configuration          exit 2
│   ├── PolicyError          a policy that is refused, with every problem and its place
│   └── HardeningError       an option, a variable or a library shape under which the proxy must not run
├── NoError                  the answer is no: denied, unhealthy, mismatch exit 1
├── KeychainError            the credential could not be had
│   ├── KeyMissing           it is not in the keychain                    `key_missing`
│   │   └── KeyUnusable      what is stored is not what the scheme needs  `key_missing`
│   └── KeyLocked            the keychain is locked, absent or too slow   `key_locked`
│       └── KeyReplaced      the key got another value meanwhile          `key_locked`
├── MintError                no token was to be had for the key           `upstream_failed`
│   └── MintRefused          the token endpoint does not take the key     `key_rejected`
├── AuditError               a row could not be written                   `audit_unavailable`
├── MalformedRequest         ambiguous or unsafe request                  `malformed_request`
└── ScrubError               a response that cannot be proved clean       `scrub_failed`
"""

from __future__ import annotations

from dataclasses import dataclass


class OutloopError(Exception):
    """Base of all errors that Outloop raises on purpose.

    *message* is one lower-case line that never holds a secret; *hint* says what to do.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(OutloopError):
    """Wrong usage or broken configuration."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a policy file: where it stands (1-based), what is wrong, and what to write instead."""

    file: str
    line: int
    column: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class PolicyError(UsageError):
    """A policy file or folder that is refused as a whole; `problems` lists every fault found."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first}{more}", first.hint or "`outloop policy check` lists every problem at once")
        self.problems = problems


class HardeningError(UsageError):
    """The proxy would not be safe to run here."""


class NoError(OutloopError):
    """The answer is no."""


class KeychainError(OutloopError):
    """The credential could not be had."""


class KeyMissing(KeychainError):
    """The key is not in the keychain."""


class KeyUnusable(KeyMissing):
    """What is stored is not what its scheme needs: its value says "it", and never what it is."""


class KeyLocked(KeychainError):
    """The keychain is locked, absent or did not answer in time."""


class KeyReplaced(KeyLocked):
    """The key was given another value while one was to be stored in exchange for the old."""


class MintError(OutloopError):
    """No token was to be had for the key: the token endpoint was not reached, or gave no usable answer."""


class MintRefused(MintError):
    """The token endpoint does not take the key."""


class AuditError(OutloopError):
    """The audit row could not be written."""


class MalformedRequest(OutloopError):
    """A request whose target, framing or encoding has no single safe reading."""


class ScrubError(OutloopError):
    """A response that cannot be proved clean."""
