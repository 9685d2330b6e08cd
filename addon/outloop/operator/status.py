"""`outloop status`: what runs, what is loaded and switched on, what waits, what happened today, and what is proved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from outloop.core.approvals import Approval
from outloop.core.approvals import Status as ApprovalStatus
from outloop.core.ledger import timestamp
from outloop.operator.asking import Presence, ask
from outloop.operator.claims import COLUMNS, claims, summary
from outloop.operator.policy_files import PolicyFile, PolicyFiles
from outloop.operator.route import find_listener
from outloop.store.approvals import ApprovalStore
from outloop.store.overview import Overview
from outloop.store.records import Record
from outloop.store.state import KeyRecord, ProxyRecord, StateStore

Row = Mapping[str, object]

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "claims": COLUMNS,
    "listeners": ("listener", "answers", "workers", "pids", "since"),
    "policies": ("workspace", "services", "rules", "loaded", "problem"),
    "keys": ("workspace", "key", "service", "runtime_access", "last_used", "last_status"),
    "decoys": ("workspace", "decoy", "watched", "uses_today", "last_used", "last_by"),
    "approvals": ("id", "workspace", "agent", "request", "asked_at"),
    "today": ("decision", "reason", "requests"),
}


_ANSWERS = {Presence.OUTLOOP: "yes", Presence.NOTHING: "no", Presence.ANOTHER: "another program does"}


@dataclass(frozen=True, slots=True)
class Status:
    """`summary` is the one line that matters; `sections` holds the rows of each of SECTIONS, with its columns."""

    summary: str
    sections: Mapping[str, Sequence[Row]]


def status(
    state: StateStore,
    overview: Overview | None,
    key_uses: Sequence[Record],
    policies: PolicyFiles,
    approvals: ApprovalStore,
    now: datetime,
    workspace: str | None = None,
) -> Status:
    """Return how things stand at *now* (aware), for one workspace or all.

    *overview* is None where there is no record yet; *key_uses* is what `Records.key_uses` returns. Asks every running proxy
    whether it answers. Raises UsageError or AuditError when a store cannot be read.
    """
    chosen = policies.of(workspace)
    snapshot = state.snapshot()
    keys = {name: record for name, record in snapshot.keys.items() if workspace in (None, record.workspace)}
    decoys = [record for record in snapshot.decoys.values() if workspace in (None, record.workspace)]
    midnight_ms = int(now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)
    claimed = claims(chosen, keys, overview.claims(workspace) if overview else ())
    proxies = state.proxies()
    loaded = overview.loaded_policies() if overview and proxies else {}
    sections: dict[str, Sequence[Row]] = {
        "claims": claimed,
        "listeners": _listeners(proxies),
        "policies": [*(_policy(file, loaded, bool(proxies)) for file in chosen.files), *_catalogue_problems(policies)],
        "keys": _keys(keys, key_uses),
        "decoys": _decoys(decoys, overview, midnight_ms, is_running=bool(proxies)),
        "approvals": _pending(approvals.listed(now.timestamp()), workspace),
        "today": overview.counts(midnight_ms, workspace) if overview else (),
    }
    return Status(summary(claimed), sections)


def _listeners(proxies: Sequence[ProxyRecord]) -> list[Row]:
    """A row for each address: the workers behind one share it, and any of them may be the one that answers."""
    behind: dict[tuple[str, int], list[ProxyRecord]] = {}
    for proxy in proxies:
        behind.setdefault((proxy.host, proxy.port), []).append(proxy)
    return [
        {
            "listener": f"{host}:{port}",
            "answers": _ANSWERS[ask(find_listener(workers, None)).presence],
            "workers": len(workers),
            "pids": sorted(worker.pid for worker in workers),
            "since": min(worker.started_at for worker in workers),
        }
        for (host, port), workers in behind.items()
    ]


def _policy(file: PolicyFile, loaded: Mapping[str, str], is_running: bool) -> Row:
    workspace = file.workspace
    more = f" (and {len(file.problems) - 1} more)" if len(file.problems) > 1 else ""
    if not is_running or file.name not in loaded:
        in_force = "no"
    else:
        in_force = "yes" if workspace is not None and loaded[file.name] == workspace.digest else "an earlier version"
    return {
        "workspace": file.name,
        "services": [service.name for service in workspace.services] if workspace else None,
        "rules": sum(len(service.rules) for service in workspace.services) if workspace else None,
        "loaded": in_force,
        "problem": f"{file.problems[0]}{more}" if file.problems else None,
    }


def _catalogue_problems(policies: PolicyFiles) -> list[Row]:
    return [{"workspace": None, "problem": str(problem)} for problem in policies.problems]


def _keys(keys: Mapping[tuple[str, str], KeyRecord], uses: Sequence[Record]) -> list[Row]:
    last = {(use["workspace"], use["key"]): use for use in uses}
    return [
        {
            "workspace": record.workspace,
            "key": record.name,
            "service": record.service,
            "runtime_access": "on" if record.runtime_access else "off",
            "last_used": last.get(name, {}).get("last_used"),
            "last_status": last.get(name, {}).get("last_status"),
        }
        for name, record in keys.items()
    ]


def _decoys(decoys: Sequence[KeyRecord], overview: Overview | None, midnight_ms: int, *, is_running: bool) -> list[Row]:
    """A decoy's uses count whoever's agent it was: what is found may be tried anywhere."""
    uses = overview.decoy_uses() if overview else ()
    today = Counter({row["decoy"]: 0 for row in uses})
    for row in overview.decoy_uses(midnight_ms) if overview else ():
        today[row["decoy"]] += int(str(row["uses"]))
    unwatched = overview.unwatched_decoys() if overview and is_running else {}
    rows: list[Row] = []
    for record in decoys:
        label = f"{record.workspace}/{record.name}"
        last = next((row for row in uses if row["decoy"] == label), {})
        rows.append(
            {
                "workspace": record.workspace,
                "decoy": record.name,
                "watched": unwatched.get(label, "yes") if is_running else "no proxy is running",
                "uses_today": today[label],
                "last_used": last.get("last_used"),
                "last_by": "/".join(str(last[name]) for name in ("workspace", "agent") if last.get(name)) or None,
            }
        )
    return rows


def _pending(listed: Sequence[Approval], workspace: str | None) -> list[Row]:
    return [
        {
            "id": approval.id,
            "workspace": approval.asked.workspace,
            "agent": approval.asked.agent or None,
            "request": f"{approval.asked.method} https://{approval.asked.host}{approval.asked.path}",
            "asked_at": timestamp(int(approval.asked_at * 1000)),
        }
        for approval in listed
        if approval.status is ApprovalStatus.PENDING and workspace in (None, approval.asked.workspace)
    ]
