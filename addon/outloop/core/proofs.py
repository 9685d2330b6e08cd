"""What a request is for the record: a read or a write, and whether it is one of the service's proofs."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from outloop.core.body import read_json
from outloop.core.model import Probe, Request, Service
from outloop.core.paths import canonical_path, parse_query, split_target


def runtime_mode(request: Request, service: Service) -> Literal["read", "write"]:
    """Return ``read`` for GET, HEAD and what the catalogue lists under `reads`, else ``write``."""
    if request.method in ("GET", "HEAD"):
        return "read"
    segments = request.path.segments
    listed = any(read.method == request.method and read.pattern.match(segments) is not None for read in service.reads)
    return "read" if listed else "write"


def is_proof(request: Request, service: Service) -> bool:
    """Tell whether *request* equals the service's safe proof or safe next proof, whoever sends it.

    Method, path and query are compared, and the JSON body where it was read. Raises MalformedRequest when the catalogue's own
    target is not in form.
    """
    return any(probe is not None and _equals(request, probe, service) for probe in (service.proof, service.next_proof))


_BLANK = re.compile(r"\{[a-z_]+\}")  # filled when the proof is run, as the owner of a scheduling link is


def _equals(request: Request, probe: Probe, service: Service) -> bool:
    if request.method != probe.method:
        return False
    path, query = _read_target(probe.target, service.encoded_slash)
    return request.path.text == path and request.query == query and _says_the_same(request.body, probe)


@lru_cache(maxsize=1024)
def _read_target(target: str, keep_encoded_slash: bool) -> tuple[str, tuple[tuple[str, str], ...]]:
    path, query = split_target(target)
    return canonical_path(path, keep_encoded_slash=keep_encoded_slash).text, parse_query(query)


def _says_the_same(body: bytes | None, probe: Probe) -> bool:
    if body is None:
        return True
    if probe.body is None:
        return not body
    said = read_json(body)
    return said is not None and _is_equal_json(said.value, dict(probe.body))


def _is_equal_json(left: object, right: object) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_is_equal_json(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_is_equal_json, left, right))
    if isinstance(right, str) and _BLANK.fullmatch(right):
        return isinstance(left, str) and left != ""
    return type(left) is type(right) and left == right
