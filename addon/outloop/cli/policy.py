"""`outloop policy` and `outloop why`: is the policy right, what would it say, and what did it say."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from outloop.cli.candidates import audit_ids
from outloop.cli.context import Context, pass_context
from outloop.cli.render import json_flag, prose, record, rows, workspace_option
from outloop.core.errors import NoError, Problem, UsageError
from outloop.core.ledger import inert

if TYPE_CHECKING:
    from outloop.operator.explain import Explanation
    from outloop.operator.policy_check import Checked

_PROBLEM_COLUMNS = ("file", "line", "column", "message", "hint")
_TEST_COLUMNS = ("test", "passed", "request", "workspace", "expected", "got", "place")
_WIDEST_SOURCE = 100
_DENIED = 1

_paths = click.argument("paths", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path))


@click.group()
def policy() -> None:
    """Check, test and explain policy.

    \b
    Example:
      outloop policy check
      outloop policy explain GET https://api.calendly.com/users/me -w acme
    """


@policy.command()
@_paths
@json_flag
@pass_context
def check(context: Context, paths: tuple[Path, ...], as_json: bool) -> None:
    """Find every mistake in policy files (default: those of the home), each with its place and a hint.

    \b
    Example:
      outloop policy check
      outloop policy check drafts/acme.yaml
    """
    from outloop.operator.policy_check import check_policies

    checked = check_policies(paths, context.home.policies, context.home.services)
    problems = [problem for each in checked for problem in each.problems]
    if as_json:
        records = [{column: getattr(problem, column) for column in _PROBLEM_COLUMNS} for problem in problems]
        rows("Problems", _PROBLEM_COLUMNS, records, as_json)
    else:
        _print_checked(checked)
    if problems:
        files = sum(bool(each.problems) for each in checked)
        raise UsageError(f"{_count(len(problems), 'problem')} in {_count(files, 'policy file')}")


@policy.command()
@_paths
@json_flag
@pass_context
def test(context: Context, paths: tuple[Path, ...], as_json: bool) -> None:
    """Run policy tests (default: those in policies/tests of the home): requests and the decision each should get.

    \b
    Example:
      outloop policy test
      outloop policy test policies/tests/acme.yaml
    """
    from outloop.operator.policy_check import policy_files
    from outloop.operator.policy_tests import read_policy_tests, run_policy_test

    workspaces = context.policies().workspaces
    usual = context.home.policies / "tests"
    if not paths and not usual.exists():
        raise UsageError(
            f"there are no policy tests: {usual} does not exist", "make it, or name a file; `policies/README.md` shows one"
        )
    files = policy_files(paths or (usual,))
    tests = [each for path in files for each in read_policy_tests(path, workspaces)]
    outcomes = [run_policy_test(each, workspaces[each.workspace]) for each in tests]
    records: list[dict[str, object]] = [
        {
            "test": outcome.test.name,
            "passed": outcome.passed,
            "request": f"{outcome.test.method} {outcome.test.url}",
            "workspace": outcome.test.workspace,
            "expected": _answer(outcome.test.decision, outcome.test.reason),
            "got": _answer(outcome.decision, outcome.reason),
            "place": str(outcome.test.place),
        }
        for outcome in outcomes
    ]
    failed = [each for each in records if not each["passed"]]
    if as_json:
        rows("Policy tests", _TEST_COLUMNS, records, as_json)
    else:
        for each in failed:
            record({column: each[column] for column in _TEST_COLUMNS if column != "passed"}, as_json=False)
            click.echo()
        click.echo(f"{len(records) - len(failed)} of {_count(len(records), 'policy test')} passed")
    if failed:
        raise NoError(f"{_count(len(failed), 'policy test')} failed", "`outloop policy explain METHOD URL -w WS` says why")


@policy.command()
@click.argument("method")
@click.argument("url")
@workspace_option()
@click.option("--body", "body_text", metavar="JSON", help="The body that the request would send.")
@json_flag
@pass_context
def explain(context: Context, method: str, url: str, workspace: str, body_text: str | None, as_json: bool) -> None:
    """Say what would become of a request, by which rule, and the smallest change that would allow it.

    \b
    Example:
      outloop policy explain POST https://api.calendly.com/scheduling_links -w acme --body '{"max_event_count": 1}'
    """
    from outloop.operator.explain import explain as explained

    body, has_body = (None, False) if body_text is None else (_read_json(body_text), True)
    found = explained(context.workspace(workspace), method, url, body=body, has_body=has_body, catalogue=context.catalogue())
    _print_explanation(found, as_json)
    if not found.allowed:
        click.get_current_context().exit(_DENIED)


@click.command()
@click.argument("audit_id", metavar="AUDIT-ID", shell_complete=audit_ids)
@json_flag
@pass_context
def why(context: Context, audit_id: str, as_json: bool) -> None:
    """Show how a decision on record came about, and the smallest change of policy that would alter it.

    \b
    Example:
      outloop why 01J8Z3K9
    """
    from outloop.operator.explain import why as explained

    row = context.records().get(audit_id)
    _print_explanation(explained(row, context.policies().workspaces, context.catalogue()), as_json)


def _read_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError("the body is not json", """such as --body '{"max_event_count": 1}'""") from None


def _print_checked(checked: tuple[Checked, ...]) -> None:
    from outloop.operator.policy_check import source_line

    for each in checked:
        for problem in each.problems:
            click.echo(inert(str(problem)))
            _print_source(problem, source_line(each, problem))
            if problem.hint:
                click.echo(f"  hint: {inert(problem.hint)}")
        if each.summary:
            click.echo(inert(each.summary))
    if not checked:
        click.echo("no policy files: nothing is allowed", err=True)


def _print_source(problem: Problem, line: str | None) -> None:
    from outloop.core.policy.problems import masked

    if line is None:
        return
    cut = max(0, problem.column - _WIDEST_SOURCE // 2) if len(line) > _WIDEST_SOURCE else 0
    shown = masked(line)
    before = inert(shown[cut : problem.column - 1].replace("\t", " "))
    after = inert(shown[problem.column - 1 : cut + _WIDEST_SOURCE].replace("\t", " "))
    click.echo(f"  {problem.line:>5} | {before}{after}")
    click.echo(f"        | {' ' * sum(map(_width, before))}^")


def _width(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _print_explanation(found: Explanation, as_json: bool) -> None:
    fields: dict[str, object] = {
        "request": found.request,
        "workspace": found.workspace,
        "service": found.service,
        "decision": found.decision,
        "reason": found.reason,
        "rule": found.rule,
        "place": found.place,
        "detail": found.detail,
    }
    if as_json:
        changes = [{"do": change.do, "yaml": change.yaml, "person_set": change.person_set} for change in found.changes]
        record({**fields, "changes": changes, "advice": list(found.advice)}, as_json)
        return
    record({name: value for name, value in fields.items() if value}, as_json)
    for change in found.changes:
        title = "What stands against it" if change.person_set else "Smallest change that would allow it"
        click.echo()
        prose(f"{title}: {change.do}")
        click.echo()
        for line in change.yaml.splitlines():
            click.echo(f"      {inert(line)}")
    if found.advice:
        click.echo()
    for line in found.advice:
        prose(f"- {line}")


def _answer(decision: str, reason: str | None) -> str:
    return decision if reason is None else f"{decision} / {reason}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
