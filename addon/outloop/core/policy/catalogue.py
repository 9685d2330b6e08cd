"""A catalogue entry: what is known of a service, whoever uses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from outloop.core.auth import OAuth2, Scheme
from outloop.core.lookalike import shape_fault
from outloop.core.model import Operation, Probe
from outloop.core.policy.addresses import filled, params_of, read_base, read_host
from outloop.core.policy.credentials import read_auth
from outloop.core.policy.document import Document, Fields, Listing, Node, Scalar
from outloop.core.policy.models import NAME, CatalogueShape
from outloop.core.policy.probes import probe_params, read_probe
from outloop.core.policy.problems import Problems, looks_secret, shown
from outloop.core.policy.rules import read_operation
from outloop.core.policy.structure import check_structure

_STAND_IN = "x"  # fills a {param} where only the form is checked


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A service as the catalogue describes it. `hosts`, `base` and the probes may hold ``{param}``.

    `limits`, `scopes`, `docs`, `gotchas`, `pins` and `placeholder` are facts for people; nothing is enforced by them.
    `placeholder` maps variables that tools demand to values that are no key, and of `token_shape` decoys are made
    (core/lookalike.py).
    """

    name: str
    title: str
    hosts: tuple[str, ...]
    auth: Scheme
    base: str = ""
    encoded_slash: bool = False
    proof: Probe | None = None
    next_proof: Probe | None = None
    reads: tuple[Operation, ...] = ()
    writes: tuple[Operation, ...] = ()
    pins: Mapping[str, str] = field(default_factory=dict)
    scopes: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    docs: str = ""
    gotchas: tuple[str, ...] = ()
    placeholder: Mapping[str, str] = field(default_factory=dict)
    token_shape: str = ""
    digest: str = ""

    @property
    def params(self) -> tuple[str, ...]:
        """The ``{param}`` that a workspace must fill: those of hosts, base, token endpoint and safe proof."""
        token_url = self.auth.token_url if isinstance(self.auth, OAuth2) else ""
        in_address = [name for text in (*self.hosts, self.base, token_url) for name in params_of(text)]
        return tuple(dict.fromkeys([*in_address, *probe_params(self.proof)]))

    @property
    def optional_params(self) -> tuple[str, ...]:
        """The ``{param}`` of the safe next proof alone: without them it cannot be run."""
        return tuple(name for name in probe_params(self.next_proof) if name not in self.params)


def read_catalogue_entry(document: Document) -> CatalogueEntry:
    """Return the entry in *document*, named after its file. Raises PolicyError with every problem."""
    problems = Problems(document)
    check_structure(document, CatalogueShape, problems)
    root = document.root
    fields = root if isinstance(root, Fields) else Fields((), root.line, root.column)
    if not re.fullmatch(NAME, document.stem):
        problems.add(root, f"a file called {shown(document.stem)} cannot name a service", "use a-z, 0-9, `-` and `_`")
    auth = read_auth(fields.get("auth"), problems)
    if auth is None and not problems:
        problems.add(root, "`auth` could not be read")
    entry = CatalogueEntry(
        name=document.stem,
        title=_text(fields, "title"),
        hosts=_read_templates(fields.get("hosts"), problems),
        auth=auth,  # type: ignore[arg-type]  # None has left a problem, and then no entry leaves this function
        base=_read_base_template(fields.get("base"), problems),
        encoded_slash=_text(fields, "encoded_slash") == "keep",
        proof=read_probe(fields.get("proof"), problems),
        next_proof=read_probe(fields.get("next_proof"), problems),
        reads=_read_operations(fields.get("reads"), problems),
        writes=_read_operations(fields.get("writes"), problems),
        pins=_read_facts(fields.get("pins")),
        scopes=_read_facts(fields.get("scopes")),
        limits=_read_facts(fields.get("limits")),
        docs=_text(fields, "docs"),
        gotchas=_read_texts(fields.get("gotchas")),
        placeholder=_read_placeholder(fields.get("placeholder"), problems),
        token_shape=_read_shape(fields.get("token_shape"), problems),
        digest=document.digest,
    )
    problems.raise_any()
    return entry


def _read_templates(node: Node | None, problems: Problems) -> tuple[str, ...]:
    items = [item for item in (node.items if isinstance(node, Listing) else ()) if isinstance(item, Scalar) and item.text]
    for item in items:
        read_host(item, filled(item.text, dict.fromkeys(params_of(item.text), _STAND_IN)), problems)
    return tuple(item.text for item in items)


def _read_base_template(node: Node | None, problems: Problems) -> str:
    if not isinstance(node, Scalar):
        return ""
    read_base(node, filled(node.text, dict.fromkeys(params_of(node.text), _STAND_IN)), problems)
    return node.text


def _read_operations(node: Node | None, problems: Problems) -> tuple[Operation, ...]:
    found: dict[str, Operation] = {}
    for item in node.items if isinstance(node, Listing) else ():
        operation = read_operation(item, problems)
        if operation is not None and operation.text in found:
            problems.add(item, f"`{operation.text[:60]}` stands here twice")
        elif operation is not None:
            found[operation.text] = operation
    return tuple(found.values())


def _read_placeholder(node: Node | None, problems: Problems) -> Mapping[str, str]:
    for _, value in node if isinstance(node, Fields) else ():
        if isinstance(value, Scalar) and looks_secret(value.text):
            problems.add(value, "the placeholder looks like a secret", "a placeholder is no key, and looks like none")
    return _read_facts(node)


def _read_shape(node: Node | None, problems: Problems) -> str:
    if not isinstance(node, Scalar):
        return ""
    if fault := shape_fault(node.text):
        problems.add(node, "the shape cannot be made into decoys", fault)
    return node.text


def _read_facts(node: Node | None) -> dict[str, str]:
    return {key.text: value.text for key, value in node if isinstance(value, Scalar)} if isinstance(node, Fields) else {}


def _read_texts(node: Node | None) -> tuple[str, ...]:
    return tuple(item.text for item in node.items if isinstance(item, Scalar)) if isinstance(node, Listing) else ()


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return value.text if isinstance(value, Scalar) else ""
