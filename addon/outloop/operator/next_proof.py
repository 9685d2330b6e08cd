"""The blanks of a safe next proof: ``{name}`` in it is filled by the operator, or by reading the service first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import urlencode

from outloop.core.errors import NoError, UsageError
from outloop.core.model import Probe, Service
from outloop.core.policy.probes import fill_probe, probe_params
from outloop.operator.proof import Call

_OK = 200


def filled(probe: Probe, values: Mapping[str, str], call: Call, service: Service) -> Probe:
    """Return *probe* with its blanks filled from *values*, or found by reading the service with *call*.

    Raises UsageError for a value that has no blank and for a blank that nothing fills, NoError when the reading fails.
    """
    blanks = probe_params(probe)
    for name in values:
        if name not in blanks:
            known = f"it has: {', '.join(blanks)}" if blanks else "it has none"
            raise UsageError(f"the next proof of {service.name} has no blank `{name}`", known)
    found = dict(values)
    for name in blanks:
        if name in found:
            continue
        finder = _FINDERS.get((service.name, name))
        if finder is None:
            raise UsageError(f"the next proof of {service.name} needs `{name}`", f"give it: --with {name}=VALUE")
        found[name] = finder(call, service)
    filled_probe = fill_probe(probe, found)
    assert filled_probe is not None
    return filled_probe


def _calendly_owner(call: Call, service: Service) -> str:
    """The URI of one of the user's own active event types: Calendly names things by full URI, and users only as themselves."""
    user = _uri(call, service, "/users/me", "resource")
    return _uri(call, service, f"/event_types?{urlencode({'user': user, 'active': 'true', 'count': 1})}", "collection")


def _uri(call: Call, service: Service, target: str, part: str) -> str:
    """The `uri` of the thing, or of the first of the list, that stands under *part* in the answer to a GET."""
    hint = "give one of your event types: --with owner=URI"
    answer = call("GET", service.hosts[0], target)
    path = target.partition("?")[0]
    if answer.status != _OK:
        raise NoError(f"no event type could be found: GET {path} answered {answer.status}", hint)
    document = answer.json()
    found = document.get(part) if isinstance(document, dict) else None
    thing = found[0] if isinstance(found, list) and found else found
    uri = thing.get("uri") if isinstance(thing, dict) else None
    if not isinstance(uri, str):
        raise NoError(f"no event type could be found: GET {path} named none", hint)
    return uri


_FINDERS: Mapping[tuple[str, str], Callable[[Call, Service], str]] = MappingProxyType({("calendly", "owner"): _calendly_owner})
