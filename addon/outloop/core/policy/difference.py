"""What a reload changed, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from outloop.core.model import Service, Workspace


def difference(old: Workspace | None, new: Workspace | None) -> tuple[str, ...]:
    """Return what changed from *old* to *new* (None: there is none), such as ``acme: + calendly: allow GET /x``."""
    if old is None or new is None:
        present = new or old
        return () if present is None else (f"{present.name}: workspace {'added' if old is None else 'gone'}",)
    return tuple(f"{new.name}: {line}" for line in _changes(old, new))


def _changes(old: Workspace, new: Workspace) -> Iterator[str]:
    if old.egress is not new.egress:
        yield f"egress {old.egress} → {new.egress}"
    if old.egress_private != new.egress_private:
        yield f"egress_private {str(old.egress_private).lower()} → {str(new.egress_private).lower()}"
    if old.hold_s != new.hold_s:
        yield f"hold {old.hold_s} → {new.hold_s}"
    before = {service.name: service for service in old.services}
    after = {service.name: service for service in new.services}
    for name in before.keys() - after.keys():
        yield f"- service {name}"
    for name, service in after.items():
        if name not in before:
            yield f"+ service {name} ({len(service.rules)} rules)"
        else:
            yield from _service_changes(before[name], service)


def _service_changes(old: Service, new: Service) -> Iterator[str]:
    before, after = [rule.text for rule in old.rules], [rule.text for rule in new.rules]
    for text in dict.fromkeys(before):
        if text not in after:
            yield f"- {new.name}: {text}"
    for text in dict.fromkeys(after):
        if text not in before:
            yield f"+ {new.name}: {text}"
    for what in ("key", "hosts", "base", "auth", "limit"):
        one, other = getattr(old, what), getattr(new, what)
        if one != other:
            yield f"{new.name}: {what} changed"
    described = ("rules", "key", "hosts", "base", "auth", "limit", "place")
    if replace(old, **{what: getattr(new, what) for what in described}) != new:
        yield f"{new.name}: other settings changed"
