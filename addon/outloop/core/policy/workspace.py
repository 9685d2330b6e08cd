"""A workspace file: plain data with places in, a Workspace out, or every problem there is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from outloop.core.model import HOLD_S, Egress, Service, Workspace
from outloop.core.policy.catalogue import CatalogueEntry
from outloop.core.policy.document import Document, Fields, Scalar
from outloop.core.policy.models import MOST_SERVICES, WorkspaceShape
from outloop.core.policy.problems import Problems, shown
from outloop.core.policy.reach import Reach
from outloop.core.policy.service import ServiceReader
from outloop.core.policy.structure import check_structure


def read_workspace(document: Document, catalogue: Mapping[str, CatalogueEntry]) -> Workspace:
    """Return the workspace that *document* describes. Raises PolicyError with every problem.

    Its `digest` covers the document's content and that of the catalogue entries it uses.
    """
    problems = Problems(document)
    check_structure(document, WorkspaceShape, problems)
    root = document.root if isinstance(document.root, Fields) else Fields((), 1, 1)
    _check_name(root, document, problems)
    reader = ServiceReader(document, problems, document.stem, catalogue, Reach())
    listed = root.get("services")
    entries = listed.entries[:MOST_SERVICES] if isinstance(listed, Fields) else ()
    read = [(key, reader.read(key, node)) for key, node in entries if not problems.is_full]
    named = [(key, service) for key, service in read if service is not None]
    _check_overlaps(named, problems)
    if not problems and len(named) < len(read):
        problems.add(root, "a service could not be read")  # a shape that nothing above foresaw is refused, never left out
    problems.raise_any()
    services = tuple(service for _, service in named)
    egress, private, hold = root.get("egress"), root.get("egress_private"), root.get("hold")
    return Workspace(
        name=document.stem,
        services=services,
        egress=Egress(egress.text) if isinstance(egress, Scalar) else Egress.DENY,
        egress_private=isinstance(private, Scalar) and private.value is True,
        hold_s=hold.value if isinstance(hold, Scalar) and isinstance(hold.value, int) else HOLD_S,
        digest=_digest(document, services, catalogue),
        file=document.file,
    )


def _check_name(root: Fields, document: Document, problems: Problems) -> None:
    name = root.get("workspace")
    if isinstance(name, Scalar) and name.text and name.text != document.stem:
        hint = f"rename the file to {name.text[:60]}.yaml, or write `workspace: {document.stem[:60]}`"
        problems.add(name, f"the workspace {shown(name.text)} stands in a file called {shown(document.stem)}", hint)


def _check_overlaps(named: list[tuple[Scalar, Service]], problems: Problems) -> None:
    keys: dict[str, str] = {}
    claims: dict[tuple[str, int], list[Service]] = {}
    for key, service in named:
        owner = keys.setdefault(service.key, service.name)
        if owner != service.name:
            problems.add(key, f"the key `{service.key}` is already that of `{owner}`", "a key belongs to one service")
        for claim in service.hosts:
            others = claims.setdefault((claim.host, claim.port), [])
            for other in others:
                if _is_under(service.base, other.base) or _is_under(other.base, service.base):
                    hint = "give them separate `base` paths, or make them one service"
                    problems.add(key, f"`{service.name}` and `{other.name}` both claim {claim.host}{service.base}", hint)
                    break
            others.append(service)


def _is_under(inner: str, outer: str) -> bool:
    return not outer or inner == outer or inner.startswith(f"{outer}/")


def _digest(document: Document, services: tuple[Service, ...], catalogue: Mapping[str, CatalogueEntry]) -> str:
    used = [catalogue[service.name].digest for service in services if service.name in catalogue]
    return hashlib.sha256("\n".join([document.digest, *used]).encode()).hexdigest()[:16]
