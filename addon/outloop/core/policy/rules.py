"""One rule: ``allow: METHOD[,METHOD…]|* PATH`` with its ``where``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from outloop.core.model import Condition, Effect, Expected, Operation, Rule, Source
from outloop.core.paths import PathPattern, compile_pattern
from outloop.core.policy.document import Document, Fields, Listing, Node, Scalar
from outloop.core.policy.problems import Problems, nearest, shown
from outloop.core.policy.shape import LONGEST_LINE

WEBSOCKET = "WEBSOCKET"
# RFC 9110 §9, RFC 5789, RFC 4918, RFC 3253, RFC 5323 and HTTP QUERY; PURGE and LINK are not standard but sent.
METHODS = frozenset(
    "GET HEAD POST PUT PATCH DELETE OPTIONS QUERY PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT SEARCH PURGE".split()
)
NEVER_FORWARDED = frozenset({"TRACE", "TRACK", "CONNECT"})

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*(/[^?#]*)?")
_LONGEST_PATTERN = 1024
_MOST_SEGMENTS = 64
_FORM = "write `METHOD /path`, such as `GET /users/*`"


@dataclass(frozen=True, slots=True)
class RuleReader:
    """Reads the rules of one service. `encoded_slash`: a segment may hold a slash (``%2F``)."""

    document: Document
    problems: Problems
    encoded_slash: bool = False

    def read(self, node: Node) -> Rule | None:
        """Return the rule at *node*; None, and at least one problem noted, where it is none."""
        if not isinstance(node, Fields):
            return None  # the structural check has said so
        effects = [(key, value) for key, value in node if key.text in tuple(Effect)]
        if len(effects) != 1:
            self._report_effects(node, effects)
            return None
        key, value = effects[0]
        if not isinstance(value, Scalar):
            return None
        line = read_line(value, self.problems)
        if line is None:
            return None
        effect, (methods, pattern) = Effect(key.text), line
        if not self.encoded_slash and any("/" in (step.literal or "") for run in pattern.runs for step in run):
            hint = "`encoded_slash: keep` lets it through as data"
            self.problems.add(value, "this rule can never match: %2F inside a path segment is refused", hint)
        where = self._conditions(node.get("where"), methods, pattern)
        reason = node.get("reason")
        return Rule(
            effect=effect,
            methods=methods,
            pattern=pattern,
            place=self.document.place(key),
            text=rule_text(effect, methods, pattern, where),
            where=where,
            reason=reason.text if isinstance(reason, Scalar) else None,
        )

    def _report_effects(self, node: Fields, effects: list[tuple[Scalar, Node]]) -> None:
        if effects:
            self.problems.add(effects[1][0], "a rule has one of `allow`, `ask` and `deny`", "make it two rules")
        elif not any(key.text in ("method", "methods", "path") or nearest(key.text, tuple(Effect)) for key, _ in node):
            self.problems.add(node, "a rule needs one of `allow`, `ask` and `deny`", "such as `allow: GET /path`")

    def _conditions(self, node: Node | None, methods: frozenset[str] | None, pattern: PathPattern) -> tuple[Condition, ...]:
        if not isinstance(node, Fields):
            return ()
        found = (self._condition(key, value, methods, pattern) for key, value in node)
        return tuple(condition for condition in found if condition is not None)

    def _condition(self, key: Scalar, node: Node, methods: frozenset[str] | None, pattern: PathPattern) -> Condition | None:
        field = _field(key.text, pattern)
        if field is None:
            message = f"{shown(key.text)} is no name in the path `{pattern.text[:60]}`"
            self.problems.add(key, message, _where_hint(key.text, pattern))
            return None
        source, keys = field
        if source is Source.BODY and methods == frozenset({WEBSOCKET}):
            self.problems.add(key, "this rule can never match: a websocket handshake has no body")
        items = node.items if isinstance(node, Listing) else (node,)
        accepted = tuple(self._expected(item, source) for item in items if isinstance(item, Scalar))
        return Condition(source, keys, accepted)

    def _expected(self, node: Scalar, source: Source) -> Expected:
        if not node.text and not node.quoted:
            self.problems.add(node, "expected a value, found nothing", 'write null or ""')
        is_text = node.quoted or isinstance(node.value, str)
        if source is Source.PATH and ("/" in node.text and not self.encoded_slash):
            self.problems.add(node, f"this rule can never match: one path segment is never {shown(node.text)}")
        elif source is Source.PATH and (node.text in (".", "..") or (node.quoted and not node.text)):
            self.problems.add(node, "this rule can never match: a path segment is never empty, `.` or `..`")
        return Expected(node.text, node.value, node.quoted, is_glob=is_text and any(mark in node.text for mark in "*?"))


def read_line(node: Scalar, problems: Problems) -> tuple[frozenset[str] | None, PathPattern] | None:
    """Read ``METHOD[,METHOD…]|* PATH``: the methods (None: ``*``) and the pattern; None, with problems noted, if it is none."""
    if len(node.text) > LONGEST_LINE:
        return None  # the structural check has said so
    words = node.text.split()
    if len(words) != 2:
        _report_form(node, words, problems)
        return None
    methods = _read_methods(node, words[0], problems)
    pattern = _read_pattern(node, words[1], problems)
    return None if methods is None or pattern is None else (None if "*" in methods else methods, pattern)


def read_operation(node: Node, problems: Problems) -> Operation | None:
    """Read one ``METHOD /path/{name}`` of a catalogue entry's reads or writes."""
    if not isinstance(node, Scalar):
        return None
    line = read_line(node, problems)
    if line is None:
        return None
    methods, pattern = line
    if methods is None or len(methods) != 1:
        problems.add(node, "an operation has exactly one method")
        return None
    (method,) = methods
    return Operation(method, pattern, f"{method} {pattern.text}")


def method_hint(word: str) -> str:
    """Return the method that *word* most likely meant, or the common ones."""
    close = nearest(word, METHODS | {WEBSOCKET})
    common = "methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, WEBSOCKET, or * for every one"
    return f"did you mean `{close}`?" if close else common


def rule_text(effect: Effect, methods: frozenset[str] | None, pattern: PathPattern, where: tuple[Condition, ...]) -> str:
    """Return a rule on one line, as people read it: ``allow GET /x where project is 123 or 456``."""
    head = f"{effect} {','.join(sorted(methods)) if methods else '*'} {pattern.text}"
    return f"{head} where {' and '.join(map(_condition_text, where))}" if where else head


def _condition_text(condition: Condition) -> str:
    name = ".".join(condition.keys if condition.source is Source.PATH else (condition.source, *condition.keys))
    return f"{name} is {' or '.join(expected.text for expected in condition.accepted)}"


def _field(name: str, pattern: PathPattern) -> tuple[Source, tuple[str, ...]] | None:
    head, _, rest = name.partition(".")
    if head == Source.QUERY and rest:
        return Source.QUERY, (rest,)
    if head == Source.BODY and all(rest.split(".")):
        return Source.BODY, tuple(rest.split("."))
    return (Source.PATH, (name,)) if name in pattern.names else None


def _report_form(node: Scalar, words: list[str], problems: Problems) -> None:
    if not words:
        problems.add(node, "expected `METHOD /path`, found nothing", _FORM)
    elif len(words) == 1 and words[0].startswith("/"):
        path = words[0][:60]
        problems.add(node, f"{shown(node.text)} has no method", f'did you mean `GET {path}`, or `"* {path}"` for every method?')
    elif len(words) == 1:
        problems.add(node, f"{shown(node.text)} has no path", _FORM)
    elif all(word.strip(",").upper() in METHODS for word in words[:-1]):
        joined = ",".join(word.strip(",").upper() for word in words[:-1])
        hint = f"several methods have commas and no spaces: `{joined} {words[-1][:60]}`"
        problems.add(node, f"{shown(node.text)} is not `METHOD /path`", hint)
    else:
        problems.add(node, f"{shown(node.text)} is not `METHOD /path`", f"{_FORM}; a space inside a path is %20")


def _read_methods(node: Scalar, text: str, problems: Problems) -> frozenset[str] | None:
    words = text.split(",")
    if len(words) > len(METHODS):
        problems.add(node, "more methods than there are", "`*` stands for every method")
        return None
    faulty = False
    for word in words:
        message, hint = _method_fault(word, text)
        if message:
            problems.add(node, message, hint)
            faulty = True
    return None if faulty else frozenset(words)


def _method_fault(word: str, text: str) -> tuple[str | None, str | None]:
    if word in METHODS or word == WEBSOCKET:
        return None, None
    if word == "*":
        return (None, None) if text == "*" else ("`*` already stands for every method but WEBSOCKET", "write it alone")
    if word in NEVER_FORWARDED:
        return f"{word} is never forwarded", None
    if word.upper() in METHODS | {WEBSOCKET}:
        return f"unknown method {shown(word)}", f"did you mean `{word.upper()}`? methods are written in upper case"
    if not word:
        return "an empty method", "several methods have single commas: `GET,POST /path`"
    if word.upper() in ("ANY", "ALL"):
        return f"unknown method {shown(word)}", "`*` stands for every method"
    return f"unknown method {shown(word)}", method_hint(word)


def _read_pattern(node: Scalar, text: str, problems: Problems) -> PathPattern | None:
    url = _URL.match(text)
    if url:
        problems.add(
            node, f"{shown(text)} is a url, not a path", f"did you mean `{(url[1] or '/')[:60]}`? the host stands in `hosts`"
        )
    elif not text.startswith("/"):
        problems.add(node, f"the path {shown(text)} does not start with a slash", f"did you mean `/{text[:60]}`?")
    elif "?" in text:
        name = text.partition("?")[2].partition("=")[0][:30] or "name"
        problems.add(node, f"{shown(text)} has a query", f"a rule tests the query in `where: {{query.{name}: value}}`")
    elif len(text) > _LONGEST_PATTERN or text.count("/") > _MOST_SEGMENTS:
        problems.add(node, f"the path is longer than {_LONGEST_PATTERN} characters or {_MOST_SEGMENTS} segments")
    else:
        try:
            return compile_pattern(text)
        except ValueError as error:
            problems.add(node, str(error))
    return None


def _where_hint(name: str, pattern: PathPattern) -> str:
    head, dot, rest = name.partition(".")
    if head.lower() in ("query", "body"):
        return f"did you mean `{head.lower()}.{rest or 'name'}`?"
    if head.lower() in ("header", "headers", "cookie", "host"):
        return "a rule tests path names, query.x and body.x only"
    close = nearest(rest if dot and head == "path" else name, pattern.names)
    if close:
        return f"did you mean `{close}`?"
    if pattern.names:
        return f"names in this path: {', '.join(pattern.names)}"
    return "name a segment of the path, such as `/projects/{project}`, or test query.x or body.x"
