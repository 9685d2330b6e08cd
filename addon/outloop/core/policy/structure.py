"""The structural check: what pydantic says of a document's shape, told in places and in words for the person who wrote it."""

from __future__ import annotations

from collections.abc import Collection
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from outloop.core.policy.auth_models import AWS_NAME
from outloop.core.policy.document import Document, Fields, Listing, Node, Scalar, Step, find, plain
from outloop.core.policy.models import LIMIT, NAME, RuleShape, ServiceShape
from outloop.core.policy.problems import Problems, nearest, shown, suggestion

_SECRET_FIELDS = frozenset({"token", "secret", "password", "api_key", "apikey", "value", "credential", "access_token"})
_KEY_ADD = "a key's value never stands in a policy: `outloop key add SERVICE -w WORKSPACE` stores it in the keychain"
_RULE_FORM = "did you mean `allow: GET /path`?"
_FIELD_HINTS: dict[tuple[type[BaseModel], str], str] = {
    **{(RuleShape, name): _RULE_FORM for name in ("method", "methods", "path", "url", "effect", "action", "match")},
    (RuleShape, "body"): "did you mean `where: {body.field: value}`?",
    (RuleShape, "query"): "did you mean `where: {query.name: value}`?",
    (ServiceShape, "url"): "did you mean `hosts: [api.example.com]`, with `base: /path` where it has one?",
    (ServiceShape, "base_url"): "did you mean `hosts: [api.example.com]`, with `base: /path` where it has one?",
    (ServiceShape, "default"): "there is no default: what no rule allows is denied",
    **{(ServiceShape, effect): f"rules are a list: `rules: [{{{effect}: GET /path}}]`" for effect in ("allow", "ask", "deny")},
}
_PATTERNS = {
    NAME: "up to 63 of a-z, 0-9, `-` and `_`, with a letter or digit at both ends",
    AWS_NAME: "a-z, 0-9 and `-`, such as execute-api or eu-west-1",
    LIMIT: "COUNT/s, COUNT/min, COUNT/h or COUNT/day, such as 60/min",
}
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
}
_AUTH_TYPES = ("aws_sigv4", "basic", "bearer", "cookie", "header", "headers", "hmac", "jwt", "oauth2", "query")
_TOO_LONG = frozenset({"too_long", "string_too_long"})


def check_structure(document: Document, shape: Any, problems: Problems) -> None:
    """Add a problem for every place where *document* does not have *shape* (a model, or a list of one)."""
    try:
        TypeAdapter(shape).validate_python(plain(document.root))
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            if problems.is_full:
                return
            _report(document, shape, detail, problems)


def _report(document: Document, shape: Any, detail: ErrorDetails, problems: Problems) -> None:
    steps: tuple[Step, ...] = detail["loc"]
    node, rest = _place(document.root, steps)
    kind, name = detail["type"], str(steps[-1]) if steps else ""
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        model = _model_at(shape, steps[:-1])
        problems.add(_key_of(document.root, steps) or node, f"unknown field {shown(name)}", _field_hint(model, name))
    elif kind == "missing":
        problems.add(node, f"missing field `{name}`")
    elif kind == "union_tag_not_found":
        problems.add(node, "missing field `type`", "such as `auth: {type: bearer}`")
    elif kind == "union_tag_invalid":
        _report_auth_type(node, str(context["tag"]), problems)
    elif kind == "literal_error":
        valid = [str(choice) for choice in _choices(shape, steps)]
        problems.add(node, f"expected {_alternatives(valid)}, found {_found(node)}", suggestion(_text(node), valid))
    elif kind == "string_pattern_mismatch":
        target = _key_of(document.root, steps[:-1]) if rest else None
        _report_pattern(target or node, str(context["pattern"]), problems)
    elif kind in _EXPECTED:
        hint = _RULE_FORM if kind == "model_type" and _model_at(shape, steps) is RuleShape else _quote_hint(kind, node)
        problems.add(node, f"expected {_EXPECTED[kind]}, found {_found(node)}", hint)
    elif kind in _TOO_LONG:
        problems.add(
            node, f"longer than the {context['max_length']} {'characters' if 'string' in kind else 'entries'} there may be"
        )
    elif kind in ("string_too_short", "too_short"):
        problems.add(node, "expected at least one entry, found none" if kind == "too_short" else "expected text, found nothing")
    else:
        problems.add(node, _plain_message(detail["msg"]))


def _report_auth_type(node: Node, tag: str, problems: Problems) -> None:
    place = node.get("type") or node if isinstance(node, Fields) else node
    problems.add(place, f"unknown auth type {shown(tag)}", suggestion(tag, _AUTH_TYPES))


def _report_pattern(node: Node, pattern: str, problems: Problems) -> None:
    if pattern == LIMIT:
        problems.add(node, f"{_found(node)} is not a limit", f"write {_PATTERNS[LIMIT]}")
    elif pattern in (NAME, AWS_NAME):
        problems.add(node, f"{_found(node)} cannot be a name", f"use {_PATTERNS[pattern]}")
    else:
        problems.add(node, f"{_found(node)} cannot stand here", "use letters, digits and `_`, with no digit first")


def _place(root: Node, steps: tuple[Step, ...]) -> tuple[Node, tuple[Step, ...]]:
    """Follow *steps*, leaving out those that name no key but a branch of the model (a union's tag)."""
    node, rest = find(root, steps)
    while len(rest) > 1:
        further, left = find(node, rest[1:])
        node, rest = (node, rest[1:]) if further is node else (further, left)
    return node, rest


def _key_of(root: Node, steps: tuple[Step, ...]) -> Scalar | None:
    parent, _ = _place(root, steps[:-1])
    return parent.key(str(steps[-1])) if steps and isinstance(parent, Fields) else None


def _field_hint(model: type[BaseModel] | None, name: str) -> str | None:
    if model is None:
        return None
    known = _FIELD_HINTS.get((model, name.lower()))
    if known is None and name.lower() in _SECRET_FIELDS and nearest(name, model.model_fields) is None:
        return _KEY_ADD
    return known or suggestion(name, model.model_fields)


def _model_at(shape: Any, steps: tuple[Step, ...]) -> type[BaseModel] | None:
    """Return the model whose fields stand at *steps* of *shape*."""
    shape = _without_annotation(shape)
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        if not steps:
            return shape
        field = shape.model_fields.get(str(steps[0]))
        return _model_at(field.annotation, steps[1:]) if field else None
    if get_origin(shape) in (dict, list):
        return _model_at(get_args(shape)[-1], steps[1:]) if steps else None
    if get_origin(shape) in (Union, UnionType) and steps:
        # The step names the branch: a model's tag, or the value of its `type`.
        for branch in get_args(shape):
            found = _model_at(branch, steps[1:])
            if found is not None and steps[0] in (_tag(branch), *_type_choices(branch)):
                return found
    return None


def _choices(shape: Any, steps: tuple[Step, ...]) -> Collection[object]:
    model = _model_at(shape, steps[:-1])
    field = model.model_fields.get(str(steps[-1])) if model else None
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


def _without_annotation(shape: Any) -> Any:
    return _without_annotation(get_args(shape)[0]) if get_origin(shape) is Annotated else shape


def _tag(branch: Any) -> str | None:
    marks = get_args(branch)[1:] if get_origin(branch) is Annotated else ()
    return next((mark.tag for mark in marks if hasattr(mark, "tag")), None)


def _type_choices(branch: Any) -> tuple[object, ...]:
    model = _without_annotation(branch)
    field = model.model_fields.get("type") if isinstance(model, type) and issubclass(model, BaseModel) else None
    return get_args(field.annotation) if field else ()


def _found(node: Node) -> str:
    if isinstance(node, Fields):
        return "a mapping"
    if isinstance(node, Listing):
        return "a list"
    if isinstance(node.value, NoneType):
        return "nothing"
    if isinstance(node.value, str):
        return f"the text {shown(node.text)}" if node.quoted else shown(node.text)
    return shown(node.text) if isinstance(node.value, bool) else f"the number {shown(node.text)}"


def _text(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else ""


def _quote_hint(kind: str, node: Node) -> str | None:
    if kind == "string_type" and isinstance(node, Scalar) and node.value is not None:
        return f'quote it to make it text: "{node.text}"' if len(node.text) <= 40 else "quote it to make it text"
    return None


def _alternatives(valid: Collection[str]) -> str:
    return " or ".join(f"`{choice}`" for choice in valid)


def _plain_message(message: str) -> str:
    return message[:1].lower() + message[1:]
