"""What could an agent reach that runs as this user? Each thing is tried, by a program that is not Outloop.

No variable and no proxy keeps a program from the files of its own user: this shows how much that is, on this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from outloop.core.errors import KeychainError, UsageError
from outloop.operator.doctor.finding import Finding, ok, warning
from outloop.operator.doctor.premises import PROBE_LIMIT_S, Premises
from outloop.operator.doctor.scripts import REACH
from outloop.store.backends import within

_NAME = "reach"
_CLOSE = "run agents as another user, or in a container that holds neither {home} nor this keychain"

Attempt = tuple[str, str, Path]  # how, what people call it, where


def check(premises: Premises) -> Iterator[Finding]:
    """One line: what was reached, and what was not."""
    attempts = list(_attempts(premises))
    try:
        reached = _try(attempts)
    except (OSError, ValueError, subprocess.SubprocessError):
        yield warning(_NAME, "what an agent of this user could reach could not be tried", "outloop doctor, once more")
        return
    done = [_in_words(attempt) for attempt, is_reached in zip(attempts, reached, strict=True) if is_reached]
    kept = [_in_words(attempt) for attempt, is_reached in zip(attempts, reached, strict=True) if not is_reached]
    keys = _readable_keys(premises)
    if keys:
        done.insert(0, f"read {keys} from the keychain without a prompt")
    could_not = f"; it could not {', '.join(kept)}" if kept else ""
    if done:
        text = f"an agent that runs as this user could {', '.join(done)}{could_not} (each was tried)"
        yield warning(_NAME, text, _CLOSE.format(home=premises.home.root))
    else:
        yield ok(_NAME, f"an agent that runs as this user reached nothing{could_not} (each was tried)")


def _attempts(premises: Premises) -> Iterator[Attempt]:
    home = premises.home
    yield "list", "the home", home.root
    yield "read", "the authority's private key", home.ca / "mitmproxy-ca.pem"
    if premises.has_record:
        yield "write", "the record", home.audit_db
    if home.state_db.exists():
        yield "write", "the switches", home.state_db
    policies = [file.path for file in premises.policies.files]
    if policies:
        yield "write", "the policy", policies[0]
    if Path("/proc/self/mem").exists():
        for proxy in premises.proxies[:1]:
            yield "read", "the proxy's memory", Path(f"/proc/{proxy.pid}/mem")


def _in_words(attempt: Attempt) -> str:
    how, what, _ = attempt
    return f"{'change' if how == 'write' else how} {what}"


def _try(attempts: Sequence[Attempt]) -> list[bool]:
    asked = json.dumps([(how, os.fspath(path)) for how, _, path in attempts])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", REACH],
        input=asked,
        capture_output=True,
        text=True,
        timeout=PROBE_LIMIT_S,
        check=True,
    )
    return [bool(each) for each in json.loads(done.stdout)]


def _readable_keys(premises: Premises) -> str:
    """Return which keys could be read, in words; "" where none could."""
    names = [(workspace.name, service.key) for workspace, service in premises.services if premises.key(workspace, service)]
    found = []
    try:
        keychain = within(PROBE_LIMIT_S, premises.open_keychain, "the keychain") if names else None
    except (KeychainError, UsageError):
        return ""
    for workspace, key in names:
        try:
            if keychain is not None:
                within(PROBE_LIMIT_S, lambda name=(workspace, key): keychain.get(*name), keychain.label)  # type: ignore[misc]
                found.append(key)
        except KeychainError:
            break  # one that waits for its owner has asked once already
    return found[0] if len(found) == 1 else f"{len(found)} keys" if found else ""
