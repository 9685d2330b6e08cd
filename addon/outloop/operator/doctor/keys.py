"""Is each key stored, readable in the keychain that this home recorded, complete, and switched on?"""

from __future__ import annotations

from collections.abc import Iterator

from outloop.core.errors import KeyLocked, KeyMissing
from outloop.core.model import Service, Workspace
from outloop.operator.doctor.finding import Finding, failure, ok, skipped
from outloop.operator.doctor.premises import PROBE_LIMIT_S, Premises
from outloop.store.backends import NoAnswer, within
from outloop.store.keychain import Keychain

_NAME = "keys"
_LOCKED = "unlock it, or answer its prompt, and try again"


def check(premises: Premises) -> Iterator[Finding]:
    """Values are read as a proxy would, compared with nothing and dropped: only the names of their parts are looked at."""
    wanted = list(premises.services)
    stored = []
    for workspace, service in wanted:
        finding = _absent(premises, workspace, service)
        if finding is not None:
            yield finding
        else:
            stored.append((workspace, service))
    if not wanted:
        yield skipped(_NAME, "no workspace uses a service")
    if not stored:
        return
    try:
        keychain = within(PROBE_LIMIT_S, premises.open_keychain, "the keychain")
    except NoAnswer:
        yield failure(_NAME, f"the keychain did not answer within {PROBE_LIMIT_S:.0f} s", _LOCKED)
        return
    for workspace, service in stored:
        finding = _unreadable(keychain, workspace, service) or _off(premises, workspace, service)
        yield finding or ok(_NAME, f"{service.key} of {workspace.name}: in {keychain.label}, and runtime access is on")


def _absent(premises: Premises, workspace: Workspace, service: Service) -> Finding | None:
    record = premises.key(workspace, service)
    if (workspace.name, service.key) in premises.state.decoys:
        text = f"{service.key} of {workspace.name} is a decoy, which opens nothing, but {service.name} uses it as its key"
        return failure(_NAME, text, f"outloop key remove {service.key} -w {workspace.name}, and add a key")
    if record is None:
        text = f"{service.key} of {workspace.name} is not stored"
        return failure(_NAME, text, f"outloop key add {service.name} -w {workspace.name}")
    if record.service != service.name:
        text = f"{service.key} of {workspace.name} is a key for {record.service}, but {service.name} uses it"
        return failure(_NAME, text, f"outloop key add {service.name} -w {workspace.name}")
    return None


def _unreadable(keychain: Keychain, workspace: Workspace, service: Service) -> Finding | None:
    named = f"{service.key} of {workspace.name}"
    try:
        parts = within(PROBE_LIMIT_S, lambda: keychain.get(workspace.name, service.key), keychain.label)
    except NoAnswer:
        return failure(_NAME, f"{named}: {keychain.label} did not answer within {PROBE_LIMIT_S:.0f} s", _LOCKED)
    except (KeyLocked, KeyMissing) as error:
        return failure(_NAME, error.message, error.hint or _LOCKED)
    missing = [part.name for part in service.auth.parts if part.name not in parts and not part.is_optional]
    if missing:
        text = f"{named} lacks {', '.join(missing)}, which {service.title} asks for"
        return failure(_NAME, text, f"outloop key rotate {service.key} -w {workspace.name}")
    return None


def _off(premises: Premises, workspace: Workspace, service: Service) -> Finding | None:
    record = premises.key(workspace, service)
    if record is not None and record.runtime_access:
        return None
    text = f"{service.key} of {workspace.name}: runtime access is off"
    return failure(_NAME, text, f"outloop key enable {service.key} -w {workspace.name}")
