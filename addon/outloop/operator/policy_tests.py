"""Policy tests: a list of requests and the decision each should get, in YAML.

The file ``acme.yaml`` speaks of the workspace ``acme`` where a test names no other. Runtime access counts as on and limits as
unspent: a test is about the policy, not about the day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from outloop.core.decide import decide
from outloop.core.errors import MalformedRequest, UsageError
from outloop.core.model import Place, Reason, Standing, Workspace
from outloop.core.policy.document import Document, Fields, Listing, Node, Scalar, plain
from outloop.core.policy.models import CaseShape
from outloop.core.policy.problems import Problems, shown, suggestion
from outloop.core.policy.structure import check_structure
from outloop.operator.hypothetical import hypothetical_request
from outloop.store.documents import read_document


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One test. `reason` None: any will do. `has_body` tells a body of null from none."""

    name: str
    place: Place
    workspace: str
    method: str
    url: str
    decision: str
    reason: str | None = None
    body: object = None
    has_body: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a test got."""

    test: PolicyTest
    decision: str
    reason: str
    detail: str

    @property
    def passed(self) -> bool:
        """Tell whether it is what was expected."""
        return self.decision == self.test.decision and self.test.reason in (None, self.reason)


def read_policy_tests(path: Path, workspaces: Mapping[str, Workspace]) -> tuple[PolicyTest, ...]:
    """Read the tests in the file at *path*. Raises PolicyError with every problem."""
    document = read_document(path, owner_uid=None)  # expectations grant nothing, so anyone may own them
    problems = Problems(document)
    check_structure(document, list[CaseShape], problems)
    items = document.root.items if isinstance(document.root, Listing) else ()
    tests = tuple(_read_test(document, item, workspaces, problems) for item in items if isinstance(item, Fields))
    problems.raise_any()
    return tests


def run_policy_test(test: PolicyTest, workspace: Workspace) -> Outcome:
    """Decide the request of *test* for *workspace*. Raises UsageError where it is no request."""
    try:
        request = hypothetical_request(test.method, test.url, test.body, has_body=test.has_body)
    except MalformedRequest as error:
        return Outcome(test, "deny", Reason.MALFORMED_REQUEST, error.message)
    decision = decide(request, workspace, Standing())
    return Outcome(test, "allow" if decision.allowed else "deny", decision.reason, decision.detail)


def _read_test(document: Document, item: Fields, workspaces: Mapping[str, Workspace], problems: Problems) -> PolicyTest:
    method, _, url = _text(item, "request").partition(" ")
    expected, body = item.get("expect"), item.get("body")
    reason = expected.get("reason") if isinstance(expected, Fields) else None
    if isinstance(reason, Scalar) and reason.text not in tuple(Reason):
        problems.add(reason, f"unknown reason {shown(reason.text)}", suggestion(reason.text, tuple(Reason)))
    workspace = _text(item, "workspace") or document.stem
    if workspace not in workspaces:
        problems.add(
            item.get("workspace") or item, f"no policy for the workspace {shown(workspace)}", suggestion(workspace, workspaces)
        )
    test = PolicyTest(
        name=_text(item, "name"),
        place=document.place(item),
        workspace=workspace,
        method=method,
        url=url,
        decision=_text(expected, "decision"),
        reason=reason.text if isinstance(reason, Scalar) else None,
        body=plain(body) if body is not None else None,
        has_body=body is not None,
    )
    _check_request(test, item.get("request"), problems)
    return test


def _check_request(test: PolicyTest, node: Node | None, problems: Problems) -> None:
    if not isinstance(node, Scalar):
        return
    try:
        hypothetical_request(test.method, test.url)
    except UsageError:
        problems.add(node, f"{shown(node.text)} is not `METHOD URL`", "such as `GET https://api.example.com/users/me`")
    except MalformedRequest:
        pass  # what the proxy makes of such a request may be what is tested


def _text(node: Node | None, name: str) -> str:
    value = node.get(name) if isinstance(node, Fields) else None
    return value.text if isinstance(value, Scalar) else ""
