"""What may be claimed of a workspace's access: what the record proves, held against keys and policy as they are now.

The view `claims` knows the record alone. A policy that was edited since, with no proxy to load it, or a state that was replaced
shows only here. In doubt nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outloop.core.model import Service, Workspace
from outloop.operator.policy_files import PolicyFile, PolicyFiles
from outloop.store.records import Record
from outloop.store.state import KeyRecord

Claim = Mapping[str, object]

COLUMNS = ("workspace", "service", "access", "claim", "audit_id", "at", "agent", "why")
VERIFIED, NOT_CLAIMED = "verified", "not claimed"
ACCESSES = ("read", "write")
_NO_PROOF = "no proof has run"
_NAMED_FIRST = 3


def claims(policies: PolicyFiles, keys: Mapping[tuple[str, str], KeyRecord], recorded: Sequence[Record]) -> tuple[Claim, ...]:
    """Return a claim for reading and for writing each service of *policies*, and each other one of *recorded*.

    *keys* are those of the state by workspace and name; *recorded* is what `Overview.claims` returns.
    """
    by_access = {(str(row["workspace"]), str(row["service"]), str(row["access"])): row for row in recorded}
    files = {file.name: file for file in policies.files}
    used = {(each.name, service.name) for each in policies.workspaces for service in each.services}
    named = sorted(used | {(workspace, service) for workspace, service, _ in by_access})
    return tuple(
        _claim(workspace, service, access, by_access.get((workspace, service, access)), files.get(workspace), keys)
        for workspace, service in named
        for access in ACCESSES
    )


def summary(found: Sequence[Claim]) -> str:
    """Return one line: what is proved, and what is not."""
    if not found:
        return "nothing is proved: no workspace uses a service yet"
    proved = [claim for claim in found if claim["claim"] == VERIFIED]
    missing = [claim for claim in found if claim["claim"] != VERIFIED]
    return f"proved: {_names(proved) or 'nothing'}; not proved: {_names(missing) or 'nothing'}"


def _names(found: Sequence[Claim]) -> str:
    names = [f"{claim['workspace']} {claim['service']} {claim['access']}" for claim in found]
    more = f" and {len(names) - _NAMED_FIRST} more" if len(names) > _NAMED_FIRST else ""
    return ", ".join(names[:_NAMED_FIRST]) + more


def _claim(
    workspace: str,
    service: str,
    access: str,
    row: Record | None,
    file: PolicyFile | None,
    keys: Mapping[tuple[str, str], KeyRecord],
) -> Claim:
    policy = file.workspace if file else None
    used = policy.service(service) if policy else None
    why = _policy_fault(file, service) or (_key_fault(policy, used, row, keys) if policy and used else "")
    if not why and (row is None or row["claim"] != VERIFIED):
        why = str(row["why"]) if row else _NO_PROOF
        if why == _NO_PROOF and used and not _has_proof(used, access):
            why = f"the service names no proof that {access}s"
    fields: dict[str, object] = {"workspace": workspace, "service": service, "access": access}
    if why or row is None:
        return fields | {"claim": NOT_CLAIMED, "audit_id": None, "at": None, "agent": None, "why": why}
    return fields | {"claim": VERIFIED, "audit_id": row["audit_id"], "at": row["at"], "agent": row["agent"], "why": None}


def _policy_fault(file: PolicyFile | None, service: str) -> str:
    if file is None:
        return "the workspace has no policy"
    if file.workspace is None:
        return f"the policy is broken: {file.problems[0]}"
    return "" if file.workspace.service(service) else "the policy does not name the service"


def _key_fault(policy: Workspace, service: Service, row: Record | None, keys: Mapping[tuple[str, str], KeyRecord]) -> str:
    key = keys.get((policy.name, service.key))
    if key is None:
        return f"the key {service.key} is not stored"
    if row is None or row["claim"] != VERIFIED:
        return ""
    if row["policy"] != policy.digest:
        return "the policy was changed since the last proof"
    return "" if key.runtime_access else "runtime access is off"


def _has_proof(service: Service, access: str) -> bool:
    probe = service.proof if access == "read" else service.next_proof
    return probe is not None
