"""A service's safe proof and safe next proof."""

from __future__ import annotations

from collections.abc import Mapping

from outloop.core.errors import MalformedRequest
from outloop.core.model import Probe
from outloop.core.paths import canonical_path, parse_query, split_target
from outloop.core.policy.addresses import filled, params_of
from outloop.core.policy.document import Fields, Node, Scalar, plain
from outloop.core.policy.problems import Problems, shown
from outloop.core.policy.rules import METHODS, method_hint

_FORM = "write `GET /path`, or `{request: POST /path, expect: 201, body: {…}}`"


def read_probe(node: Node | None, problems: Problems) -> Probe | None:
    """Read a probe; its ``{param}`` stay as they are. None, with problems noted, where it is none."""
    line = node.get("request") if isinstance(node, Fields) else node
    if not isinstance(line, Scalar) or not line.text:
        return None
    method, _, target = line.text.partition(" ")
    if method not in METHODS or " " in target or not target:
        hint = method_hint(method) if target and method not in METHODS else _FORM
        problems.add(line, f"{shown(line.text)} is not `METHOD /path`", hint)
        return None
    if report_target(filled(target, dict.fromkeys(params_of(target), "x")), line, problems):
        return None
    if not isinstance(node, Fields):
        return Probe(method, target)
    expect, body = node.get("expect"), node.get("body")
    status = expect.value if isinstance(expect, Scalar) else None
    return Probe(
        method,
        target,
        status if isinstance(status, int) else 200,
        {key.text: plain(value) for key, value in body} if isinstance(body, Fields) else None,
    )


def report_target(target: str, node: Node, problems: Problems) -> bool:
    """Tell whether *target*, a path and query, could not be sent as it is, and note why at *node*."""
    try:
        path, query = split_target(target)
        canonical_path(path, keep_encoded_slash=True)
        parse_query(query)
    except MalformedRequest as error:
        problems.add(node, f"{shown(target)} could not be sent: {error.message}", error.hint)
        return True
    return False


def fill_probe(probe: Probe | None, params: Mapping[str, str]) -> Probe | None:
    """Return *probe* with the ``{param}`` of its target and of its body's texts filled."""
    if probe is None:
        return None
    body = None if probe.body is None else {name: _fill_value(value, params) for name, value in probe.body.items()}
    return Probe(probe.method, filled(probe.target, params), probe.expect, body)


def probe_params(probe: Probe | None) -> tuple[str, ...]:
    """Return the ``{param}`` of *probe* that nothing has filled yet."""
    if probe is None:
        return ()
    texts = [probe.target, *(_texts(list((probe.body or {}).values())))]
    return tuple(dict.fromkeys(name for text in texts for name in params_of(text)))


def _fill_value(value: object, params: Mapping[str, str]) -> object:
    if isinstance(value, str):
        return filled(value, params)
    if isinstance(value, list):
        return [_fill_value(item, params) for item in value]
    if isinstance(value, dict):
        return {name: _fill_value(item, params) for name, item in value.items()}
    return value


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in _texts(child)]
